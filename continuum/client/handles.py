"""Here live the handles by which callers keep hold of a run: signal it, wait for it, end it."""

import asyncio
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar, cast

from continuum.client.access import Access
from continuum.client.checks import check_namespace, check_run_id, check_timeout
from continuum.client.letters import send_cancel, send_signal, terminate_run
from continuum.client.lookups import find_run, read_history, tip_of
from continuum.client.results import read_outcome, timed_out
from continuum.client.twins import Twin
from continuum.client.waiting import Outcome
from continuum.declare.signals import Signal
from continuum.errors import JournalBusy, JournalUnavailable, RunNotFound
from continuum.journal.protocol import PostResult
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.runs import Run

__all__ = ["AsyncRunHandle", "RunHandle"]

R = TypeVar("R")


class RunHandle(Generic[R]):
    """One run, as its caller holds it. Cheap, thread-safe, and as good after a restart: ``continuum.handle(id)``.

    Signal, cancel, terminate, result and refresh follow a chain of continued runs to its last one.
    """

    __slots__ = ("_access", "_joined", "_known", "_namespace", "_workflow", "id")

    def __init__(
        self,
        access: Access,
        run_id: str,
        *,
        namespace: str | None = None,
        workflow: str | None = None,
        known: bool = False,
        joined: bool = False,
    ) -> None:
        self.id: Final = check_run_id(run_id)
        self._access = access
        self._namespace = check_namespace(namespace)
        self._workflow = workflow
        # Whether the run is known to exist. A run started in a caller's own transaction does not exist yet.
        self._known = known
        self._joined = joined

    def __repr__(self) -> str:
        return f"<run {self.id}{f' of {self._workflow}' if self._workflow else ''}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def aio(self) -> "AsyncRunHandle[R]":
        """The same run for asyncio."""
        return AsyncRunHandle(self)

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the end of the run and return what the workflow returned.

        ``timeout`` is in seconds, or a timedelta; None waits on. Raises ``RunFailed`` if the workflow raised,
        ``RunCancelled`` if it was cancelled or terminated, ``ResultTimeout`` if it goes on after the timeout,
        ``RunNotFound`` at once if there is no such run: also if the transaction that started it is still open.
        While the database is away the wait goes on.
        """
        seconds = check_timeout(timeout)
        self._ascertain()
        future = self._watch()
        try:
            outcome = future.result(seconds)
        except TimeoutError:
            outcome = self._last_look(seconds)
        finally:
            future.cancel()
        return self._read(outcome)

    def signal(
        self,
        signal: Signal[Any] | str,
        value: Any = None,
        *,
        delivery_id: str | None = None,
        connection: Any = None,
    ) -> PostResult:
        """Send a signal; return ``"delivered"``, or ``"duplicate"`` if this delivery id has arrived before.

        With ``connection`` it arrives exactly if that transaction commits. Raises ``CodecError`` if the value is not
        of the signal's type, ``RunNotFound``, ``RunTerminal`` if the run has ended.
        """
        return send_signal(
            self._access,
            self.id,
            signal,
            value,
            delivery_id=delivery_id,
            namespace=self._namespace,
            connection=connection,
        )

    def cancel(self, *, connection: Any = None) -> None:
        """Ask the run to cancel itself: ``CancelledError`` at its ``await``, time to compensate, then ``cancelled``.

        Raises ``RunNotFound``, ``RunTerminal`` if the run has ended.
        """
        send_cancel(self._access, self.id, namespace=self._namespace, connection=connection)

    def terminate(self, reason: str | None = None) -> RunId:
        """End the run at once, without its code and without compensation; return the id of the run that was ended.

        Raises ``RunNotFound``, ``RunTerminal`` if the run has ended.
        """
        return terminate_run(self._access, self.id, reason=reason, namespace=self._namespace)

    def refresh(self) -> Run:
        """Return the run as it stands now, or the last of its chain. Raises ``RunNotFound``."""
        return tip_of(self._access, self.id, namespace=self._namespace)

    def history(self, *, after: int = 0) -> list[Event]:
        """Return the run's events with a sequence number above ``after``. Raises ``RunNotFound``."""
        return read_history(self._access, self.id, namespace=self._namespace, after=after)

    # -------------------------------------------------------------- waiting, for both twins

    def _ascertain(self) -> None:
        """Make sure that there is a run to wait for. Raises ``RunNotFound``."""
        if self._known:
            return
        run = find_run(self._access, self.id, namespace=self._namespace)
        if run is None:
            message = f"there is no run {self.id}"
            if self._joined:
                # Nobody else can see it before the commit, so waiting inside the transaction would never end.
                message += (
                    ": it was started with connection=…, and that transaction has not committed, or was rolled back."
                    " Commit first, then ask for the result"
                )
            elif self._namespace is not None:
                message += f" in namespace {self._namespace!r}"
            raise RunNotFound(message, run_id=self.id)
        self._workflow = run.workflow
        self._known = True

    def _watch(self) -> Future[Outcome]:
        return self._access.hub.watch(self.id)

    def _last_look(self, seconds: float | None) -> Outcome:
        """Look once more when time is up: a run that has ended in time is never reported as late."""
        try:
            outcome = self._access.journal.runs.outcomes([self.id]).get(self.id)
        except (JournalUnavailable, JournalBusy) as error:
            raise timed_out(self.id, seconds) from error
        if outcome is None:
            raise timed_out(self.id, seconds)
        return outcome

    def _read(self, outcome: Outcome) -> R:
        value = read_outcome(self.id, outcome, workflow=self._workflow, registry=self._access.registry)
        return cast("R", value)


class AsyncRunHandle(Generic[R]):
    """A :class:`RunHandle` whose calls are awaited."""

    __slots__ = ("_sync",)

    def __init__(self, handle: RunHandle[R]) -> None:
        self._sync = handle

    def __repr__(self) -> str:
        return repr(self._sync)

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self._sync.id

    @property
    def sync(self) -> RunHandle[R]:
        """The same run for threads."""
        return self._sync

    async def result(self, timeout: float | timedelta | None = None) -> R:  # noqa: ASYNC109 - as its twin
        """Wait as :meth:`RunHandle.result` does, without a thread per waiter."""
        handle = self._sync
        seconds = check_timeout(timeout)
        if not (handle._known and handle._access.is_open):  # noqa: SLF001 - the twin's own half
            await asyncio.to_thread(handle._ascertain)  # noqa: SLF001
        future = asyncio.wrap_future(handle._watch())  # noqa: SLF001
        try:
            outcome = await asyncio.wait_for(future, seconds)
        except TimeoutError:
            outcome = await asyncio.to_thread(handle._last_look, seconds)  # noqa: SLF001
        return handle._read(outcome)  # noqa: SLF001

    signal = Twin(RunHandle.signal)
    cancel = Twin(RunHandle.cancel)
    terminate = Twin(RunHandle.terminate)
    refresh = Twin(RunHandle.refresh)
    history = Twin(RunHandle.history)
