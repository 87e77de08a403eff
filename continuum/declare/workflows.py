"""Here lives ``@workflow``: a straight-line ``async def`` whose runs survive their process."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, ClassVar, Final, Generic, ParamSpec, Protocol, TypeVar, overload

from continuum.declare.annotations import hints_of, signature_of
from continuum.declare.fingerprints import Fingerprint
from continuum.declare.names import check_function, check_name, location_of, place_of
from continuum.declare.registry import REGISTRY
from continuum.errors import DeclarationError
from continuum.model.codec import ArgumentsCodec, TypedCodec, codec_for
from continuum.model.tags import TAG
from continuum.model.typed import parse
from continuum.replay.effects.base import in_workflow
from continuum.replay.entry import Entry

__all__ = ["Workflow", "workflow"]

P = ParamSpec("P")
R = TypeVar("R")

_MAX_VERSION: Final = 2**31 - 1  # an integer column
_MICROSECOND: Final = timedelta(microseconds=1)


class Workflow(Generic[P, R]):
    """A declared workflow. ``Continuum.start`` runs it durably; a plain call returns the function's coroutine.

    That makes workflow code testable as it is: under plain asyncio, with activities that simply run.

    :ivar name: its name in histories and searches: the function's qualified name, unless ``name=`` says otherwise.
    :ivar version: the declared version.
    :ivar function: the function itself.
    :ivar retention: how long ended runs are kept; None for ever.
    """

    is_declaration: ClassVar = True  # fingerprints do not follow it

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        *,
        name: str,
        version: int,
        retention: timedelta | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.name = name
        self.version = version
        self.function = function
        self.retention = retention
        self.place = place_of(function)
        self.location = location_of(function)
        # Now: the file may be edited while this process runs the old code.
        self._fingerprint = Fingerprint(function)

    def __repr__(self) -> str:
        return f"<workflow {self.name} version {self.version}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the function's coroutine (outside of workflows). Raises ``DeclarationError`` in a workflow."""
        if in_workflow():
            raise DeclarationError(
                f"{self.name} is a workflow: this release has no child workflows (a later one brings start_child())."
                f" To make its code a part of this run, write it as a plain async def and await that"
                f" ({self.__name__}.function is one); to run it on its own, start it from an activity."
            )
        return self.function(*args, **kwargs)

    __name__: str

    @property
    def hash(self) -> str:
        """Fingerprint of the code: of its meaning, not of its formatting, comments or docstrings."""
        return self._fingerprint.hash

    @property
    def source(self) -> str:
        """The source text, with that of the helpers in its module; a note where there is none."""
        return self._fingerprint.source

    @functools.cached_property
    def entry(self) -> Entry:
        """What replay needs to run it."""
        return Entry(
            name=self.name,
            version=self.version,
            hash=self.hash,
            function=self.function,
            decode_input=self._arguments.decode,
            encode_result=self._encode_result,
            retention_us=None if self.retention is None else self.retention // _MICROSECOND,
        )

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the payload of a start. Raises ``TypeError`` as the call would, ``CodecError`` with the path."""
        bound, named = self._arguments.bind(args, kwargs)
        return self._arguments.encode(bound, named, where="input")

    def read_input(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a start that a person wrote as JSON (as `encode_input` shapes it).

        Raises ``TypeError`` as the call would, and if a value cannot be what its parameter's hint says.
        """
        if TAG in payload:
            return self._arguments.decode(payload)
        call = parse(payload)
        args, kwargs = (call, {}) if isinstance(call, list) else (call["args"], call["kwargs"])
        return self._arguments.from_plain(tuple(args), kwargs)

    def decode_result(self, payload: str) -> Any:
        """Return the value a run ended with. Raises ``CodecError``."""
        return self._result.decode(payload)

    def _encode_result(self, value: Any) -> str:
        return self._result.encode(value, where="result")

    # Built when first used: an annotation may name what is defined later.
    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return hints_of(self.function)

    @functools.cached_property
    def _arguments(self) -> ArgumentsCodec:
        return ArgumentsCodec.for_signature(signature_of(self.function), self._hints, name=self.name)

    @functools.cached_property
    def _result(self) -> TypedCodec:
        return codec_for(self._hints.get("return", Any))


class WorkflowDecorator(Protocol):
    """What ``@workflow(...)`` with options decorates."""

    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(*, version: int = 1, name: str | None = None, retention: timedelta | None = None) -> WorkflowDecorator: ...
def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    version: int = 1,
    name: str | None = None,
    retention: timedelta | None = None,
) -> Any:
    """Declare an ``async def`` as a workflow.

    :param version: raise it when a change must not touch runs that are under way, and keep the old code declared under
        its old number (give both the same ``name``) until those have ended.
    :param name: the name in histories and searches; default the function's qualified name.
    :param retention: how long ended runs are kept; None for ever.

    Raises ``DeclarationError`` on what cannot work, ``DuplicateName`` if other code has the name and version.
    """
    declare = functools.partial(_declare, version=version, name=name, retention=retention)
    return declare if function is None else declare(function)


def _declare(
    function: Callable[..., Any], /, *, version: int, name: str | None, retention: timedelta | None
) -> Workflow[..., Any]:
    check_function(function, what="workflow")
    if not inspect.iscoroutinefunction(function):
        raise DeclarationError(f"@workflow needs an async def; {function.__qualname__} is a def.")
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= _MAX_VERSION:
        raise DeclarationError(f"version={version!r} is not valid: write a whole number of at least 1.")
    if retention is not None and (not isinstance(retention, timedelta) or retention <= timedelta(0)):
        raise DeclarationError(f"retention={retention!r} is not valid: write None or a timedelta above zero.")
    declared: Workflow[..., Any] = Workflow(
        function,
        name=check_name(function.__qualname__ if name is None else name, what="name"),
        version=version,
        retention=retention,
    )
    REGISTRY.register_workflow(declared)
    return declared
