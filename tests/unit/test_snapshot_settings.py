"""The numbers that govern snapshots: what they are by default, and what is refused."""

from typing import Any

import pytest

from continuum.config import Settings, settings_from
from continuum.errors import ConfigError


def test_snapshots_are_made_of_long_histories_by_default() -> None:
    assert (Settings().snapshot_threshold, Settings().max_snapshot_bytes) == (5_000, 16 * 1024 * 1024)


@pytest.mark.parametrize("threshold", [None, 1, 10**9])
def test_a_threshold_is_a_number_of_events_or_none(threshold: Any) -> None:
    assert settings_from({"snapshot_threshold": threshold}).snapshot_threshold == threshold


@pytest.mark.parametrize("threshold", [0, -1, True, False, 1.5, "5"])
def test_any_other_threshold_is_refused_with_what_to_write(threshold: Any) -> None:
    with pytest.raises(ConfigError, match="snapshot_threshold=.* a whole number of events of at least 1, or None"):
        settings_from({"snapshot_threshold": threshold})


@pytest.mark.parametrize("size", [0, None, True, "1"])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match="max_snapshot_bytes=.* a whole number of at least 1"):
        settings_from({"max_snapshot_bytes": size})
