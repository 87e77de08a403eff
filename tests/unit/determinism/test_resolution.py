"""What names stand for: aliases, imports, locals and closures are seen through, and shadows are respected."""

import textwrap
from collections.abc import Callable
from types import ModuleType

import pytest

from continuum.determinism.scanner import examine, scan

Write = Callable[..., ModuleType]


FOUND = {
    "import as": ("import time as clock", "return clock.time()", "CT101"),
    "from import as": ("from datetime import datetime as d", "return d.now()", "CT101"),
    "a module of classes": ("import datetime as d", "return d.datetime.now()", "CT101"),
    "a bound method by name": ("from random import shuffle", "shuffle([1])", "CT102"),
    "a package's part": ("import os.path", "return os.path.exists('f')", "CT105"),
    "an object by name": ("from os import environ as settings", "return settings['HOME']", "CT104"),
    "a global alias": ("import time\nnow = time.time", "return now()", "CT101"),
    "a subclass": ("import datetime\nclass D(datetime.datetime): ...", "return D.now()", "CT101"),
    "a class attribute": (
        "import time\nclass Clock:\n    read = staticmethod(time.time)",
        "return Clock.read()",
        "CT101",
    ),
    "an attribute of an object": ("import requests\nsession = requests.Session()", "session.get('u')", "CT106"),
    "a logger": ("import logging\nlogger = logging.getLogger('x')", "logger.warning('x')", "CT111"),
    "a logger made there": ("import logging", "logging.getLogger('x').info('x')", "CT111"),
    "an import in the function": ("", "import time\nreturn time.time()", "CT101"),
    "a from import in the function": ("", "from time import time as t\nreturn t()", "CT101"),
    "an import of what is not there": ("", "import redis.asyncio as r\nreturn r.Redis()", "CT106"),
    "a local alias": ("import time", "t = time\nreturn t.time()", "CT101"),
    "a local function alias": ("import time", "t = time.time\nreturn t()", "CT101"),
    "a variable of two branches": ("import time", "x = None\nif 1:\n    x = time\nreturn x.time()", "CT101"),
    "an object made there": ("import pathlib", "p = pathlib.Path('f')\nreturn p.read_text()", "CT105"),
    "an object named by a walrus": ("import pathlib", "return (p := pathlib.Path('f')) and p.read_text()", "CT105"),
    "a local of an outer function": (
        "import time",
        "t = time\ndef inner():\n    return t.time()\nreturn inner()",
        "CT101",
    ),
    "a literal getattr": ("import time", "return getattr(time, 'time')()", "CT101"),
    "an attribute of an attribute": ("import time\nclass Box:\n    clock = time", "return Box.clock.time()", "CT101"),
    "an instance's annotation": (
        "import httpx\nclass Shop:\n    client: httpx.Client\n    def get(self):\n        return self.client.get('u')",
        "return Shop().get()",
        "CT106",
    ),
}


@pytest.mark.parametrize(("head", "body", "code"), FOUND.values(), ids=FOUND.keys())
def test_the_real_object_is_found_behind(write: Write, head: str, body: str, code: str) -> None:
    if "httpx" in head:
        pytest.importorskip("httpx")
    if "requests" in head:
        pytest.importorskip("requests")
    module = write(f"{head}\n\nasync def flow():\n{textwrap.indent(body, '    ')}\n")
    assert code in {finding.code for finding in scan(module.flow, workflow="flow")}


CLEAN = {
    "a user's class of that name": ("class datetime:\n    def now(): ...", "return datetime.now()"),
    "a parameter of that name": ("import time", "def f(time):\n    return time.time()\nreturn f(1)"),
    "a local of that name": ("import time", "time = 1\nreturn time"),
    "a loop variable of that name": ("import time", "return [time.time() for time in ()]"),
    "a comprehension's own variable": ("import random", "return {random: random for random in 'ab'}"),
    "a generator of one's own": ("import random", "return random.Random(7).choice([1, 2])"),
    "an import of a harmless name": ("from datetime import timedelta", "return timedelta(1)"),
    "a string that looks like it": ("", "return 'time.time()'"),
    "a method of an unknown object": ("", "def f(clock):\n    return clock.now()\nreturn f"),
    "a variable that is bound twice": ("import time", "x = time\nx = 1\nreturn x.time()"),
    "a field of that name": ("class Order:\n    now = 1\n    open = 2", "return Order.now, Order().open"),
    "pure parts of a module": ("import os, ipaddress, pathlib", "return os.path.join('a', 'b'), pathlib.PurePath('a')"),
}


@pytest.mark.parametrize(("head", "body"), CLEAN.values(), ids=CLEAN.keys())
def test_what_only_looks_like_it_is_left_alone(write: Write, head: str, body: str) -> None:
    module = write(f"{head}\n\nasync def flow():\n{textwrap.indent(body, '    ')}\n")
    assert scan(module.flow, workflow="flow") == ()


def test_relative_imports_in_functions_are_resolved(write: Write, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("relative") / "scanned_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "clocks.py").write_text("from time import time as read\n")
    (folder / "flows.py").write_text("async def flow():\n    from .clocks import read\n    return read()\n")
    module = write(
        f"import sys\nsys.path.insert(0, {str(folder.parent)!r})\n"
        "import scanned_package.clocks\nfrom scanned_package.flows import flow\nsys.path.pop(0)\n"
    )
    [finding] = scan(module.flow, workflow="flow")
    assert finding.code == "CT101"


def test_closures_stand_for_what_they_hold(write: Write) -> None:
    module = write(
        """
        import time

        def make(clock):
            async def flow():
                return clock()
            return flow

        bad, good = make(time.time), make(lambda: 1)
        """
    )
    assert [finding.code for finding in scan(module.bad, workflow="flow")] == ["CT101"]
    assert scan(module.good, workflow="flow") == ()


def test_looking_runs_nothing_of_the_user(write: Write) -> None:
    module = write(
        """
        class Trap:
            def __getattr__(self, name):
                raise SystemExit("asked")
            def __eq__(self, other):
                raise SystemExit("compared")
            def __hash__(self):
                raise SystemExit("hashed")
            def __bool__(self):
                raise SystemExit("tested")
            @property
            def value(self):
                raise SystemExit("read")

        trap = Trap()

        class Lazy:
            def __get__(self, instance, owner):
                raise SystemExit("described")

        class Holder:
            lazy = Lazy()

        async def flow():
            trap.anything, trap.value, trap.other(), Holder.lazy, Holder().lazy
            for item in trap:
                trap[item] = list(trap)
            with trap:
                return trap()
        """
    )
    scan(module.flow, workflow="flow")


def test_an_unbound_closure_is_pending(write: Write) -> None:
    module = write(
        """
        def make():
            async def flow():
                return later()
            yield flow
            later = open
            yield
        """
    )
    steps = module.make()
    flow = next(steps)
    assert examine(flow, workflow="flow").pending == {"later"}
    next(steps)
    found = examine(flow, workflow="flow")
    assert found.pending == frozenset()
    assert [finding.code for finding in found.findings] == ["CT105"]
