"""Here lives a TCP proxy in front of a broker, with the faults of a network: one thread, controls that take effect at
once.

A control returns when it holds: after `cut()` no connection is left, after `freeze()` no byte passes.
"""

import collections
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tests.celery.brokers import free_port

__all__ = ["Proxy"]

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, as a connection that was torn
CHUNK = 65_536


class _Half:
    """One direction of a connection: what was read from ``source`` and is still to be written to ``target``."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.waiting: collections.deque[tuple[float, bytes]] = collections.deque()
        self.tail = b""
        self.ended = False
        self.closed = False


class _Pair:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.up = _Half(client, server)
        self.down = _Half(server, client)
        self.client = client
        self.server = server


class Proxy:
    """Passes bytes between its own port and the broker's, until it is told to do something else."""

    def __init__(self, url: str) -> None:
        """Stand before the broker at ``url``; ``self.url`` is the same with our port."""
        head, _, rest = url.rpartition("127.0.0.1:")
        digits = rest.split("/")[0]
        self._target = ("127.0.0.1", int(digits))
        self.port = free_port()
        self.url = f"{head}127.0.0.1:{self.port}{rest.removeprefix(digits)}"
        self.accepted = 0
        self.cuts = 0
        self.seen: collections.Counter[bytes] = collections.Counter()
        self._pairs: list[_Pair] = []
        self._frozen = False
        self._delay = 0.0
        self._marker: bytes | None = None
        self._mute = False
        self._bytes_left: int | None = None
        self._commands: collections.deque[tuple[Callable[[], None], Future[None]]] = collections.deque()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._listener: socket.socket | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="test-proxy", daemon=True)
        self._thread.start()
        self.accept()

    # -------------------------------------------------------------- controls

    def refuse(self) -> None:
        """Close every connection and refuse new ones."""
        self._do(lambda: (self._unlisten(), self._cut()))

    def accept(self) -> None:
        """Take connections, and pass everything again: the end of every fault."""

        def heal() -> None:
            self._frozen, self._delay, self._marker, self._bytes_left, self._mute = False, 0.0, None, None, False
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
                self._listener.setblocking(False)

        self._do(heal)

    def freeze(self) -> None:
        """Pass nothing any more, in either direction; new connections are accepted and never answered."""
        self._do(lambda: setattr(self, "_frozen", True))

    def thaw(self) -> None:
        """Pass everything on, also what came in while frozen."""
        self._do(lambda: setattr(self, "_frozen", False))

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        self._do(self._cut)

    def cut_after(self, count: int) -> None:
        """Reset every connection once ``count`` more bytes have gone to the broker; exactly that many arrive."""
        self._do(lambda: setattr(self, "_bytes_left", count))

    def cut_at(self, marker: bytes) -> None:
        """Reset every connection, once, at the moment the marker comes by on its way to the broker: it does not arrive.

        What was sent before it in the same breath has arrived: half a publish."""
        self._do(lambda: (setattr(self, "_marker", marker), setattr(self, "_mute", False)))

    def lose_answer_to(self, marker: bytes) -> None:
        """Pass the marker on to the broker, and then no answer to anybody, until :meth:`cut` or :meth:`accept`."""
        self._do(lambda: (setattr(self, "_marker", marker), setattr(self, "_mute", True)))

    def delay(self, seconds: float) -> None:
        """Let every byte take this much longer from now on."""
        self._do(lambda: setattr(self, "_delay", seconds))

    @property
    def muted(self) -> bool:
        """Whether the marker of :meth:`lose_answer_to` has come by."""
        return self._mute and self._marker is None

    @property
    def connections(self) -> int:
        return len(self._pairs)

    def close(self) -> None:
        if not self._ended:
            self._do(lambda: (self._unlisten(), self._cut(), setattr(self, "_ended", True)))
            self._thread.join(10)
            self._wake.close()
            self._woken.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -------------------------------------------------------------- the thread

    def _do(self, command: Callable[[], Any]) -> None:
        done: Future[None] = Future()
        self._commands.append((command, done))
        self._wake.send(b"!")
        done.result(10)

    def _run(self) -> None:
        while not self._ended:
            with suppress(BlockingIOError):
                self._woken.recv(CHUNK)
            while self._commands:
                command, done = self._commands.popleft()
                try:
                    command()
                    done.set_result(None)
                except BaseException as error:
                    done.set_exception(error)
            for pair in list(self._pairs):
                self._flush(pair)
            if not self._ended:
                self._wait()

    def _wait(self) -> None:
        """Wait for something to do, and read what there is."""
        now = time.monotonic()
        due = [half.waiting[0][0] - now for pair in self._pairs for half in (pair.up, pair.down) if half.waiting]
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            if self._listener is not None:
                selector.register(self._listener, selectors.EVENT_READ)
            for pair in self._pairs if not self._frozen else ():
                for half in (pair.up, pair.down):
                    if not half.ended and len(half.waiting) < 64:
                        selector.register(half.source, selectors.EVENT_READ, (pair, half))
            timeout = None if self._frozen or not due else max(min(due), 0.002)
            for key, _ in selector.select(timeout):
                if key.fileobj is self._listener:
                    self._welcome()
                elif key.data is not None and key.data[0] in self._pairs:
                    self._read(*key.data)

    def _welcome(self) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError):
            client, _ = self._listener.accept()
            self.accepted += 1
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                _reset(client)  # the broker itself is down
                return
            for side in (client, server):
                side.setblocking(False)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append(_Pair(client, server))

    def _read(self, pair: _Pair, half: _Half) -> None:
        try:
            data = half.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._drop(pair)
            return
        if not data:
            half.ended = True
            return
        cut = False
        if half is pair.up:
            data, cut = self._judge(half, data)
        elif self._mute and self._marker is None:
            return
        half.waiting.append((time.monotonic() + self._delay, data))
        if cut:
            self._flush(pair, at_once=True)
            # Not by a reset: the broker would throw away what it has not read yet.
            pair.server.close()
            self._cut()

    def _judge(self, half: _Half, data: bytes) -> tuple[bytes, bool]:
        """Return what of it goes on to the broker, and whether the cut comes after it."""
        if self._bytes_left is not None:
            data, left = data[: self._bytes_left], self._bytes_left - len(data)
            self._bytes_left = left if left > 0 else None
            return data, left <= 0
        if self._marker is None:
            return data, False
        # A marker may come in two pieces.
        whole = half.tail + data
        place = whole.find(self._marker)
        half.tail = whole[-len(self._marker) + 1 :] if len(self._marker) > 1 else b""
        if place < 0:
            return data, False
        self.seen[self._marker] += 1
        self._marker = None
        if self._mute:
            return data, False
        return data[: max(place - (len(whole) - len(data)), 0)], True

    def _flush(self, pair: _Pair, *, at_once: bool = False) -> None:
        if self._frozen:
            return
        for half in (pair.up, pair.down):
            while half.waiting and (at_once or half.waiting[0][0] <= time.monotonic()):
                due, data = half.waiting.popleft()
                try:
                    sent = half.target.send(data)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self._drop(pair)
                    return
                if sent < len(data):
                    half.waiting.appendleft((due, data[sent:]))
                    break
            if half.ended and not half.waiting and not half.closed:
                half.closed = True
                with suppress(OSError):
                    half.target.shutdown(socket.SHUT_WR)
        if pair.up.closed and pair.down.closed:
            self._drop(pair)

    def _cut(self) -> None:
        self.cuts += 1
        for pair in list(self._pairs):
            self._drop(pair)

    def _drop(self, pair: _Pair) -> None:
        if pair in self._pairs:
            self._pairs.remove(pair)
            _reset(pair.client)
            _reset(pair.server)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _reset(side: socket.socket) -> None:
    with suppress(OSError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    side.close()
