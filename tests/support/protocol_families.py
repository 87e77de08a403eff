"""Here lives who judges families: what made each run end, hear and exist, while it happens and when all is over."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from continuum.journal.protocol import Journal
from continuum.model.decisions import Commit
from continuum.model.events import COMPLETIONS, TERMINAL, Event, EventType
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import ENDED, ParentClose, Run, RunState, Started
from continuum.model.search import Query, parse_query
from tests.support.protocol_program import CHILD_ENDS, Program, Violation
from tests.support.protocol_reach import STATES, child_id
from tests.support.protocol_specs import ChildSpec, Spec

__all__ = ["Chain", "Outside", "judge_forest", "read_runs", "see_attributes", "see_reasons"]

MOST_RUNS = 1000
URGENT = frozenset({EventType.CANCEL_REQUESTED, EventType.RUN_TERMINATED})


@dataclass
class Outside:
    """What came from no run: signals that were accepted, chains that were asked to cancel, or terminated."""

    signals: dict[RunId, list[str]] = field(default_factory=dict)
    cancelled: set[ChainId] = field(default_factory=set)
    terminated: set[ChainId] = field(default_factory=set)


def read_runs(journal: Journal, workflow: str) -> list[Run]:
    """Return all runs of a schedule."""
    return journal.runs.search(Query(conditions=parse_query({"workflow": workflow}).conditions, limit=MOST_RUNS)).runs


# ------------------------------------------------------------------ while it happens


def see_reasons(journal: Journal, outside: Outside, commit: Commit, program: Program) -> None:
    """See that what a commit has journaled about relatives is so."""
    for event in commit.decision.events:
        if event.type in CHILD_ENDS and event.command is not None:
            _see_end(journal, program.children[event.command][0], event)
        if event.type in URGENT:
            run = _get(journal, commit.run_id)
            if not _has_reason(journal, outside, run, event, before=commit.seen):
                raise Violation(f"{event.type} of {run.id} without a reason")


def see_attributes(journal: Journal, run_id: RunId) -> None:
    """See that a run has the attributes that its history says it set, whether it was just written or refused."""
    run = _get(journal, run_id)
    wanted = Program.replay(run_id, journal.runs.history(run_id)).attributes
    if any(run.attributes.get(key) != value for key, value in wanted.items()):
        raise Violation(f"{run_id} has set {wanted} and has {run.attributes}")


def _see_end(journal: Journal, root: RunId, event: Event) -> None:
    """See that a child has ended as its parent has journaled it."""
    found = journal.runs.outcomes([root]).get(root)
    if found is None:
        raise Violation(f"a parent was told {event.type} of a child that goes on")
    state, last = found
    kind = EventType.CHILD_COMPLETED if state == RunState.COMPLETED else EventType.CHILD_CANCELLED
    if (kind, last.payload) != (event.type, event.payload):
        raise Violation(f"a parent was told {event.type} {event.payload} of a child: {last.type} {last.payload}")


def _has_reason(journal: Journal, outside: Outside, run: Run, event: Event, *, before: int) -> bool:
    """Whether somebody has asked a run to cancel, or to end, before it journaled that."""
    cancel = event.type == EventType.CANCEL_REQUESTED
    if cancel and (run.chain_id in outside.cancelled or _was_asked(journal, run, before=before)):
        return True
    if run.parent_chain_id is None or run.parent_close == ParentClose.ABANDON:
        return False
    parent = journal.runs.find(RunId(run.parent_chain_id), tip=True)
    assert parent is not None
    if parent.ended:
        return (run.parent_close == ParentClose.CANCEL) == cancel or (cancel and _was_asked(journal, parent))
    return cancel and _was_asked(journal, parent)


def _was_asked(journal: Journal, tip: Run, *, before: int | None = None) -> bool:
    """Whether a run, or one before it in its chain, has journaled a request to cancel."""
    run: Run | None = tip
    while run is not None:
        events = journal.runs.history(run.id, limit=before if run is tip else None)
        if any(event.type == EventType.CANCEL_REQUESTED for event in events):
            return True
        run = None if run.continued_from is None else _get(journal, run.continued_from)
    return False


def _get(journal: Journal, run_id: RunId) -> Run:
    run = journal.runs.find(run_id)
    if run is None:
        raise Violation(f"{run_id} does not exist")
    return run


# ------------------------------------------------------------------ when all is over


@dataclass
class Member:
    """One run of a chain."""

    run: Run
    events: list[Event]
    program: Program


@dataclass
class Chain:
    """All that stands for one run of a schedule, and who started it."""

    members: list[Member]
    child: ChildSpec | None = None
    parent: "tuple[Chain, Member, int] | None" = None

    @property
    def tip(self) -> Member:
        return self.members[-1]

    def of(self, kind: EventType) -> list[Event]:
        return [event for member in self.members for event in member.events if event.type == kind]


def judge_forest(journal: Journal, workflow: str, roots: dict[RunId, Spec], outside: Outside) -> None:
    """See that of all runs of a schedule each exists once, for a reason, and was told what it had to be told."""
    chains = [chain for root in roots for chain in _walk(journal, root, None, None)]
    known = [member.run.id for chain in chains for member in chain.members]
    found = [run.id for run in read_runs(journal, workflow)]
    if sorted(known) != sorted(found):
        raise Violation(f"runs that nobody has started, or twice: {set(found) ^ set(known)}")
    for chain in chains:
        _judge_chain(journal, chain)
        _judge_signals(chain, outside)
        _judge_reasons(journal, chain, outside)
        if chain.parent is not None:
            _judge_parent(chain, *chain.parent)
        for member in chain.members:
            _judge_member(journal, member)


def _walk(
    journal: Journal, root: RunId, child: ChildSpec | None, parent: tuple[Chain, Member, int] | None
) -> Iterator[Chain]:
    chain, run_id = Chain([], child, parent), root
    while True:
        events = journal.runs.history(run_id)
        chain.members.append(Member(_get(journal, run_id), events, Program.replay(run_id, events)))
        ends = [event for event in events if event.type == EventType.RUN_CONTINUED]
        if not ends:
            break
        run_id = child_id(ends[0])
    yield chain
    for member in chain.members:
        for command, (born, spec) in member.program.children.items():
            yield from _walk(journal, born, spec, (chain, member, command))


def _judge_chain(journal: Journal, chain: Chain) -> None:
    root = chain.members[0].run
    for before, member in zip([None, *chain.members], chain.members, strict=False):
        run = member.run
        if (run.is_tip, run.state == RunState.CONTINUED) != (member is chain.tip, member is not chain.tip):
            raise Violation(f"{run.id} is {run.state}, a tip or not: {run.is_tip}")
        if (run.chain_id, run.continued_from) != (root.id, None if before is None else before.run.id):
            raise Violation(f"{run.id} is in chain {run.chain_id}, after {run.continued_from}")
        if before is not None:
            _judge_heir(before, member)
            successor = before.program.successor
            if successor is None or _plain(successor[1].encode()) != _plain(member.events[0].payload):
                raise Violation(f"{run.id} was not started with what {before.run.id} has left it")
        found = journal.runs.find(run.id, tip=True)
        if found is None or found.id != chain.tip.run.id:
            raise Violation(f"the tip found by {run.id} is {found}")
    if journal.runs.outcomes([root.id])[root.id][0] != chain.tip.run.state:
        raise Violation("the outcome of a chain is not that of its tip")


def _judge_heir(before: Member, member: Member) -> None:
    """See that a request to cancel which a run has outlived has reached its successor."""
    told = [event.type for event in member.events if event.type in URGENT]
    if before.program.asked and not told:
        raise Violation(f"{before.run.id} was asked to cancel, its successor {member.run.id} was not")


def _plain(started: str | None) -> object:
    assert started is not None
    return msgspec.json.decode(msgspec.json.encode(Started.parse(started)))


def _judge_member(journal: Journal, member: Member) -> None:
    """See that an ended run's history is what happened, once each, and that nothing was left over."""
    run, events = member.run, member.events
    last = next(event for event in reversed(events) if event.type in TERMINAL)
    if not member.program.ended or run.state not in ENDED or STATES[last.type] != run.state:
        raise Violation(f"{run.id} is {run.state}; the replay of its history ends: {member.program.ended}")
    outcomes = [event.command for event in events if event.type in COMPLETIONS and event.command is not None]
    if len(outcomes) != len(set(outcomes)):
        raise Violation(f"an outcome was journaled twice: {outcomes}")
    if journal.tasks.of_run(run.id):
        raise Violation("tasks were left over")
    see_attributes(journal, run.id)


def _judge_reasons(journal: Journal, chain: Chain, outside: Outside) -> None:
    """See that nobody was asked to cancel, or ended, for nothing."""
    for member in chain.members:
        for event in member.events:
            if event.type == EventType.RUN_TERMINATED and member.run.chain_id in outside.terminated:
                continue
            if event.type in URGENT and not _has_reason(journal, outside, member.run, event, before=event.seq - 1):
                raise Violation(f"{event.type} of {member.run.id} without a reason")


def _judge_signals(chain: Chain, outside: Outside) -> None:
    """See that each signal was journaled once in the chain, or is noted, or was sent when nobody could take it."""
    root = chain.members[0].run.id
    found = sorted([*(str(event.payload) for event in chain.of(EventType.SIGNAL_RECEIVED)), *_undelivered(chain)])
    if chain.child is None:
        accepted = sorted(outside.signals.get(root, []))
        if found != accepted:
            raise Violation(f"of the signals {accepted}, {found} have arrived")
        return
    assert chain.parent is not None
    sent = sorted(
        f'"{told["value"]}"'
        for event in chain.parent[1].events
        if event.type == EventType.SIGNAL_SENT and event.payload is not None
        for told in [msgspec.json.decode(event.payload)]
        if told["to"] == root
    )
    # What was sent to it after it had been ended was dropped.
    complete = found == sent or (chain.tip.run.state != RunState.COMPLETED and set(found) <= set(sent))
    if not complete or len(set(found)) != len(found):
        raise Violation(f"of the signals {sent} from its parent, {found} have arrived")


def _undelivered(chain: Chain) -> Iterator[str]:
    for event in chain.of(EventType.MESSAGE_UNDELIVERABLE):
        assert event.payload is not None
        note = msgspec.json.decode(event.payload, type=dict[str, msgspec.Raw])
        if bytes(note["kind"]) == b'"signal_received"':
            yield bytes(note["payload"]).decode()


def _judge_parent(chain: Chain, parents: Chain, starter: Member, command: int) -> None:
    """See that a child is its parent's, was told of its end, and has told it its own."""
    spec, parent = chain.child, starter.run
    assert spec is not None
    for member in chain.members:
        run = member.run
        link = (run.parent_id, run.parent_chain_id, run.parent_command, run.parent_close)
        if link != (parent.id, parent.chain_id, command, spec.close):
            raise Violation(f"the parent of {run.id} is {link}, not {parent.id}, {command}")
    began = {key: value for key, value in starter.program.attributes.items() if key != "last"}
    if any(chain.tip.run.attributes.get(key) != value for key, value in began.items()):
        raise Violation(f"{chain.tip.run.id} has not inherited {began}: {chain.tip.run.attributes}")
    reported = [event for event in starter.events if event.type in CHILD_ENDS and event.command == command]
    if spec.awaited and not reported and starter.run.state in {RunState.COMPLETED, RunState.CONTINUED}:
        raise Violation(f"{parent.id} did not hear of its child {command}")
    told = [event for kind in URGENT for event in chain.of(kind)]
    if spec.is_hungry and not told:
        raise Violation(f"{chain.tip.run.id} ended although nobody told it to")
    if parents.tip.run.state not in ENDED:
        raise Violation(f"{parents.tip.run.id} has not ended")
