import enum
from dataclasses import dataclass

from continuum import workflow

from .support import Level, Status, charge, ship


@dataclass
class Point:
    x: int
    y: int


class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()


def describe(value: object) -> str:
    match value:
        case Point(x=0, y=0):
            return "origin"
        case Point(x=x) if x > 10:
            return f"far {x}"
        case [first, *rest]:
            return f"{first} and {len(rest)}"
        case {"kind": str(kind), **other}:
            return f"{kind} {sorted(other)}"
        case Status.NEW | Status.PAID:
            return "open"
        case int() | float():
            return "number"
        case _:
            return "else"


@workflow(name="ordinary.match")
async def match_flow(status: Status) -> str:
    match status:
        case Status.NEW:
            await charge("o", "1")
        case Status.PAID:
            await ship("o")
        case _:
            pass
    names = [level.name for level in Level]
    both = Flags.A | Flags.B
    return f"{describe(Point(0, 0))} {names} {Flags.A in both} {Status('new')} {Level(1)} {Level['HIGH'].value}"
