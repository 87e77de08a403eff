"""Here lives what runs in memory do to each other, with one rule of the protocol taken away."""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from continuum.journal.memory.families import Families, Told
from continuum.journal.memory.rows import RunRow
from continuum.journal.memory.runs import MemoryRuns
from continuum.model.decisions import Cascade, Commit, Decision, Report, Successor
from continuum.model.events import EventType
from continuum.model.ids import ChainId
from continuum.model.runs import ParentClose, RunState

__all__ = ["FamilyRule", "broken_families", "broken_runs"]


class FamilyRule(StrEnum):
    """A rule that binds journals in what a commit or a termination does to other runs, and can be taken away."""

    CHILD_FENCE = "a commit that is refused starts no child"
    LETTER_FENCE = "nor posts it letters"
    REPORT_FENCE = "nor reports"
    CASCADE_FENCE = "nor cascades"
    SUCCESSOR_FENCE = "nor starts a successor"
    ATTRIBUTES_FENCE = "nor sets attributes"
    PARENT_CHAIN = "a cascade goes by the parent's chain, not by the run"
    CHILD_CHAIN = "a cascade reaches a child's chain, not its first run"
    POLICY = "a cascade passes by those that are to be abandoned"
    CLOSE_KIND = "who is to be terminated with its parent is told so, and not asked to cancel"
    CLOSE_ENDS = "who is to be cancelled with its parent is asked, and not terminated"
    TIP = "a run that continues is no tip any more"
    MAIL = "unread mail is the successor's"
    LINK = "the successor of a child has its parent"
    INHERITED = "a child has what its parent sets in the same decision"
    HEIRLOOMS = "a successor has the attributes of the run before it"
    NEWBORN = "children of the same decision get their letters"
    REPORTED = "a report reaches a parent that goes on"
    TERMINATION_TOLD = "a termination tells the parent"
    TERMINATION_CASCADE = "a termination closes the children"


def broken_families(broken: frozenset[str]) -> type[Families]:
    """Return what runs do to each other without these rules."""

    class BrokenFamilies(Families):
        def tells(self, run: RunRow, commit: Commit) -> Iterator[Told]:
            newborn = {str(order.id) for order in commit.decision.children}
            for one in super().tells(run, commit):
                if FamilyRule.NEWBORN not in broken or one.chain_id not in newborn:
                    yield one

        def listens(self, parent: RunRow) -> bool:
            return FamilyRule.REPORTED not in broken and super().listens(parent)

        def cascade(self, run: RunRow, cascade: Cascade) -> Iterator[Told]:
            for one in super().cascade(run, cascade):
                close = self._store.tips[one.chain_id].parent_close
                if FamilyRule.CLOSE_KIND in broken and close == ParentClose.TERMINATE:
                    yield Told(one.chain_id, None, EventType.CANCEL_REQUESTED)
                elif FamilyRule.CLOSE_ENDS in broken and cascade == Cascade.CLOSE:
                    yield Told(one.chain_id, None, EventType.RUN_TERMINATED)
                else:
                    yield one
            if FamilyRule.POLICY in broken:
                for chain_id in sorted(self.children_of(run)):
                    if self._store.tips[chain_id].parent_close == ParentClose.ABANDON:
                        yield Told(chain_id, None, EventType.CANCEL_REQUESTED)

        def children_of(self, run: RunRow) -> set[ChainId]:
            found = super().children_of(run)
            if FamilyRule.PARENT_CHAIN in broken:
                found = {chain for chain in found if self._store.tips[chain].parent_id == run.id}
            if FamilyRule.CHILD_CHAIN in broken:
                found = {chain for chain in found if self._store.tips[chain].continued_from is None}
            return found

        def write(self, run: RunRow, commit: Commit, now: int) -> None:
            before = run.attributes
            super().write(run, commit, now)
            if FamilyRule.INHERITED in broken:
                for order in commit.decision.children:
                    self._store.runs[order.id].attributes = dict(before)

        def succeed(self, run: RunRow, successor: Successor, version: tuple[int, str] | None, now: int) -> None:
            super().succeed(run, successor, version, now)
            row = self._store.runs[successor.id]
            run.is_tip = FamilyRule.TIP in broken
            if FamilyRule.MAIL in broken:
                self._store.inbox.pop(run.chain_id, None)
            if FamilyRule.LINK in broken:
                row.parent_id = row.parent_command = None
            if FamilyRule.HEIRLOOMS in broken:
                row.attributes = {}

        def reach_of_refused(self, run: RunRow, commit: Commit) -> None:
            """Do what a commit that was refused asks of other runs, as far as the rules allow."""
            decision = commit.decision
            allowed = Decision(
                events=[],
                orders=[],
                cancelled=[],
                state=RunState.RUNNING,
                wake_at=None,
                logs=[],
                children=[one for one in decision.children if one.id not in self._store.runs]
                if FamilyRule.CHILD_FENCE in broken
                else (),
                letters=decision.letters if FamilyRule.LETTER_FENCE in broken else (),
                cascade=decision.cascade if FamilyRule.CASCADE_FENCE in broken else None,
                attributes=decision.attributes if FamilyRule.ATTRIBUTES_FENCE in broken else None,
                successor=decision.successor if FamilyRule.SUCCESSOR_FENCE in broken else None,
            )
            if allowed.successor is not None and allowed.successor.id in self._store.runs:
                return
            report = commit.report if FamilyRule.REPORT_FENCE in broken else None
            part = msgspec.structs.replace(commit, decision=allowed, report=report)
            told = list(self.tells(run, part))
            self.write(run, part, self._store.now())
            self.tell(told)

    return BrokenFamilies


def broken_runs(broken: frozenset[str]) -> type[MemoryRuns]:
    """Return what clients ask without these rules."""

    class TerminatingFamilies(broken_families(broken)):
        def report(self, report: Report) -> Iterator[Told]:
            return iter(()) if FamilyRule.TERMINATION_TOLD in broken else super().report(report)

        def cascade(self, run: RunRow, cascade: Cascade) -> Iterator[Told]:
            return iter(()) if FamilyRule.TERMINATION_CASCADE in broken else super().cascade(run, cascade)

    class BrokenRuns(MemoryRuns):
        families_type = TerminatingFamilies

    return BrokenRuns
