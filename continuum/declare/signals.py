"""Here lives what a workflow and its callers agree on: the name of a signal, what comes with it, what is answered."""

from collections.abc import Coroutine, Iterable
from datetime import timedelta
from typing import Any, Generic, Self, TypeVar, cast, overload

import msgspec

from continuum.declare.names import check_name
from continuum.errors import CodecError, DeclarationError
from continuum.model.codec import TypedCodec, codec_for, decode
from continuum.model.contracts import write_contract
from continuum.model.hints import revive
from continuum.model.names import shown
from continuum.model.tags import TAG
from continuum.replay.effects.signal import Request, receive_request, wait_signal

__all__ = ["Question", "Signal", "check_signals", "contract_of", "signal_name"]

T = TypeVar("T")
A = TypeVar("A")


class Signal(Generic[T]):
    """A signal by name and type, declared once and used by both sides.

    >>> review = Signal("fraud_review", str)

    ``await review.wait()`` is then a ``str`` in the workflow, and a sender that passes anything else is refused. A type
    checker cannot read every type from an argument; ``Signal[str | None]("review", str | None)`` says it twice.

    With ``reply=`` it is a :class:`Question`: the sender waits for an answer of that type.
    """

    __slots__ = ("_codec", "name", "type")

    @overload
    def __new__(cls, name: str) -> "Signal[Any]": ...
    @overload
    def __new__(cls, name: str, type: type[T]) -> "Signal[T]": ...
    @overload
    def __new__(cls, name: str, type: type[T], *, reply: type[A]) -> "Question[T, A]": ...
    @overload
    def __new__(cls, name: str, type: Any = ..., *, reply: Any) -> "Question[Any, Any]": ...
    @overload
    def __new__(cls, name: str, type: Any) -> "Signal[T]": ...
    def __new__(cls, name: str, type: Any = Any, *, reply: Any = None) -> Any:  # noqa: A002 - the word users expect
        """Return a signal, or with ``reply`` a :class:`Question`."""
        made: Signal[Any] = object.__new__(Question if reply is not None else cls)
        made.name = check_name(name, what="Signal name")
        made.type = type
        made._codec = codec_for(type)
        if isinstance(made, Question):
            made._answers(reply)
        return made

    name: str
    type: Any
    _codec: TypedCodec

    def __repr__(self) -> str:
        return f"Signal({self.name!r}, {self.type!r})"

    def wait(self, timeout: timedelta | float | None = None) -> Coroutine[Any, Any, T]:
        """Wait in a workflow for the oldest signal of this name that nobody has taken yet, and return its value.

        Raises ``TimeoutError`` after ``timeout`` (a timedelta or seconds), ``CodecError`` if what was sent is not of
        the signal's type, ``DeclarationError`` if the workflow declares its signals and not this one,
        ``NotInWorkflow`` elsewhere.
        """
        return wait_signal(self.name, timeout, decode=self._decode)

    def encode(self, value: T) -> str:
        """Return the payload of a value to send. Raises ``CodecError`` if it is not of the signal's type."""
        return self._codec.encode(self._fit(value), where=f"signal {self.name}")

    @property
    def is_exact(self) -> bool:
        """Whether its payloads are as they must be: nobody knows better how to write a value of the type."""
        self._codec.prepare()
        return self._codec.closed

    def _fit(self, value: Any) -> Any:
        return _fit(self._codec, value, f"signal {self.name}", f"signal {self.name!r} carries {self.type!r}")

    def _decode(self, payload: str) -> T:
        return cast("T", _read(self._codec, payload, f"signal {self.name}"))


class Question(Signal[T], Generic[T, A]):
    """A signal that its receiver answers: ``Signal(name, type, reply=type_of_the_answer)``."""

    __slots__ = ("_reply", "reply")
    reply: Any
    _reply: TypedCodec

    def __repr__(self) -> str:
        return f"Signal({self.name!r}, {self.type!r}, reply={self.reply!r})"

    def receive(self, timeout: timedelta | float | None = None) -> "Coroutine[Any, Any, Request[T, A]]":
        """Wait as ``wait`` does, and return the request: ``request.value``, ``request.answer(reply)``."""
        return receive_request(self.name, timeout, decode=self._decode, encode=self._encode_reply)

    def decode_reply(self, payload: str) -> A:
        """Return what was answered. Raises ``CodecError``."""
        return cast("A", _read(self._reply, payload, f"answer to {self.name}"))

    def _answers(self, reply: Any) -> Self:
        self.reply = reply
        self._reply = codec_for(reply)
        return self

    def _encode_reply(self, value: Any) -> str:
        where = f"answer to {self.name}"
        return self._reply.encode(
            _fit(self._reply, value, where, f"signal {self.name!r} is answered with {self.reply!r}"), where=where
        )


def _fit(codec: TypedCodec, value: Any, where: str, wanted: str) -> Any:
    """Return the value as one of the codec's type. Raises ``CodecError``."""
    codec.prepare()
    if not codec.closed or codec.fits(value):
        return value
    try:
        return msgspec.convert(value, codec.hint, dec_hook=revive)
    except Exception as error:
        raise CodecError(f"{wanted}, which {shown(value)} is not: {error}", path=where) from error


def _read(codec: TypedCodec, payload: str, where: str) -> Any:
    """Return the value of a payload, and never one of another type, whoever wrote it. Raises ``CodecError``."""
    codec.prepare()
    if not codec.closed:
        return decode(payload)
    if TAG not in payload:
        try:
            return codec.from_plain(payload, what=where)
        except TypeError as error:
            raise CodecError(str(error), path=where) from None
    return _fit(codec, codec.decode(payload), where, f"{where} is {codec.hint!r}")


def check_signals(signals: object) -> tuple[Signal[Any], ...]:
    """Return the signals that a workflow declares. Raises ``DeclarationError``."""
    if isinstance(signals, str) or not isinstance(signals, Iterable):
        raise DeclarationError(f"signals={signals!r} is not valid: write a list of Signal(name, type).")
    found: dict[str, Signal[Any]] = {}
    for signal in signals:
        if isinstance(signal, str):
            signal = Signal(signal)  # noqa: PLW2901 - a name is a signal that carries anything
        if not isinstance(signal, Signal):
            raise DeclarationError(f"signals=[… {signal!r} …] is not valid: write Signal(name, type), or a name.")
        if signal.name in found:
            raise DeclarationError(f"signals=: {signal.name!r} stands there twice; one signal carries one type.")
        found[signal.name] = signal
    return tuple(found.values())


def contract_of(signals: Iterable[Signal[Any]]) -> str:
    """Return the contract that is stored for these signals: see `continuum.model.contracts`."""
    declared = list(signals)
    return write_contract(
        {signal.name: signal.type for signal in declared},
        {signal.name: signal.reply for signal in declared if isinstance(signal, Question)},
    )


def signal_name(signal: "str | Signal[Any]") -> str:
    """Return the name of a signal given by name or by contract. Raises ``DeclarationError`` on an empty one."""
    return signal.name if isinstance(signal, Signal) else check_name(signal, what="signal name")
