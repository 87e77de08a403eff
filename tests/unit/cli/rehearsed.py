"""Here lives an app whose runs are replayed by ``continuum replay``."""

from continuum import Continuum, activity, patched, wait_signal, workflow

__all__ = ["URL", "continuum"]

URL = "memory://tests.unit.cli.rehearsed"
continuum = Continuum(URL, concurrency=2)
hiding = Continuum(URL, redact=lambda _kind, _name, _value: "hidden")


@activity(name="rehearsed.pay")
async def pay(order: str, amount: int) -> str:
    return f"{order} paid {amount}"


@activity(name="rehearsed.ship")
async def ship(order: str) -> str:
    return f"{order} shipped"


@workflow(name="rehearsed.order")
async def order(name: str) -> str:
    await pay(name, 10)
    await wait_signal("go")
    return await ship(name)


@workflow(name="rehearsed.dearer")
async def dearer(name: str) -> str:
    await pay(name, 11)
    await wait_signal("go")
    return await ship(name)


@workflow(name="rehearsed.marked")
async def marked(name: str) -> str:
    if patched("greet"):
        await wait_signal("greeting")
    await wait_signal("go")
    return name
