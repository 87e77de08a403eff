"""Here lives what the entry point ``continuum.executors: celery`` names."""

from importlib import import_module
from typing import Any, Final

import celery
from celery import Celery, _state

from continuum.celery_executor import binding
from continuum.celery_executor.binding import CeleryExecutor
from continuum.declare.executors import Adapted
from continuum.errors import ConfigError

__all__ = ["adapt", "bind", "check", "options_of"]

_OLDEST: Final = (5, 3)
_TOO_NEW: Final = 6

# Each has ``register(app)``: it puts what it brings on an app, which may be finalized or just being finalized. Called
# for every app there is or will be; imported only then, because they bring Celery's worker along, which a process that
# only starts workflows can do without.
_PARTS: Final = ("tasks", "starts", "lifecycle")


def check() -> None:
    """Raise ``ConfigError`` if the installed Celery is not one we know."""
    numbers = tuple(int(part) for part in celery.__version__.split(".")[:2])
    if numbers < _OLDEST or numbers[0] >= _TOO_NEW:
        message = (
            f"Celery {celery.__version__} is installed; executor='celery' needs 5.3 or later, below 6:"
            " pip install 'celery>=5.3,<6'"
        )
        raise ConfigError(message)


def bind(instance: Any) -> CeleryExecutor:
    """Return the instance's executor, and see to it that every Celery app has our tasks. Connects to nothing."""
    executor = binding.bind(instance)
    _state.connect_on_app_finalize(_equip)  # a set: the same function is connected once
    for app in list(_state._get_active_apps()):  # noqa: SLF001 - as shared_task does
        if app.finalized:
            _equip(app)
    return executor


def adapt(task: Any) -> Adapted:
    """Return a Celery task as the parts of an activity. Raises ``DeclarationError``."""
    adapted: Adapted = import_module("continuum.celery_executor.adaptor").adapt(task)
    return adapted


def options_of(app: Celery) -> dict[str, Any]:
    """Return the options ``CONTINUUM_*`` of what an app was configured from."""
    options: dict[str, Any] = import_module("continuum.celery_executor.configured").options_of(app)
    return options


def _equip(app: Celery) -> None:
    for part in _PARTS:
        import_module(f"continuum.celery_executor.{part}").register(app)
