import contextlib
import contextvars
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext, suppress

from continuum import ActivityFailed, workflow

from .support import charge, notify, refund

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("ordinary_tenant", default="")


@contextmanager
def within(name: str):
    token = tenant.set(name)
    try:
        yield name
    finally:
        tenant.reset(token)


@asynccontextmanager
async def reserved(order: str):
    await charge(order, "1")
    try:
        yield order
    except Exception:
        await refund(order)
        raise


class Steps:
    def __init__(self) -> None:
        self.names: list[str] = []

    async def __aenter__(self) -> "Steps":
        self.names.append("in")
        return self

    async def __aexit__(self, kind, error, traceback) -> bool:
        self.names.append("out")
        return False


@workflow(name="ordinary.contextlib")
async def contextlib_flow(order: str) -> list[str]:
    with within("eu"), suppress(KeyError), nullcontext():
        await notify(tenant.get())
    async with reserved(order) as name, Steps() as steps:
        await notify(name)
    with contextlib.suppress(ActivityFailed):
        await notify("maybe")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Steps())
        stack.push_async_callback(notify, "bye")
    return steps.names
