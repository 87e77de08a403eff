"""Here lives ``continuum.aio``: every call of an instance, awaited."""

import asyncio
from collections.abc import Mapping
from typing import Any, ParamSpec, TypeVar, overload

from continuum.client.calls import Calls, Origin
from continuum.client.handles import AsyncRunHandle
from continuum.client.twins import Twin
from continuum.declare.signals import Signal
from continuum.declare.workflows import Workflow
from continuum.journal.protocol import PostResult
from continuum.replay.effects.child import SignalLike

__all__ = ["AsyncCalls"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncCalls:
    """The calls of one instance for asyncio. They run on threads; waiting for results does not occupy one.

    ``start``, ``start_unique`` and ``signal`` are spelled out: a generic method's types do not survive being wrapped.
    """

    def __init__(self, sync: Calls) -> None:
        self._sync = sync

    @overload
    async def start(self, flow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AsyncRunHandle[R]: ...
    @overload
    async def start(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        idempotency_key: str,
        namespace: str | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        connection: Any = ...,
        **kwargs: Any,
    ) -> AsyncRunHandle[R]: ...
    @overload
    async def start(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        namespace: str,
        idempotency_key: str | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        connection: Any = ...,
        **kwargs: Any,
    ) -> AsyncRunHandle[R]: ...
    @overload
    async def start(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        attributes: Mapping[str, Any],
        idempotency_key: str | None = ...,
        namespace: str | None = ...,
        connection: Any = ...,
        **kwargs: Any,
    ) -> AsyncRunHandle[R]: ...
    @overload
    async def start(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        connection: Any,
        idempotency_key: str | None = ...,
        namespace: str | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> AsyncRunHandle[R]: ...
    @overload
    async def start(self, flow: str, /, *args: Any, **kwargs: Any) -> AsyncRunHandle[Any]: ...
    async def start(self, flow: Any, /, *args: Any, **kwargs: Any) -> AsyncRunHandle[Any]:
        """Start a run, as :meth:`Calls.start` does."""
        handle = await asyncio.to_thread(self._sync.start, flow, *args, **kwargs)
        return handle.aio

    @overload
    async def start_unique(
        self,
        flow: Workflow[..., R],
        /,
        *args: Any,
        idempotency_key: str,
        namespace: str | None = ...,
        attributes: Mapping[str, Any] | None = ...,
        connection: Any = ...,
        **kwargs: Any,
    ) -> tuple[AsyncRunHandle[R], Origin]: ...
    @overload
    async def start_unique(
        self, flow: str, /, *args: Any, idempotency_key: str, **kwargs: Any
    ) -> tuple[AsyncRunHandle[Any], Origin]: ...
    async def start_unique(self, flow: Any, /, *args: Any, **kwargs: Any) -> tuple[AsyncRunHandle[Any], Origin]:
        """Start a run or find the one of this key, as :meth:`Calls.start_unique` does."""
        handle, origin = await asyncio.to_thread(self._sync.start_unique, flow, *args, **kwargs)
        return handle.aio, origin

    def handle(self, run_id: str, *, namespace: str | None = None) -> AsyncRunHandle[Any]:
        """Return a handle on a run; asks nothing of the database."""
        return self._sync.handle(run_id, namespace=namespace).aio

    @overload
    async def signal(
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
    async def signal(
        self,
        run_id: str,
        signal: SignalLike[None],
        *,
        delivery_id: str | None = ...,
        namespace: str | None = ...,
        connection: Any = ...,
    ) -> PostResult: ...
    @overload
    async def signal(
        self,
        run_id: str,
        signal: str,
        value: Any = ...,
        *,
        delivery_id: str | None = ...,
        namespace: str | None = ...,
        connection: Any = ...,
    ) -> PostResult: ...
    async def signal(
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
        handle = self._sync.handle(run_id, namespace=namespace)
        return await asyncio.to_thread(
            lambda: handle.signal(signal, value, delivery_id=delivery_id, connection=connection)
        )

    get = Twin(Calls.get)
    find = Twin(Calls.find)
    history = Twin(Calls.history)
    dump_history = Twin(Calls.dump_history)
    rehearse = Twin(Calls.rehearse)
    patches = Twin(Calls.patches)
    tasks = Twin(Calls.tasks)
    search = Twin(Calls.search)
    progress = Twin(Calls.progress)
    tree = Twin(Calls.tree)
    list_workers = Twin(Calls.list_workers)
    versions = Twin(Calls.versions)
    check_versions = Twin(Calls.check_versions)
    retire_versions = Twin(Calls.retire_versions)
    source = Twin(Calls.source)
    set_attributes = Twin(Calls.set_attributes)
    cancel = Twin(Calls.cancel)
    terminate = Twin(Calls.terminate)
