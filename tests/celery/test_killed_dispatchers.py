"""A dispatcher is killed between what it writes and what it publishes; another one finishes what it left."""

import pytest

from tests.celery.stage import Stage
from tests.support.eventually import eventually

RUNS = 4

# Each at its first time, and once more when there is work under way.
PROBES = [
    ("outbox.publishing", 1),
    ("outbox.publishing", 4),
    ("outbox.published", 1),
    ("outbox.published", 4),
    ("outbox.marked", 1),
    ("outbox.marked", 2),
]


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("probe", "nth"), PROBES)
@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_kill_between_mark_and_publish_loses_nothing_and_repeats_nothing(stage: Stage, probe: str, nth: int) -> None:
    stage.worker()
    handles = [stage.continuum.start("shop.mixed", f"m{number}") for number in range(RUNS)]
    fan = stage.continuum.start("shop.fan", "f", 12)
    # A small window: most of the fan is not marked by the turn's commit, but by the outbox, later.
    victim = stage.dispatcher(CONTINUUM_CRASH_AT=f"{probe}:{nth}", SHOP_WINDOW="3")
    eventually(lambda: not victim.alive, 30)
    assert victim.returncode == -9, victim.output

    heir = stage.dispatcher(SHOP_WINDOW="3")
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60) == [f"m{number}:{part}" for part in range(1, 8)]
    assert fan.result(timeout=60) == [f"f:{number}" for number in range(12)]
    assert heir.terminate(20) == 0, heir.output
    stage.audit()


@pytest.mark.timeout(100)
@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_kill_while_its_messages_are_handed_over(stage: Stage) -> None:
    victim = stage.dispatcher(CONTINUUM_CRASH_AT="outbox.handed_over:1")
    fan = stage.continuum.start("shop.fan", "f", 12)
    eventually(lambda: stage.broker.queue_length(stage.queue) == 12)
    assert victim.terminate(30) == -9, victim.output
    stage.dispatcher()
    stage.worker()
    assert fan.result(timeout=60) == [f"f:{number}" for number in range(12)]
    stage.audit()


@pytest.mark.timeout(100)
def test_a_killed_dispatcher_whose_messages_were_lost_as_well(stage: Stage) -> None:
    victim = stage.dispatcher()
    fan = stage.continuum.start("shop.fan", "f", 12)
    eventually(lambda: stage.broker.queue_length(stage.queue) == 12)
    victim.kill()
    stage.broker.flush()
    stage.worker()
    stage.dispatcher()
    # Not when their deadline of a minute has passed: when the lease of their dispatcher has.
    assert fan.result(timeout=30) == [f"f:{number}" for number in range(12)]
    stage.audit()


@pytest.mark.timeout(100)
def test_a_dispatcher_and_its_worker_are_killed_together(stage: Stage) -> None:
    dispatcher, worker = stage.dispatcher(), stage.worker()
    handles = [stage.continuum.start("shop.call", "hold_once", [f"h{n}", "gate"]) for n in range(8)]
    stage.begun(2)
    worker.kill_all()
    dispatcher.kill()
    stage.open("gate")
    stage.worker()
    stage.dispatcher()
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60) == f"h{number}"
    stage.audit()
