"""Here live the effects that wait for the outside: signals, and conditions over what signals have changed.

And the one that speaks to it: the answer to a signal that asked (`continuum.model.questions`).
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from continuum.errors import CodecError, DeclarationError
from continuum.model.codec import decode as decode_any
from continuum.model.events import EventType
from continuum.model.names import MAX_NAME, check_effect_name
from continuum.model.questions import read_question, write_answer
from continuum.replay.effects.base import current_loop, seconds_of
from continuum.replay.loop import DeterministicLoop

__all__ = ["Request", "receive_request", "wait_signal", "wait_until"]

T = TypeVar("T")
A = TypeVar("A")

_AWAITED: Final = EventType.SIGNAL_AWAITED
_ANSWERED: Final = EventType.SIGNAL_ANSWERED


def wait_signal(
    name: str,
    timeout: timedelta | float | None = None,
    *,
    decode: Callable[[str], Any] = decode_any,
) -> Coroutine[Any, Any, Any]:
    """Wait for the oldest signal of this name that nobody has taken yet, and return its value.

    A signal that arrived earlier counts. Raises ``TypeError`` or ``ValueError`` for what cannot be the name of a signal
    (a text of 1 to 200 characters); ``DeclarationError`` if the workflow declares its signals, and not this one;
    ``TimeoutError`` after ``timeout``; ``CodecError`` if what was sent cannot be decoded (it is consumed then);
    ``NotInWorkflow``.
    """
    return _receive(*_prepare("wait_signal()", name, timeout), decode)


def receive_request(
    name: str,
    timeout: timedelta | float | None = None,
    *,
    decode: Callable[[str], T],
    encode: Callable[[A], str],
) -> "Coroutine[Any, Any, Request[T, A]]":
    """Wait as `wait_signal` does, and return a request that can be answered."""
    return _receive(*_prepare("receive()", name, timeout), decode, encode)


class Request(Generic[T, A]):
    """A signal that was received, and may be answered once.

    :ivar name: the signal.
    :ivar value: what came with it.
    :ivar asked: whether its sender waits for the answer (``ask``); with ``signal`` nobody does.
    :ivar answered: whether it has been answered.
    """

    __slots__ = ("_encode", "_question", "answered", "name", "value")

    def __init__(self, name: str, value: T, *, question: str | None, encode: Callable[[A], str]) -> None:
        self.name = name
        self.value = value
        self.answered = False
        self._question = question
        self._encode = encode

    def __repr__(self) -> str:
        return f"<request {self.name} {self.value!r:.100}>"

    @property
    def asked(self) -> bool:
        """Whether its sender waits for the answer."""
        return self._question is not None

    def answer(self, reply: A) -> None:
        """Answer it, with the next commit of the run. Where nobody asked this only checks the reply.

        Raises ``CodecError`` if the reply is not of the declared type (it can be answered again then),
        ``RuntimeError`` if it has been answered, ``NotInWorkflow``.
        """
        loop = current_loop("answer()")
        if self.answered:
            message = f"this request of signal {self.name!r} has been answered; whoever asked may have read that"
            raise RuntimeError(message)
        payload = self._encode(reply)
        if self._question is not None:
            loop.ledger.issue(_ANSWERED, self.name, write_answer(self._question, payload))
        self.answered = True


_Wait = tuple[DeterministicLoop, str, float | None]


def _prepare(effect: str, name: str, timeout: timedelta | float | None) -> _Wait:
    loop = current_loop(effect)
    check_effect_name(name, "the signal's name", limit=MAX_NAME)
    declared = loop.signals
    if declared is not None and name not in declared:
        message = (
            f"{loop.run.workflow} waits for signal {name!r} and does not declare it, so nobody can send it."
            f" Add it to signals=[…] of its @workflow; there: {', '.join(sorted(declared)) or 'none'}."
        )
        raise DeclarationError(message)
    return loop, name, None if timeout is None else seconds_of(timeout, "the timeout")


async def _receive(
    loop: DeterministicLoop,
    name: str,
    seconds: float | None,
    decode: Callable[[str], T],
    encode: Callable[[A], str] | None = None,
) -> Any:
    # One coroutine for both effects: each that is suspended takes half a kilobyte, and most parked runs stand here.
    loop.ledger.issue(_AWAITED, name, None)
    mailbox = loop.mailbox(name)
    if seconds is None or mailbox.payloads:
        # What is here already needs no timer: it beats its timeout, however short.
        payload = await mailbox.take()
    else:
        async with asyncio.timeout(seconds):
            payload = await mailbox.take()
    question, value = _decoded(name, payload, decode)
    return value if encode is None else Request(name, value, question=question, encode=encode)


def _decoded(name: str, payload: str, decode: Callable[[str], T]) -> tuple[str | None, T]:
    try:
        question, value = read_question(payload)
        return question, decode(value)
    except Exception as error:  # noqa: BLE001 - a user's type may raise anything when it is built
        failure = error
    raise CodecError(
        f"signal {name!r} carried a value that cannot be decoded: {failure}",
        path=getattr(failure, "path", "") or f"signal {name}",
    )


def wait_until(predicate: Callable[[], Any], timeout: timedelta | float | None = None) -> Coroutine[Any, Any, None]:
    """Wait until the predicate is true. It is asked at once, and again whenever the run has come to rest.

    The predicate must only look at the workflow's own variables. What it raises is raised here. Raises ``TimeoutError``
    after ``timeout``, ``NotInWorkflow``.
    """
    loop = current_loop("wait_until()")
    if not callable(predicate):
        message = f"wait_until() takes a function without arguments, not {predicate!r}"
        raise TypeError(message)
    seconds = None if timeout is None else seconds_of(timeout, "the timeout")
    return _until(loop, predicate, seconds)


async def _until(loop: DeterministicLoop, predicate: Callable[[], Any], seconds: float | None) -> None:
    if loop.check(predicate):
        return
    condition = loop.add_condition(predicate)
    if seconds is None:
        await condition
    else:
        async with asyncio.timeout(seconds):
            await condition
