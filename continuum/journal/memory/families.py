"""Here lives what a commit of the memory wing does to other runs: children, successors, and letters to both.

# Invariant: whom a commit tells is decided before anything of its batch is written, as one statement of the Postgres
wing sees it: a child that a decision orders is told by its own letters, never by the cascade of that decision.
# Invariant: a cascade goes by the parent's chain and reaches a child's chain, whichever runs stand for them.
"""

from collections.abc import Iterable, Iterator

import msgspec

from continuum.errors import JournalError
from continuum.journal.memory.rows import RunRow, check_json, check_text, read_attributes
from continuum.journal.memory.store import Store
from continuum.model.decisions import Cascade, ChildOrder, Commit, Report, Successor
from continuum.model.events import EventType
from continuum.model.failures import closed_with
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import ParentClose, ParentLink

__all__ = ["Families", "Told", "check_reach"]


class Told(msgspec.Struct, frozen=True):
    """A message about to be posted; its fields are those of the inbox."""

    chain_id: ChainId
    only: RunId | None
    kind: EventType
    command: int | None = None
    name: str | None = None
    payload: str | None = None


class Families:
    """What runs of a store do to each other."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check_new(self, commits: Iterable[Commit]) -> None:
        """Refuse a child or successor that exists: ids derive from what starts a run, so this would be a bug."""
        for commit in commits:
            decision = commit.decision
            successor = () if decision.successor is None else (decision.successor.id,)
            for run_id in (*(order.id for order in decision.children), *successor):
                if run_id in self._store.runs:
                    message = f"run {commit.run_id} wants to start run {run_id}, which exists"
                    raise JournalError(message)

    # -------------------------------------------------------------- letters

    def tells(self, run: RunRow, commit: Commit) -> Iterator[Told]:
        """Return what the commit has to tell other chains, or its own."""
        decision = commit.decision
        newborn = {str(order.id) for order in decision.children}
        for letter in decision.letters:
            if letter.chain_id in newborn or self._lives(letter.chain_id):
                yield Told(letter.chain_id, None, letter.kind, None, letter.name, letter.payload)
        if commit.report is not None:
            yield from self.report(commit.report)
        if decision.cascade is not None:
            yield from self.cascade(run, decision.cascade)

    def report(self, report: Report) -> Iterator[Told]:
        """Return what a parent is told, if it still listens."""
        parent = self._store.runs.get(report.parent_id)
        if parent is not None and self.listens(parent):
            yield Told(parent.chain_id, parent.id, report.kind, report.command, None, report.payload)

    def listens(self, parent: RunRow) -> bool:
        """Whether anybody would read what a child reports."""
        return parent.is_tip and not parent.ended

    def cascade(self, run: RunRow, cascade: Cascade) -> Iterator[Told]:
        """Return what the open children of the run's chain are told, by chain id."""
        why = closed_with(run.id).encode()
        for chain_id in sorted(self.children_of(run)):
            child = self._store.tips[chain_id]
            if child.ended or child.parent_close == ParentClose.ABANDON:
                continue
            if cascade == Cascade.CLOSE and child.parent_close == ParentClose.TERMINATE:
                yield Told(chain_id, None, EventType.RUN_TERMINATED, payload=why)
            else:
                yield Told(chain_id, None, EventType.CANCEL_REQUESTED)

    def children_of(self, run: RunRow) -> set[ChainId]:
        """Return the chains that the run's chain has started."""
        return self._store.children.get(run.chain_id, set())

    def tell(self, told: Iterable[Told]) -> None:
        """Post the messages."""
        for one in told:
            self._store.post(
                one.chain_id, one.kind, only=one.only, command=one.command, name=one.name, payload=one.payload
            )

    def _lives(self, chain_id: ChainId) -> bool:
        tip = self._store.tips.get(chain_id)
        return tip is not None and not tip.ended

    # -------------------------------------------------------------- rows

    def write(self, run: RunRow, commit: Commit, now: int) -> None:
        """Write the attributes, the children and the successor of a run whose own row is written."""
        decision = commit.decision
        if decision.attributes is not None:
            run.attributes = run.attributes | read_attributes("the attributes", decision.attributes)
        for order in decision.children:
            self.bear(run, order, now)
        if decision.successor is not None:
            self.succeed(run, decision.successor, commit.successor_version, now)

    def bear(self, parent: RunRow, order: ChildOrder, now: int) -> None:
        """Insert a child."""
        own = {} if order.attributes is None else read_attributes("the attributes", order.attributes)
        row = RunRow(
            id=order.id,
            chain_id=ChainId(order.id),
            namespace=parent.namespace,
            workflow=order.workflow,
            version=order.version,
            version_hash=order.version_hash,
            created_at=now,
            wake_at=None,
            attributes=parent.attributes | own,
            trace_context=parent.trace_context,
            parent_id=parent.id,
            parent_chain_id=parent.chain_id,
            parent_command=order.command,
            parent_close=order.close,
        )
        self._store.insert(row, order.started)
        self._store.children.setdefault(parent.chain_id, set()).add(row.chain_id)

    def succeed(self, run: RunRow, successor: Successor, version: tuple[int, str] | None, now: int) -> None:
        """Insert the run that goes on, which is the tip from now on."""
        number, version_hash = version or (run.version, run.version_hash)
        run.is_tip = False
        row = RunRow(
            id=successor.id,
            chain_id=run.chain_id,
            namespace=run.namespace,
            workflow=run.workflow,
            version=number,
            version_hash=version_hash,
            created_at=now,
            wake_at=None,
            attributes=dict(run.attributes),
            trace_context=run.trace_context,
            parent_id=run.parent_id,
            parent_chain_id=run.parent_chain_id,
            parent_command=run.parent_command,
            parent_close=run.parent_close,
            continued_from=run.id,
        )
        self._store.insert(row, successor.started)

    def link_of(self, run: RunRow) -> ParentLink | None:
        """Return who started the run's chain as a child."""
        if run.parent_id is None or run.parent_command is None:
            return None
        return ParentLink(run.parent_id, run.parent_command)


def check_reach(commit: Commit) -> None:
    """Refuse what no journal can hold of a commit's reach."""
    decision, whose = commit.decision, f"of run {commit.run_id}"
    for order in decision.children:
        where = f"child {order.command} {whose}"
        check_text(f"the workflow of {where}", order.workflow)
        check_text(f"the version of {where}", order.version_hash)
        check_json(f"run_started of {where}", order.started)
        if order.attributes is not None:
            read_attributes(f"the attributes of {where}", order.attributes)
    for letter in decision.letters:
        check_text(f"the name of a letter {whose}", letter.name)
        check_json(f"the payload of a letter {whose}", letter.payload)
    if decision.attributes is not None:
        read_attributes(f"the attributes {whose}", decision.attributes)
    if decision.successor is not None:
        check_json(f"run_started of the successor {whose}", decision.successor.started)
    if commit.report is not None:
        check_json(f"the report {whose}", commit.report.payload)
