"""Here lives the audit of ``patched``: what open runs have answered, and which places in the code can be tidied up.

``if patched("id"): new else: old`` may become ``new`` once no open run takes the old branch, nor may take it. A run
that has recorded the id takes the new one for ever. One that has not may still be asked: it takes the new branch if it
has begun under this very code, or has not begun; one that has taken over the code on its way may have passed the place
before.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from continuum.client.access import Access
from continuum.declare.patches import patch_ids
from continuum.declare.registry import WorkflowDeclaration
from continuum.model.patches import PatchSite, PatchUse

__all__ = ["PatchAudit", "audit_patches"]


class PatchAudit(msgspec.Struct, frozen=True, kw_only=True):
    """One patch of one loaded version of a workflow. The numbers are of open runs.

    :ivar sites: where the code asks for it; empty if it does so no more, or not in the workflow's own module.
    :ivar taken: runs that have recorded it: they take the new branch.
    :ivar coming: runs that have not been asked, and will take the new branch.
    :ivar refused: runs that may have passed the place before there was a patch: they take the old branch.
    :ivar unknown: runs started with code of which no source is on record.
    """

    workflow: str
    version: int
    patch: str
    sites: tuple[PatchSite, ...]
    taken: int = 0
    coming: int = 0
    refused: int = 0
    unknown: int = 0

    @property
    def removable(self) -> bool:
        """Whether the old branch, and the question, can be deleted from the code."""
        return bool(self.sites) and not self.refused and not self.unknown


def audit_patches(access: Access) -> list[PatchAudit]:
    """Return all patches of the loaded workflows, by workflow, version and id."""
    access.import_modules()
    uses: dict[tuple[str, int], list[PatchUse]] = defaultdict(list)
    for use in access.journal.runs.patches():
        uses[use.workflow, use.version].append(use)
    archive = _Archive(access)
    found: list[PatchAudit] = []
    for flow in access.registry.workflows():
        alike = uses[flow.name, flow.version]
        sites: dict[str, list[PatchSite]] = defaultdict(list)
        for site in flow.patches:
            sites[site.patch].append(site)
        recorded = {patch for use in alike for patch in use.patches}
        archive.know(flow.name, flow.hash, sites)
        found += [
            _audit(flow, patch, sites=tuple(sites.get(patch, ())), uses=alike, archive=archive)
            for patch in sorted({*sites, *recorded})
        ]
    return found


def _audit(
    flow: WorkflowDeclaration,
    patch: str,
    *,
    sites: tuple[PatchSite, ...],
    uses: Iterable[PatchUse],
    archive: "_Archive",
) -> PatchAudit:
    counts = {"taken": 0, "coming": 0, "refused": 0, "unknown": 0}
    for use in uses:
        counts[_answer(patch, use, archive)] += use.runs
    return PatchAudit(workflow=flow.name, version=flow.version, patch=patch, sites=sites, **counts)


def _answer(patch: str, use: PatchUse, archive: "_Archive") -> str:
    if patch in use.patches:
        return "taken"
    if not use.began:
        return "coming"
    if use.adopted:
        return "refused"
    ids = archive.find(use.workflow, use.version_hash)
    if ids is None:
        return "unknown"
    return "coming" if patch in ids else "refused"


class _Archive:
    """The ids in the sources on record, each read once."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._known: dict[tuple[str, str], frozenset[str] | None] = {}

    def know(self, workflow: str, version_hash: str, ids: Iterable[str]) -> None:
        """Take in what the loaded code says itself."""
        self._known[workflow, version_hash] = frozenset(ids)

    def find(self, workflow: str, version_hash: str) -> frozenset[str] | None:
        """Return the ids that this code asks for; None if its source is not on record."""
        key = workflow, version_hash
        if key not in self._known:
            source = self._access.journal.workers.source_of(workflow, version_hash)
            self._known[key] = None if source is None else patch_ids(source)
        return self._known[key]
