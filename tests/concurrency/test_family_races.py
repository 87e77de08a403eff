"""Families race: trees of runs that are started, signalled, cancelled, continued and ended all at once, by several
clients, on several dispatchers that are stopped, declared dead, frozen and cut off meanwhile. Then an audit.

One round is one tree with a plan and disturbances of its own. A round's seed fixes both, not the schedule of threads.
``CONTINUUM_TEST_RACES`` is the number of rounds of each setting, ``CONTINUUM_TEST_RACES_SEED`` the first part of seeds;
with ``--log-cli-level=INFO -o log_cli_format='%(message)s'`` what has happened is told.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from continuum import Continuum
from continuum.journal.open import open_journal
from continuum.runtime.turns import intake
from tests.support.family_clients import Clients
from tests.support.family_fleet import SETTINGS, Fleet, Hazards, Weather
from tests.support.family_judge import judge
from tests.support.family_races import ledger
from tests.support.family_watch import Watch

logger = logging.getLogger(__name__)

SEED = os.environ.get("CONTINUUM_TEST_RACES_SEED", "families")
ROUNDS = os.environ.get("CONTINUUM_TEST_RACES")
SMALL = {"active_runs": 3, "cached_runs": 3}
# By name: rounds, dispatchers, whether hints are lost, other settings, how often somebody is slow, whether dispatchers
# come to harm.
RACES: dict[str, tuple[int, int, bool, dict[str, Any], float, bool]] = {
    "calm": (250, 2, False, {}, 0.0, False),
    "evicting": (250, 3, False, SMALL, 0.05, False),
    "deaf": (200, 2, True, {}, 0.0, False),
    "stormy": (400, 3, False, {}, 0.05, True),
    "stormy, deaf and evicting": (300, 3, True, SMALL, 0.05, True),
}


class Records(logging.Handler):
    """What the engine had to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[str] = []
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.counts[str(record.msg)[:60]] += 1
        # What a workflow's own code has to say (of a child that failed and nobody awaited, say) is its own affair.
        if record.levelno >= logging.ERROR and record.name != "continuum.workflow":
            self.errors.append(logging.Formatter().format(record))


@pytest.fixture
def records() -> Iterator[Records]:
    handler = Records()
    logger = logging.getLogger("continuum")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.timeout(3600 if ROUNDS else 240)
@pytest.mark.parametrize("name", RACES)
def test_families_that_race_are_whole_in_the_end(
    database_url: str, records: Records, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Looks at rows that overtake the answers to commits are rare otherwise: one in half a minute.
    monkeypatch.setattr(intake, "_AUDIT_EVERY", 0.05)
    rounds, size, deaf, overrides, slowness, harm = RACES[name]
    rounds = int(ROUNDS or rounds)
    journal = open_journal(database_url, application_name="races clients")
    began = time.monotonic()
    happened: Counter[str] = Counter()
    with ledger(database_url), closing(journal), Continuum(journal=journal, **SETTINGS) as continuum:
        clients = Clients(continuum, database_url, f"{SEED} {name}", rounds)
        fleet = Fleet(database_url, size, deaf=deaf, **overrides)
        try:
            with Weather(f"{SEED} {name} weather", slowness) as weather, Watch(database_url) as watch:
                if harm:
                    with Hazards(fleet, weather, f"{SEED} {name} hazards") as hazards:
                        clients.run()
                    happened = hazards.happened
                else:
                    clients.run()
                clients.end_all(60)
                watch.look()
        finally:
            fleet.close()
        raced = time.monotonic() - began
        told = judge(database_url, continuum, clients.rounds)
    assert not records.errors, records.errors[:5]
    audited = time.monotonic() - began - raced
    logger.info("%s: %d rounds in %.1f s, audit in %.1f s, %d looks", name, rounds, raced, audited, watch.looks)
    logger.info("%s, clients: %s, hazards: %s", told, dict(clients.done), dict(happened))
    logger.info("the engine: %s", dict(records.counts))
