"""Here lives ``start_child``: a workflow started by another one, with options that a plain call cannot take."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, ParamSpec, TypeVar

from continuum.declare.annotations import signature_of
from continuum.declare.workflows import Workflow
from continuum.errors import DeclarationError
from continuum.model.attributes import attributes_text
from continuum.model.runs import ParentClose
from continuum.replay.effects.base import current_loop
from continuum.replay.effects.child import ChildHandle

__all__ = ["start_child"]

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS: Final = frozenset({"key", "on_parent_close", "attributes"})


def start_child(
    flow: Workflow[P, R],
    /,
    *args: Any,
    key: str | None = None,
    on_parent_close: ParentClose | str = ParentClose.CANCEL,
    attributes: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> ChildHandle[R]:
    """Start a workflow as a child of the run that is calling, and return its handle: await it for the result.

    ``flow(...)`` does the same without options. The child has the run's namespace and attributes, and runs wherever a
    dispatcher has its code, whether it is awaited or not.

    :param key: a label of its own (1 to 200 characters), recorded with it: no two children of a run may share one.
    :param on_parent_close: what becomes of it if this run ends first: ``"cancel"``, ``"terminate"`` or ``"abandon"``.
    :param attributes: JSON to search by, merged over what it inherits.

    Nothing has been started if this raises: ``TypeError`` for arguments the workflow does not take, ``ValueError`` or
    ``TypeError`` for a key or policy that is not valid, ``CodecError`` for what cannot be stored,
    ``ChildDepthExceeded``, ``DeclarationError`` for what is no workflow, or takes an option's name for itself,
    ``NotInWorkflow``.
    """
    current_loop("start_child()")
    if not isinstance(flow, Workflow):
        name = getattr(flow, "__qualname__", None) or repr(flow)
        message = f"start_child() wants a workflow, not {name}: is the @workflow decorator missing?"
        raise DeclarationError(message)
    taken = _taken(flow)
    if taken:
        message = (
            f"workflow {flow.name} has a parameter {taken!r}, which start_child() takes for itself. Call"
            f" {flow.__name__}(...) if you need no options, or rename the parameter, for example to {taken}_."
        )
        raise DeclarationError(message)
    try:
        close = ParentClose(on_parent_close)
    except ValueError:
        known = ", ".join(repr(policy.value) for policy in ParentClose)
        message = f"on_parent_close={on_parent_close!r} is not valid: write one of {known}."
        raise ValueError(message) from None
    return flow.start_as_child(args, kwargs, key=key, on_parent_close=close, attributes=attributes_text(attributes))


@lru_cache(maxsize=1024)
def _taken(flow: Workflow[..., Any]) -> str | None:
    return min(_OPTIONS & signature_of(flow.function).parameters.keys(), default=None)
