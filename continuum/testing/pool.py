"""Here lives the pool of the harness: attempts made in the test's own thread, in skipped time.

It is the third kind of pool beside the local one and Celery's, with the same life of an attempt
(:mod:`continuum.runtime.attempt_life`): decode, body, encode, retry or report. What differs is when and by whom bodies
are called: one after the other, by whoever drives the harness.
"""

import asyncio
import heapq
import inspect
import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from continuum.declare.attempts import ATTEMPT, Attempt
from continuum.declare.registry import ActivityDeclaration, Registry
from continuum.journal.protocol import Journal
from continuum.model.failures import FailureKind
from continuum.model.ids import RunId, WorkerId
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import ClaimedTask, TaskOrder, TaskOutcome
from continuum.runtime.attempt_life import AttemptLife
from continuum.runtime.job import Job, Key
from continuum.runtime.reporter import Report
from continuum.testing.calls import CallLog
from continuum.testing.clock import VirtualClock, micros
from continuum.testing.failures import FakeError, HarnessError
from continuum.testing.fakes import Answer, Fakes

__all__ = ["Bench", "Body"]

_CLAIMS: Final = 1_000_000
_NO_JITTER: Final = 0.0
_US: Final = 1_000_000

Body = Coroutine[Any, Any, None]
"""An ``async def`` body under way. It never raises what an attempt may raise: it keeps it."""


@dataclass(slots=True)
class _Returned:
    value: Any = None
    error: BaseException | None = None


class Bench:
    """Holds claimed tasks and makes their attempts when told to.

    :param deliver: takes in the outcome of a task.
    :param mailed: called after an outcome was posted as a message.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        journal: Journal,
        worker: WorkerId,
        clock: VirtualClock,
        fakes: Fakes,
        log: CallLog,
        deliver: Callable[[TaskOutcome], None],
        mailed: Callable[[], None],
        max_result_bytes: int,
    ) -> None:
        self._registry = registry
        self._journal = journal
        self._worker = worker
        self._clock = clock
        self._fakes = fakes
        self._log = log
        self._held: dict[tuple[RunId, int], Job] = {}
        self._ticket = itertools.count()
        self._due: list[tuple[int, int, Job | None, Callable[[], Iterator[Body]]]] = []
        self._life = AttemptLife(
            journal=journal,
            reporter=self,
            owner=self,
            deliver=deliver,
            mailed=mailed,
            max_result_bytes=max_result_bytes,
            fraction=lambda: _NO_JITTER,
        )

    # ------------------------------------------------------------------ driven by the harness

    def next_at(self) -> int | None:
        """Return when something is to be done here, in µs."""
        while self._due and (job := self._due[0][2]) is not None and job.ended:
            heapq.heappop(self._due)  # nobody waits for it any more, so no time is skipped for it
        return self._due[0][0] if self._due else None

    def work(self) -> Iterator[Body]:
        """Do what is due. Yields ``async def`` bodies, which have to be awaited before the next step."""
        while self._due and self._due[0][0] <= self._clock():
            yield from heapq.heappop(self._due)[3]()

    def look(self) -> None:
        """Claim the free tasks that are due, of every executor, and what was claimed unheard."""
        tasks = self._journal.tasks
        executors = {activity.policy.executor or "local" for activity in self._registry.activities()}
        for executor in sorted({"local", *executors}):
            self.adopt(tasks.claim(self._worker, queues=None, limit=_CLAIMS, executor=executor))
        self.adopt(tasks.held(self._worker))

    # ------------------------------------------------------------------ seen from the turns

    def reserve(self, order: TaskOrder) -> bool:  # noqa: ARG002 - there is always room
        """Whether a task may be inserted as claimed for this pool."""
        return True

    def unreserve(self, order: TaskOrder) -> None:
        """The task was not inserted."""

    def submit(self, tasks: Sequence[ClaimedTask]) -> None:
        """Execute tasks; their commit is acknowledged."""
        self.adopt(tasks)

    def cancel(self, run_id: RunId, command: int) -> None:
        """Nobody waits for this task any more."""
        job = self._held.get((run_id, command))
        if job is not None and job.end():
            del self._held[run_id, command]
            job.cancel()

    def holding(self) -> set[Key]:
        """Return (run, command, attempt) of all that is queued, under way, or delivered and not yet settled."""
        return {job.key for job in self._held.values()}

    def settle(self, keys: Iterable[Key]) -> None:
        """The journal has these outcomes."""
        for run_id, command, attempt in keys:
            job = self._held.get((run_id, command))
            if job is not None and job.task.attempt == attempt:
                del self._held[run_id, command]

    def hand_in(self, outcome: TaskOutcome) -> None:
        """Post an outcome as a message: its run is not, or no longer, in memory."""
        job = self._held.get((outcome.run_id, outcome.command))
        if job is None or job.task.attempt != outcome.attempt:
            task = ClaimedTask(
                outcome.run_id, outcome.command, outcome.attempt, outcome.activity, "[]", ActivityPolicy()
            )
            job = Job(task, self._worker, None)
            job.end()
            self._held[outcome.run_id, outcome.command] = job
        self._life.post(job, outcome)

    def adopt(self, tasks: Sequence[ClaimedTask]) -> None:
        """Execute tasks that are claimed, those that are not held already."""
        for task in tasks:
            key = task.run_id, task.command
            known = self._held.get(key)
            if known is not None and known.task.attempt >= task.attempt:
                continue
            job = self._held[key] = Job(task, self._worker, self._registry.find_activity(task.activity))
            self._at(0, partial(self._begin, job), job)

    # ------------------------------------------------------------------ seen from an attempt's life

    def release(self, job: Job) -> None:
        """Hold a job no longer."""
        if self._held.get((job.task.run_id, job.task.command)) is job:
            del self._held[job.task.run_id, job.task.command]

    def run_again(self, job: Job) -> None:
        """Let the same attempt wait in line again."""
        self.release(job)
        self.adopt([job.task])

    def due_in(self, seconds: float) -> None:
        """A task will be free then; the journal knows when."""

    def began_close(self) -> None:
        """Time limits are looked after where the attempt is begun."""

    def put(self, report: Report, *, after: float = 0.0, give_up: Callable[[], None] | None = None) -> None:
        """Tell the journal something, soon."""
        del give_up

        def tell() -> Iterator[Body]:
            again = report()
            if again is not None:
                self.put(report, after=again)
            return iter(())

        self._at(round(after * _US), tell)

    # ------------------------------------------------------------------ attempts

    def _at(self, after: int, action: Callable[[], Iterator[Body]], job: Job | None = None) -> None:
        heapq.heappush(self._due, (self._clock() + after, next(self._ticket), job, action))

    def _begin(self, job: Job) -> Iterator[Body]:
        life, task, activity = self._life, job.task, job.activity
        if job.ended:
            return  # cancelled while it waited
        if activity is None:
            life.refuse_unknown(job)
            return
        known = life.find_result(job)
        if known is not None:
            life.use_result(job, known)
            return
        attempt = life.begin(job)
        try:
            args, kwargs = activity.decode_arguments(task.arguments)
        except Exception as error:  # noqa: BLE001 - it ends the attempt
            life.body_raised(job, error)
            return
        self._log.began(activity, args, kwargs, run_id=task.run_id, command=task.command, at=self._clock.now)
        answer = self._fakes.answer(activity, args, kwargs, attempt=task.attempt)
        limit, kind = _limit_of(task.policy)
        if answer.span is None or answer.span > limit:
            self._at(micros(limit), partial(self._expire, job, kind), job)
        elif answer.span:
            self._at(micros(answer.span), partial(self._call, job, activity, attempt, answer), job)
        else:
            yield from self._call(job, activity, attempt, answer)

    def _expire(self, job: Job, kind: FailureKind) -> Iterator[Body]:
        self._life.expire(job, kind)
        return iter(())

    def _call(self, job: Job, activity: ActivityDeclaration, attempt: Attempt, answer: Answer) -> Iterator[Body]:
        if job.ended:
            return
        returned = _Returned()
        try:
            # A context of its own, as in every pool.
            returned.value = Context().run(_called, attempt, answer.call)
        except BaseException as raised:  # noqa: BLE001 - sorted out below
            returned.error = raised
        if inspect.iscoroutine(returned.value) and (answer.faked or activity.is_async):
            coroutine, returned.value = returned.value, None
            yield _awaited(attempt, coroutine, returned)
        error = returned.error
        if error is None:
            if answer.faked:
                self._fakes.check_result(activity, returned.value)
            self._life.body_returned(job, activity, returned.value)
            return
        if _is_for_the_test(error, answer):
            raise error
        if answer.faked and not answer.planned and isinstance(error, StopIteration | StopAsyncIteration):
            message = f"the fake of {activity.name} has no further answer: it raised {type(error).__name__}"
            raise FakeError(message) from error  # a Mock whose side_effect has run out
        self._log.raised(job.task.run_id, job.task.command, error)
        self._life.body_raised(job, error)


def _limit_of(policy: ActivityPolicy) -> tuple[timedelta, FailureKind]:
    silence = policy.heartbeat_timeout
    if silence is not None and silence < policy.timeout:
        return silence, FailureKind.HEARTBEAT_TIMED_OUT
    return policy.timeout, FailureKind.TIMED_OUT


def _called(attempt: Attempt, call: Callable[[], Any]) -> Any:
    ATTEMPT.set(attempt)
    return call()


async def _awaited(attempt: Attempt, coroutine: Coroutine[Any, Any, Any], returned: _Returned) -> None:
    ATTEMPT.set(attempt)
    try:
        returned.value = await coroutine
    except BaseException as error:  # noqa: BLE001 - the attempt's, and sorted out by who began it
        returned.error = error


def _is_for_the_test(error: BaseException, answer: Answer) -> bool:
    """Whether an error ends the test instead of the attempt: what a fake asserts, ``pytest.fail``, Control-C."""
    if isinstance(error, HarnessError):
        return True
    if answer.planned:
        return False
    if isinstance(error, AssertionError):
        return answer.faked
    return not isinstance(error, (Exception, *_ENDS_AN_ATTEMPT))


# What ends an attempt in production, though it is no Exception.
_ENDS_AN_ATTEMPT: Final = (asyncio.CancelledError, SystemExit, GeneratorExit)
