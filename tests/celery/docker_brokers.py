"""Here live the brokers of the Docker lane: the public images, for who wants to see those.

Only with ``CONTINUUM_TEST_DOCKER=1``, and an engine that answers; ``CONTINUUM_TEST_REDIS_IMAGE`` and
``CONTINUUM_TEST_RABBITMQ_IMAGE`` name other images.
"""

import os
from typing import Any

import amqp
import pytest
import redis

from tests.celery.brokers import Broker, RabbitQueues, RedisQueues, free_port
from tests.support.eventually import eventually

__all__ = ["open_docker_broker"]

START_SECONDS = 90.0


class _Contained(Broker):
    """A broker in a container, on the same port whenever it is started."""

    image: str
    inner_port: int

    def __init__(self, client: Any, url: str) -> None:
        self.port = free_port()
        super().__init__(url.format(port=self.port), given=False)
        ports = {f"{self.inner_port}/tcp": ("127.0.0.1", self.port)}
        self._container = client.containers.run(self.image, detach=True, ports=ports, labels=["continuum-tests"])
        self._await()

    @property
    def alive(self) -> bool:
        self._container.reload()
        return bool(self._container.status == "running")

    def stop(self) -> None:
        self._container.stop(timeout=30)

    def kill(self) -> None:
        self._container.kill()

    def freeze(self) -> None:
        self._container.pause()

    def thaw(self) -> None:
        self._container.unpause()

    def close(self) -> None:
        self._container.remove(force=True, v=True)

    def _start(self) -> None:
        self._container.start()
        self._await()

    def _await(self) -> None:
        def answers() -> bool:
            try:
                self.queue_length("none")
            except (OSError, redis.RedisError, amqp.AMQPError):
                return False
            return True

        eventually(answers, START_SECONDS, interval=0.2)


class DockerRedis(_Contained, RedisQueues):
    """The Redis image."""

    image = os.environ.get("CONTINUUM_TEST_REDIS_IMAGE", "redis:latest")
    inner_port = 6379


class DockerRabbit(_Contained, RabbitQueues):
    """The RabbitMQ image."""

    image = os.environ.get("CONTINUUM_TEST_RABBITMQ_IMAGE", "rabbitmq:latest")
    inner_port = 5672


def open_docker_broker(kind: str) -> Broker:
    """Return a broker in a container, running; skip, with the reason, if that is not wanted or not possible."""
    if os.environ.get("CONTINUUM_TEST_DOCKER") != "1":
        pytest.skip("the Docker lane is opt-in: set CONTINUUM_TEST_DOCKER=1")
    import docker

    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    if kind == "docker-redis":
        return DockerRedis(client, "redis://127.0.0.1:{port}/0")
    return DockerRabbit(client, "amqp://guest:guest@127.0.0.1:{port}//")
