"""Outcomes that come while a statement is under way are written together by the next one."""

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from continuum.celery_executor.finishing import Finisher
from continuum.errors import CodecError, JournalUnavailable
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint
from continuum.model.ids import WorkerId, new_run_id
from continuum.model.tasks import TaskOutcome, TaskRef
from tests.support.eventually import eventually

ME, OTHER = WorkerId("me"), WorkerId("other")


class Slow:
    """A journal whose statements wait for a gate."""

    def __init__(self, refuse: Callable[[TaskOutcome], Exception | None] = lambda _outcome: None) -> None:
        self.gate = threading.Event()
        self.batches: list[tuple[WorkerId, list[int]]] = []
        self.hints: list[Hint] = []
        self.tasks = SimpleNamespace(finish_many=self._finish)
        self._refuse = refuse

    def hint(self, hint: Hint) -> None:
        self.hints.append(hint)

    def _finish(self, worker: WorkerId, outcomes: Sequence[TaskOutcome]) -> frozenset[TaskRef]:
        self.batches.append((worker, [outcome.command for outcome in outcomes]))
        self.gate.wait(20)
        for outcome in outcomes:
            error = self._refuse(outcome)
            if error is not None:
                raise error
        return frozenset(TaskRef(o.run_id, o.command, o.attempt) for o in outcomes if o.payload != '"stale"')


def outcome(command: int, payload: str = "1") -> TaskOutcome:
    return TaskOutcome(new_run_id(1), command, 1, "charge", payload)


def gather(journal: Slow, *asked: tuple[WorkerId, TaskOutcome]) -> list[Any]:
    """Finish the first; the others while that is under way; return what each was told."""
    finisher = Finisher(cast("Journal", journal))
    told: list[Any] = [None] * len(asked)

    def finish(index: int) -> None:
        try:
            told[index] = finisher.finish(*asked[index])
        except Exception as error:
            told[index] = error

    threads = [threading.Thread(target=finish, args=(index,)) for index in range(len(asked))]
    threads[0].start()
    eventually(lambda: bool(journal.batches), 10)
    for thread in threads[1:]:
        thread.start()
    eventually(lambda: len(finisher._waiting) == len(asked) - 1, 10)
    journal.gate.set()
    for thread in threads:
        thread.join(20)
    return told


def test_whoever_comes_first_goes_alone_and_at_once() -> None:
    journal = Slow()
    journal.gate.set()
    assert Finisher(cast("Journal", journal)).finish(ME, outcome(1))
    assert journal.batches == [(ME, [1])]
    assert len(journal.hints) == 1


def test_those_who_come_meanwhile_go_together_with_one_hint() -> None:
    journal = Slow()
    assert gather(journal, *((ME, outcome(number)) for number in range(1, 5))) == [True] * 4
    (_, first), (_, second) = journal.batches
    assert first == [1]
    assert sorted(second) == [2, 3, 4]
    assert len(journal.hints) == 2


def test_each_is_told_of_its_own_outcome() -> None:
    journal = Slow()
    assert gather(journal, (ME, outcome(1)), (ME, outcome(2, '"stale"')), (ME, outcome(3))) == [True, False, True]


def test_outcomes_of_two_ids_go_in_two_statements() -> None:
    journal = Slow()
    assert gather(journal, (ME, outcome(1)), (ME, outcome(2)), (OTHER, outcome(3))) == [True] * 3
    assert sorted(journal.batches) == [(ME, [1]), (ME, [2]), (OTHER, [3])]


def test_a_journal_that_is_away_is_everybodys_concern() -> None:
    journal = Slow(lambda _: JournalUnavailable("away"))
    told = gather(journal, (ME, outcome(1)), (ME, outcome(2)), (ME, outcome(3)))
    assert all(isinstance(error, JournalUnavailable) for error in told)
    assert len(journal.batches) == 2, "it is not asked once more for each"
    assert journal.hints == []


def test_one_that_is_refused_does_not_spoil_the_others() -> None:
    journal = Slow(lambda item: CodecError("a zero byte") if item.command == 3 else None)
    told = gather(journal, *((ME, outcome(number)) for number in range(1, 5)))
    assert told[:2] == [True, True]
    assert isinstance(told[2], CodecError)
    assert told[3] is True


def test_nothing_accepted_is_nothing_announced() -> None:
    journal = Slow()
    journal.gate.set()
    assert not Finisher(cast("Journal", journal)).finish(ME, outcome(1, '"stale"'))
    assert journal.hints == []


def test_company_goes_on_without_a_leader_that_is_killed() -> None:
    class Killed(BaseException):
        pass

    journal = Slow()
    journal.gate.set()
    finisher = Finisher(cast("Journal", journal))
    real, kills = journal.tasks.finish_many, [Killed()]

    def finish(*args: Any) -> Any:
        if kills:
            raise kills.pop()
        return real(*args)

    journal.tasks.finish_many = finish
    with pytest.raises(Killed):
        finisher.finish(ME, outcome(1))
    assert finisher.finish(ME, outcome(2))
    assert journal.batches == [(ME, [2])]
