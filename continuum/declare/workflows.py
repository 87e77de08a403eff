"""Here lives ``@workflow``: a straight-line ``async def`` whose runs survive their process."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, ClassVar, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from continuum.declare.annotations import hints_of, signature_of
from continuum.declare.checks import Check
from continuum.declare.fingerprints import Fingerprint
from continuum.declare.names import check_function, check_name, location_of, place_of
from continuum.declare.patches import find_patch_sites
from continuum.declare.registry import REGISTRY
from continuum.declare.signals import Signal, check_signals, contract_of
from continuum.determinism.findings import Finding
from continuum.determinism.policy import Policy
from continuum.errors import DeclarationError
from continuum.model.codec import ArgumentsCodec, TypedCodec, codec_for
from continuum.model.contracts import Contract
from continuum.model.patches import PatchSite
from continuum.model.runs import ParentClose
from continuum.model.tags import TAG
from continuum.model.typed import parse
from continuum.replay.effects.base import in_workflow
from continuum.replay.effects.child import ChildHandle, start
from continuum.replay.entry import Entry

__all__ = ["Workflow", "workflow"]

P = ParamSpec("P")
R = TypeVar("R")

_MAX_VERSION: Final = 2**31 - 1  # an integer column
_MICROSECOND: Final = timedelta(microseconds=1)


class Workflow(Generic[P, R]):
    """A declared workflow. ``Continuum.start`` runs it durably; calling it in a workflow starts it as a child.

    A plain call elsewhere returns the function's coroutine. That makes workflow code testable as it is: under plain
    asyncio, with activities and children that simply run.

    :ivar name: its name in histories and searches: the function's qualified name, unless ``name=`` says otherwise.
    :ivar version: the declared version.
    :ivar function: the function itself.
    :ivar retention: how long ended runs are kept; None for ever.
    :ivar signals: what it takes; None for any signal with any value.
    :ivar snapshots: after how many events its runs get a snapshot; False for never, None for what the instance says.
    """

    is_declaration: ClassVar = True  # fingerprints do not follow it

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        *,
        name: str,
        version: int,
        retention: timedelta | None = None,
        signals: tuple[Signal[Any], ...] | None = None,
        snapshots: int | Literal[False] | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.name = name
        self.version = version
        self.function = function
        self.retention = retention
        self.signals = signals
        self.snapshots = snapshots
        self.place = place_of(function)
        self.location = location_of(function)
        # Now: the file may be edited while this process runs the old code.
        self._fingerprint = Fingerprint(function)
        names = None if signals is None else frozenset(signal.name for signal in signals)
        self._check = Check(function, workflow=name, signals=names)
        self._check.begin()

    def __repr__(self) -> str:
        return f"<workflow {self.name} version {self.version}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ChildHandle[R]:
        """Start it as a child (in a workflow), or return the function's coroutine (elsewhere).

        In a workflow: raises ``TypeError`` on wrong arguments, ``CodecError`` on arguments that cannot be recorded,
        ``ChildDepthExceeded``; nothing has been started then. Awaiting raises ``ChildFailed`` or ``ChildCancelled``.
        """
        if in_workflow():
            return self.start_as_child(args, kwargs)
        return cast("ChildHandle[R]", self.function(*args, **kwargs))

    def start_as_child(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        key: str | None = None,
        on_parent_close: ParentClose = ParentClose.CANCEL,
        attributes: str | None = None,
    ) -> ChildHandle[R]:
        """Start it as a child of the run that is calling: what `__call__` and `start_child` do. Raises as they do."""
        return start(
            self.name,
            self.encode_input(args, kwargs),
            version=self.version,
            version_hash=self.hash,
            decode=self.decode_result,
            key=key,
            on_parent_close=on_parent_close,
            attributes=attributes,
            contract=self._agreement,
        )

    __name__: str

    @property
    def hash(self) -> str:
        """Fingerprint of the code: of its meaning, not of its formatting, comments or docstrings.

        Declared signals are part of it: a version has one contract for ever.
        """
        return self._fingerprint.hash if self.contract is None else self._fingerprint.joined(self.contract)

    @property
    def source(self) -> str:
        """The source text, with that of the helpers in its module; a note where there is none."""
        return self._fingerprint.source

    @functools.cached_property
    def patches(self) -> tuple[PatchSite, ...]:
        """Where it asks ``patched("id")``, helpers of its module included."""
        return find_patch_sites(self.function, self._fingerprint.definitions)

    def check(self, policy: Policy | None = None) -> tuple[Finding, ...]:
        """Return what in its code, and in what that calls, could not be replayed, or is likely to be wrong."""
        return self._check.examine(policy).findings

    @functools.cached_property
    def entry(self) -> Entry:
        """What replay needs to run it. Raises ``DeterminismError`` if its code turns out not to be replayable."""
        self._check.finish()
        return Entry(
            name=self.name,
            version=self.version,
            hash=self.hash,
            function=self.function,
            decode_input=self._arguments.decode,
            encode_result=self._encode_result,
            retention_us=None if self.retention is None else self.retention // _MICROSECOND,
            encode_input=self.encode_input,
            signals=None if self.signals is None else frozenset(signal.name for signal in self.signals),
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
    def contract(self) -> str | None:
        """The contract of its signals (`continuum.model.contracts`); None if it declares none, and takes any."""
        return None if self.signals is None else contract_of(self.signals)

    @functools.cached_property
    def _agreement(self) -> Contract | None:
        return None if self.contract is None else Contract.parse(self.contract)

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
def workflow(
    *,
    version: int = 1,
    name: str | None = None,
    retention: timedelta | None = None,
    signals: Iterable[Signal[Any] | str] | None = None,
    snapshots: int | Literal[False] | None = None,
) -> WorkflowDecorator: ...
def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    version: int = 1,
    name: str | None = None,
    retention: timedelta | None = None,
    signals: Iterable[Signal[Any] | str] | None = None,
    snapshots: int | Literal[False] | None = None,
) -> Any:
    """Declare an ``async def`` as a workflow.

    :param version: raise it when a change must not touch runs that are under way, and keep the old code declared under
        its old number (give both the same ``name``) until those have ended.
    :param name: the name in histories and searches; default the function's qualified name.
    :param retention: how long ended runs are kept; None for ever.
    :param signals: the signals it takes. All others, and values of other types, are then refused where they are sent.
    :param snapshots: after how many new events a run's history is folded, so that it loads faster; False for never.
        Default what the instance's ``snapshot_threshold`` says.

    Its code is read here, with all of yours that it calls: what a replay could not repeat is a ``DeterminismError``,
    what is probably wrong a ``DeterminismWarning``. See ``docs/how_to/write_deterministic_code.md``.

    Raises ``DeclarationError`` on what cannot work, ``DuplicateName`` if other code has the name and version.
    """
    declare = functools.partial(
        _declare, version=version, name=name, retention=retention, signals=signals, snapshots=snapshots
    )
    return declare if function is None else declare(function)


def _declare(
    function: Callable[..., Any],
    /,
    *,
    version: int,
    name: str | None,
    retention: timedelta | None,
    signals: Iterable[Signal[Any] | str] | None,
    snapshots: int | Literal[False] | None,
) -> Workflow[..., Any]:
    check_function(function, what="workflow")
    if not inspect.iscoroutinefunction(function):
        raise DeclarationError(f"@workflow needs an async def; {function.__qualname__} is a def.")
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= _MAX_VERSION:
        raise DeclarationError(f"version={version!r} is not valid: write a whole number of at least 1.")
    if retention is not None and (not isinstance(retention, timedelta) or retention <= timedelta(0)):
        raise DeclarationError(f"retention={retention!r} is not valid: write None or a timedelta above zero.")
    if not (snapshots is None or snapshots is False or (type(snapshots) is int and snapshots >= 1)):
        raise DeclarationError(
            f"snapshots={snapshots!r} is not valid: write a whole number of events of at least 1, False for no"
            " snapshots, or None for what the instance says."
        )
    declared: Workflow[..., Any] = Workflow(
        function,
        name=check_name(function.__qualname__ if name is None else name, what="name"),
        version=version,
        retention=retention,
        signals=None if signals is None else check_signals(signals),
        snapshots=snapshots,
    )
    REGISTRY.register_workflow(declared)
    return declared
