"""Here live the handles by which callers keep hold of a run: signal it, wait for it, end it."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar, cast, overload

from continuum.client.access import Access
from continuum.client.asking import Asking, pauses
from continuum.client.checks import check_namespace, check_run_id, check_timeout
from continuum.client.letters import send_cancel, send_signal, terminate_run
from continuum.client.lookups import get_run, read_history, tip_of
from continuum.client.marks import read_progress, set_run_attributes
from continuum.client.results import read_outcome, timed_out
from continuum.client.trees import RunTree, cancel_tree, read_tree, terminate_tree
from continuum.client.twins import Twin
from continuum.client.waiting import Outcome
from continuum.declare.signals import Question, Signal
from continuum.errors import JournalBusy, JournalUnavailable, RunNotFound
from continuum.journal.protocol import PostResult
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.runs import Run
from continuum.replay.effects.child import SignalLike

__all__ = ["AsyncRunHandle", "RunHandle"]

R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")


class RunHandle(Generic[R]):
    """One run, as its caller holds it. Cheap, thread-safe, and as good after a restart: ``continuum.handle(id)``.

    Everything but ``history`` follows a chain of continued runs to its last one.
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

    @overload
    def signal(
        self, signal: Signal[T], value: T, *, delivery_id: str | None = ..., connection: Any = ...
    ) -> PostResult: ...
    @overload
    def signal(
        self, signal: SignalLike[None], *, delivery_id: str | None = ..., connection: Any = ...
    ) -> PostResult: ...
    @overload
    def signal(
        self, signal: str, value: Any = ..., *, delivery_id: str | None = ..., connection: Any = ...
    ) -> PostResult: ...
    def signal(
        self, signal: Any, value: Any = None, *, delivery_id: str | None = None, connection: Any = None
    ) -> PostResult:
        """Send a signal; return ``"delivered"``, or ``"duplicate"`` if this delivery id has arrived before.

        With ``connection`` it arrives exactly if that transaction commits. Raises ``CodecError`` if the value is not
        of the signal's type, ``SignalRefused`` if the run's workflow declares its signals and not this one, or not with
        such a value, ``RunNotFound``, ``RunTerminal`` if the run has ended.
        """
        with self._seeking():
            return send_signal(
                self._access,
                self.id,
                signal,
                value,
                delivery_id=delivery_id,
                namespace=self._namespace,
                connection=connection,
                workflow=self._workflow,
            )

    @overload
    def ask(
        self,
        question: Question[T, A],
        value: T,
        *,
        timeout: float | timedelta | None = ...,
        delivery_id: str | None = ...,
    ) -> A: ...
    @overload
    def ask(
        self,
        question: str,
        value: Any = ...,
        *,
        timeout: float | timedelta | None = ...,
        delivery_id: str | None = ...,
    ) -> Any: ...
    def ask(
        self,
        question: Question[Any, Any] | str,
        value: Any = None,
        *,
        timeout: float | timedelta | None = None,
        delivery_id: str | None = None,
    ) -> Any:
        """Send a signal that has a ``reply=``, wait for the workflow's answer and return it.

        Asking again with the same ``delivery_id`` is asking the same question: it returns the same answer, also after
        a ``ResultTimeout``. ``timeout`` is in seconds, or a timedelta; None waits on, as long as the run goes on.

        Raises as :meth:`signal` does; ``ResultTimeout``; ``RunFailed`` if the run fails without answering, and
        ``RunTerminal`` if it ends otherwise.
        """
        seconds = check_timeout(timeout)
        asking = self._ask(question, value, delivery_id)
        deadline = None if seconds is None else time.monotonic() + seconds
        for pause in pauses():
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if asking.look():
                break
            if left <= 0:
                raise asking.late(seconds)
            time.sleep(left)
        return asking.reply

    def _ask(self, question: Any, value: Any, delivery_id: str | None) -> Asking:
        options: Any = {"delivery_id": delivery_id, "namespace": self._namespace, "workflow": self._workflow}
        asking = Asking(self._access, self.id, question, value, **options)
        with self._seeking():
            asking.send()
        return asking

    def cancel(self, *, cascade: bool = False, connection: Any = None) -> list[RunId]:
        """Ask the run to cancel itself: ``CancelledError`` at its ``await``, time to compensate, then ``cancelled``.

        It asks the children it waits for in turn. With ``cascade`` all that is below it is asked from here, abandoned
        children included, and what has ended is passed over. Returns the runs that were asked, parents first. Raises
        ``RunNotFound``, ``RunTerminal`` if the run has ended (not with ``cascade``).
        """
        with self._seeking():
            if cascade:
                return cancel_tree(self._access, self.id, namespace=self._namespace, connection=connection)
            send_cancel(self._access, self.id, namespace=self._namespace, connection=connection)
            return [self.id]

    def terminate(self, reason: str | None = None, *, cascade: bool = False) -> list[RunId]:
        """End the run at once, without its code and without compensation.

        Its children are told as their ``on_parent_close`` says. With ``cascade`` all that is below it is ended like
        this, abandoned children included, and what has ended is passed over. Returns the runs that were ended (of a
        chain the last one), parents first. Raises ``RunNotFound``, ``RunTerminal`` if the run has ended (not with
        ``cascade``).
        """
        with self._seeking():
            if cascade:
                return terminate_tree(self._access, self.id, reason=reason, namespace=self._namespace)
            return [terminate_run(self._access, self.id, reason=reason, namespace=self._namespace)]

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set some of the run's attributes, key by key; others stay as they are. Also of a run that has ended.

        They are what :meth:`Calls.search` finds runs by. Nothing is journaled, and the workflow cannot read them.
        Raises ``CodecError`` with the path of what is not JSON, ``RunNotFound``.
        """
        with self._seeking():
            set_run_attributes(self._access, self.id, attributes, namespace=self._namespace)

    def progress(self) -> dict[str, Any]:
        """Return the last value that the run has published under each name. Raises ``RunNotFound``.

        ``CodecError`` if a value is of a class that is not loaded here.
        """
        with self._seeking():
            return read_progress(self._access, self.id, namespace=self._namespace)

    def tree(self, *, limit: int = 1_000) -> RunTree:
        """Return the run with the runs that it has started, and those that they have started, ``limit`` in all.

        ``.cut`` says that there are more: those nearest to the run are read first. Raises ``RunNotFound``.
        """
        with self._seeking():
            return read_tree(self._access, self.id, namespace=self._namespace, limit=limit)

    def refresh(self) -> Run:
        """Return the run as it stands now, or the last of its chain. Raises ``RunNotFound``."""
        with self._seeking():
            return tip_of(self._access, self.id, namespace=self._namespace)

    def history(self, *, after: int = 0, payloads: bool = True, max_payload_bytes: int | None = None) -> list[Event]:
        """Return the run's events with a sequence number above ``after``, as :meth:`Calls.history` does.

        Raises ``RunNotFound``.
        """
        with self._seeking():
            return read_history(
                self._access,
                self.id,
                namespace=self._namespace,
                after=after,
                payloads=payloads,
                max_payload_bytes=max_payload_bytes,
            )

    # -------------------------------------------------------------- waiting, for both twins

    @contextmanager
    def _seeking(self) -> Iterator[None]:
        """Say of a run that is not found, and was started in a caller's own transaction, what is the matter."""
        try:
            yield
        except RunNotFound as error:
            if self._known or not self._joined:
                raise
            # Nobody else can see it before the commit, so waiting inside the transaction would never end.
            message = (
                f"{error}: it was started with connection=…, and that transaction has not committed, or was rolled"
                " back. Commit first; signal() and cancel() can be part of it, with the same connection=…"
            )
            raise RunNotFound(message, run_id=self.id) from None

    def _ascertain(self) -> None:
        """Make sure that there is a run to wait for. Raises ``RunNotFound``."""
        if self._known:
            return
        with self._seeking():
            run = get_run(self._access, self.id, namespace=self._namespace)
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

    @overload
    async def ask(
        self,
        question: Question[T, A],
        value: T,
        *,
        timeout: float | timedelta | None = ...,  # noqa: ASYNC109 - as its twin
        delivery_id: str | None = ...,
    ) -> A: ...
    @overload
    async def ask(
        self,
        question: str,
        value: Any = ...,
        *,
        timeout: float | timedelta | None = ...,  # noqa: ASYNC109 - as its twin
        delivery_id: str | None = ...,
    ) -> Any: ...
    async def ask(
        self,
        question: Question[Any, Any] | str,
        value: Any = None,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as its twin
        delivery_id: str | None = None,
    ) -> Any:
        """Ask as :meth:`RunHandle.ask` does, without a thread while it waits."""
        seconds = check_timeout(timeout)
        ask = self._sync._ask  # noqa: SLF001 - the twin's own half
        asking = await asyncio.to_thread(ask, question, value, delivery_id)
        deadline = None if seconds is None else time.monotonic() + seconds
        for pause in pauses():
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if await asyncio.to_thread(asking.look):
                break
            if left <= 0:
                raise asking.late(seconds)
            await asyncio.sleep(left)
        return asking.reply

    @overload
    async def signal(
        self, signal: Signal[T], value: T, *, delivery_id: str | None = ..., connection: Any = ...
    ) -> PostResult: ...
    @overload
    async def signal(
        self, signal: SignalLike[None], *, delivery_id: str | None = ..., connection: Any = ...
    ) -> PostResult: ...
    @overload
    async def signal(
        self, signal: str, value: Any = ..., *, delivery_id: str | None = ..., connection: Any = ...
    ) -> PostResult: ...
    async def signal(
        self, signal: Any, value: Any = None, *, delivery_id: str | None = None, connection: Any = None
    ) -> PostResult:
        """Send a signal, as :meth:`RunHandle.signal` does."""
        send = self._sync.signal
        return await asyncio.to_thread(lambda: send(signal, value, delivery_id=delivery_id, connection=connection))

    cancel = Twin(RunHandle.cancel)
    terminate = Twin(RunHandle.terminate)
    set_attributes = Twin(RunHandle.set_attributes)
    progress = Twin(RunHandle.progress)
    tree = Twin(RunHandle.tree)
    refresh = Twin(RunHandle.refresh)
    history = Twin(RunHandle.history)
