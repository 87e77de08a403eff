"""Waiting for results: one thread, no lost hint, batched looks."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest

from continuum.client import waiting
from continuum.client.waiting import CHUNK, Outcome, ResultHub
from continuum.errors import ContinuumError, JournalUnavailable, SchemaOutdated
from continuum.journal.requests import Hint, HintKind
from continuum.model.events import Event, EventType
from continuum.model.ids import RunId
from continuum.model.runs import RunState
from tests.support.eventually import eventually

NEVER = 3600.0  # a floor poll that a test will not see
WAIT = 10.0


def run_id(number: int) -> RunId:
    return RunId(f"00000000-0000-7000-8000-{number:012d}")


def outcome(text: str = "1") -> Outcome:
    return RunState.COMPLETED, Event(9, EventType.RUN_COMPLETED, None, None, text, 0)


class Ears:
    def __init__(self, journal: "Journal") -> None:
        self._journal = journal
        self._here, self.there = socket.socketpair()
        self._here.setblocking(False)
        self._heard: list[Hint] = []
        self.lost = False

    def fileno(self) -> int:
        return self._here.fileno()

    def tell(self, hint: Hint) -> None:
        self._heard.append(hint)
        self.there.send(b"!")

    def break_off(self) -> None:
        self.lost = True
        self.there.send(b"!")

    def hear(self) -> list[Hint]:
        with suppress(BlockingIOError):
            self._here.recv(1000)
        if self.lost:
            raise JournalUnavailable("gone")
        heard, self._heard = self._heard, []
        return heard

    def close(self) -> None:
        self._here.close()
        self.there.close()
        self._journal.open.remove(self)


class Journal:
    """A journal of outcomes, whose looks are counted."""

    def __init__(self) -> None:
        self.ended: dict[RunId, Outcome] = {}
        self.looks: list[list[RunId]] = []
        self.open: list[Ears] = []
        self.listened = 0
        self.refuse: Exception | None = None
        self.before_look: Callable[[], object] = lambda: None
        self.runs = self

    def open_ears(self, kinds: Sequence[HintKind]) -> Ears:
        if self.refuse is not None:
            raise self.refuse
        assert tuple(kinds) == (HintKind.DONE,)
        self.listened += 1
        self.open.append(Ears(self))
        return self.open[-1]

    def outcomes(self, run_ids: Sequence[RunId]) -> dict[RunId, Outcome]:
        self.looks.append(list(run_ids))
        self.before_look()
        return {run: self.ended[run] for run in run_ids if run in self.ended}

    def end(self, run: RunId, *, hinted: bool = True) -> None:
        self.ended[run] = outcome()
        if hinted:
            self.tell(run)

    def tell(self, *runs: RunId) -> None:
        for ears in list(self.open):
            ears.tell(Hint(HintKind.DONE, runs))


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def make_hub(journal: Journal) -> Iterator[Callable[..., ResultHub]]:
    made: list[ResultHub] = []

    def make(**options: Any) -> ResultHub:
        made.append(ResultHub(journal, **{"first_poll": NEVER, "longest_poll": NEVER, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for hub in made:
        hub.close()
        assert not hub.listening
    assert not journal.open, "ears were left open"


@pytest.fixture
def hub(make_hub: Callable[..., ResultHub]) -> ResultHub:
    return make_hub()


def looked_at(journal: Journal, run: RunId) -> bool:
    return any(run in look for look in journal.looks)


def test_a_run_that_has_ended_already_is_found_without_a_hint(journal: Journal, hub: ResultHub) -> None:
    journal.end(run_id(1), hinted=False)
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_a_hint_brings_the_outcome_with_one_look(journal: Journal, hub: ResultHub) -> None:
    future = hub.watch(run_id(1))
    eventually(lambda: looked_at(journal, run_id(1)))
    journal.end(run_id(1))
    assert future.result(WAIT) == outcome()
    assert journal.looks == [[run_id(1)], [run_id(1)]]


def test_a_run_that_ends_while_it_is_looked_up_is_not_lost(journal: Journal, hub: ResultHub) -> None:
    """The answer says "not yet", the run ends, and only then is the answer read."""
    first = [True]

    def end_too_late() -> None:
        if first:
            first.clear()
            # The look has been answered from before this moment.
            journal.tell(run_id(1))

    journal.before_look = end_too_late
    original = journal.outcomes

    def stale(run_ids: Sequence[RunId]) -> dict[RunId, Outcome]:
        answer = original(run_ids)
        journal.ended[run_id(1)] = outcome()
        return answer

    journal.outcomes = stale  # type: ignore[method-assign]
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_hints_about_others_cost_no_look(journal: Journal, hub: ResultHub) -> None:
    future = hub.watch(run_id(1))
    eventually(lambda: looked_at(journal, run_id(1)))
    for number in range(100, 130):
        journal.tell(run_id(number))
    journal.end(run_id(1))
    future.result(WAIT)
    assert len(journal.looks) == 2


def test_many_waiters_share_one_thread_one_connection_and_each_look(journal: Journal, hub: ResultHub) -> None:
    everybody = threading.Event()
    journal.before_look = lambda: everybody.wait(WAIT)
    before = threading.active_count()
    futures = [hub.watch(run_id(number)) for number in range(500)]
    assert threading.active_count() == before + 1
    everybody.set()
    eventually(lambda: sum(map(len, journal.looks)) == 500)
    for number in range(500):
        journal.ended[run_id(number)] = outcome(str(number))
    journal.tell(*(run_id(number) for number in range(500)))
    assert [future.result(WAIT)[1].payload for future in futures] == [str(number) for number in range(500)]
    assert journal.listened == 1
    # The first look may have begun with some of them; the second took all that had come meanwhile.
    assert len(journal.looks) <= 3


def test_a_statement_asks_for_a_bounded_number_of_runs(journal: Journal, hub: ResultHub) -> None:
    journal.refuse = JournalUnavailable("later")
    futures = [hub.watch(run_id(number)) for number in range(2 * CHUNK + 1)]
    for number in range(2 * CHUNK + 1):
        journal.ended[run_id(number)] = outcome()
    journal.refuse = None
    assert all(future.result(WAIT) for future in futures)
    assert max(map(len, journal.looks)) == CHUNK


def test_two_waiters_of_one_run_both_get_it(journal: Journal, hub: ResultHub) -> None:
    futures = [hub.watch(run_id(1)), hub.watch(run_id(1))]
    eventually(lambda: looked_at(journal, run_id(1)))
    journal.end(run_id(1))
    assert [future.result(WAIT) for future in futures] == [outcome()] * 2
    assert hub.waiters == 0


def test_a_lost_hint_is_made_up_for_by_the_floor_poll(journal: Journal, make_hub: Callable[..., ResultHub]) -> None:
    hub = make_hub(first_poll=0.02, longest_poll=0.05)
    future = hub.watch(run_id(1))
    eventually(lambda: looked_at(journal, run_id(1)))
    journal.end(run_id(1), hinted=False)
    assert future.result(WAIT) == outcome()


def test_the_floor_poll_comes_however_much_else_is_heard(journal: Journal, make_hub: Callable[..., ResultHub]) -> None:
    hub = make_hub(first_poll=0.05, longest_poll=0.05)
    future = hub.watch(run_id(1))
    eventually(lambda: looked_at(journal, run_id(1)))
    journal.end(run_id(1), hinted=False)

    def chatter() -> bool:
        journal.tell(run_id(99))
        return future.done()

    eventually(chatter, interval=0.001)


def listen(journal: Journal, hub: ResultHub) -> Future[Outcome]:
    """Wait for run 99, so that the ears are open, and let the first looks be over."""
    future = hub.watch(run_id(99))
    eventually(lambda: looked_at(journal, run_id(99)))
    return future


def test_a_run_that_was_expected_before_it_was_written_costs_one_look(journal: Journal, hub: ResultHub) -> None:
    listen(journal, hub)
    hub.expect(run_id(1))
    future = hub.watch(run_id(1))
    journal.tell(run_id(50))
    assert not looked_at(journal, run_id(1))
    journal.end(run_id(1))
    assert future.result(WAIT) == outcome()
    assert journal.looks[1:] == [[run_id(1)]]


def test_an_expected_run_that_was_heard_of_before_anybody_waited_is_looked_up(journal: Journal, hub: ResultHub) -> None:
    listen(journal, hub)
    hub.expect(run_id(1))
    journal.end(run_id(1))
    # This hint is heard later than the other, and its look is seen.
    journal.tell(run_id(99))
    eventually(lambda: len(journal.looks) == 2)
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_a_run_is_looked_up_if_the_ears_were_opened_anew_since_it_was_expected(
    journal: Journal, hub: ResultHub
) -> None:
    listen(journal, hub)
    hub.expect(run_id(1))
    journal.open[0].break_off()
    eventually(lambda: journal.listened == 2 and len(journal.looks) == 2)
    journal.end(run_id(1), hinted=False)
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_a_run_whose_hint_is_lost_with_the_ears_is_found_by_the_new_ones(journal: Journal, hub: ResultHub) -> None:
    listen(journal, hub)
    hub.expect(run_id(1))
    journal.open[0].lost = True  # and nobody knows yet
    journal.end(run_id(1), hinted=False)
    future = hub.watch(run_id(1))
    assert future.result(WAIT) == outcome()
    assert journal.listened == 2


def test_a_run_expected_by_closed_ears_is_looked_up(journal: Journal, make_hub: Callable[..., ResultHub]) -> None:
    hub = make_hub(linger=0.01)
    future = listen(journal, hub)
    hub.expect(run_id(1))
    journal.end(run_id(99))
    assert future.result(WAIT) == outcome()
    eventually(lambda: not hub.listening)
    journal.end(run_id(1), hinted=False)
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_nothing_is_expected_while_nobody_listens(journal: Journal, hub: ResultHub) -> None:
    hub.expect(run_id(1))
    listen(journal, hub)
    journal.end(run_id(1), hinted=False)
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_a_hint_without_names_ends_all_expectations(journal: Journal, hub: ResultHub) -> None:
    listen(journal, hub)
    hub.expect(run_id(1))
    journal.end(run_id(1), hinted=False)
    journal.tell()
    eventually(lambda: len(journal.looks) == 2)
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_an_expected_run_is_waited_for_without_a_look_once_only(journal: Journal, hub: ResultHub) -> None:
    listen(journal, hub)
    hub.expect(run_id(1))
    hub.watch(run_id(1)).cancel()
    journal.end(run_id(1))
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_only_so_many_runs_are_expected(journal: Journal, hub: ResultHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_EXPECTED", 2)
    listen(journal, hub)
    for number in (1, 2, 3):
        hub.expect(run_id(number))
    journal.end(run_id(1), hinted=False)
    assert hub.watch(run_id(1)).result(WAIT) == outcome()


def test_a_hint_without_names_looks_up_everybody(journal: Journal, hub: ResultHub) -> None:
    future = hub.watch(run_id(1))
    eventually(lambda: looked_at(journal, run_id(1)))
    journal.end(run_id(1), hinted=False)
    journal.tell()
    assert future.result(WAIT) == outcome()


def test_the_end_of_a_continued_chain_is_heard_under_another_id(journal: Journal, hub: ResultHub) -> None:
    root, tip = run_id(1), run_id(2)
    future = hub.watch(root)
    eventually(lambda: looked_at(journal, root))
    looks = len(journal.looks)
    journal.tell(root)  # the first run of the chain has ended, the chain has not
    eventually(lambda: len(journal.looks) > looks)
    journal.ended[root] = outcome()
    journal.tell(tip)
    assert future.result(WAIT) == outcome()


def test_new_ears_mean_looking_up_everybody_again(journal: Journal, hub: ResultHub) -> None:
    future = hub.watch(run_id(1))
    eventually(lambda: looked_at(journal, run_id(1)))
    journal.end(run_id(1), hinted=False)
    journal.open[0].break_off()
    assert future.result(WAIT) == outcome()
    assert journal.listened == 2


def test_waiting_goes_on_while_the_database_is_away(journal: Journal, hub: ResultHub) -> None:
    journal.refuse = JournalUnavailable("no server")
    future = hub.watch(run_id(1))
    journal.end(run_id(1), hinted=False)
    with pytest.raises(TimeoutError):
        future.result(0.05)
    journal.refuse = None
    assert future.result(WAIT) == outcome()


def test_what_waiting_cannot_mend_reaches_the_waiter(journal: Journal, hub: ResultHub) -> None:
    journal.refuse = SchemaOutdated("run `continuum migrate`")
    with pytest.raises(SchemaOutdated, match="migrate"):
        hub.watch(run_id(1)).result(WAIT)


def test_a_waiter_that_gave_up_is_looked_up_no_more(journal: Journal, hub: ResultHub) -> None:
    future = hub.watch(run_id(1))
    eventually(lambda: looked_at(journal, run_id(1)))
    assert future.cancel()
    assert hub.waiters == 0
    looks = len(journal.looks)
    journal.end(run_id(1))
    other = hub.watch(run_id(2))
    journal.end(run_id(2))
    other.result(WAIT)
    assert all(run_id(1) not in look for look in journal.looks[looks:])


def test_the_thread_ends_when_nobody_waits_and_starts_again(
    journal: Journal, make_hub: Callable[..., ResultHub]
) -> None:
    hub = make_hub(linger=0.02)
    for number in (1, 2):
        journal.end(run_id(number), hinted=False)
        hub.watch(run_id(number)).result(WAIT)
        eventually(lambda: not hub.listening)
        eventually(lambda: not journal.open)
    assert journal.listened == 2


def test_closing_fails_whoever_still_waits(journal: Journal, hub: ResultHub) -> None:
    future: Future[Outcome] = hub.watch(run_id(1))
    hub.close()
    with pytest.raises(ContinuumError, match="closed"):
        future.result(WAIT)
    with pytest.raises(ContinuumError, match="closed"):
        hub.watch(run_id(2))
