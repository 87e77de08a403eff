"""Lines, ears and upkeep: what is sent is answered once, hints are heard by those who listen, dead mail goes."""

import select
from datetime import UTC, timedelta

import pytest

from continuum.errors import JournalUnavailable
from continuum.journal.requests import ClaimRequest, Hint, HintKind, HintRequest, InspectRequest, ReleaseReply
from continuum.model.ids import RunId, WorkerId
from tests.support.eventually import eventually
from tests.support.journals import Desk, order, succeeded

# ------------------------------------------------------------------ the clock


def test_check_tells_the_time_in_utc_and_it_never_stands_still_for_long(desk: Desk) -> None:
    first = desk.journal.check()
    assert first.tzinfo == UTC
    eventually(lambda: desk.journal.check() > first)


def test_the_journals_clock_agrees_with_its_check(desk: Desk) -> None:
    desk.journal.check()
    assert desk.journal.clock.known
    difference = desk.journal.clock.now_us() - desk.now_us()
    assert abs(timedelta(microseconds=difference)) < timedelta(seconds=2)


# ------------------------------------------------------------------ lines


def test_a_line_is_readable_when_its_reply_is_there(desk: Desk, worker: WorkerId) -> None:
    line = desk.journal.open_line()
    request = ClaimRequest(worker, (("order", 1),), 5)
    assert line.request is None
    early = line.send(request)
    assert line.request == request
    assert early or select.select([line], [], [], 20)[0] == [line]
    reply = eventually(line.receive)
    assert reply is not None
    assert line.request is None
    line.close()


def test_an_idle_line_has_no_reply(desk: Desk) -> None:
    line = desk.journal.open_line()
    assert line.receive() is None
    line.close()


def test_a_busy_line_takes_no_second_request(desk: Desk) -> None:
    line = desk.journal.open_line()
    line.send(InspectRequest(()))
    with pytest.raises(RuntimeError, match="busy"):
        line.send(InspectRequest(()))
    assert line.wait(20) is not None
    line.close()


def test_a_line_answers_one_request_after_the_other(desk: Desk) -> None:
    run_id = desk.make_run()
    line = desk.journal.open_line()
    for _ in range(5):
        line.send(InspectRequest((run_id,)))
        reply = line.wait(20)
        assert reply is not None
    line.close()


def test_a_closed_line_is_unavailable(desk: Desk) -> None:
    line = desk.journal.open_line()
    line.close()
    line.close()
    with pytest.raises(JournalUnavailable):
        line.send(InspectRequest(()))


def test_closing_a_line_with_a_request_in_flight_disturbs_nobody(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run()
    line = desk.journal.open_line()
    line.send(ClaimRequest(worker, (("order", 1),), 5))
    line.close()
    # Whether it landed is unknown; either way the run can be had.
    eventually(lambda: desk.run(run_id).lease_owner == worker or desk.claim(worker), 5)


def test_closing_the_journal_closes_its_lines_and_ears(desk: Desk) -> None:
    line, ears = desk.journal.open_line(), desk.journal.open_ears([HintKind.START])
    desk.journal.close()
    with pytest.raises(JournalUnavailable):
        line.send(InspectRequest(()))
    with pytest.raises(JournalUnavailable):
        ears.hear()
    desk.journal.close()  # again: nothing to do


# ------------------------------------------------------------------ hints


def hear(desk: Desk, *kinds: HintKind, send: tuple[Hint, ...]) -> list[Hint]:
    """Return what ears for these kinds hear of the hints, a last one included that marks the end."""
    ears = desk.journal.open_ears([*kinds, HintKind.DONE])
    end = Hint(HintKind.DONE, ("end",))
    desk.ask(HintRequest((*send, end)))
    heard: list[Hint] = []

    def ended() -> bool:
        select.select([ears], [], [], 0.1)
        heard.extend(ears.hear())
        return any(hint.run_ids == ("end",) for hint in heard)

    eventually(ended)
    ears.close()
    return [hint for hint in heard if hint != end]


@pytest.mark.parametrize("kind", [HintKind.START, HintKind.MAIL, HintKind.TASKS])
def test_a_hint_is_heard_by_ears_for_its_kind(desk: Desk, kind: HintKind) -> None:
    assert {hint.kind for hint in hear(desk, kind, send=(Hint(kind),))} == {kind}


def test_hints_of_other_kinds_are_not_heard(desk: Desk) -> None:
    sent = (Hint(HintKind.START), Hint(HintKind.MAIL))
    assert {hint.kind for hint in hear(desk, HintKind.MAIL, send=sent)} == {HintKind.MAIL}


def test_a_hint_that_runs_are_done_names_them(desk: Desk) -> None:
    runs = tuple(desk.make_run() for _ in range(3))
    heard = hear(desk, send=(Hint(HintKind.DONE, runs),))
    assert {run_id for hint in heard for run_id in hint.run_ids} == set(runs)


def test_hints_for_hundreds_of_runs_are_no_error(desk: Desk) -> None:
    runs = tuple(f"{number:032x}" for number in range(700))
    heard = hear(desk, send=(Hint(HintKind.DONE, runs),))
    assert all(hint.kind == HintKind.DONE for hint in heard)


def test_the_journal_itself_can_hint(desk: Desk) -> None:
    ears = desk.journal.open_ears([HintKind.TASKS])
    assert ears.hear() == []
    desk.journal.hint(Hint(HintKind.TASKS))
    assert select.select([ears], [], [], 20)[0] == [ears]
    assert [hint.kind for hint in eventually(ears.hear)] == [HintKind.TASKS]
    assert ears.hear() == []
    ears.close()


def test_all_ears_hear_a_hint(desk: Desk) -> None:
    pairs = [desk.journal.open_ears([HintKind.START]) for _ in range(2)]
    desk.journal.hint(Hint(HintKind.START))
    for ears in pairs:
        assert [hint.kind for hint in eventually(ears.hear)] == [HintKind.START]
        ears.close()


def test_closed_ears_hear_nothing_any_more(desk: Desk) -> None:
    ears = desk.journal.open_ears([HintKind.START])
    ears.close()
    ears.close()
    with pytest.raises(JournalUnavailable):
        ears.hear()
    desk.journal.hint(Hint(HintKind.START))


def test_a_hint_request_has_an_empty_reply(desk: Desk) -> None:
    assert desk.ask(HintRequest((Hint(HintKind.MAIL),))) == ReleaseReply(frozenset())
    assert desk.ask(HintRequest(())) == ReleaseReply(frozenset())


def test_a_hint_on_a_closed_journal_is_silently_lost(desk: Desk) -> None:
    desk.journal.close()
    desk.journal.hint(Hint(HintKind.START))


# ------------------------------------------------------------------ upkeep


def test_there_are_partitions_for_the_months_ahead(desk: Desk) -> None:
    desk.journal.upkeep.ensure_partitions(months_ahead=3)
    assert list(desk.journal.upkeep.ensure_partitions(months_ahead=3)) == []


def test_no_event_is_in_the_wrong_place(desk: Desk, worker: WorkerId) -> None:
    desk.end(worker, desk.fresh(worker))
    assert desk.journal.upkeep.misplaced_events() == 0


def dead_mail(desk: Desk, worker: WorkerId, count: int) -> RunId:
    run = desk.fresh(worker)
    for number in range(count):
        desk.signal(run.run_id, payload=str(number))
    return desk.end(worker, run).run_id


def test_mail_of_ended_chains_is_discarded_once(desk: Desk, worker: WorkerId) -> None:
    dead_mail(desk, worker, 3)
    assert desk.journal.upkeep.discard_dead_mail() == 3
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_dead_mail_is_discarded_in_chunks(desk: Desk, worker: WorkerId) -> None:
    dead_mail(desk, worker, 3)
    assert [desk.journal.upkeep.discard_dead_mail(limit=2) for _ in range(3)] == [2, 1, 0]


def test_mail_of_living_chains_stays(desk: Desk, worker: WorkerId) -> None:
    owned, free, new = desk.parked(worker), desk.idle(worker), desk.make_run()
    for run_id in (owned.run_id, free.run_id, new):
        desk.signal(run_id)
    assert desk.journal.upkeep.discard_dead_mail() == 0
    assert len(desk.mail(worker).messages) == 1
    assert len(desk.claim(worker)) == 2


def test_discarding_does_not_change_how_the_run_ended(desk: Desk, worker: WorkerId) -> None:
    run_id = dead_mail(desk, worker, 1)
    before = desk.journal.runs.outcomes([run_id])
    desk.journal.upkeep.discard_dead_mail()
    assert desk.journal.runs.outcomes([run_id]) == before


def test_an_outcome_posted_as_the_run_ends_is_dead_mail(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0)])
    task = desk.take_one(worker)
    desk.journal.tasks.finish(worker, succeeded(task))
    desk.end(worker, run)
    assert desk.journal.upkeep.discard_dead_mail() == 1
