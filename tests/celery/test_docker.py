"""The public broker images in containers; opt-in, see :mod:`tests.celery.docker_brokers`."""

import pytest

from tests.celery.stage import Stage

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("broker", ["docker-redis", "docker-rabbitmq"], indirect=True),
]


def test_work_on_a_contained_broker(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.mixed", "m")
    assert handle.result(timeout=60) == [f"m:{part}" for part in range(1, 8)]
    stage.audit()


def test_a_contained_broker_is_away_for_a_while(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    assert stage.continuum.start("shop.chain", "before", 3).result(timeout=60)
    with stage.broker.outage():
        handles = [stage.continuum.start("shop.chain", f"c{n}", 3) for n in range(5)]
    for number, handle in enumerate(handles):
        assert handle.result(timeout=90) == [f"c{number}:{step}" for step in range(3)]
    stage.audit()
