"""Here lives what a workflow's event loop refuses, with what to write instead.

`asyncio.AbstractEventLoop` answers every method it lacks with a bare ``NotImplementedError``, which tells a workflow's
author nothing. Each of these tells them.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, NoReturn

from continuum.errors import BlockingCall

__all__ = ["RefusingLoop"]

_THREADS: Final = "threads would run outside the history. Write an activity for the work, and await it"
_NETWORK: Final = "a workflow touches no network. Do it in an activity, and await that"
_PROCESS: Final = "a workflow starts no processes. Do it in an activity, and await that"
_SIGNALS: Final = (
    "operating-system signals belong to the dispatcher. To be told something from outside, wait for a durable signal:"
    " `await wait_signal(name)`"
)
_FILES: Final = "a workflow waits for no file descriptors. Do it in an activity, and await that"
_DRIVING: Final = "the loop is driven by the run's history. Use `await`, `asyncio.create_task` or a TaskGroup"
_OUTSIDE: Final = (
    "nothing outside may schedule work in a workflow. Send the run a signal, and wait for it with"
    " `await wait_signal(name)`"
)

_REFUSED: Final = {
    "run_in_executor": _THREADS,
    "set_default_executor": _THREADS,
    "call_soon_threadsafe": _OUTSIDE,
    "run_forever": _DRIVING,
    "run_until_complete": _DRIVING,
    "stop": _DRIVING,
    "close": _DRIVING,
    "getaddrinfo": _NETWORK,
    "getnameinfo": _NETWORK,
    "create_connection": _NETWORK,
    "create_server": _NETWORK,
    "create_datagram_endpoint": _NETWORK,
    "create_unix_connection": _NETWORK,
    "create_unix_server": _NETWORK,
    "connect_accepted_socket": _NETWORK,
    "start_tls": _NETWORK,
    "sendfile": _NETWORK,
    "sock_accept": _NETWORK,
    "sock_connect": _NETWORK,
    "sock_recv": _NETWORK,
    "sock_recv_into": _NETWORK,
    "sock_recvfrom": _NETWORK,
    "sock_recvfrom_into": _NETWORK,
    "sock_sendall": _NETWORK,
    "sock_sendfile": _NETWORK,
    "sock_sendto": _NETWORK,
    "subprocess_exec": _PROCESS,
    "subprocess_shell": _PROCESS,
    "connect_read_pipe": _PROCESS,
    "connect_write_pipe": _PROCESS,
    "add_signal_handler": _SIGNALS,
    "remove_signal_handler": _SIGNALS,
    "add_reader": _FILES,
    "remove_reader": _FILES,
    "add_writer": _FILES,
    "remove_writer": _FILES,
}


def _refusal(method: str, why: str) -> Callable[..., NoReturn]:
    def refuse(_loop: asyncio.AbstractEventLoop, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise BlockingCall(f"{method}() was called in a workflow, but {why}.", method=method)

    refuse.__name__ = refuse.__qualname__ = method
    refuse.__doc__ = f"Raise ``BlockingCall``: {why}."
    return refuse


class RefusingLoop(asyncio.AbstractEventLoop):
    """An event loop that refuses everything which is not about tasks, futures, callbacks and time."""

    __slots__ = ()


for _method, _why in _REFUSED.items():
    setattr(RefusingLoop, _method, _refusal(_method, _why))
