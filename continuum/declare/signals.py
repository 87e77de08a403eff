"""Here lives the contract of a signal: its name, and the type of what comes with it."""

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

import msgspec

from continuum.declare.names import check_name
from continuum.errors import CodecError
from continuum.model.codec import codec_for
from continuum.model.hints import revive
from continuum.replay.effects.signal import wait_signal

__all__ = ["Signal", "signal_name"]

T = TypeVar("T")


class Signal(Generic[T]):
    """A signal by name and type, declared once and used by both sides.

    >>> review = Signal("fraud_review", str)

    ``await review.wait()`` is then a ``str`` in the workflow, and a sender that passes anything else is refused. A type
    checker cannot read every type from an argument; ``Signal[str | None]("review", str | None)`` says it twice.
    """

    __slots__ = ("_codec", "name", "type")

    @overload
    def __init__(self: "Signal[Any]", name: str) -> None: ...
    @overload
    def __init__(self, name: str, type: type[T]) -> None: ...
    @overload
    def __init__(self, name: str, type: Any) -> None: ...
    def __init__(self, name: str, type: Any = Any) -> None:  # noqa: A002 - the word users expect
        self.name = check_name(name, what="Signal name")
        self.type = type
        self._codec = codec_for(type)

    def __repr__(self) -> str:
        return f"Signal({self.name!r}, {self.type!r})"

    def wait(self, timeout: timedelta | float | None = None) -> Coroutine[Any, Any, T]:
        """Wait in a workflow for the oldest signal of this name that nobody has taken yet, and return its value.

        Raises ``TimeoutError`` after ``timeout`` (a timedelta or seconds), ``CodecError`` if what was sent cannot be
        read, ``NotInWorkflow`` elsewhere.
        """
        return wait_signal(self.name, timeout, decode=self._codec.decode)

    def encode(self, value: T) -> str:
        """Return the payload of a value to send. Raises ``CodecError`` if it is not of the signal's type."""
        codec = self._codec
        codec.prepare()
        if codec.closed and not codec.fits(value):
            try:
                value = msgspec.convert(value, codec.hint, dec_hook=revive)
            except Exception as error:
                raise CodecError(
                    f"signal {self.name!r} carries {self.type!r}, which {value!r:.200} is not: {error}",
                    path=f"signal {self.name}",
                ) from error
        return codec.encode(value, where=f"signal {self.name}")


def signal_name(signal: "str | Signal[Any]") -> str:
    """Return the name of a signal given by name or by contract. Raises ``DeclarationError`` on an empty one."""
    return signal.name if isinstance(signal, Signal) else check_name(signal, what="signal name")
