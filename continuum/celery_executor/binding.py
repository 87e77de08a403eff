"""Here lives which Celery app belongs to which instance: found when first needed, never at import.

A user's module makes an instance and an app in either order, and is imported by dispatchers, web processes and Celery
workers alike. So nothing here reads an app's configuration or finalizes it before somebody works: that would freeze
settings which the module's next lines still change.

An executor lives as long as its instance. One that is attached to an app lives as long as the app: a Celery worker
keeps nothing else.
"""

import logging
import threading
import warnings
import weakref
from datetime import timedelta
from typing import Any, Final, cast

from celery import Celery, _state
from celery.exceptions import NotConfigured

from continuum.celery_executor.checks import Finding, uri_of
from continuum.celery_executor.inspection import examine
from continuum.celery_executor.transport import CeleryTransport
from continuum.client.instance import Continuum
from continuum.errors import ConfigError
from continuum.runtime.transport import Transport

__all__ = ["CeleryExecutor", "bind", "find_executor", "list_executors"]

log = logging.getLogger("continuum.celery")

_PINS: Final = "_continuum_instances"


class CeleryExecutor:
    """What an instance has to do with Celery. Made by :func:`bind`, one per instance; opens nothing by itself."""

    def __init__(self, instance: Continuum) -> None:
        self._instance = weakref.ref(instance)
        self._app: Celery | None = None

    def __repr__(self) -> str:
        instance = self._instance()
        return f"<CeleryExecutor {'(gone)' if instance is None else repr(instance.settings.name)}>"

    @property
    def instance(self) -> Continuum:
        """The instance: journal, registry and settings come from here."""
        instance = self._instance()
        if instance is None:
            message = "the Continuum instance of this executor does not exist any more: keep it in a module variable."
            raise ConfigError(message)
        return instance

    def attach(self, app: Celery) -> None:
        """Use this app, and no other. Reads nothing of its configuration yet."""
        if not isinstance(app, Celery):
            message = f"init_celery({app!r}) is not valid: write the Celery app, as in init_celery(app)."
            raise ConfigError(message)
        self._app = app
        instance = self.instance
        # The app holds the instance: in a Celery worker nobody else may.
        pins = cast("list[Any]", app.__dict__.setdefault(_PINS, []))
        if not any(pin is instance for pin in pins):
            pins.append(instance)

    def twin(self, instance: Continuum) -> "CeleryExecutor":
        """Return an executor on the same app for another instance, which no Celery worker finds."""
        other = CeleryExecutor(instance)
        other._app = self._app
        return other

    @property
    def attached(self) -> Celery | None:
        """The app that is known already."""
        return self._app

    @property
    def app(self) -> Celery:
        """The attached app, else the current one. Raises ``ConfigError`` if nobody configured one."""
        if self._app is None:
            self._app = _find_app(self.instance.settings.name)
        return self._app

    @property
    def eager(self) -> bool:
        """Whether the app runs tasks at once where they are called; then there is nothing to publish."""
        return bool(self.app.conf.task_always_eager)

    def transport(self) -> Transport | None:
        """Return a transport of its own connection, not connected; None if the app is eager."""
        if self.eager:
            return None
        instance = self.instance
        return CeleryTransport(self.app, settings=instance.settings, registry=instance.registry)

    def describe(self) -> dict[str, str]:
        """Return what people want to know of it, in a few words each. Raises ``ConfigError`` if there is no app."""
        app = self.app
        broker = "none: the app is eager" if self.eager else uri_of(app)
        return {"app": str(app.main), "broker": broker, "queue": self.instance.settings.queue}

    def examine(self, *, skew: timedelta) -> list[Finding]:
        """Return what is wrong with the setup, asking the broker and its workers; takes seconds.

        Raises ``ConfigError`` on what can never work. ``skew`` is this machine's clock less the database's.
        """
        return examine(self, skew=skew)


_executors: Final[weakref.WeakKeyDictionary[Continuum, CeleryExecutor]] = weakref.WeakKeyDictionary()
_lock: Final = threading.Lock()
_warned: Final[set[str]] = set()


def bind(instance: Continuum) -> CeleryExecutor:
    """Return the instance's executor, always the same one."""
    with _lock:
        executor = _executors.get(instance)
        if executor is None:
            executor = _executors[instance] = CeleryExecutor(instance)
        return executor


def find_executor(name: str) -> CeleryExecutor | None:
    """Return the executor of the instance of this name; of several the one made last, with a warning."""
    with _lock:
        found = [executor for instance, executor in _executors.items() if instance.settings.name == name]
        warn = len(found) > 1 and name not in _warned
        if warn:
            _warned.add(name)
    if warn:
        log.warning(
            "%d Continuum instances are named %r; Celery messages for that name go to the one made last."
            " Give each its own name=…",
            len(found),
            name,
        )
    return found[-1] if found else None


def list_executors() -> list[CeleryExecutor]:
    """Return the executors of all live instances, in the order they were made."""
    with _lock:
        return list(_executors.values())


def _find_app(name: str) -> Celery:
    """Return the current app. Raises ``ConfigError`` if there is none, or more than one that could be meant.

    Which app is current is kept per thread, and a dispatcher has threads of its own: there the only app is meant.
    """
    current = _state._tls.current_app  # noqa: SLF001 - asking for it in the open would make one
    if current is not None:
        return current
    fallback = _state.default_app
    if fallback is not None and not _is_made_up(fallback):
        return fallback
    apps = [app for app in list(_state._get_active_apps()) if not _is_made_up(app)]  # noqa: SLF001
    if len(apps) == 1:
        return apps[0]
    if apps:
        several = ", ".join(sorted(repr(app.main) for app in apps))
        message = f"found several Celery apps for the instance {name!r} ({several}); call continuum.init_celery(app)"
        raise ConfigError(message)
    # Without any app Celery makes one up, configured by a module celeryconfig.py or by the environment.
    fallback = _state.get_current_app()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConfigured)
        configured = bool(fallback.conf.broker_url or fallback.conf.broker_write_url)
    if configured:
        return fallback
    message = f"found no Celery app for the instance {name!r}; call continuum.init_celery(app)"
    raise ConfigError(message)


def _is_made_up(app: Celery) -> bool:
    """Whether this is the app that Celery makes for a process that has none."""
    return app is _state.default_app and app.main == "default" and not app.set_as_current
