"""The loop every background service has."""

import threading

from continuum.runtime.service import Service
from tests.support.eventually import eventually


class Sleeper(Service):
    """Sleeps until it is woken."""

    passes = 0

    def run_once(self) -> None:
        self.passes += 1


class StoppedInBetween(threading.Event):
    """A bell; at its second clearing, ``stop`` is called just before."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self._cleared = 0

    def clear(self) -> None:
        self._cleared += 1
        if self._cleared == 2:
            self._service.stop(0)
        super().clear()


def test_a_service_that_is_stopped_while_it_clears_its_bell_ends() -> None:
    service = Sleeper()
    service._bell = StoppedInBetween(service)
    service.start()
    eventually(lambda: service.passes == 1)
    service.wake()
    thread = service._thread
    assert thread is not None
    thread.join(5)
    alive = thread.is_alive()
    service.stop(5)
    assert not alive
    assert service.passes == 1
