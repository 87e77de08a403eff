"""Here lives how the part of a group commit is written down by which runs reach out (see `commit_family_texts`)."""

from collections.abc import Sequence

from continuum.journal.postgres.commit_family_texts import (
    ATTRIBUTES_FLAG,
    CASCADE_CANCEL,
    CASCADE_CLOSE,
    CONTINUED_FLAG,
    LETTER,
    LETTER_TO_NEWBORN,
    REPORT,
)
from continuum.journal.postgres.literals import ids, integers, sparse, texts, words
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.wide import NONE
from continuum.model.decisions import Cascade, ChildOrder, Commit
from continuum.model.failures import closed_with

__all__ = ["Family", "family_flags"]


def family_flags(commit: Commit) -> int:
    """Return the flags of a run that only the text for families knows."""
    decision = commit.decision
    if decision.successor is not None:
        return CONTINUED_FLAG | ATTRIBUTES_FLAG
    return 0 if decision.attributes is None else ATTRIBUTES_FLAG


class Family:
    """Those columns of a batch, filled run by run."""

    def __init__(self) -> None:
        self._children: list[ChildOrder] = []
        self._child_numbers: list[int] = []
        self._letter_numbers: list[int] = []
        self._recipients: list[str] = []
        self._kinds: list[str] = []
        self._names: list[str | None] = []
        self._payloads: list[str | None] = []
        # By place: they are few, and found by subscript.
        self._attributes: list[str | None] = []
        self._successors: list[str | None] = []
        self._hashes: list[str | None] = []
        self._versions: list[int | None] = []
        self._started: list[str | None] = []

    def add(self, place: int, commit: Commit) -> None:
        """Take in one run, reach out or not."""
        decision = commit.decision
        self._attributes.append(decision.attributes)
        self._add_successor(commit)
        for child in decision.children:
            self._child_numbers += (place, child.command, child.version)
            self._children.append(child)
        newborn = {child.id for child in decision.children} if decision.letters else ()
        for letter in decision.letters:
            what = LETTER_TO_NEWBORN if letter.chain_id in newborn else LETTER
            self._tell(place, what, letter.chain_id, letter.kind, name=letter.name, payload=letter.payload)
        report = commit.report
        if report is not None:
            self._tell(place, REPORT, report.parent_id, report.kind, command=report.command, payload=report.payload)
        match decision.cascade:
            case Cascade.CANCEL:
                self._tell(place, CASCADE_CANCEL, commit.chain_id)
            case Cascade.CLOSE:
                self._tell(place, CASCADE_CLOSE, commit.chain_id, payload=closed_with(commit.run_id).encode())

    def _tell(
        self,
        place: int,
        what: int,
        recipient: str,
        kind: str = "",
        *,
        command: int = NONE,
        name: str | None = None,
        payload: str | None = None,
    ) -> None:
        self._letter_numbers += (place, what, command)
        self._recipients.append(recipient)
        self._kinds.append(kind)
        self._names.append(name)
        self._payloads.append(payload)

    def _add_successor(self, commit: Commit) -> None:
        successor = commit.decision.successor
        version, version_hash = commit.successor_version or (None, None)
        self._successors.append(None if successor is None else successor.id)
        self._versions.append(None if successor is None else version)
        self._hashes.append(None if successor is None else version_hash)
        self._started.append(None if successor is None else successor.started)

    def columns(self, payloads: Payloads) -> Sequence[str]:
        """Return the arguments, in their order."""
        children = self._children
        return (
            integers(self._child_numbers),
            ids([child.id for child in children]),
            texts([child.workflow for child in children]),
            texts([child.version_hash for child in children]),
            words([child.close for child in children]),
            texts(payloads.wrap_all([child.started for child in children])),
            sparse([child.attributes for child in children]),
            integers(self._letter_numbers),
            ids(self._recipients),
            texts(self._kinds),
            sparse(self._names),
            sparse(payloads.wrap_all(self._payloads)),
            sparse(self._attributes),
            sparse(self._successors),
            sparse(self._hashes),
            integers(self._versions),
            sparse(payloads.wrap_all(self._started)),
        )
