# ruff: noqa: E501 - a table, an edit in each row
"""Edits of a workflow, each met by runs that were recorded at several moments: what fits, what drifts, and what is said.

A run that fits goes on with the new code to its end, and everything it has recorded on the way replays.
"""

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from continuum.declare.registry import REGISTRY
from continuum.errors import ReplayDriftError
from continuum.model.events import EventType
from continuum.model.histories import RecordedRun
from continuum.replay.rehearsal import Rehearsal, Verdict, rehearse
from tests.replay.lab import RUN, Lab, entry_of, loaded

ORDER = '''
import asyncio
from datetime import timedelta
from continuum import Retry, activity, log, patched, publish, saga, set_attributes, side_effect, wait_signal
from tests.replay.lab import kid

@activity(name="edits.charge")
def charge(order, amount): ...

@activity(name="edits.ship")
def ship(order, carrier="mail"): ...

@activity(name="edits.notify")
def notify(order): ...

@activity(name="edits.extra")
def extra(order): ...

def rate():
    return 3

def total(amount):
    return amount * 2

async def flow(order):
    """Sell something."""
    tax = side_effect(rate)
    await charge(order, total(5))
    await asyncio.sleep(60)
    answer = await wait_signal("review")
    await asyncio.gather(ship(order), notify(order))
    await kid("invoice", order)
    if answer == "no":
        raise ValueError("refused")
    return [tax, answer]
'''
LOOP = """
import asyncio
from continuum import activity, patched

@activity(name="edits.step")
def step(number): ...

@activity(name="edits.check")
def check(number): ...

@activity(name="edits.close")
def close(): ...

async def once(number):
    await step(number)

async def flow(order):
    for number in range(3):
        await once(number)
    await close()
    return order
"""
FAN = """
import asyncio
from continuum import activity, patched

@activity(name="edits.pick")
def pick(number): ...

@activity(name="edits.pack")
def pack(number): ...

@activity(name="edits.wrap")
def wrap(number): ...

async def line(number):
    await pick(number)
    await pack(number)

async def flow(order):
    await asyncio.gather(*(line(number) for number in range(2)))
    return order
"""


def compiled(text: str) -> Callable[..., Any]:
    for name in [name for name in REGISTRY._activities if name.startswith("edits.")]:
        del REGISTRY._activities[name]
    scope: dict[str, Any] = {"__name__": "edited"}
    exec(compile(text, "edited.py", "exec"), scope)
    flow: Callable[..., Any] = scope["flow"]
    return flow


# -- the moments at which runs are recorded


def sell(lab: Lab, answer: str) -> dict[str, int]:
    """Run an order, and return how long its history was at each moment."""
    at = {"charging": len(lab.begin().history)}
    lab.complete(1, "paid")
    at["sleeping"] = len(lab.history)
    lab.fire()
    at["reviewing"] = len(lab.history)
    lab.signal("review", answer)
    at["shipping"] = len(lab.history)
    lab.complete(5)
    lab.complete(4)
    at["invoicing"] = len(lab.history)
    lab.child_done(6)
    at["done" if answer == "yes" else "failed"] = len(lab.history)
    return at


def go_round(lab: Lab, _: str) -> dict[str, int]:
    at = {"first": len(lab.begin().history)}
    for number, moment in enumerate(("second", "third", "closing", "done")):
        lab.complete(number)
        at[moment] = len(lab.history)
    return at


def fan_out(lab: Lab, _: str) -> dict[str, int]:
    at = {"picking": len(lab.begin().history)}
    for command, moment in ((1, "one packs"), (0, "both pack"), (3, "one left"), (2, "done")):
        lab.complete(command)
        at[moment] = len(lab.history)
    return at


def histories(text: str, run: Callable[[Lab, str], dict[str, int]], answers: tuple[str, ...]) -> dict[str, list[Any]]:
    found = {}
    for answer in answers:
        lab = Lab(compiled(text), "o1")
        for moment, length in run(lab, answer).items():
            found.setdefault(moment, lab.history[:length])
        lab.replays()
        lab.close()
    return found


HISTORIES = {
    ORDER: histories(ORDER, sell, ("yes", "no")),
    LOOP: histories(LOOP, go_round, ("",)),
    FAN: histories(FAN, fan_out, ("",)),
}


# -- the edits


@dataclasses.dataclass(frozen=True)
class Edit:
    """``drifts`` has, by moment, all that must stand in the error; runs of the other moments fit."""

    name: str
    base: str
    changes: tuple[tuple[str, str], ...]
    drifts: dict[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        text = self.base
        for old, new in self.changes:
            assert old in text, (self.name, old)
            text = text.replace(old, new)
        return text


def edit(name: str, *changes: tuple[str, str], base: str = ORDER, **drifts: tuple[str, ...]) -> Edit:
    """Return an edit. ``since_x=`` means the moment x and all later ones; later keywords win."""
    moments = list(HISTORIES[base])
    expected: dict[str, tuple[str, ...]] = {}
    for key, texts in drifts.items():
        if key.startswith("since_"):
            first = moments.index(key.removeprefix("since_").replace("_", " "))
            expected.update(dict.fromkeys(moments[first:], texts))
        else:
            expected[key.replace("_", " ")] = texts
    return Edit(name, base, changes, expected)


CHARGE = "    await charge(order, total(5))\n"
SLEEP = "    await asyncio.sleep(60)\n"
REVIEW = '    answer = await wait_signal("review")\n'
GATHER = "    await asyncio.gather(ship(order), notify(order))\n"
KID = '    await kid("invoice", order)\n'
END = "    return [tax, answer]\n"
EXTRA = "    await extra(order)\n"
INSERTED = "call was inserted before the recorded one, or that was replaced or removed."
REORDERED = "the order was changed, or what came before it was removed."
REMEDY = "put the change behind patched(), or declare it as a new version."

EDITS = [
    # What replay does not see.
    edit("comment", (CHARGE, "    # the customer pays\n" + CHARGE)),
    edit("docstring", ('"""Sell something."""', '"""Sell."""')),
    edit("formatting", (CHARGE, "    await charge(\n        order,\n        total(5),\n    )\n")),
    edit("rename of a local", ("tax", "duty")),
    edit("rename of a helper", ("total(", "doubled(")),
    edit("helper edited, same value", ("return amount * 2", "return amount + amount")),
    edit("log line inserted", (CHARGE, '    log.info("charging %s", order)\n' + CHARGE)),
    edit("print of nothing new: a local computed", (SLEEP, SLEEP + "    count = len(order)\n")),
    edit("retry policy changed", ('@activity(name="edits.charge")', '@activity(name="edits.charge", retry=Retry(max_attempts=9))')),
    edit("time limit of an activity added", ('@activity(name="edits.charge")', '@activity(name="edits.charge", timeout=timedelta(seconds=5))')),
    edit("activity's function renamed, its name kept", ("def charge(", "def take_money("), ("await charge(", "await take_money(")),
    edit("activity's own code edited", ("def charge(order, amount): ...", "def charge(order, amount):\n    return amount\n")),
    edit("argument passed by name", ("total(5))", "amount=total(5))")),
    edit("default of an argument changed", ('carrier="mail"', 'carrier="van"')),
    edit("value of a side effect changed", ("    return 3\n", "    return 4\n")),
    edit("try around everything that raises the same", (CHARGE, "    try:\n    " + CHARGE + "    finally:\n        done = True\n")),
    edit("sleep written as a timedelta", ("asyncio.sleep(60)", "asyncio.sleep(timedelta(minutes=1).total_seconds())")),
    edit("await split off the call", (CHARGE, "    paying = charge(order, total(5))\n    await paying\n")),
    edit("gather written as a task group", (GATHER, "    async with asyncio.TaskGroup() as group:\n        for call in (ship, notify):\n            group.create_task(alone(call, order))\n"), ("async def flow", "async def alone(call, order):\n    await call(order)\n\nasync def flow")),
    # Inserted.
    edit("activity inserted first", ("    tax = side", EXTRA + "    tax = side"),
         since_charging=("command 0: the history has side effect rate", "the code asks for activity edits.extra", INSERTED)),
    edit("activity inserted in the middle", (SLEEP, EXTRA + SLEEP),
         since_sleeping=("command 2: the history has a timer of 1 min", 'activity edits.extra with ["o1"]', INSERTED, REMEDY)),
    edit("activity inserted at the end", (END, EXTRA + END),
         done=("command 7: the history has the end of the run (run_completed)", "activity edits.extra", "a call was added behind its last one")),
    edit("activity inserted behind the failure's place", (KID, KID + EXTRA),
         done=("command 7", "the end of the run (run_completed)"), failed=("command 7", "the end of the run (run_failed)")),
    edit("side effect inserted", (CHARGE, "    more = side_effect(total, 1)\n" + CHARGE),
         since_charging=("command 1: the history has activity edits.charge", "the code asks for side effect total", INSERTED)),
    edit("attributes set", (SLEEP, '    set_attributes({"paid": True})\n' + SLEEP),
         since_sleeping=("command 2", 'attributes {"paid":true}', INSERTED)),
    edit("progress published", (REVIEW, '    publish("step", "review")\n' + REVIEW),
         since_reviewing=("command 3", "value 'step' published as \"review\"", INSERTED)),
    edit("timeout added around a wait", (REVIEW, "    async with asyncio.timeout(30):\n    " + REVIEW),
         since_reviewing=("command 3: the history has a wait for signal 'review'", "a timer of 30 s (30000000 µs)", INSERTED)),
    edit("timeout given to a wait", ('wait_signal("review")', 'wait_signal("review", timeout=30)'),
         since_shipping=("command 4: the history has activity edits.ship", "a timer of 30 s", INSERTED)),
    edit("branch added without patched", (GATHER, '    if answer != "no":\n    ' + EXTRA + GATHER),
         shipping=("command 4", "edits.ship", "edits.extra"), invoicing=("command 4", INSERTED), done=("command 4", INSERTED)),
    edit("two calls where one was", (GATHER, "    await asyncio.gather(ship(order), notify(order), extra(order))\n"),
         since_invoicing=("command 6", "child invoice", "activity edits.extra")),
    # Inserted, as it should be.
    edit("branch added with patched", (SLEEP, '    if patched("extra"):\n    ' + EXTRA + SLEEP)),
    edit("branch replaced with patched", (GATHER, '    if patched("one by one"):\n        await notify(order)\n        await ship(order)\n    else:\n    ' + GATHER)),
    edit("duration changed with patched", (SLEEP, '    await asyncio.sleep(90 if patched("longer") else 60)\n')),
    edit("patched before the end", (END, '    if patched("thanks"):\n    ' + EXTRA + END)),
    # Removed.
    edit("activity removed", (CHARGE, ""),
         charging=("command 1: the history has activity edits.charge", "a timer of 1 min", INSERTED),
         since_sleeping=("command 1", "The code asks now for what the history has as command 2", REORDERED)),
    edit("timer removed", (SLEEP, ""),
         sleeping=("command 2: the history has a timer of 1 min", "a wait for signal 'review'", INSERTED),
         since_reviewing=("command 2", "as command 3", REORDERED)),
    edit("last command removed", (KID, ""),
         since_invoicing=("command 6: the history has child invoice", "nothing: the code no longer asks for this", "It was removed from the code")),
    edit("call of a gather removed", ("gather(ship(order), notify(order))", "gather(ship(order))"),
         shipping=("command 5: the history has activity edits.notify", "no longer asks", "It was removed from the code"),
         since_invoicing=("command 5", "activity_completed", "it has not come so far", "a call was removed, or is made later")),
    # Reordered.
    edit("effects reordered", (CHARGE + SLEEP, SLEEP + CHARGE),
         charging=("command 1", "a timer of 1 min", INSERTED),
         since_sleeping=("command 1: the history has activity edits.charge", "a timer of 1 min", "as command 2", REORDERED)),
    edit("gather order changed", ("ship(order), notify(order)", "notify(order), ship(order)"),
         since_shipping=("command 4: the history has activity edits.ship", "activity edits.notify", "as command 5", REORDERED)),
    # Changed.
    edit("argument changed", ("total(5)", "total(6)"),
         since_charging=("command 1", "arguments[1]: 10 → 12", "Its arguments were changed, or are computed from what differs", REMEDY)),
    edit("default argument written out", ("gather(ship(order)", 'gather(ship(order, "mail")'),
         since_shipping=("command 4", 'arguments[1]: (nothing) → "mail"')),
    edit("argument added", ("charge(order, amount)", "charge(order, amount, currency)"), ("total(5))", 'total(5), "EUR")'),
         since_charging=("command 1", 'arguments[2]: (nothing) → "EUR"')),
    edit("helper edited", ("return amount * 2", "return amount * 3"),
         since_charging=("command 1", "arguments[1]: 10 → 15")),
    edit("timer changed", ("sleep(60)", "sleep(90)"),
         since_sleeping=("command 2", "a timer of 1 min (60000000 µs)", "a timer of 1.5 min (90000000 µs)", "1 min → 1.5 min", "Its duration was changed")),
    edit("activity renamed", ('"edits.charge"', '"edits.charge_card"'),
         since_charging=("command 1", "If 'edits.charge' was renamed to 'edits.charge_card'", "@activity(name='edits.charge')")),
    edit("activity replaced", ("await charge(order, total(5))", "await extra(order)"),
         since_charging=("command 1", "activity edits.charge", "activity edits.extra", INSERTED)),
    edit("signal renamed", ('wait_signal("review")', 'wait_signal("reviewed")'),
         since_reviewing=("command 3", "If 'review' was renamed to 'reviewed'", "histories keep the old name")),
    edit("side effect's function renamed", ("rate", "tax_rate"),
         since_charging=("command 0", "side effect rate", "side effect tax_rate", "If 'rate' was renamed to 'tax_rate'")),
    edit("child changed", ('kid("invoice"', 'kid("invoices"'),
         since_invoicing=("command 6", "child invoice", "child invoices", "@workflow(name='invoice')")),
    edit("input of a child changed", ('kid("invoice", order)', 'kid("invoice", order, 1)'),
         since_invoicing=("command 6", "(nothing) → 1", "Its arguments were changed")),
    edit("saga added", (CHARGE, "    async with saga():\n    " + CHARGE)),
    edit("compensation added, and the saga", (CHARGE + SLEEP + REVIEW + GATHER + KID + '    if answer == "no":\n        raise ValueError("refused")\n',
         "    async with saga():\n        await charge(order, total(5)).compensate(extra, order)\n    " + SLEEP + "    " + REVIEW + "    " + GATHER + "    " + KID + '        if answer == "no":\n            raise ValueError("refused")\n'),
         failed=("command 7", "the end of the run (run_failed)", "compensation edits.extra")),
    edit("return value changed", (END, "    return [tax, answer, order]\n"),
         done=("the end of the run (run_completed with", 'result[2]: (nothing) → "o1"', "what it ended with was changed")),
    edit("exception type changed", ("ValueError", "KeyError"),
         failed=("run_failed: ValueError: refused", "run_failed: KeyError: 'refused'", "what it ended with was changed")),
    edit("exception message changed", ('"refused"', '"refused by review"'),
         failed=("run_failed: ValueError: refused)", "ValueError: refused by review")),
    edit("failure became a result", ('        raise ValueError("refused")', '        return "refused"'),
         failed=("run_failed: ValueError", 'run_completed with "refused"')),
    # In a loop.
    edit("loop: longer", ("range(3)", "range(4)"), base=LOOP,
         closing=("command 3: the history has activity edits.close", "activity edits.step with [3]"),
         done=("command 3", INSERTED)),
    edit("loop: shorter", ("range(3)", "range(2)"), base=LOOP,
         third=("command 2: the history has activity edits.step with [2]", "activity edits.close"),
         since_closing=("command 2", "as command 3", REORDERED)),
    edit("loop: call inserted", ("        await once(number)\n", "        await once(number)\n        await check(number)\n"), base=LOOP,
         since_second=("command 1: the history has activity edits.step with [1]", "activity edits.check with [0]", INSERTED)),
    edit("loop: call inserted in a helper", ("    await step(number)\n", "    await step(number)\n    await check(number)\n"), base=LOOP,
         since_second=("command 1", "activity edits.check with [0]", "edited.py:")),
    edit("loop: patched", ("        await once(number)\n", '        await once(number)\n        if patched("check"):\n            await check(number)\n'), base=LOOP),
    edit("loop: patched in a helper", ("    await step(number)\n", '    if patched("check"):\n        await check(number)\n    await step(number)\n'), base=LOOP),
    edit("loop: one patch an iteration", ("        await once(number)\n", '        if patched(f"check {number}"):\n            await check(number)\n        await once(number)\n'), base=LOOP),
    # In what runs side by side.
    edit("fan: calls of each line reordered", ("    await pick(number)\n    await pack(number)\n", "    await pack(number)\n    await pick(number)\n"), base=FAN,
         picking=("command 0", "edits.pick", "edits.pack"), since_one_packs=("command 0", "now for what the history has as command ", REORDERED)),
    edit("fan: call inserted", ("    await pack(number)\n", "    await wrap(number)\n    await pack(number)\n"), base=FAN,
         since_one_packs=("command 2: the history has activity edits.pack with [1]", "activity edits.wrap with [1]", INSERTED)),
    edit("fan: patched", ("    await pack(number)\n", '    if patched("wrap"):\n        await wrap(number)\n    await pack(number)\n'), base=FAN),
    edit("fan: wider", ("range(2)", "range(3)"), base=FAN,
         since_one_packs=("command 2: the history has activity edits.pack", "activity edits.pick with [2]")),
]  # fmt: skip
CASES = [(one, moment) for one in EDITS for moment in HISTORIES[one.base]]


def rehearsed(one: Edit, moment: str) -> Rehearsal:
    recorded = RecordedRun(
        run_id=RUN.run_id,
        chain_id=RUN.chain_id,
        namespace=RUN.namespace,
        workflow=RUN.workflow,
        version=RUN.version,
        events=tuple(loaded(HISTORIES[one.base][moment])),
    )
    entry = entry_of(compiled(one.text))
    found = rehearse(entry, recorded)
    other = rehearse(entry, recorded, inline=False)
    assert (found.verdict, str(found.error), found.patches) == (other.verdict, str(other.error), other.patches)
    return found


def test_there_are_enough_of_them():
    assert len({one.name for one in EDITS}) == len(EDITS) >= 60


@pytest.mark.parametrize(("one", "moment"), CASES, ids=[f"{one.name}, {moment}" for one, moment in CASES])
def test_an_edit_has_its_verdict(one, moment):
    found = rehearsed(one, moment)
    expected = one.drifts.get(moment)
    if expected is None:
        assert found.verdict is Verdict.FITS, found.error
        goes_on(one, moment)
        return
    assert found.verdict is Verdict.DRIFT
    error = found.error
    assert isinstance(error, ReplayDriftError)
    for text in expected:
        assert text in str(error), str(error)
    assert REMEDY in error.advice
    assert len(str(error)) < 2_000
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert vars(pickle.loads(pickle.dumps(error)))["advice"] == error.advice


def goes_on(one: Edit, moment: str) -> None:
    """Assert that the run reaches its end with the new code, and that all of it replays."""
    lab = Lab(compiled(one.text), history=HISTORIES[one.base][moment])
    if lab.execution.ended:
        return
    lab.decide()  # what the new code asks for at once
    for _ in range(30):
        if lab.ended:
            break
        execution = lab.execution
        if execution.open_activities:
            lab.complete(min(execution.open_activities))
        elif execution._loop.children:
            lab.child_done(min(execution._loop.children))
        elif execution.earliest_timer is not None and not any(w.startswith("signal") for w in execution.waits_for):
            lab.fire()
        else:
            lab.signal("reviewed" if "reviewed" in str(execution.waits_for) else "review", "yes")
    assert lab.history[-1].type == EventType.RUN_COMPLETED
    lab.replays()
