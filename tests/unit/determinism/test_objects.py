"""What the scanner knows of objects: what they hold, and which of their methods run without being named."""

from collections.abc import Callable
from types import ModuleType

import pytest

from continuum.determinism.findings import Severity
from continuum.determinism.scanner import examine, scan

Write = Callable[..., ModuleType]

SERVICE = """
import logging, time
from datetime import datetime

class Service:
    log = logging.getLogger("service")
    now = datetime.now
    names = []
    label = None
    kinds = {"a": len}

    def __init__(self, audit: logging.Logger, limit=3):
        self.logger = logging.getLogger("own")
        self.audit = audit
        self.own_names = []
        self.limit = limit
        self.label = limit
        self.one, self.kind = 1, 2

    def turn(self): self.one = self.other
    def back(self): self.other = self.one
    def told(self): self.logger.info("told")
    def told_by_class(self): self.log.info("told")
    def audited(self): self.audit.info("audited")
    def timed(self): return self.now()
    def shared(self, name): self.names.append(name)
    def kept(self, name): self.own_names.append(name)
    def looked(self): return self.kinds["a"], self.limit, self.label, self.one, self.other, self.kind
    def reset(self): self.own_names = []

service = Service(logging.getLogger("given"))

async def told(): service.told()
async def told_by_class(): service.told_by_class()
async def audited(given: Service): given.audited()
async def timed(): service.timed()
async def shared(): service.shared("a")
async def kept(): Service(None).kept("a")
async def looked(): return service.looked()
async def reset(): Service(None).reset()
"""


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("told", ["CT111"]),
        ("told_by_class", ["CT111"]),
        ("audited", ["CT111"]),
        ("timed", ["CT101"]),
        ("shared", ["CT201"]),
        ("kept", []),
        ("looked", []),
        ("reset", []),
    ],
)
def test_what_an_object_holds_is_known_by_its_class_and_its_methods(write: Write, name: str, codes: list[str]) -> None:
    found = scan(getattr(write(SERVICE), name), workflow=name)
    assert [finding.code for finding in found] == codes
    # It may have been given something else meanwhile.
    assert {finding.severity for finding in found} <= {Severity.WARNING}


def test_what_is_assigned_twice_to_different_things_is_nothing(write: Write) -> None:
    module = write(
        """
        import logging

        class Quiet:
            def info(self, text): ...

        class Service:
            def __init__(self):
                self.log = logging.getLogger("loud")
                self.first, self.second = logging.getLogger("a"), Quiet()
            def calm(self): self.log = Quiet()
            def told(self):
                self.log.info("told")
                self.first.info("told")

        service = Service()

        async def flow():
            Service().told()
        """
    )
    assert scan(module.flow, workflow="flow") == ()


OPERATED = """
import time

class Clock:
    def __init__(self): self.began = 0
    def {method}: return time.time()

clock = Clock()

async def flow():
    {statement}
"""


@pytest.mark.parametrize(
    ("method", "statement"),
    [
        ("__add__(self, other)", "clock + 1"),
        ("__radd__(self, other)", "1 + clock"),
        ("__neg__(self)", "-Clock()"),
        ("__bool__(self)", "return not clock"),
        ("__len__(self)", "return 1 if Clock() else 2"),
        ("__len__(self)", "len(clock)"),
        ("__eq__(self, other)", "clock == 1"),
        ("__lt__(self, other)", "0 < 1 < 2, clock < 1"),
        ("__contains__(self, item)", "1 in clock"),
        ("__getitem__(self, key)", "clock['a']"),
        ("__setitem__(self, key, value)", "own = Clock(); own['a'] = 1"),
        ("__str__(self)", "str(clock)"),
        ("__str__(self)", "return f'{clock}'"),
        ("__repr__(self)", "return f'{clock!r}'"),
        ("__format__(self, how)", "return f'{clock:x}'"),
        ("__iter__(self)", "[one for one in clock]"),
        ("__iter__(self)", "list(clock)"),
        ("__iter__(self)", "return [*clock]"),
        ("__await__(self)", "await clock"),
        ("__int__(self)", "int(clock)"),
    ],
)
def test_methods_that_run_without_being_named_are_followed(write: Write, method: str, statement: str) -> None:
    found = scan(write(OPERATED.format(method=method, statement=statement)).flow, workflow="flow")
    assert [finding.code for finding in found if finding.line == 6] == ["CT101"], found


def test_operators_on_what_is_not_the_users_are_left_alone(write: Write) -> None:
    module = write(
        """
        from datetime import timedelta
        from decimal import Decimal

        PRICES = {"a": Decimal(1)}

        async def flow(number, rows: list[int]):
            total = PRICES["a"] + number
            total += Decimal(2)
            if not rows or number in PRICES and -total < 3:
                return f"{total:.2f} {rows!r}"
            return [timedelta(days=row) * 2 for row in rows], len(rows), str(total), {**PRICES, "b": [*rows]}
        """
    )
    seen = examine(module.flow, workflow="flow")
    assert (seen.findings, seen.pending, seen.read) == ((), frozenset(), 1)


def test_proxies_are_not_asked_what_they_stand_for(write: Write) -> None:
    module = write(
        """
        class Lazy:
            def __init__(self):
                self.__dict__["found"] = None

            @property
            def __class__(self):
                raise LookupError("asked")

            def __getattr__(self, name):
                raise LookupError(name)

            def __setattr__(self, name, value): ...

        lazy = Lazy()

        class Holder:
            held = lazy

            def __init__(self):
                self.own = lazy

        holder = Holder()

        async def flow():
            lazy.x, lazy.x(), lazy[0], holder.held.x, holder.own.x(), Holder.held, f"{lazy}", [*lazy], lazy + 1
            lazy.x = 1
            for one in lazy:
                await one, lazy
        """
    )
    scan(module.flow, workflow="flow")


def test_a_function_that_wraps_itself_is_read_as_nothing(write: Write) -> None:
    module = write(
        """
        async def flow(): ...

        flow.__wrapped__ = flow
        """
    )
    assert scan(module.flow, workflow="flow") == ()
