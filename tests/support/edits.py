"""Here live edits of a workflow, and what is to become of runs that are under way when they are deployed.

Each edit has a module of its own, the same text before, another one after. A run is met by the deploy in two moments:
*parked*, when it waits for a signal, and *charging*, when its second activity is under way in a process that is killed.
"""

from dataclasses import dataclass, field
from typing import Final

__all__ = ["BASE", "EDITS", "Edit", "Verdict"]

BASE: Final = '''
"""An order."""

import asyncio

from continuum import activity, current_attempt, log, now, patched, side_effect, wait_signal, workflow
from deployed.prices import rounded
from deployed.waits import hang

RATE = 10


def discount(total):
    return total // RATE


def label(order, done):
    return f"{order}: {len(done)}"


@activity(name="EDIT.price")
def price(order):
    return 100


@activity(name="EDIT.charge")
def charge(order, amount):
    hang(order, current_attempt().number)
    return f"charged {amount}"


@activity(name="EDIT.ship")
def ship(order):
    return "shipped"


@activity(name="EDIT.extra")
def extra(order):
    return "extra"


@workflow(name="EDIT", version=1)
async def flow(order: str) -> list[str]:
    done = []
    total = rounded(await price(order))
    done.append(await charge(order, total - discount(total)))
    try:
        async with asyncio.timeout(3600):
            done.append(await wait_signal("go"))
    except TimeoutError:
        done.append("late")
    done.append(await ship(order))
    done.append(label("order", done))
    return done
'''
OLD: Final = ["charged 90", "gone", "shipped", "order: 3"]

PRICE: Final = "    total = rounded(await price(order))\n"
CHARGE: Final = "    done.append(await charge(order, total - discount(total)))\n"
SHIP: Final = "    done.append(await ship(order))\n"
EXTRA: Final = "    done.append(await extra(order))\n"
PATCHED: Final = '    if patched("extra"):\n        done.append(await extra(order))\n'
TRY: Final = "    try:\n        async with asyncio.timeout"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a run.

    :ivar kind: ``same`` (goes on, it is the code it was started with), ``adopted``, ``stuck``, or ``waits`` (for a
        dispatcher that has its version).
    :ivar result: what it returns in the end; of a run that is stuck or waits, when the old code is back.
    :ivar reason: what stands in the reason of a stuck run.
    """

    kind: str
    result: list[str] = field(default_factory=lambda: list(OLD))
    reason: str = ""


SAME: Final = Verdict("same")
ADOPTED: Final = Verdict("adopted")
WAITS: Final = Verdict("waits")


def stuck(reason: str = "") -> Verdict:
    return Verdict("stuck", reason=reason)


def adopted(*result: str) -> Verdict:
    return Verdict("adopted", list(result))


@dataclass(frozen=True)
class Edit:
    """One edit: texts and what stands in their place, and the verdicts.

    :ivar changes: pairs of (text of the module, what replaces it).
    :ivar elsewhere: the same of ``deployed/prices.py``, which all modules share the form of.
    :ivar signal: the name of the signal that ends the wait once the new code is there.
    """

    name: str
    changes: tuple[tuple[str, str], ...]
    parked: Verdict
    charging: Verdict
    signal: str = "go"
    elsewhere: tuple[tuple[str, str], ...] = ()

    @property
    def old(self) -> str:
        return BASE.replace("EDIT", self.name).replace("deployed.prices", f"deployed.prices_{self.name}")

    @property
    def new(self) -> str:
        text = BASE
        for found, replaced in self.changes:
            assert text.count(found) == 1, (self.name, found)
            text = text.replace(found, replaced)
        return text.replace("EDIT", self.name).replace("deployed.prices", f"deployed.prices_{self.name}")


def edit(name: str, *changes: tuple[str, str], both: Verdict | None = None, **more: object) -> Edit:
    verdicts = {"parked": both, "charging": both} if both is not None else {}
    return Edit(name, changes, **{**verdicts, **more})  # type: ignore[arg-type]


EDITS: Final = [
    # What does not touch the code that is replayed.
    edit("comment", (CHARGE, "    # Money.\n" + CHARGE), both=SAME),
    edit("docstring", ("-> list[str]:\n", '-> list[str]:\n    """Take an order."""\n'), both=SAME),
    edit("formatting", (SHIP, "    done.append(\n        await ship(order),\n    )\n"), both=SAME),
    edit("function_renamed", ("async def flow(", "async def order_flow("), both=SAME),
    edit(
        "activity_body",
        ('return f"charged {amount}"', 'return f"took {amount}"'),
        parked=SAME,
        charging=Verdict("same", ["took 90", *OLD[1:]]),
    ),
    edit("activity_retries", ('@activity(name="EDIT.ship")', '@activity(name="EDIT.ship", retry=7)'), both=SAME),
    # What changes the code and not what it asks for.
    edit("local_renamed", (PRICE + CHARGE, (PRICE + CHARGE).replace("total", "sum_of_all")), both=ADOPTED),
    edit("log_line", (CHARGE, '    log.info("charging %s", order)\n' + CHARGE), both=ADOPTED),
    edit("clock_read", (CHARGE, "    now()\n" + CHARGE), both=ADOPTED),  # which is not journaled
    edit("default_added", ("flow(order: str)", "flow(order: str, gift: bool = False)"), both=ADOPTED),
    edit(
        "error_handled",
        (CHARGE, f"    try:\n    {CHARGE}    except ValueError:\n        return []\n"),
        both=ADOPTED,
    ),
    edit("result_changed", ("    return done\n", "    return done[:2]\n"), both=adopted(*OLD[:2])),
    edit("helper_edited_later", ('f"{order}: ', 'f"{order} has '), both=adopted(*OLD[:3], "order has 3")),
    edit("helper_equivalent", ("return total // RATE", "return int(total / RATE)"), both=ADOPTED),
    # What changes what is asked for after the present.
    edit("inserted_at_the_end", (SHIP, SHIP + EXTRA), both=adopted(*OLD[:3], "extra", "order: 4")),
    edit("removed_later", (SHIP, ""), both=adopted("charged 90", "gone", "order: 2")),
    edit("argument_changed_later", ("await ship(order)", "await ship(order + order)"), both=ADOPTED),
    edit(
        "sequence_gathered_later",
        (SHIP, "    done.extend(await asyncio.gather(ship(order), extra(order)))\n"),
        both=adopted(*OLD[:3], "extra", "order: 4"),
    ),
    edit("patched_later", (SHIP, SHIP + PATCHED), both=adopted(*OLD[:3], "extra", "order: 4")),
    # What changes what was asked for in the past of one moment, and in the future of the other.
    edit(
        "inserted_in_the_middle",
        (TRY, EXTRA + TRY),
        parked=stuck("EDIT.extra"),
        charging=adopted("charged 90", "extra", *OLD[1:3], "order: 4"),
    ),
    edit("timer_changed", ("timeout(3600)", "timeout(7200)"), parked=stuck("timer"), charging=ADOPTED),
    edit("timer_removed", ("timeout(3600)", "timeout(None)"), parked=stuck("timer"), charging=ADOPTED),
    edit("signal_renamed", ('"go"', '"proceed"'), parked=stuck("'proceed'"), charging=ADOPTED, signal="proceed"),
    edit(
        "side_effect_inserted",
        (TRY, "    side_effect(len, order)\n" + TRY),
        parked=stuck("side effect"),
        charging=ADOPTED,
    ),
    edit(
        "patched_in_the_middle",
        (TRY, PATCHED + TRY),
        parked=ADOPTED,
        charging=adopted("charged 90", "extra", *OLD[1:3], "order: 4"),
    ),
    # What changes what was asked for.
    edit("inserted_at_the_beginning", (PRICE, EXTRA + PRICE), both=stuck("EDIT.extra")),
    edit(
        "reordered", (PRICE + CHARGE, "    total = 100\n" + CHARGE + "    await price(order)\n"), both=stuck("charge")
    ),
    edit("removed", (CHARGE, ""), both=stuck("charge")),
    edit("argument_changed", ("charge(order, total", "charge(order, 1 + total"), both=stuck("91")),
    edit("activity_renamed", ("EDIT.charge", "EDIT.take"), both=stuck("EDIT.take")),
    edit("helper_edited", ("return total // RATE", "return total // RATE * 2"), both=stuck("80")),
    edit("branch_added", (CHARGE, f"    if total > 50:\n    {EXTRA}{CHARGE}"), both=stuck("EDIT.extra")),
    edit("branch_patched", (CHARGE, PATCHED + CHARGE), both=ADOPTED),
    edit(
        "argument_required",
        ("flow(order: str)", "flow(order: str, gift: bool)"),
        both=stuck("missing 1 required positional argument"),
    ),
    # What the hash of the code does not cover: the replay finds it.
    edit("constant_changed", ("RATE = 10", "RATE = 5"), both=stuck("80")),
    edit(
        "other_module_edited",
        both=stuck("91"),
        elsewhere=(("return value", "return value + 1"),),
    ),
    edit("other_module_equivalent", both=SAME, elsewhere=(("return value", "return value + 0"),)),
    # Versions.
    edit("version_removed", ("version=1", "version=2"), both=WAITS),
    edit(
        "version_beside",
        (
            '@workflow(name="EDIT", version=1)',
            """\
@workflow(name="EDIT", version=2)
async def later(order: str) -> list[str]:
    return [await extra(order)]


@workflow(name="EDIT", version=1)""",
        ),
        both=SAME,
    ),
]
