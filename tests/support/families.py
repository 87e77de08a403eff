"""Here lives what tests of a journal say of runs that are related: order a child, report, continue, read its mail."""

from collections.abc import Sequence
from typing import Any

from continuum.model.decisions import ChildOrder, Commit, Letter, Report, Successor
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId, WorkerId, derive_run_id
from continuum.model.leases import ClaimedRun
from continuum.model.messages import Message
from continuum.model.runs import ParentClose, Run, RunState
from continuum.model.search import Query
from tests.support.journals import STARTED, Desk, commit_of, event

__all__ = [
    "CHILD",
    "bear",
    "cancel_letter",
    "child_of",
    "claim_children",
    "continuation",
    "continue_as_new",
    "continued",
    "end_child",
    "every_run",
    "family",
    "inbox",
    "report_of",
    "signal_letter",
    "started_events",
    "terminate_letter",
    "told",
]

CHILD = "child"


def child_of(desk: Desk, run: ClaimedRun, command: int = 0, **fields: Any) -> ChildOrder:
    """Return the order of a child, as the engine derives it."""
    defaults: dict[str, Any] = {
        "id": derive_run_id(desk.now_us(), run.run_id, str(command)),
        "command": command,
        "workflow": CHILD,
        "version": 1,
        "version_hash": "child-1",
        "started": STARTED,
        "close": ParentClose.CANCEL,
    }
    return ChildOrder(**{**defaults, **fields})


def started_events(orders: Sequence[ChildOrder]) -> list[Event]:
    """Return the commands of children."""
    return [event(EventType.CHILD_STARTED, command=one.command, name=one.workflow) for one in orders]


def bear(desk: Desk, worker: WorkerId, run: ClaimedRun, *orders: ChildOrder, **fields: Any) -> ClaimedRun:
    """Commit children, and return the parent's claim as it stands then."""
    fields = {"state": RunState.SUSPENDED, "woke": True, **fields}
    return desk.write(worker, run, *started_events(orders), children=orders, **fields)


def claim_children(desk: Desk, worker: WorkerId, limit: int = 100) -> list[ClaimedRun]:
    """Claim the children that have something to do, in the order of their commands."""
    found = desk.claim(worker, workflows=((CHILD, 1),), limit=limit)
    return sorted(found, key=lambda run: -1 if run.parent is None else run.parent.command)


def family(desk: Desk, worker: WorkerId, *closes: ParentClose) -> tuple[ClaimedRun, list[ClaimedRun]]:
    """Return a run that waits for children with these policies, and the children, held by the same worker."""
    run = desk.parked(worker)
    orders = [child_of(desk, run, command, close=close) for command, close in enumerate(closes or [ParentClose.CANCEL])]
    run = bear(desk, worker, run, *orders)
    children = claim_children(desk, worker)
    assert [child.run_id for child in children] == [order.id for order in orders]
    return run, children


# ------------------------------------------------------------------ ends


def report_of(child: ClaimedRun, kind: EventType = EventType.CHILD_COMPLETED, payload: str | None = '"done"') -> Report:
    assert child.parent is not None
    return Report(child.parent.run_id, child.parent.command, kind, payload)


def end_child(desk: Desk, worker: WorkerId, child: ClaimedRun, **fields: Any) -> None:
    """Commit the end of a child that tells its parent."""
    fields = {"report": report_of(child), **fields}
    desk.end(worker, child, **fields)


def continuation(desk: Desk, run: ClaimedRun, **fields: Any) -> tuple[RunId, Commit]:
    """Return the id of a run's successor, and the commit that starts it."""
    successor = Successor(derive_run_id(desk.now_us(), run.run_id, "continued"), fields.pop("started", STARTED))
    fields = {"state": RunState.CONTINUED, "woke": True, "successor_version": (1, "hash-1"), **fields}
    last = event(EventType.RUN_CONTINUED, payload="[2]")
    return successor.id, commit_of(run, *fields.pop("events", ()), last, successor=successor, **fields)


def continue_as_new(desk: Desk, worker: WorkerId, run: ClaimedRun, **fields: Any) -> RunId:
    """Commit the end of a run and its successor, and return that one's id."""
    successor, commit = continuation(desk, run, **fields)
    assert desk.commit(worker, commit) == {run.run_id}, "the commit was refused"
    return successor


def continued(desk: Desk, worker: WorkerId, run: ClaimedRun, **fields: Any) -> ClaimedRun:
    """Like `continue_as_new`, and claim the successor, the only run of its workflow that has something to do."""
    fields = {"successor_version": (run.version, run.version_hash), **fields}
    successor = continue_as_new(desk, worker, run, **fields)
    [again] = [one for one in desk.claim(worker, workflows=((run.workflow, run.version),)) if one.run_id == successor]
    return again


# ------------------------------------------------------------------ letters


def signal_letter(chain_id: str, name: str = "paid", payload: str | None = "1") -> Letter:
    return Letter(ChainId(chain_id), EventType.SIGNAL_RECEIVED, name, payload)


def cancel_letter(chain_id: str) -> Letter:
    return Letter(ChainId(chain_id), EventType.CANCEL_REQUESTED)


def terminate_letter(chain_id: str, payload: str = '{"type_name":"Terminated","message":"no"}') -> Letter:
    return Letter(ChainId(chain_id), EventType.RUN_TERMINATED, None, payload)


def every_run(desk: Desk) -> list[Run]:
    """Return all runs of the journal, up to a thousand."""
    return desk.journal.runs.search(Query(limit=1000)).runs


def inbox(desk: Desk, worker: WorkerId, run: ClaimedRun) -> list[Message]:
    """Return the mail of a chain whose tip this worker holds, oldest first."""
    return [message for message in desk.mail(worker, limit=10_000).messages if message.chain_id == run.chain_id]


def told(desk: Desk, worker: WorkerId, run: ClaimedRun) -> list[str]:
    """Return of each message in a run's inbox what it is."""
    return [str(message.kind) for message in inbox(desk, worker, run)]
