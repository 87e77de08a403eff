"""What one dispatcher sweeps concerns runs that others hold."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from continuum import Retry, activity, workflow
from continuum.declare.registry import Registry
from continuum.errors import RunFailed
from continuum.journal.protocol import Journal
from continuum.model.ids import new_worker_id
from continuum.model.leases import WorkerInfo
from tests.support.eventually import eventually
from tests.support.external import External
from tests.support.journals import HOUR
from tests.support.transports import FakeTransport

pytestmark = pytest.mark.parametrize("journal", ["memory", "postgres"], indirect=True)


@activity(name="swept.once", retry=Retry(max_attempts=1))
def once() -> None:
    raise NotImplementedError("its worker dies")


@workflow(name="swept.waits")
async def waits() -> None:
    await once()


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport("celery")


@pytest.fixture
def continuum(journal: Journal, transport: FakeTransport) -> Iterator[External]:
    patient = {"poll_interval": timedelta(seconds=60), "reap_interval": HOUR}
    with External(journal=journal, **patient) as instance:
        instance.transports = {"celery": transport}
        yield instance


def test_the_holder_of_a_run_hears_at_once_of_a_task_that_another_dispatcher_swept(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    worker = new_worker_id()
    journal.workers.register(WorkerInfo(worker, "host", 4711, HOUR))
    with continuum.running(executor="celery"):
        handle = continuum.start(waits)
        eventually(lambda: transport.published)
        assert journal.tasks.claim_dispatched(worker, [transport.published[0].ref])
        # It holds no code: what it sweeps is for others.
        with External(journal=journal, registry=Registry(), reap_interval=timedelta(milliseconds=50)) as other:
            other.transports = {}
            with other.running():
                journal.workers.deregister(worker)
                with pytest.raises(RunFailed, match="died"):
                    handle.result(timeout=10)
