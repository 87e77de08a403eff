"""The protocol under random schedules, on both wings: crashes, zombies, lost answers that land later, locks, a reaper.

``PROTOCOL_SCHEDULES=5000`` runs more of them. A failure shows the seed and the shortest failing schedule of it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest

from continuum.errors import JournalError
from continuum.journal.memory import MemoryJournal
from tests.support.protocol_dispatcher import Rule
from tests.support.protocol_family_mutants import FamilyRule
from tests.support.protocol_mutants import JournalRule, broken_journal
from tests.support.protocol_program import Violation
from tests.support.protocol_reach import ReachRule
from tests.support.protocol_setting import Wing
from tests.support.protocol_wings import memory_wing, postgres_wing
from tests.support.protocol_world import World

MORE = int(os.environ.get("PROTOCOL_SCHEDULES", "0"))
ON_MEMORY = MORE or 500
ON_POSTGRES = MORE // 20 or 50
UNTIL_FOUND = 4000
MAX_STEPS = 120


def play(
    wing: Wing,
    seed: int,
    *,
    broken: frozenset[str] = frozenset(),
    steps: int | None = None,
    families: bool | None = None,
) -> World:
    """Play one schedule to its end. Raises what it found, with the schedule as a note."""
    world = World(wing, seed, broken=broken, families=families)
    length = world.random.randint(5, MAX_STEPS * (1 + 2 * world.families))
    try:
        for _ in range(length if steps is None else steps):
            world.step()
        world.settle()
    except Exception as error:
        error.add_note(f"seed {seed}:\n  " + "\n  ".join(world.log))
        raise
    finally:
        world.close()
    return world


def on_memory(
    seed: int, broken: frozenset[str] = frozenset(), *, steps: int | None = None, families: bool | None = None
) -> Exception | None:
    """Play one schedule in memory, return what it found."""
    wing = memory_wing(partial(_make, broken))
    with closing(wing.journal):
        try:
            play(wing, seed, broken=broken, steps=steps, families=families)
        except (Violation, JournalError) as violation:
            return violation
    return None


def _make(broken: frozenset[str], now: Callable[[], int]) -> MemoryJournal:
    return broken_journal(broken, now) if broken else MemoryJournal(now=now)


def shortest(seed: int, violation: Exception) -> Exception:
    """Return the violation of the shortest beginning of the schedule that has one."""
    found = (on_memory(seed, steps=steps) for steps in range(MAX_STEPS))
    return next((one for one in found if one is not None), violation)


def test_no_schedule_in_memory_breaks_the_protocol() -> None:
    for seed in range(ON_MEMORY):
        violation = on_memory(seed)
        if violation is not None:
            raise shortest(seed, violation)


@pytest.fixture
def postgres(database_url: str) -> Iterator[Wing]:
    from continuum.journal.open import open_journal

    with closing(open_journal(database_url)) as journal, closing(postgres_wing(journal, database_url)) as wing:
        yield wing


@pytest.mark.timeout(120 + ON_POSTGRES * 5)
def test_no_schedule_on_postgres_breaks_the_protocol(postgres: Wing) -> None:
    for seed in range(ON_POSTGRES):
        play(postgres, seed)


# Where two rules stand, each alone suffices: both have to fall before something breaks.
MUTANTS = [
    (JournalRule.LAST_SEQ, Rule.REGRANT),
    (JournalRule.OWNER,),
    (JournalRule.TOKEN,),
    (JournalRule.TASK_CLAIM,),
    (JournalRule.RELEASE_TOKEN,),
    (JournalRule.SWEEP_TOKEN,),
    (JournalRule.REGRANT_TOKEN,),
    (JournalRule.LIVING,),
    (JournalRule.WAKE,),
    (JournalRule.MAIL,),
    (JournalRule.SWEEP_CONDITION,),
    (JournalRule.ATTEMPT,),
    (JournalRule.NAMED_LIVING,),
    (JournalRule.NAMED_ATTEMPT,),
    (JournalRule.NAMED_STATE,),
    (JournalRule.LATE_STATE,),
    (JournalRule.LATE_FAILURE,),
    (JournalRule.DEADLINE,),
    (JournalRule.DEFER_STATE,),
    (JournalRule.HELD_STATE,),
    (Rule.RECONCILE,),
    (Rule.HAND_IN,),
    (Rule.OWNER_POLL,),
    (Rule.ADOPT,),
    *((rule,) for rule in FamilyRule),
    *((rule,) for rule in ReachRule),
]


@pytest.mark.parametrize("rules", MUTANTS, ids=lambda rules: " and ".join(rule.name for rule in rules))
def test_without_a_rule_some_schedule_breaks(rules: tuple[str, ...]) -> None:
    broken = frozenset(rules)
    families = any(isinstance(rule, FamilyRule | ReachRule) for rule in rules)
    assert any(on_memory(seed, broken, families=families) is not None for seed in range(UNTIL_FOUND)), (
        f"nothing breaks without {rules}"
    )


def test_a_schedule_in_memory_is_the_same_every_time() -> None:
    logs = []
    for _ in range(2):
        wing = memory_wing(partial(_make, frozenset()))
        logs.append(play(wing, 7).log)
        wing.journal.close()
    assert logs[0] == logs[1]
