"""Here lives what is known of code: which versions of workflows there are, who has them, and which runs need them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from continuum.client.access import Access
from continuum.client.lookups import get_run
from continuum.client.timeline import moment
from continuum.declare.registry import Registry
from continuum.model.leases import RecordedVersion, WorkerRecord, read_mark

__all__ = [
    "Standing",
    "VersionCheck",
    "VersionStatus",
    "check_versions",
    "list_versions",
    "read_source",
    "retire_versions",
]


class Standing(StrEnum):
    """How code stands to the runs that are open, and to the dispatchers that are alive."""

    LOADED = "loaded"
    """A living dispatcher has just this code loaded, or this process has."""
    REPLACED = "replaced"
    """Open runs are pinned to it, and only other code of its version is loaded: that adopts them, if it can."""
    MISSING = "missing"
    """Open runs are pinned to it, and no code of its version is loaded: they wait."""
    RETIRABLE = "retirable"
    """Nothing is left of it but the record, and other code of its workflow is loaded."""
    IDLE = "idle"
    """Nothing is left of it but the record, and nobody has its workflow loaded; another app may have it tomorrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """One piece of code that runs have been, or will be, pinned to.

    :ivar first_seen: when a dispatcher first had it loaded; None if none ever had.
    :ivar open_runs: runs pinned to it that have not ended.
    :ivar stuck_runs: those of them that are stuck.
    :ivar dispatchers: how many living dispatchers have just this code loaded; not those that are draining.
    :ivar loaded_here: whether this process has.
    """

    workflow: str
    version: int
    hash: str
    first_seen: datetime | None
    open_runs: int
    stuck_runs: int
    dispatchers: int
    loaded_here: bool
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCheck:
    """Whether what is loaded in this process can go on with all runs that are open.

    :ivar strict: whether only the very code counts, or any of the same version.
    :ivar required: how many pieces of code, or versions if not strict, open runs are pinned to.
    :ivar loaded: how many of them are loaded here.
    :ivar missing: the code of the others, with how many runs wait for each.
    """

    strict: bool
    required: int
    loaded: int
    missing: tuple[VersionStatus, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


_Code = tuple[str, int, str]


def list_versions(access: Access) -> list[VersionStatus]:
    """Return all code that is on record, loaded, or needed by open runs; by workflow and version, the oldest first."""
    access.import_modules()
    workers = access.journal.workers
    return _judge(workers.list_versions(), workers.list_workers(), access.registry)


def check_versions(access: Access, *, strict: bool = False) -> VersionCheck:
    """Return whether this process's code can go on with all open runs; ``strict``: with the code they are pinned to."""
    needed = [version for version in list_versions(access) if version.open_runs]
    here = _loaded_in(access.registry)
    versions = {(name, version) for name, version, _ in here}
    missing = tuple(
        version
        for version in needed
        if not (version.loaded_here if strict else (version.workflow, version.version) in versions)
    )
    required, absent = _counted(needed, strict=strict), _counted(missing, strict=strict)
    return VersionCheck(strict=strict, required=required, loaded=required - absent, missing=missing)


def retire_versions(access: Access, *, execute: bool = False) -> list[VersionStatus]:
    """Return the code whose record nothing needs; with ``execute`` that of which it was deleted."""
    found = [version for version in list_versions(access) if version.standing is Standing.RETIRABLE]
    if not execute:
        return found
    # What has been started or loaded meanwhile stays: the statement looks again.
    gone = set(access.journal.workers.retire_versions([(version.workflow, version.hash) for version in found]))
    return [version for version in found if (version.workflow, version.hash) in gone]


def read_source(access: Access, run_id: str, *, namespace: str | None = None) -> str | None:
    """Return the source text of the code that a run is pinned to, None if it is not on record."""
    run = get_run(access, run_id, namespace=namespace)
    return access.journal.workers.source_of(run.workflow, run.version_hash)


def _counted(versions: Iterable[VersionStatus], *, strict: bool) -> int:
    return len({(one.workflow, one.version, one.hash if strict else "") for one in versions})


def _loaded_in(registry: Registry) -> set[_Code]:
    return {(flow.name, flow.version, flow.hash) for flow in registry.workflows()}


def _judge(
    recorded: Iterable[RecordedVersion], workers: Iterable[WorkerRecord], registry: Registry
) -> list[VersionStatus]:
    here = _loaded_in(registry)
    living = [worker for worker in workers if worker.alive]
    held = Counter(code for worker in living for code in set(filter(None, map(read_mark, worker.version_hashes))))
    loaded = {*held, *here}
    versions = {(name, version) for name, version, _ in loaded}
    names = {name for name, _ in versions}
    known = {(one.workflow, one.version, one.hash): one for one in recorded}
    # One hash is on record under one version; the same code under another number is loaded all the same.
    for code in sorted(loaded - known.keys()):
        known[code] = RecordedVersion(*code, None)

    def standing(one: RecordedVersion) -> Standing:
        if (one.workflow, one.version, one.hash) in loaded:
            return Standing.LOADED
        if one.open_runs:
            return Standing.REPLACED if (one.workflow, one.version) in versions else Standing.MISSING
        if any((name, digest) == (one.workflow, one.hash) for name, _, digest in loaded):
            return Standing.LOADED
        return Standing.RETIRABLE if one.workflow in names else Standing.IDLE

    return [
        VersionStatus(
            workflow=one.workflow,
            version=one.version,
            hash=one.hash,
            first_seen=None if one.first_seen_at is None else moment(one.first_seen_at),
            open_runs=one.open_runs,
            stuck_runs=one.stuck_runs,
            dispatchers=held[code],
            loaded_here=code in here,
            standing=standing(one),
        )
        for code, one in sorted(known.items(), key=lambda item: (*item[0][:2], item[1].first_seen_at or 0, item[0][2]))
    ]
