"""Here lives finding out what a run takes: the contract of the version it is pinned to.

It is stored with that version by the first dispatcher that loads it, and asked for anew with every signal: the tip of
the chain may have changed, and with it the contract. Until a dispatcher has stored it, the declaration in this process
counts, if it is of the very same code.
"""

from functools import lru_cache
from typing import Any

from continuum.client.access import Access
from continuum.errors import JournalBusy, JournalUnavailable
from continuum.model.contracts import Contract
from continuum.model.messages import NewMessage

__all__ = ["find_contract"]

_parse = lru_cache(maxsize=256)(Contract.parse)


def find_contract(
    access: Access, message: NewMessage, *, connection: Any = None, workflow: str | None = None
) -> Contract | None:
    """Return the contract that the addressee of a message is bound to, None for an open inbox.

    :param workflow: the run's workflow, where it is known.

    Raises ``RunNotFound``.
    """
    text = _stored(access, message, connection)
    if text is None and _may_be_declared(access, workflow):
        text = _declared(access, message, workflow)
    return None if text is None else _parse(text)


def _stored(access: Access, message: NewMessage, connection: Any) -> str | None:
    runs = access.journal.runs
    if connection is not None:
        return runs.contract(message.run_id, namespace=message.namespace, connection=connection)
    try:
        return runs.contract(message.run_id, namespace=message.namespace)
    except (JournalBusy, JournalUnavailable):
        return runs.contract(message.run_id, namespace=message.namespace)


def _may_be_declared(access: Access, workflow: str | None) -> bool:
    """Whether code loaded here may know a contract that is not stored: only then is it worth a look at the run."""
    return any(
        flow.contract is not None and (workflow is None or flow.name == workflow)
        for flow in access.registry.workflows()
    )


def _declared(access: Access, message: NewMessage, workflow: str | None) -> str | None:
    run = access.journal.runs.find(message.run_id, namespace=message.namespace, tip=True)
    if run is None:
        # Started in the caller's own transaction, by this very process.
        flow = None if workflow is None else access.registry.find_workflow(workflow)
    else:
        flow = access.registry.find_workflow(run.workflow, run.version)
        if flow is not None and flow.hash != run.version_hash:
            flow = None
    return None if flow is None else flow.contract
