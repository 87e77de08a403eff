"""Here live the fixtures of the Celery tests: brokers, the shop's stage, pytest-celery over processes.

pytest-celery's plugin is not loaded (``-p no:celery``), or its fixtures and its Docker client would burden every other
test; what is used of it is imported here, and its components are ours.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import kombu.pools
import psycopg2
import pytest
from celery.contrib.pytest import (  # noqa: F401 - fixtures
    celery_app,
    celery_class_tasks,
    celery_config,
    celery_enable_logging,
    celery_includes,
    celery_parameters,
    celery_session_app,
    celery_session_worker,
    celery_worker_parameters,
    celery_worker_pool,
    depends_on_current_app,
    use_celery_app_trap,
)
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestSetup
from pytest_celery.fixtures.backend import celery_backend_cluster, celery_backend_cluster_config  # noqa: F401
from pytest_celery.fixtures.broker import celery_broker_cluster, celery_broker_cluster_config  # noqa: F401
from pytest_celery.fixtures.setup import (  # noqa: F401
    celery_setup,
    celery_setup_app,
    celery_setup_cls,
    celery_setup_config,
    celery_setup_name,
)
from pytest_celery.fixtures.worker import celery_worker_cluster, celery_worker_cluster_config  # noqa: F401

from continuum import Continuum
from tests.celery.brokers import Broker, open_broker
from tests.celery.docker_brokers import open_docker_broker
from tests.celery.nodes import BackendNode, BrokerNode, Worker
from tests.celery.proxy import Proxy
from tests.celery.stage import Stage
from tests.celery.work import BOOKINGS
from tests.support.processes import Processes

FAILED = pytest.StashKey[bool]()
SESSION_ID = "CONTINUUM_TEST_SESSION"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Let the stage know that its test has failed, while everybody still runs."""
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


class Brokers:
    """The session's brokers, each started when first asked for."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._open: dict[str, Broker] = {}

    def get(self, kind: str) -> Broker:
        if kind not in self._open:
            self._open[kind] = (
                open_docker_broker(kind) if kind.startswith("docker") else open_broker(kind, session=self._session)
            )
        broker = self._open[kind]
        if not broker.alive:
            broker.start()  # a test left it down
        # kombu's pools belong to the process: a connection that an earlier outage tore would be lent to this test.
        kombu.pools.reset()
        broker.flush()
        return broker

    def close(self) -> None:
        for broker in self._open.values():
            broker.close()


@pytest.fixture(scope="session")
def brokers(worker_id: str) -> Iterator[Brokers]:
    started = Brokers(f"{os.environ[SESSION_ID]}-{worker_id}")
    yield started
    started.close()


@pytest.fixture
def redis_broker(brokers: Brokers) -> Broker:
    return brokers.get("redis")


@pytest.fixture
def rabbit_broker(brokers: Brokers) -> Broker:
    return brokers.get("rabbitmq")


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest, brokers: Brokers) -> Broker:
    """Return the session's broker, of each kind in turn, with nothing in it. Parametrize it to choose."""
    return brokers.get(request.param)


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    """Yield a proxy in front of the broker: `stage.dispatcher(SHOP_BROKER=proxy.url)`."""
    broker.require_own()
    with Proxy(broker.url) as standing:
        yield standing


@pytest.fixture
def stage(
    request: pytest.FixtureRequest, broker: Broker, database_url: str, tmp_path: Path, processes: Processes
) -> Iterator[Stage]:
    """Yield the shop on this broker: nothing of it runs yet."""
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(BOOKINGS)
    connection.close()
    with Continuum(database_url, modules=["tests.celery.work"]) as continuum:
        made = Stage(broker, url=database_url, directory=tmp_path, processes=processes, continuum=continuum)
        try:
            yield made
            if request.node.stash.get(FAILED, False):
                print(made.logs())  # noqa: T201 - pytest shows it with the failure
        finally:
            made.close()
            for process in processes.started:
                process.close()


# ------------------------------------------------------------------ pytest-celery, over processes


@pytest.fixture
def celery_broker(broker: Broker) -> CeleryTestBroker:
    return BrokerNode(broker)


@pytest.fixture
def celery_backend(redis_broker: Broker) -> CeleryTestBackend:
    return BackendNode(redis_broker)


@pytest.fixture
def celery_worker(stage: Stage, celery_worker_cluster_config: dict, celery_setup_app) -> Worker:  # noqa: F811
    backend = celery_worker_cluster_config["celery_backend_cluster_config"]["urls"][0]
    return stage.worker(app=celery_setup_app, SHOP_BACKEND=backend)


__all__ = ["CeleryTestSetup"]
