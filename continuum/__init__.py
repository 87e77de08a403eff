"""Durable workflows on Postgres: the public names, and nothing else."""

from continuum.client.handles import AsyncRunHandle, RunHandle
from continuum.client.instance import Continuum
from continuum.declare.activities import activity
from continuum.declare.attempts import current_attempt
from continuum.declare.signals import Signal
from continuum.declare.workflows import workflow
from continuum.errors import (
    ActivityCancelled,
    ActivityError,
    ActivityFailed,
    ActivityTimedOut,
    CodecError,
    ConfigError,
    ContinuumError,
    DeclarationError,
    JournalBusy,
    JournalUnavailable,
    NotInWorkflow,
    PermanentError,
    ResultTimeout,
    RetryAfter,
    RunCancelled,
    RunError,
    RunFailed,
    RunNotFound,
    RunTerminal,
    SchemaOutdated,
)
from continuum.model.events import Event, EventType
from continuum.model.policies import Retry
from continuum.model.runs import Run, RunState
from continuum.replay.effects.base import in_workflow, run_info
from continuum.replay.effects.log import log
from continuum.replay.effects.patch import patched
from continuum.replay.effects.signal import wait_signal, wait_until
from continuum.replay.effects.timer import sleep
from continuum.replay.effects.values import now, random, side_effect, today, uuid4

__all__ = [
    "ActivityCancelled",
    "ActivityError",
    "ActivityFailed",
    "ActivityTimedOut",
    "AsyncRunHandle",
    "CodecError",
    "ConfigError",
    "Continuum",
    "ContinuumError",
    "DeclarationError",
    "Event",
    "EventType",
    "JournalBusy",
    "JournalUnavailable",
    "NotInWorkflow",
    "PermanentError",
    "ResultTimeout",
    "Retry",
    "RetryAfter",
    "Run",
    "RunCancelled",
    "RunError",
    "RunFailed",
    "RunHandle",
    "RunNotFound",
    "RunState",
    "RunTerminal",
    "SchemaOutdated",
    "Signal",
    "activity",
    "current_attempt",
    "in_workflow",
    "log",
    "now",
    "patched",
    "random",
    "run_info",
    "side_effect",
    "sleep",
    "today",
    "uuid4",
    "wait_signal",
    "wait_until",
    "workflow",
]
