"""Fixtures of the Celery executor's unit tests: a journal in memory, with tasks that were dispatched; an app."""

from collections.abc import Iterator

import pytest
from celery import Celery, _state

from tests.support.celery_bench import CeleryBench


@pytest.fixture
def celery_bench() -> Iterator[CeleryBench]:
    """Yield a bench whose instance, journal and worker are its own."""
    made = CeleryBench()
    yield made
    made.close()


@pytest.fixture
def app() -> Iterator[Celery]:
    """Yield an app that is nobody's current one, and whose broker is not there; as if no other had been made."""
    before = _state._tls.current_app, _state.default_app, set(_state._on_app_finalizers)
    _state._tls.current_app = _state.default_app = None
    made = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)
    yield made
    made.close()
    _state._tls.current_app, _state.default_app, finalizers = before
    _state._on_app_finalizers.intersection_update(finalizers)  # tasks of one test are none of the next one's
