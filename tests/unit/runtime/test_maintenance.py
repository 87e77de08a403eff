"""The rare duties do not depend on each other, and a right that is missing is told once."""

import logging
from typing import Any

import pytest

from continuum.errors import JournalBusy, JournalError, JournalUnavailable
from continuum.runtime.maintenance import Maintenance


class Upkeep:
    """Fails as told, and notes what was asked."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.asked: list[str] = []

    def ensure_partitions(self, *, months_ahead: int) -> list[str]:
        self.asked.append("partitions")
        if self.error is not None:
            raise self.error
        return [f"month {number}" for number in range(months_ahead)]

    def misplaced_events(self) -> int:
        self.asked.append("misplaced")
        return 2

    def discard_dead_mail(self) -> int:
        self.asked.append("mail")
        return 1

    def discard_ended(self, *, limit: int) -> int:
        self.asked.append("snapshots")
        return limit if self.asked.count("snapshots") % 3 else 0


def make(error: Exception | None = None) -> tuple[Maintenance, Upkeep]:
    upkeep = Upkeep(error)
    journal: Any = type("Journal", (), {"upkeep": upkeep, "snapshots": upkeep})()
    return Maintenance(journal=journal, months_ahead=1), upkeep


# Snapshots until there are no more.
EVERYTHING = ["partitions", "misplaced", "mail", "snapshots", "snapshots", "snapshots"]


def test_a_round_does_all_four_and_says_what_it_did(caplog: pytest.LogCaptureFixture) -> None:
    service, upkeep = make()
    with caplog.at_level(logging.INFO):
        assert service.run_once() == 600
    assert upkeep.asked == EVERYTHING
    assert "month 0" in caplog.text
    assert "2 events" in caplog.text
    assert "1 message came" in caplog.text


def test_a_missing_right_is_told_once_in_one_line_and_keeps_nothing_from_being_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, upkeep = make(JournalError("the database refused a statement (42501): must be owner", sqlstate="42501"))
    for _ in range(3):
        assert service.run_once() == 600
    assert upkeep.asked == EVERYTHING * 3
    told = [record for record in caplog.records if "lacks the rights" in record.message]
    assert [record.exc_info for record in told] == [None]
    assert "continuum migrate" in told[0].message


@pytest.mark.parametrize("error", [JournalBusy("locked"), JournalError("odd", sqlstate="XX000"), ValueError("a bug")])
def test_any_other_failure_is_tried_again_sooner(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    service, upkeep = make(error)
    assert service.run_once() == 60
    assert upkeep.asked == EVERYTHING
    assert "event partitions ahead of time" in caplog.text


def test_a_database_that_is_away_is_the_services_own_matter() -> None:
    service, upkeep = make(JournalUnavailable("gone"))
    with pytest.raises(JournalUnavailable):
        service.run_once()
    assert upkeep.asked == ["partitions"]
