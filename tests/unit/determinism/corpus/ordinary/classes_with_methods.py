import abc
from typing import ClassVar, Protocol

from continuum import workflow

from .support import charge, notify


class Shape(abc.ABC):
    count: ClassVar[int] = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self._area: float | None = None

    @abc.abstractmethod
    def measure(self) -> float: ...

    @property
    def area(self) -> float:
        if self._area is None:
            self._area = self.measure()
        return self._area

    def __lt__(self, other: "Shape") -> bool:
        return self.area < other.area


class Square(Shape):
    def __init__(self, side: float) -> None:
        super().__init__("square")
        self.side = side

    def measure(self) -> float:
        return self.side**2


class Circle(Shape):
    def __init__(self, radius: float) -> None:
        super().__init__("circle")
        self.radius = radius

    def measure(self) -> float:
        return 3.14 * self.radius**2


class Payer(Protocol):
    async def pay(self, amount: str) -> str: ...


class CardPayer:
    def __init__(self, card: str) -> None:
        self.card = card
        self.paid: list[str] = []

    async def pay(self, amount: str) -> str:
        self.paid.append(amount)
        return await charge(self.card, amount)


async def pay_with(payer: Payer, amount: str) -> str:
    return await payer.pay(amount)


@workflow(name="ordinary.classes")
async def classes(card: str) -> list[str]:
    shapes: list[Shape] = [Square(2), Circle(1)]
    payer = CardPayer(card)
    for shape in sorted(shapes):
        await pay_with(payer, f"{shape.area:.2f}")
    await notify(f"{isinstance(shapes[0], Square)} {type(shapes[1]).__name__} {vars(payer)}")
    return payer.paid
