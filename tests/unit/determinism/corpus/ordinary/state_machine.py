from __future__ import annotations

from collections.abc import Awaitable, Callable

from continuum import Signal, workflow

from .support import Status, charge, ship

advance = Signal("ordinary_advance", str)


class Machine:
    def __init__(self, order: str) -> None:
        self.order = order
        self.status = Status.NEW
        self.history: list[Status] = []
        self._steps: dict[Status, Callable[[], Awaitable[Status]]] = {Status.NEW: self._pay, Status.PAID: self._ship}

    async def _pay(self) -> Status:
        await charge(self.order, "1")
        return Status.PAID

    async def _ship(self) -> Status:
        await ship(self.order)
        return Status.SHIPPED

    async def step(self) -> bool:
        self.history.append(self.status)
        self.status = await self._steps[self.status]()
        return self.status.is_open

    @property
    def trail(self) -> str:
        return " → ".join(status.value for status in self.history)


@workflow(name="ordinary.state_machine", signals=[advance])
async def state_machine(order: str) -> str:
    machine = Machine(order)
    while await machine.step():
        await advance.wait()
    return machine.trail
