"""Here live the effects that wait for the outside: signals, and conditions over what signals have changed."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final

from continuum.errors import CodecError
from continuum.model.codec import decode as decode_any
from continuum.model.events import EventType
from continuum.model.names import MAX_NAME, check_effect_name
from continuum.replay.effects.base import current_loop, seconds_of
from continuum.replay.loop import DeterministicLoop

__all__ = ["wait_signal", "wait_until"]

_AWAITED: Final = EventType.SIGNAL_AWAITED


def wait_signal(
    name: str,
    timeout: timedelta | float | None = None,
    *,
    decode: Callable[[str], Any] = decode_any,
) -> Coroutine[Any, Any, Any]:
    """Wait for the oldest signal of this name that nobody has taken yet, and return its value.

    A signal that arrived earlier counts. Raises ``TypeError`` or ``ValueError`` for what cannot be the name of a signal
    (a text of 1 to 200 characters); ``TimeoutError`` after ``timeout``; ``CodecError`` if what was sent
    cannot be decoded (it is consumed then); ``NotInWorkflow``.
    """
    loop = current_loop("wait_signal()")
    check_effect_name(name, "the signal's name", limit=MAX_NAME)
    seconds = None if timeout is None else seconds_of(timeout, "the timeout")
    return _receive(loop, name, seconds, decode)


async def _receive(loop: DeterministicLoop, name: str, seconds: float | None, decode: Callable[[str], Any]) -> Any:
    loop.ledger.issue(_AWAITED, name, None)
    mailbox = loop.mailbox(name)
    if seconds is None or mailbox.payloads:
        # What is here already needs no timer: it beats its timeout, however short.
        payload = await mailbox.take()
    else:
        async with asyncio.timeout(seconds):
            payload = await mailbox.take()
    try:
        return decode(payload)
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
