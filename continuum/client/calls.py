"""Here lives what callers ask of Continuum, one method each; the async twins are made of these."""

from collections.abc import Mapping
from typing import Any, Literal, ParamSpec, TypeVar, overload

from continuum.client.access import Access
from continuum.client.handles import RunHandle
from continuum.client.letters import send_signal
from continuum.client.lookups import find_run, get_run, read_history, read_tasks
from continuum.client.marks import read_progress, set_run_attributes
from continuum.client.patches import PatchAudit, audit_patches
from continuum.client.rehearsals import record_run, rehearse_run
from continuum.client.searches import Where, search_runs
from continuum.client.starts import RESERVED, StartOptions, start_run
from continuum.client.trees import RunTree, read_tree
from continuum.client.versions import (
    VersionCheck,
    VersionStatus,
    check_versions,
    list_versions,
    read_source,
    retire_versions,
)
from continuum.declare.signals import Signal
from continuum.declare.workflows import Workflow
from continuum.errors import ConfigError
from continuum.journal.protocol import PostResult, RunPage
from continuum.model.events import Event
from continuum.model.histories import RecordedRun
from continuum.model.ids import RunId
from continuum.model.leases import WorkerRecord
from continuum.model.runs import Run
from continuum.model.search import DEFAULT_ORDER
from continuum.model.tasks import TaskRecord
from continuum.replay.effects.child import SignalLike
from continuum.replay.rehearsal import Rehearsal

__all__ = ["Calls", "Origin"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

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

    def history(
        self,
        run_id: str,
        *,
        namespace: str | None = None,
        after: int = 0,
        payloads: bool = True,
        max_payload_bytes: int | None = None,
    ) -> list[Event]:
        """Return the run's events with a sequence number above ``after``, oldest first.

        ``payloads=False`` leaves their payloads out; with ``max_payload_bytes`` a value that takes more is replaced by
        ``{"omitted": "payload_too_large", "bytes": n}``. An instance with ``redact`` shows what that returns. Raises
        ``RunNotFound``.
        """
        return read_history(
            self._access,
            run_id,
            namespace=namespace,
            after=after,
            payloads=payloads,
            max_payload_bytes=max_payload_bytes,
        )

    def dump_history(self, run_id: str, *, namespace: str | None = None, raw: bool = False) -> RecordedRun:
        """Return the run's history as it is stored, to be kept (``continuum.testing``) or rehearsed elsewhere.

        Raises ``RunNotFound``; ``ConfigError`` on an instance with ``redact``, unless ``raw=True`` says that payloads
        may leave it as they are.
        """
        return record_run(self._access, run_id, namespace=namespace, raw=raw)

    def rehearse(
        self,
        target: str | RecordedRun,
        *,
        flow: Workflow[..., Any] | str | None = None,
        namespace: str | None = None,
    ) -> Rehearsal:
        """Step a run (its id, or a history that was read from a file) through the code that is loaded here.

        Takes no lease and writes nothing: it tells what a dispatcher with this code would meet. ``flow`` replays it
        with another workflow than its own. Raises ``RunNotFound``; ``UnknownVersion`` if its code is not loaded here.
        """
        return rehearse_run(self._access, target, flow=flow, namespace=namespace)

    def patches(self) -> list[PatchAudit]:
        """Return each ``patched("id")`` of the workflows loaded here, and how open runs answer it.

        Reads the histories of all open runs in the database. Raises ``ConfigError``, ``JournalUnavailable``.
        """
        return audit_patches(self._access)

    def tasks(self, run_id: str, *, namespace: str | None = None) -> list[TaskRecord]:
        """Return the task rows of the run, by command. Raises ``RunNotFound``."""
        return read_tasks(self._access, run_id, namespace=namespace)

    def search(
        self,
        where: Where | None = None,
        *,
        order: str = DEFAULT_ORDER,
        limit: int = 50,
        cursor: str | None = None,
        namespace: str | None = None,
    ) -> RunPage:
        """Return a page of runs (1 to 1,000) that fulfil all conditions, and the cursor of the next one.

        ``where`` has values by field: ``{"state": ["failed", "stuck"], "attributes.customer": 7, "created_at": {"gte":
        monday}}``. A value must be equal, one of a list must be; other operators are named: eq, ne, lt, lte, gt, gte,
        in, contains (of workflow), exists (of attributes, and of fields that may be empty). Fields are id, chain_id,
        parent_id, state, workflow, version, namespace, idempotency_key, created_at, started_at, completed_at, is_tip
        and ``attributes.path.to.key``, or ``("attributes", "a.b")`` for keys with dots. Attributes are compared by
        type: 1 is not "1". ``order`` is created_at, id, started_at or completed_at, with a - in front for the greatest
        first; runs without such a time come last. Without a ``namespace`` runs of all are found.

        Raises ``SearchError`` that says what is wrong, also with the cursor; nothing has been executed then.
        """
        return search_runs(self._access, where, order=order, limit=limit, cursor=cursor, namespace=namespace)

    def set_attributes(self, run_id: str, attributes: Mapping[str, Any], *, namespace: str | None = None) -> None:
        """Set some of a run's attributes, as :meth:`RunHandle.set_attributes` does."""
        set_run_attributes(self._access, run_id, attributes, namespace=namespace)

    def progress(self, run_id: str, *, namespace: str | None = None) -> dict[str, Any]:
        """Return what a run has published, as :meth:`RunHandle.progress` does."""
        return read_progress(self._access, run_id, namespace=namespace)

    def tree(self, run_id: str, *, namespace: str | None = None, limit: int = 1_000) -> RunTree:
        """Return a run with the runs below it, as :meth:`RunHandle.tree` does."""
        return read_tree(self._access, run_id, namespace=namespace, limit=limit)

    def list_workers(self) -> list[WorkerRecord]:
        """Return the dispatchers that are registered, dead ones included until they are reaped."""
        return self._access.journal.workers.list_workers()

    def versions(self) -> list[VersionStatus]:
        """Return all code of workflows that is on record, loaded by a dispatcher or here, or needed by open runs.

        By workflow and version, the oldest first. Reads the table of runs through.
        """
        return list_versions(self._access)

    def check_versions(self, *, strict: bool = False) -> VersionCheck:
        """Return whether the code that is loaded here can go on with all open runs, for a deploy pipeline.

        Code of the same workflow and version is enough; ``strict`` asks for the very code that they are pinned to.
        """
        return check_versions(self._access, strict=strict)

    def retire_versions(self, *, execute: bool = False) -> list[VersionStatus]:
        """Return the code whose record nothing needs: no open run, no dispatcher, not this process.

        With ``execute`` its source is deleted, and what was deleted is returned. Of workflows that nobody has loaded
        all of it stays.
        """
        return retire_versions(self._access, execute=execute)

    def source(self, run_id: str, *, namespace: str | None = None) -> str | None:
        """Return the source text of the code that the run is pinned to, None if it is not on record.

        Raises ``RunNotFound``.
        """
        return read_source(self._access, run_id, namespace=namespace)

    @overload
    def signal(
        self,
        run_id: str,
        signal: Signal[T],
        value: T,
        *,
        delivery_id: str | None = ...,
        namespace: str | None = ...,
        connection: Any = ...,
    ) -> PostResult: ...
    @overload
    def signal(
        self,
        run_id: str,
        signal: SignalLike[None],
        *,
        delivery_id: str | None = ...,
        namespace: str | None = ...,
        connection: Any = ...,
    ) -> PostResult: ...
    @overload
    def signal(
        self,
        run_id: str,
        signal: str,
        value: Any = ...,
        *,
        delivery_id: str | None = ...,
        namespace: str | None = ...,
        connection: Any = ...,
    ) -> PostResult: ...
    def signal(
        self,
        run_id: str,
        signal: Any,
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

    def cancel(
        self, run_id: str, *, cascade: bool = False, namespace: str | None = None, connection: Any = None
    ) -> list[RunId]:
        """Ask a run to cancel itself, as :meth:`RunHandle.cancel` does."""
        return self.handle(run_id, namespace=namespace).cancel(cascade=cascade, connection=connection)

    def terminate(
        self, run_id: str, reason: str | None = None, *, cascade: bool = False, namespace: str | None = None
    ) -> list[RunId]:
        """End a run at once, as :meth:`RunHandle.terminate` does."""
        return self.handle(run_id, namespace=namespace).terminate(reason, cascade=cascade)

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
