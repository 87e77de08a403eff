"""Here lives what callers put on runs and read off them beside their histories: attributes and published values."""

from collections.abc import Mapping
from typing import Any

from continuum.client.access import Access
from continuum.client.checks import check_namespace, check_run_id
from continuum.errors import CodecError, JournalBusy, JournalUnavailable
from continuum.model.attributes import attributes_text
from continuum.model.codec import decode

__all__ = ["read_progress", "set_run_attributes"]


def set_run_attributes(access: Access, run_id: str, attributes: Mapping[str, Any], *, namespace: str | None) -> None:
    """Merge attributes, key by key, into those of the tip of the run's chain."""
    text = attributes_text(attributes)
    if text is None:
        message = "attributes must be a dict such as {'customer': 7}, not NoneType"
        raise CodecError(message, path="attributes")
    known, namespace = check_run_id(run_id), check_namespace(namespace)
    runs = access.journal.runs
    try:
        runs.set_attributes(known, text, namespace=namespace)
    except (JournalUnavailable, JournalBusy):
        # Crash: the answer was lost, the merge perhaps not; the same keys get the same values once more.
        runs.set_attributes(known, text, namespace=namespace)


def read_progress(access: Access, run_id: str, *, namespace: str | None) -> dict[str, Any]:
    """Return the last value that the tip of the run's chain has published under each name."""
    known, namespace = check_run_id(run_id), check_namespace(namespace)
    published = access.journal.runs.published(known, namespace=namespace)
    return {name: None if event.payload is None else decode(event.payload) for name, event in sorted(published.items())}
