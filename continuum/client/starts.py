"""Here lives the start of a run: everything is checked before anything is written."""

import difflib
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from continuum.client.access import Access
from continuum.client.checks import check_key, check_namespace
from continuum.client.joined import send_after_commit
from continuum.declare.registry import WorkflowDeclaration
from continuum.declare.workflows import Workflow
from continuum.errors import ConfigError, DeclarationError, JournalBusy, JournalUnavailable
from continuum.journal.requests import Hint, HintKind
from continuum.model.attributes import attributes_text
from continuum.model.codec import CODEC_VERSION, check_size
from continuum.model.ids import RunId, new_run_id
from continuum.model.names import shown
from continuum.model.runs import LOOP_VERSION, NewRun, Started

__all__ = ["RESERVED", "StartOptions", "find_workflow", "start_run"]

RESERVED: Final = frozenset({"idempotency_key", "namespace", "attributes", "connection"})
_SEED_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What a start may say beside the workflow's own arguments."""

    idempotency_key: str | None = None
    namespace: str | None = None
    attributes: Mapping[str, Any] | None = None
    connection: Any = None


def start_run(
    access: Access,
    flow: Workflow[..., Any] | str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    options: StartOptions,
) -> tuple[RunId, bool, WorkflowDeclaration]:
    """Write a run; return its id, whether it is new, and the workflow.

    A lost answer is asked for once more under the same run id, which changes nothing if the run was written. In the
    caller's own transaction that cannot be done: there the error goes to the caller, whose transaction is over.
    """
    workflow = find_workflow(access, flow) if isinstance(flow, str) else _checked(flow)
    _refuse_reserved(workflow)
    namespace = check_namespace(options.namespace) or access.settings.namespace
    key = check_key("idempotency_key", options.idempotency_key)
    attributes = attributes_text(options.attributes)
    payload = workflow.encode_input(args, dict(kwargs))
    check_size(payload, access.settings.max_payload_bytes, "input")
    started = Started(
        input=msgspec.Raw(payload.encode()),
        seed=os.urandom(_SEED_BYTES).hex(),
        loop_version=LOOP_VERSION,
        codec_version=CODEC_VERSION,
        max_payload=access.settings.max_payload_bytes,
        max_depth=access.settings.max_child_depth,
    )
    journal = access.journal
    run = NewRun(
        id=new_run_id(journal.clock.now_us()),
        namespace=namespace,
        workflow=workflow.name,
        version=workflow.version,
        version_hash=workflow.hash,
        started=started.encode(),
        attributes=attributes,
        idempotency_key=key,
    )
    hint = Hint(HintKind.START)
    if options.connection is not None:
        run_id, new = journal.runs.start(run, connection=options.connection)
        send_after_commit(options.connection, hint.kind, lambda: journal.hint(hint))
        return run_id, new, workflow
    access.hub.expect(run.id)
    try:
        run_id, new = journal.runs.start(run)
    except (JournalUnavailable, JournalBusy):
        run_id, new = journal.runs.start(run)
    if new:
        journal.hint(hint)
    return run_id, new, workflow


def find_workflow(access: Access, name: str) -> WorkflowDeclaration:
    """Return the loaded workflow of this name. Raises ``ConfigError`` with the near names."""
    workflow = access.registry.find_workflow(name)
    if workflow is None:
        access.import_modules()
        workflow = access.registry.find_workflow(name)
    if workflow is not None:
        return workflow
    known = sorted({known.name for known in access.registry.workflows()})
    near = difflib.get_close_matches(name, known, n=3)
    near += [full for full in known if full.rpartition(".")[2] == name and full not in near]
    advice = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    message = (
        f"no workflow named {name!r} is loaded in this process.{advice} Import the module that declares it, or name"
        f" that module in Continuum(modules=[…]). Loaded: {', '.join(known) or 'none'}."
    )
    raise ConfigError(message)


def _checked(flow: object) -> WorkflowDeclaration:
    if isinstance(flow, Workflow):
        return flow
    name = getattr(flow, "__qualname__", None) or shown(flow)
    message = f"start() wants a workflow or its name, not {name}: is the @workflow decorator missing?"
    raise DeclarationError(message)


def _refuse_reserved(workflow: WorkflowDeclaration) -> None:
    taken = _reserved_parameters(workflow.entry.function)
    if taken:
        name = taken[0]
        message = (
            f"workflow {workflow.name} has a parameter {name!r}, which start() takes for itself. Rename it in the"
            f" workflow, for example to {name}_."
        )
        raise DeclarationError(message)


@lru_cache(maxsize=1024)
def _reserved_parameters(function: Any) -> tuple[str, ...]:
    return tuple(sorted(RESERVED & inspect.signature(function).parameters.keys()))
