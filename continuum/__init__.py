"""Durable workflows on Postgres: the public names, and nothing else."""

from continuum.client.handles import AsyncRunHandle, RunHandle
from continuum.client.instance import Continuum
from continuum.declare.activities import activity
from continuum.declare.attempts import current_attempt
from continuum.declare.children import start_child
from continuum.declare.signals import Question, Signal
from continuum.declare.workflows import workflow
from continuum.determinism.policy import configure_checks
from continuum.determinism.pure import pure
from continuum.determinism.report import DeterminismWarning
from continuum.errors import (
    ActivityCancelled,
    ActivityError,
    ActivityFailed,
    ActivityTimedOut,
    ChildCancelled,
    ChildDepthExceeded,
    ChildFailed,
    CodecError,
    CompensationError,
    ConfigError,
    ContinuumError,
    DeclarationError,
    DeterminismError,
    ForbiddenCall,
    HistoryError,
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
    SearchError,
    SignalRefused,
)
from continuum.model.events import Event, EventType
from continuum.model.policies import Retry
from continuum.model.runs import ParentClose, Run, RunState
from continuum.replay.effects.attributes import publish, set_attributes
from continuum.replay.effects.base import in_workflow, run_info
from continuum.replay.effects.child import ChildHandle
from continuum.replay.effects.continue_as_new import continue_as_new
from continuum.replay.effects.log import log
from continuum.replay.effects.patch import patched
from continuum.replay.effects.saga import Saga, compensate, compensate_all, saga
from continuum.replay.effects.signal import Request, wait_signal, wait_until
from continuum.replay.effects.timer import sleep
from continuum.replay.effects.values import now, random, side_effect, today, uuid4
from continuum.replay.outcomes import Compensated, Rollback

__all__ = [
    "ActivityCancelled",
    "ActivityError",
    "ActivityFailed",
    "ActivityTimedOut",
    "AsyncRunHandle",
    "ChildCancelled",
    "ChildDepthExceeded",
    "ChildFailed",
    "ChildHandle",
    "CodecError",
    "Compensated",
    "CompensationError",
    "ConfigError",
    "Continuum",
    "ContinuumError",
    "DeclarationError",
    "DeterminismError",
    "DeterminismWarning",
    "Event",
    "EventType",
    "ForbiddenCall",
    "HistoryError",
    "JournalBusy",
    "JournalUnavailable",
    "NotInWorkflow",
    "ParentClose",
    "PermanentError",
    "Question",
    "Request",
    "ResultTimeout",
    "Retry",
    "RetryAfter",
    "Rollback",
    "Run",
    "RunCancelled",
    "RunError",
    "RunFailed",
    "RunHandle",
    "RunNotFound",
    "RunState",
    "RunTerminal",
    "Saga",
    "SchemaOutdated",
    "SearchError",
    "Signal",
    "SignalRefused",
    "activity",
    "compensate",
    "compensate_all",
    "configure_checks",
    "continue_as_new",
    "current_attempt",
    "in_workflow",
    "log",
    "now",
    "patched",
    "publish",
    "pure",
    "random",
    "run_info",
    "saga",
    "set_attributes",
    "side_effect",
    "sleep",
    "start_child",
    "today",
    "uuid4",
    "wait_signal",
    "wait_until",
    "workflow",
]
