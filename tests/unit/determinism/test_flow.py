"""The rules about form that the corpus does not tell apart: handlers, sets, shared state, lost calls."""

import textwrap
from collections.abc import Callable
from types import ModuleType

import pytest

from continuum.determinism.findings import Severity
from continuum.determinism.scanner import scan

Write = Callable[..., ModuleType]
HEAD = """
import asyncio, collections, contextlib, itertools, random
from asyncio import CancelledError
from continuum import continue_as_new, sleep

CACHE: dict = {}
NAMES = {"a", "b"}
NUMBERS = {1, 2}
COUNTER = itertools.count()
CHANCE = random.Random(1)
LOCK = asyncio.Lock()
TOTAL = 0
FIXED = {"a": 1}
HANDLERS = {}

class Shared:
    seen = 0

def register(name):
    def mark(function):
        HANDLERS[name] = function
        return function
    return mark

def remember(key):
    CACHE[key] = 1

def count():
    global TOTAL
    TOTAL += 1

async def flow(items, texts: set[str]):
"""


def found(write: Write, body: str) -> list[tuple[str, str]]:
    module = write(HEAD + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n")
    findings = scan(module.flow, workflow="flow")
    return [(finding.code, finding.severity.value) for finding in findings]


SWALLOWED = {
    "bare": "try:\n    await sleep(1)\nexcept:\n    pass",
    "BaseException": "try:\n    await sleep(1)\nexcept BaseException as error:\n    items.append(error)",
    "CancelledError": "try:\n    await sleep(1)\nexcept asyncio.CancelledError:\n    pass",
    "its own name": "try:\n    await sleep(1)\nexcept CancelledError:\n    pass",
    "among others": "try:\n    await sleep(1)\nexcept (ValueError, asyncio.CancelledError):\n    pass",
    "suppress": "with contextlib.suppress(BaseException):\n    await sleep(1)",
    "in a loop": "while items:\n    try:\n        await sleep(1)\n    except BaseException:\n        continue",
    "in a nested function": (
        "async def inner():\n    try:\n        await sleep(1)\n    except:\n        pass\nawait inner()"
    ),
    "in a condition": "if items:\n    try:\n        await sleep(1)\n    except:\n        pass",
    "around async with": "try:\n    async with asyncio.timeout(1):\n        pass\nexcept BaseException:\n    pass",
}


@pytest.mark.parametrize("body", SWALLOWED.values(), ids=SWALLOWED.keys())
def test_a_handler_that_takes_cancellations_warns_once(write: Write, body: str) -> None:
    assert found(write, body) == [("CT301", "warning")]


def test_each_handler_warns_for_itself(write: Write) -> None:
    body = """
        try:
            try:
                await sleep(1)
            except:
                pass
            await sleep(2)
        except BaseException:
            pass
    """
    assert found(write, body) == [("CT301", "warning")] * 2


LET_THROUGH = {
    "Exception": "try:\n    await sleep(1)\nexcept Exception:\n    pass",
    "finally": "try:\n    await sleep(1)\nfinally:\n    items.clear()",
    "both": "try:\n    await sleep(1)\nexcept ValueError:\n    pass\nfinally:\n    items.clear()",
    "raised again": "try:\n    await sleep(1)\nexcept BaseException:\n    items.clear()\n    raise",
    "raised as another": "try:\n    await sleep(1)\nexcept BaseException as error:\n    raise ValueError from error",
    "ends": "try:\n    await sleep(1)\nexcept asyncio.CancelledError:\n    return 'stopped'",
    "leaves the loop": "while 1:\n    try:\n        await sleep(1)\n    except asyncio.CancelledError:\n        break",
    "goes on as new": "try:\n    await sleep(1)\nexcept asyncio.CancelledError:\n    continue_as_new(items)",
    "waits for nothing": "try:\n    items.append(1)\nexcept:\n    pass",
    "ends a task of its own": (
        "task = asyncio.create_task(sleep(1))\ntask.cancel()\n"
        "try:\n    await task\nexcept asyncio.CancelledError:\n    pass"
    ),
    "suppress, too": (
        "task = asyncio.create_task(sleep(1))\ntask.cancel()\n"
        "with contextlib.suppress(asyncio.CancelledError):\n    await task"
    ),
    "suppress of an error": "with contextlib.suppress(KeyError):\n    await sleep(1)",
    "a nested function only defined": (
        "try:\n    async def inner():\n        await sleep(1)\nexcept:\n    pass\nawait inner()"
    ),
}


@pytest.mark.parametrize("body", LET_THROUGH.values(), ids=LET_THROUGH.keys())
def test_a_handler_that_lets_cancellations_through_is_silent(write: Write, body: str) -> None:
    assert found(write, body) == []


def test_a_handler_in_a_helper_warns_with_the_way_to_it(write: Write) -> None:
    module = write(
        """
        from continuum import sleep

        async def patient():
            try:
                await sleep(1)
            except:
                return_value = 1

        async def flow():
            await patient()
        """
    )
    [finding] = scan(module.flow, workflow="flow")
    assert finding.code == "CT301"
    assert [link.function for link in finding.chain] == ["patient"]


SALTED = {
    "a literal": "for x in {'a', 'b'}:\n    await sleep(1)",
    "a global set": "for x in NAMES:\n    await sleep(1)",
    "a list of it": "return list({'a', 'b'})",
    "an enumeration": "return [x for _, x in enumerate({'a', 'b'})]",
    "a join": "return ','.join({'a', 'b'})",
    "a comprehension": "return [x for x in {'a', 'b'}]",
    "a dict": "return {x: 1 for x in {'a', 'b'}}",
    "unpacked": "return [*{'a', 'b'}]",
    "popped": "some = {'a', 'b'}\nreturn some.pop()",
    "next": "return next(iter({'a', 'b'}))",
    "united": "return list({1} | {'a'})",
    "added to": "some = set()\nsome.add('a')\nreturn list(some)",
    "made of texts": "return list({f'{x}' for x in items})",
}


@pytest.mark.parametrize("body", SALTED.values(), ids=SALTED.keys())
def test_the_order_of_texts_in_a_set_is_an_error(write: Write, body: str) -> None:
    assert found(write, body) == [("CT305", "error")]


UNCLEAR = {
    "made of anything": "for x in set(items):\n    await sleep(1)",
    "a parameter": "for x in texts:\n    await sleep(1)",
    "filled with anything": "some = set()\nfor x in items:\n    some.add(x)\nreturn list(some)",
}


@pytest.mark.parametrize("body", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_the_order_of_who_knows_what_is_a_warning(write: Write, body: str) -> None:
    assert found(write, body) == [("CT305", "warning")]


ORDERLY = {
    "sorted": "for x in sorted({'a', 'b'}):\n    await sleep(1)",
    "asked": "return 'a' in NAMES, len(NAMES), any(x == 'a' for x in NAMES), max(NAMES), sum(len(x) for x in NAMES)",
    "numbers": "for x in {1, 2}:\n    await sleep(1)",
    "global numbers": "return list(NUMBERS)",
    "made of numbers": "return list({len(x) for x in items}), list(set(range(3)))",
    "tasks": "tasks = {asyncio.create_task(sleep(1)) for _ in items}\nawait asyncio.gather(*tasks)",
    "tasks that are added": "tasks = set()\ntasks.add(asyncio.create_task(sleep(1)))\nfor t in tasks:\n    await t",
    "what is waited for": "done, left = await asyncio.wait(items)\nfor t in done:\n    await t",
    "a dict": "for x in dict.fromkeys(items):\n    await sleep(1)",
    "a set of it": "return {x for x in NAMES} == set(NAMES)",
    "a list": "some = ['a']\nsome.pop()\nreturn list(some)",
}


@pytest.mark.parametrize("body", ORDERLY.values(), ids=ORDERLY.keys())
def test_what_has_an_order_or_needs_none_is_silent(write: Write, body: str) -> None:
    assert found(write, body) == []


WRITTEN = {
    "an item": "CACHE['a'] = 1",
    "a deleted item": "del CACHE['a']",
    "a method": "CACHE.update(a=1)",
    "a class attribute": "Shared.seen += 1",
    "an alias": "cache = CACHE\ncache['a'] = 1",
    "a global": "global TOTAL\nTOTAL = 1",
    "setattr": "setattr(Shared, 'seen', 1)",
    "an iterator": "return next(COUNTER)",
    "a generator of chance": "return CHANCE.random()",
    "a lock": "await LOCK.acquire()",
    "a module's attribute": "random.seeded = 1",
    "in a helper": "remember('a')",
}


@pytest.mark.parametrize("body", WRITTEN.values(), ids=WRITTEN.keys())
def test_changing_what_is_global_is_an_error(write: Write, body: str) -> None:
    assert ("CT201", "error") in found(write, body)


KEPT = {
    "a local": "cache = {}\ncache['a'] = 1\ncache.update(b=2)",
    "a copy": "cache = CACHE_COPY = dict(FIXED)\ncache['a'] = 1",
    "nonlocal": "n = 0\ndef add():\n    nonlocal n\n    n += 1\nadd()",
    "an object of its own": "box = Shared()\nbox.seen = 1",
    "a constant": "return FIXED['a'], FIXED.get('b')",
    "a registry filled at import": "return HANDLERS.get('a')",
}


@pytest.mark.parametrize("body", KEPT.values(), ids=KEPT.keys())
def test_what_lives_and_dies_with_the_replay_is_silent(write: Write, body: str) -> None:
    assert found(write, body) == []


@pytest.mark.parametrize("body", ["return CACHE['a']", "return TOTAL", "for key in CACHE:\n    await sleep(1)"])
def test_reading_what_functions_of_the_module_change_is_a_warning(write: Write, body: str) -> None:
    assert found(write, body) == [("CT202", "warning")]


LOST = {
    "an effect": "sleep(1)",
    "a coroutine": "async def inner(): ...\ninner()",
    "asyncio's sleep": "asyncio.sleep(1)",
}


@pytest.mark.parametrize("body", LOST.values(), ids=LOST.keys())
def test_a_coroutine_that_nobody_awaits_is_a_warning(write: Write, body: str) -> None:
    assert found(write, body) == [("CT304", "warning")]


def test_a_name_chosen_at_run_time_is_an_error_on_a_module_and_a_warning_elsewhere(write: Write) -> None:
    assert found(write, "return getattr(random, items)()") == [("CT113", Severity.ERROR.value)]
    assert found(write, "return getattr(items, texts)()") == [("CT113", Severity.WARNING.value)]
    assert found(write, "return getattr(items, texts)") == []


def test_a_set_made_of_itself_does_not_take_for_ever(write: Write) -> None:
    assert found(write, "some = set(items)\nsome = set(some)\nsome.update(some)\nreturn len(some)") == []
    assert found(write, "some = set(items)\nsome = set(some)\nsome.update(some)\nreturn list(some)") == [
        ("CT305", "warning")
    ]
