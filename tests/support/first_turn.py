"""Here lives the first turn of a workflow, without a journal: what its code asks for, and what ends it."""

from typing import Any

import msgspec

from continuum.declare.workflows import Workflow
from continuum.model.decisions import Decision
from continuum.model.events import Event, EventType
from continuum.model.failures import Failure
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import Started
from continuum.replay.execution import Execution, RunInfo

__all__ = ["failure_of", "first_turn"]

RUN = "01890000-0000-7000-8000-000000000000"


def first_turn(flow: Workflow[..., Any], *args: Any, **kwargs: Any) -> Decision:
    """Return the decision of a run's first turn."""
    run = RunInfo(RunId(RUN), ChainId(RUN), "default", flow.name, flow.version)
    execution = Execution(entry=flow.entry, run=run)
    started = Started(input=msgspec.Raw(flow.encode_input(args, kwargs).encode()), seed="00" * 16).encode()
    execution.replay([Event(1, EventType.RUN_STARTED, None, None, started, 1)])
    execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, 2))
    decision = execution.decide()
    execution.evict()
    return decision


def failure_of(decision: Decision) -> Failure:
    """Return the failure that a decision ends its run with."""
    last = decision.events[-1]
    assert last.type == EventType.RUN_FAILED, last
    return Failure.parse(last.payload or "")
