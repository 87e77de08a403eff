"""Here live brokers of our own: a redis-server or a rabbitmq-server on a free port, in a temporary directory.

Neither reads the machine's configuration or touches a server that runs already. Both end with the block, by process id.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["START_SECONDS", "Broker", "MissingBrokerError", "answers", "free_port", "open_broker", "process"]

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
# Debian's own `rabbitmq-server` in PATH changes to another user when it is root, and that user cannot read our
# directory. The scripts it calls do not.
RABBITMQ_SCRIPTS: Final = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"


class MissingBrokerError(Exception):
    """The broker's program is not installed."""


@dataclass(frozen=True)
class Broker:
    """A running broker.

    :ivar kind: ``redis`` or ``rabbitmq``. :ivar url: for Celery's ``broker``. :ivar pid: None if it is not ours.
    """

    kind: str
    url: str
    pid: int | None = field(default=None)


@contextmanager
def open_broker(kind: str) -> Iterator[Broker]:
    """Yield a broker of our own. Raises :class:`MissingBrokerError` with what to install."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"shop-{kind}-")))
        yield {"redis": _redis, "rabbitmq": _rabbitmq}[kind](directory, stack)


def _redis(directory: Path, stack: ExitStack) -> Broker:
    program, port = _find("redis-server"), free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    server = stack.enter_context(process(command, log=directory / "redis.log"))
    _until(lambda: answers(port), server, directory / "redis.log")
    return Broker("redis", f"redis://127.0.0.1:{port}/0", server.pid)


def _rabbitmq(directory: Path, stack: ExitStack) -> Broker:
    found = sorted(Path("/").glob(RABBITMQ_SCRIPTS.removeprefix("/")))
    program = str(found[-1]) if found else _find("rabbitmq-server")
    port, names_port, dist_port = free_port(), free_port(), free_port()
    plugins = directory / "enabled_plugins"
    plugins.write_text("[].\n")
    env = {
        "HOME": str(directory),  # where Erlang keeps its cookie
        "ERL_EPMD_PORT": str(names_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"shop{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "generated"),
    }
    # Erlang's name server would outlive the broker that started it; ours does not.
    stack.enter_context(process([_find("epmd"), "-port", str(names_port)], log=directory / "epmd.log", env=env))
    server = stack.enter_context(process([program], log=directory / "rabbitmq.log", env=env))
    _until(lambda: answers(port, b"AMQP\x00\x00\x09\x01"), server, directory / "rabbitmq.log")
    return Broker("rabbitmq", f"amqp://guest:guest@127.0.0.1:{port}//", server.pid)


@contextmanager
def process(
    command: list[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command and whatever it starts for the block; its output goes to a file."""
    with log.open("ab") as output:
        running = subprocess.Popen(
            command,
            cwd=cwd or log.parent,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{Path(command[0]).name} did not end by itself", file=sys.stderr)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)  # its children, if it left any
        running.wait()


def free_port() -> int:
    """Return a loopback port nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _find(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingBrokerError(
            f"{program} is not installed: install it (on Debian: apt-get install redis-server rabbitmq-server),"
            " or set CELERY_BROKER_URL to a broker of yours"
        )
    return found


def answers(port: int, greeting: bytes = b"PING\r\n") -> bool:
    """Tell whether somebody there speaks; RabbitMQ opens its port only when it is ready."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(greeting)
            return bool(connection.recv(1))
    except OSError:
        return False


def _until(ready: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it does not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)
