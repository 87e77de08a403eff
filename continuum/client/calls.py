"""Here lives what callers ask of Continuum, one method each; the async twins are made of these."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, overload

from continuum.client.access import Access
from continuum.client.handles import RunHandle
from continuum.client.letters import send_cancel, send_signal, terminate_run
from continuum.client.lookups import find_run, get_run, list_runs, read_history, read_tasks
from continuum.client.starts import RESERVED, StartOptions, start_run
from continuum.declare.signals import Signal
from continuum.declare.workflows import Workflow
from continuum.errors import ConfigError
from continuum.journal.protocol import PostResult, RunPage
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.leases import WorkerRecord
from continuum.model.runs import Run, RunState
from continuum.model.tasks import TaskRecord

__all__ = ["Calls", "Origin"]

P = ParamSpec("P")
R = TypeVar("R")

Origin = Literal["started", "existing"]


class Calls:
    """The calls of one instance."""

    def __init__(self, access: Access) -> None:
        self._access = access

    # One overload checks the workflow's own arguments, for calls without options. With one of the options they are
    # checked when the call is made: Python's types cannot say "the workflow's parameters, and these".
    @overload
    def start(self, flow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]: ...
    @overload
    def start(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        idempotency_key: str,
        namespace: str | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        connection: Any = ...,
        **kwargs: Any,
    ) -> RunHandle[R]: ...
    @overload
    def start(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        namespace: str,
        idempotency_key: str | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        connection: Any = ...,
        **kwargs: Any,
    ) -> RunHandle[R]: ...
    @overload
    def start(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        attributes: Mapping[str, Any],
        idempotency_key: str | None = ...,
        namespace: str | None = ...,
        connection: Any = ...,
        **kwargs: Any,
    ) -> RunHandle[R]: ...
    @overload
    def start(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        connection: Any,
        idempotency_key: str | None = ...,
        namespace: str | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> RunHandle[R]: ...
    @overload
    def start(self, flow: str, /, *args: Any, **kwargs: Any) -> RunHandle[Any]: ...
    def start(self, flow: Any, /, *args: Any, **kwargs: Any) -> RunHandle[Any]:
        """Start a run of a workflow (or of a loaded workflow's name) and return its handle.

        Beside the workflow's own arguments it takes ``idempotency_key``, unique per namespace and workflow: the first
        start wins and later ones return its run; ``namespace``; ``attributes``, a JSON object to search by; and
        ``connection``: the run then starts exactly if that transaction commits.

        Raises ``TypeError`` if the arguments do not fit the workflow, ``CodecError`` if one cannot be stored,
        ``ConfigError``, ``JournalUnavailable``; nothing has been written then (a lost answer to a start in its own
        transaction is asked for once more).
        """
        return self._start(flow, args, kwargs)[0]

    @overload
    def start_unique(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        idempotency_key: str,
        namespace: str | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        connection: Any = ...,
        **kwargs: Any,
    ) -> tuple[RunHandle[R], Origin]: ...
    @overload
    def start_unique(
        self, flow: str, /, *args: Any, idempotency_key: str, **kwargs: Any
    ) -> tuple[RunHandle[Any], Origin]: ...
    def start_unique(self, flow: Any, /, *args: Any, **kwargs: Any) -> tuple[RunHandle[Any], Origin]:
        """Start as :meth:`start` does, and say whether this call ``"started"`` the run or found an ``"existing"`` one.

        Raises ``ConfigError`` without an ``idempotency_key``.
        """
        if kwargs.get("idempotency_key") is None:
            message = "start_unique() needs an idempotency_key: the text that makes two starts the same one."
            raise ConfigError(message)
        handle, new = self._start(flow, args, kwargs)
        return handle, "started" if new else "existing"

    def handle(self, run_id: str, *, namespace: str | None = None) -> RunHandle[Any]:
        """Return a handle on a run; asks nothing of the database. Raises ``RunNotFound`` for what is no run id.

        With a ``namespace`` the handle finds the run only there.
        """
        return RunHandle(self._access, run_id, namespace=namespace)

    def get(self, run_id: str, *, namespace: str | None = None) -> Run:
        """Return the run. Raises ``RunNotFound``."""
        return get_run(self._access, run_id, namespace=namespace)

    def find(self, run_id: str, *, namespace: str | None = None) -> Run | None:
        """Return the run, or None."""
        return find_run(self._access, run_id, namespace=namespace)

    def history(self, run_id: str, *, namespace: str | None = None, after: int = 0) -> list[Event]:
        """Return the run's events with a sequence number above ``after``, oldest first. Raises ``RunNotFound``."""
        return read_history(self._access, run_id, namespace=namespace, after=after)

    def tasks(self, run_id: str, *, namespace: str | None = None) -> list[TaskRecord]:
        """Return the task rows of the run, by command. Raises ``RunNotFound``."""
        return read_tasks(self._access, run_id, namespace=namespace)

    def list_runs(
        self,
        *,
        namespace: str | None = None,
        states: Sequence[RunState | str] = (),
        workflow: Workflow[..., Any] | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of runs (1 to 1,000), newest first, and the cursor of the next one.

        Raises ``ConfigError`` on a wrong argument, ``ValueError`` on a cursor that is not of this call.
        """
        return list_runs(
            self._access, namespace=namespace, states=states, workflow=workflow, limit=limit, cursor=cursor
        )

    def list_workers(self) -> list[WorkerRecord]:
        """Return the dispatchers that are registered, dead ones included until they are reaped."""
        return self._access.journal.workers.list_workers()

    def signal(
        self,
        run_id: str,
        signal: Signal[Any] | str,
        value: Any = None,
        *,
        delivery_id: str | None = None,
        namespace: str | None = None,
        connection: Any = None,
    ) -> PostResult:
        """Send a signal, as :meth:`RunHandle.signal` does."""
        return send_signal(
            self._access,
            run_id,
            signal,
            value,
            delivery_id=delivery_id,
            namespace=namespace,
            connection=connection,
        )

    def cancel(self, run_id: str, *, namespace: str | None = None, connection: Any = None) -> None:
        """Ask a run to cancel itself, as :meth:`RunHandle.cancel` does."""
        send_cancel(self._access, run_id, namespace=namespace, connection=connection)

    def terminate(self, run_id: str, reason: str | None = None, *, namespace: str | None = None) -> RunId:
        """End a run at once, as :meth:`RunHandle.terminate` does."""
        return terminate_run(self._access, run_id, reason=reason, namespace=namespace)

    def _start(
        self, flow: Workflow[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[RunHandle[Any], bool]:
        options = StartOptions(**{name: kwargs.pop(name) for name in RESERVED if name in kwargs})
        run_id, new, workflow = start_run(self._access, flow, args, kwargs, options=options)
        joined = options.connection is not None
        handle: RunHandle[Any] = RunHandle(
            self._access, run_id, workflow=workflow.name, known=not joined, joined=joined
        )
        return handle, new
