"""What the scanner follows, from a workflow into all it reaches, and how it tells the way."""

import itertools
import sys
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from continuum.determinism.findings import Finding, Severity
from continuum.determinism.policy import Policy
from continuum.determinism.scanner import examine, read, scan

Write = Callable[..., ModuleType]
NUMBERS = itertools.count()
STRICT = Policy().changed(severities={"CT4": "warning", "CT001": "warning"})


def codes(findings: tuple[Finding, ...]) -> list[tuple[str, int]]:
    return [(finding.code, finding.line) for finding in findings]


def look(module: ModuleType, name: str = "flow", **options: Any) -> tuple[Finding, ...]:
    return scan(getattr(module, name), workflow=name, **options)


def test_a_finding_says_where_what_and_what_instead(write: Write) -> None:
    module = write(
        """
        import time

        async def flow():
            return time.time()
        """
    )
    [finding] = look(module)
    assert (finding.code, finding.severity, finding.workflow) == ("CT101", Severity.ERROR, "flow")
    assert (finding.file, finding.line, finding.column) == (module.__file__, 5, 12)
    assert "time.time()" in finding.message
    assert "continuum.now()" in finding.hint
    assert finding.chain == ()


def test_all_is_found_not_only_the_first(write: Write) -> None:
    module = write(
        """
        import os, random, time

        async def flow():
            return time.time(), random.random(), os.environ["HOME"]
        """
    )
    assert sorted(finding.code for finding in look(module)) == ["CT101", "CT102", "CT104"]


def test_helpers_are_followed_across_modules_and_the_way_is_told(write: Write) -> None:
    write(
        """
        import uuid

        def fresh():
            return uuid.uuid4()
        """,
        "scanned_ids",
    )
    module = write(
        """
        import scanned_ids

        def label(order):
            return f"{order}-{scanned_ids.fresh()}"

        async def flow(order):
            return label(order)
        """
    )
    [finding] = look(module)
    assert finding.code == "CT103"
    assert finding.file.endswith("scanned_ids.py")
    assert [(link.function, link.line) for link in finding.chain] == [("label", 8), ("fresh", 5)]


def test_the_shortest_way_is_told_and_circles_end(write: Write) -> None:
    module = write(
        """
        import time

        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return time.time() and even(n - 1)

        async def flow(n):
            return even(n) or odd(n)
        """
    )
    [finding] = look(module)
    assert [link.function for link in finding.chain] == ["odd"]


REACHED = {
    "a lambda in a lambda": "return (lambda: (lambda: open('f')))()()",
    "a nested function": "def inner():\n    return open('f')\nreturn inner()",
    "a comprehension": "return [open(name) for name in names]",
    "a default value": "def inner(file=open('f')):\n    return file\nreturn inner()",
    "a guard": "match names:\n    case [x] if open(x):\n        return x",
    "a decorator's argument": "def mark(x):\n    return lambda f: f\n@mark(open('f'))\ndef inner(): ...\nreturn inner",
    "a function passed on": "return list(map(open, names))",
    "a key": "return sorted(names, key=open)",
    "an f-string": "return f'{open(names[0])}'",
    "a condition": "return 1 if open('f') else 2",
    "a class in it": "class Box:\n    def read(self):\n        return open('f')\nreturn Box().read()",
    "a method": "return Reader().read()",
    "a method through self": "return Reader().twice()",
    "an inherited method": "return Child().read()",
    "a method through super": "return Child().over()",
    "a property": "return Reader().content",
    "a cached property": "return Reader().kept",
    "a constructor": "return Opener()",
    "a field's default": "return Lazy()",
    "a call of an object": "return SERVICE()",
    "a context manager of a class": "with Reader():\n    return 1",
    "a context manager of a function": "with managed():\n    return 1",
    "a walk through an object": "for _ in Reader():\n    return 1",
    "a method of a global object": "return SERVICE.read()",
    "a class method": "return Reader.make()",
    "a static method": "return Reader.fixed()",
    "a partial": "return BOUND()",
    "a cached function": "return cached()",
    "a wrapped function": "return wrapped()",
    "the wrapper of a function": "return guarded()",
    "a table of functions": "return TABLE[names]()",
    "a dispatcher": "return dispatched(names)",
    "an alias": "f = reading\nreturn f()",
    "an object in a variable": "reader = Reader()\nreturn reader.read()",
    "an annotated parameter": "return hinted.read()",
    "what a helper returns": "return make_reader().read()",
    "a bound method passed on": "return list(map(SERVICE.read, names))",
}


@pytest.mark.parametrize("body", REACHED.values(), ids=REACHED.keys())
def test_code_is_reached_through(write: Write, body: str) -> None:
    text = """
import contextlib, dataclasses, functools

def reading(*_):
    return open("f")

class Reader:
    def read(self, *_):
        return open("f")
    def twice(self):
        return self.read()
    def __call__(self):
        return open("f")
    def __enter__(self):
        return open("f")
    def __exit__(self, *_): ...
    def __iter__(self):
        return iter(open("f"))
    @property
    def content(self):
        return open("f")
    @functools.cached_property
    def kept(self):
        return open("f")
    @classmethod
    def make(cls):
        return open("f")
    @staticmethod
    def fixed():
        return open("f")

class Child(Reader):
    def over(self):
        return super().read()

class Opener:
    def __init__(self):
        self.file = open("f")

@dataclasses.dataclass
class Lazy:
    file: object = dataclasses.field(default_factory=reading)

@contextlib.contextmanager
def managed():
    yield open("f")

@functools.lru_cache
def cached():
    return open("f")

def passing(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

def guarding(function):
    def wrapper(*args):
        open("f")
        return function(*args)
    return wrapper

@passing
def wrapped():
    return open("f")

@guarding
def guarded():
    return 1

@functools.singledispatch
def dispatched(value):
    return 1

@dispatched.register
def _(value: str):
    return open("f")

def make_reader() -> Reader:
    return Reader()

SERVICE = Reader()
BOUND = functools.partial(reading, 1)
TABLE = {"a": reading}

async def flow(names, hinted: Reader = None):
""" + textwrap.indent(body, "    ")
    found = look(write(text))
    assert {finding.code for finding in found} == {"CT105"}, body


HARMLESS = {
    "an activity": "return await reading()",
    "an activity with options": "return await reading.options(queue='q')()",
    "another workflow": "return await other()",
    "what side_effect records": "return side_effect(lambda: open('f')) or side_effect(plain)",
    "what is pure": "return safe()",
    "a pure class": "return Safe().read()",
    "an annotation": "handle: socket.socket | None = None\nreturn handle",
    "a class that is only named": "return isinstance(1, socket.socket)",
    "an exception": "try:\n    return 1\nexcept socket.timeout:\n    return 2",
    "a constant": "return socket.AF_INET",
    "an own function of that name": "def open(x):\n    return x\nreturn open('f')",
    "an own module of that name": "return secrets.token_hex()",
}


@pytest.mark.parametrize("body", HARMLESS.values(), ids=HARMLESS.keys())
def test_nothing_is_found_in(write: Write, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    key = next(NUMBERS)
    monkeypatch.delitem(sys.modules, "secrets", raising=False)
    write("def token_hex():\n    return 'abc'\n", "secrets")
    text = (
        """
import secrets, socket
from continuum import activity, side_effect, workflow
from continuum.determinism.pure import pure

def plain():
    return open("f")

@activity(name="scanned.reading KEY")
def reading():
    return open("f")

@workflow(name="scanned.other KEY")
async def other():
    return 1

@pure
def safe():
    return open("f")

@pure
class Safe:
    def read(self):
        return open("f")

async def flow():
""".replace("KEY", str(key))
        + textwrap.indent(body, "    ")
    )
    assert look(write(text)) == ()


def test_what_is_likely_but_not_certain_is_a_warning(write: Write) -> None:
    module = write(
        """
        import logging

        async def flow(logger: logging.Logger):
            logger.info("who knows which one")
        """
    )
    [finding] = look(module)
    assert (finding.code, finding.severity) == ("CT111", Severity.WARNING)


def test_code_of_installed_packages_is_not_followed_but_distrusted_on_request(write: Write) -> None:
    module = write(
        """
        import pluggy

        async def flow():
            return pluggy.HookimplMarker("x")
        """
    )
    assert look(module) == ()
    [finding] = look(module, policy=STRICT)
    assert finding.code == "CT401" and "pluggy" in finding.message
    assert look(module, policy=STRICT.changed(trusted_modules=["pluggy"])) == ()


def test_the_standard_library_and_own_helpers_are_trusted(write: Write) -> None:
    write("def double(n):\n    return 2 * n\n", "scanned_helpers")
    module = write(
        """
        import json
        import scanned_helpers

        def same(n):
            return scanned_helpers.double(n)

        async def flow(n):
            return json.dumps([same(n), sorted([n])])
        """
    )
    assert look(module, policy=STRICT) == ()


def test_trusted_modules_are_not_followed(write: Write) -> None:
    write("def read():\n    return open('f')\n", "scanned_trusted")
    module = write("import scanned_trusted\n\nasync def flow():\n    return scanned_trusted.read()\n")
    assert [finding.code for finding in look(module)] == ["CT105"]
    assert look(module, policy=Policy().changed(trusted_modules=["scanned_trusted"])) == ()


def test_receivers_that_only_run_time_knows_are_told_on_request(write: Write) -> None:
    module = write(
        """
        def helper(service):
            return service.client().fetch()

        async def flow(service, handlers, items):
            service.fetch()
            handlers["a"]()
            helper(service)
            return list(map(service.fetch, items)), service.name, items.append(1)

        async def clean(items):
            inner = lambda x: x
            return (lambda x: x)(1), inner(2), items.field
        """
    )
    assert look(module) == ()
    assert {line for code, line in codes(look(module, policy=STRICT)) if code == "CT402"} == {3, 6, 7}
    assert look(module, "clean", policy=STRICT) == ()


def test_each_function_is_read_once_whoever_asks(write: Write) -> None:
    module = write(
        """
        def helper():
            return 1

        async def flow():
            return helper()

        async def other():
            return helper()
        """
    )
    look(module)
    before = read(module.helper, None)
    look(module, "other")
    assert before is not None and read(module.helper, None) is before


def test_a_decorator_is_read_once_for_each_function_it_wraps(write: Write) -> None:
    module = write(
        """
        def passing(function):
            def wrapper():
                return function()
            return wrapper

        @passing
        def good():
            return 1

        @passing
        def bad():
            return open("f")

        async def flow():
            return good()

        async def other():
            return good(), bad()
        """
    )
    assert look(module) == ()
    assert codes(look(module, "other")) == [("CT105", 13)]


def test_names_below_are_pending_until_they_are_bound(write: Write) -> None:
    module = write("async def flow():\n    return below()\n")
    assert examine(module.flow, workflow="flow").pending == {"below"}
    exec(compile("import time\ndef below():\n    return time.time()\n", module.__file__ or "", "exec"), vars(module))
    assert examine(module.flow, workflow="flow").pending == frozenset()


def test_a_function_without_source_is_said_to_be_unread_on_request() -> None:
    scope: dict[str, Any] = {}
    exec("async def flow():\n    return 1", scope)
    assert scan(scope["flow"], workflow="flow") == ()
    assert [finding.code for finding in scan(scope["flow"], workflow="flow", policy=STRICT)] == ["CT001"]


def test_signals_that_are_not_declared_are_found(write: Write) -> None:
    module = write(
        """
        from continuum import Signal, wait_signal

        review = Signal("review", str)
        NAME = "constant"

        async def helper():
            await wait_signal("from_helper")

        async def flow(name):
            await wait_signal("literal")
            await review.wait()
            await wait_signal(NAME)
            await wait_signal(name)
            await helper()
        """
    )
    assert look(module) == ()
    found = look(module, signals=frozenset({"review"}))
    assert [(f.line, f.severity) for f in found] == [
        (11, Severity.ERROR),
        (13, Severity.ERROR),
        (8, Severity.WARNING),  # a helper may serve another workflow
    ]
    assert "'literal'" in found[0].message and "Declared: review." in found[0].message


def test_an_activity_without_compensation_is_found_where_all_is_compensated(write: Write) -> None:
    module = write(
        """
        from continuum import activity, compensate_all

        @activity(name="scanned.charge")
        def charge(n): ...

        @activity(name="scanned.refund")
        def refund(n): ...

        async def pay(n):
            await charge(n)

        async def flow(n):
            call = charge(n)
            call.compensate(refund, n)
            await call
            await charge(n).compensate(refund, n)
            await pay(n)
            try:
                await charge.options(priority=1)(n).compensate(refund, n)
            except ValueError:
                await refund(n)
                await compensate_all()

        async def without(n):
            await pay(n)

        async def indirect(step, n):
            await step(n)
            await compensate_all()
        """
    )
    assert codes(look(module)) == [("CT501", 11)]
    assert look(module, "without") == look(module, "indirect") == ()
