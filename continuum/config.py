"""Here lives every number and choice an instance runs with, validated once and frozen.

Each number has its reason beside it. Unknown names are refused with the nearest known one.
"""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from continuum.errors import ConfigError

__all__ = ["DATABASE_URL", "PARANOID", "Settings", "settings_from"]

_LONGEST_NAME: Final = 200
DATABASE_URL: Final = "CONTINUUM_DATABASE_URL"
PARANOID: Final = "CONTINUUM_PARANOID"
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One instance's configuration.

    :ivar url: the database; None means ``CONTINUUM_DATABASE_URL``.
    :ivar name: instance name, for logs and for several instances in one process.
    :ivar namespace: where runs are started if the caller does not say.
    :ivar schema: database schema of Continuum's tables.
    :ivar executor: where activities run that do not say: ``local``, ``celery``, or what an installed package provides.
    :ivar queue: queue of an external executor for activities that neither name one nor are routed.
    :ivar modules: modules whose import declares the workflows and activities.
    :ivar concurrency: activities that run at once in the local pool's threads.
    :ivar queues: queues served by the local pool and how many of each at once; None serves all.
    """

    url: str | None = None
    name: str = "default"
    namespace: str = "default"
    schema: str = "public"
    executor: str = "local"
    queue: str = "continuum_activities"
    modules: tuple[str, ...] = ()
    concurrency: int = 16
    queues: Mapping[str, int] | None = None

    # A worker is dead this long after its last heartbeat: long enough for a slow failover of Postgres, short
    # enough that nobody is paged for a crashed process.
    lease_ttl: timedelta = timedelta(seconds=30)
    # Three chances within a lease.
    heartbeat_interval: timedelta = timedelta(seconds=10)
    # The floor under every hint (one statement each).
    poll_interval: timedelta = timedelta(seconds=2)
    # How often expired workers are looked for when no poll saw one.
    reap_interval: timedelta = timedelta(seconds=30)
    # A turns thread that has not passed its loop for this long is hung: its lease is left to expire.
    turn_limit: timedelta = timedelta(seconds=60)
    # A single turn slower than this is reported with its stack.
    slow_turn: timedelta = timedelta(seconds=1)
    # Runs kept in memory; about 6 KiB each plus what the workflow itself holds.
    cached_runs: int = 10_000
    # Runs turned at once; more claims wait until some are parked.
    active_runs: int = 1_000
    # Connections that carry commits; a second one overlaps turning and committing.
    commit_lines: int = 2
    # Callbacks one delivered completion may cause.
    spin_limit: int = 100_000
    # A run that took this many dispatchers down without progress is set aside.
    max_grants: int = 5
    # First back-off of a stuck run; later ones are as long as it has been stuck, but a dispatcher that starts tries it.
    stuck_backoff: timedelta = timedelta(seconds=30)
    # Longest back-off of a stuck run: somebody may have mended what no start of a dispatcher shows, such as a key.
    stuck_backoff_max: timedelta = timedelta(hours=1)
    # Largest encoded input, argument list, result, signal.
    max_payload_bytes: int = 2 * 1024 * 1024
    # Children of children of children: a workflow that calls itself without an end stops here.
    max_child_depth: int = 10
    # Months of event partitions kept ready.
    partitions_ahead: int = 3
    # A dispatched task that nobody claims within this is published again; doubled each time, up to ten minutes.
    dispatch_deadline: timedelta = timedelta(seconds=60)
    # Messages under way per queue of an external executor; what is beyond waits in Postgres, in order of priority.
    # More than the workers of one queue prefetch together, so that none of them runs dry.
    dispatch_window: int = 1_000
    # Calls that workflow code must not make raise while it runs, and make the run stuck.
    tripwire: bool = True
    # A snapshot of a run's history is made whenever it has grown by this many events, and by a quarter, so that the run
    # loads faster the next time; None makes none. Below, a history loads in a few milliseconds anyway.
    snapshot_threshold: int | None = 5_000
    # Largest snapshot. It is written as a whole, and read in the claim of its run.
    max_snapshot_bytes: int = 16 * 1024 * 1024
    # How long a drain waits for running activities.
    drain_timeout: timedelta = timedelta(seconds=30)
    # Replays every run before each of its commits, and compares. For tests: each step then costs a replay of all before
    # it. None: what CONTINUUM_PARANOID says.
    paranoid: bool | None = None
    # Called with (kind, name, plain value) for each payload that histories, task rows and commands show; its result is
    # shown instead. Results and progress, which programs read, are not touched.
    redact: Callable[[str, str | None, Any], Any] | None = None

    def __post_init__(self) -> None:
        for name in (
            "concurrency",
            "cached_runs",
            "active_runs",
            "commit_lines",
            "spin_limit",
            "max_grants",
            "max_payload_bytes",
            "max_child_depth",
            "partitions_ahead",
            "dispatch_window",
            "max_snapshot_bytes",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                _refuse(name, value, "a whole number of at least 1")
        most = self.snapshot_threshold
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            _refuse("snapshot_threshold", most, "a whole number of events of at least 1, or None for no snapshots")
        for name in (
            "lease_ttl",
            "heartbeat_interval",
            "poll_interval",
            "reap_interval",
            "turn_limit",
            "slow_turn",
            "stuck_backoff",
            "stuck_backoff_max",
            "dispatch_deadline",
            "drain_timeout",
        ):
            value = getattr(self, name)
            if not isinstance(value, timedelta) or value <= timedelta(0):
                _refuse(name, value, "a timedelta above zero, such as timedelta(seconds=30)")
        for name in ("name", "namespace", "schema", "executor", "queue"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or len(value) > _LONGEST_NAME or "\0" in value:
                _refuse(name, value, "a text of 1 to 200 characters")
        if self.lease_ttl < self.heartbeat_interval * 2:
            _refuse("lease_ttl", self.lease_ttl, f"at least twice heartbeat_interval ({self.heartbeat_interval})")
        if self.redact is not None and not callable(self.redact):
            _refuse("redact", self.redact, "a function of (kind, name, value) that returns what to show, or None")
        if self.paranoid is not None and not isinstance(self.paranoid, bool):
            _refuse("paranoid", self.paranoid, f"True, False, or None for what {PARANOID} says")
        self._check_queues()

    def _check_queues(self) -> None:
        if self.queues is None:
            return
        if not isinstance(self.queues, Mapping) or not self.queues:
            _refuse("queues", self.queues, "a mapping from queue name to how many at once, or None for all")
        for queue, limit in self.queues.items():
            if not isinstance(queue, str) or not queue:
                _refuse("queues", self.queues, "queue names as text")
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                _refuse(f"queues[{queue!r}]", limit, "a whole number of at least 1")

    def is_paranoid(self) -> bool:
        """Say whether runs are replayed before each commit. Raises ``ConfigError`` on a value nobody can read."""
        if self.paranoid is not None:
            return self.paranoid
        told = os.environ.get(PARANOID, "").strip().lower()
        if told not in _YES | _NO:
            message = f"{PARANOID}={told!r} is not valid: write 1 or 0."
            raise ConfigError(message)
        return told in _YES

    def require_url(self) -> str:
        """Return the database's URL. Raises ``ConfigError`` if there is none."""
        url = self.url or os.environ.get(DATABASE_URL)
        if not url:
            message = (
                f"no database is configured: set {DATABASE_URL}=postgresql://user@host/db, or pass the URL as the"
                " first argument of Continuum(). To try Continuum without one, use Continuum.dev() or"
                " `continuum demo`."
            )
            raise ConfigError(message)
        return url


def settings_from(options: Mapping[str, Any]) -> Settings:
    """Return validated settings. Raises ``ConfigError`` naming the option and what to write instead."""
    known = {spec.name for spec in fields(Settings)}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f" Did you mean {near[0]!r}?" if near else f" Known options: {', '.join(sorted(known))}."
            message = f"unknown option {name!r}.{advice}"
            raise ConfigError(message)
    values = dict(options)
    if isinstance(values.get("modules"), str):
        message = f"modules={values['modules']!r} is not valid: write a list, modules=[{values['modules']!r}]."
        raise ConfigError(message)
    if "modules" in values:
        values["modules"] = tuple(values["modules"])
    return Settings(**values)


def _refuse(name: str, value: object, wanted: str) -> None:
    message = f"{name}={value!r} is not valid: write {wanted}."
    raise ConfigError(message)
