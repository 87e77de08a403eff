"""Here live the keyword options of :class:`~continuum.client.instance.Continuum`, for type checkers and editors.

The values, their meaning and their defaults are those of :class:`~continuum.config.Settings`; a test compares both.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

__all__ = ["Options"]


class Options(TypedDict, total=False):
    """Every setting but the URL."""

    name: str
    namespace: str
    schema: str
    executor: str
    queue: str
    modules: Sequence[str]
    concurrency: int
    queues: Mapping[str, int] | None
    lease_ttl: timedelta
    heartbeat_interval: timedelta
    poll_interval: timedelta
    reap_interval: timedelta
    turn_limit: timedelta
    slow_turn: timedelta
    cached_runs: int
    active_runs: int
    commit_lines: int
    spin_limit: int
    max_grants: int
    stuck_backoff: timedelta
    stuck_backoff_max: timedelta
    max_payload_bytes: int
    max_child_depth: int
    partitions_ahead: int
    dispatch_deadline: timedelta
    dispatch_window: int
    drain_timeout: timedelta
    tripwire: bool
    snapshot_threshold: int | None
    max_snapshot_bytes: int
    paranoid: bool | None
    redact: Callable[[str, str | None, Any], Any] | None
