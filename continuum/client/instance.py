"""Here lives :class:`Continuum`, the instance: its configuration, its calls, and the engine embedded in a process."""

import dataclasses
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, Unpack

from continuum.client.access import Access
from continuum.client.aio import AsyncCalls
from continuum.client.calls import Calls
from continuum.client.checks import check_timeout
from continuum.client.options import Options
from continuum.client.starts import find_workflow
from continuum.config import Settings, settings_from
from continuum.declare.executors import LOCAL, load_provider
from continuum.declare.registry import REGISTRY, Registry, WorkflowDeclaration
from continuum.journal.open import migrate_database, start_embedded_database
from continuum.journal.protocol import Journal
from continuum.runtime.instance import Dispatcher

__all__ = ["Continuum", "Readiness", "ReadinessState"]

CELERY: Final = "celery"


class ReadinessState(StrEnum):
    """Where the dispatchers embedded in this process stand."""

    NOT_STARTED = "not_started"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DRAINED = "drained"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether this process does work now, and what each of its dispatchers says."""

    ready: bool
    state: ReadinessState
    dispatchers: tuple[dict[str, Any], ...] = ()


class Continuum(Calls):
    """One instance of Continuum: a database, and what is declared in this process.

    ``url`` is the database, by default ``CONTINUUM_DATABASE_URL``; the options are those of
    :class:`~continuum.config.Settings`. ``engine`` is a SQLAlchemy engine to use instead of a pool of our own.
    ``registry`` and ``journal`` are for tests. Raises ``ConfigError`` on what is wrong or unknown; connects to nothing
    until it has to. Safe to share between threads, and after a fork.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        engine: Any = None,
        registry: Registry | None = None,
        journal: Journal | None = None,
        _like: "Continuum | None" = None,
        **options: Unpack[Options],
    ) -> None:
        settings = settings_from({"url": url, **options})
        super().__init__(Access(settings, registry=registry or REGISTRY, journal=journal, engine=engine))
        self.aio: Final = AsyncCalls(self)
        self._embedded: Any = None
        self._access.forked = self._have_no_dispatchers
        self._have_no_dispatchers()
        self._executors: dict[str, Any] = {}
        if _like is not None:
            self._executors.update({name: executor.twin(self) for name, executor in _like.executors.items()})
        if settings.executor != LOCAL:
            self._bind(settings.executor)  # says at once what is missing

    def __repr__(self) -> str:
        return f"<Continuum {self.settings.name!r}>"

    @classmethod
    def dev(cls, directory: str | Path | None = None, **options: Unpack[Options]) -> Self:
        """Return an instance on a Postgres that it starts by itself, migrated; for development and demonstrations.

        With a ``directory`` the data stay there; without one they disappear with the instance. The server stops when
        the instance is closed, or its process ends. Raises ``ConfigError`` if there are no Postgres binaries.
        """
        path = None if directory is None else Path(directory)
        server = start_embedded_database(path, persistent=path is not None)
        try:
            instance = cls(server.url, **options)
            instance.migrate()
        except BaseException:
            server.stop()
            raise
        instance._embedded = server
        return instance

    @classmethod
    def for_celery(cls, app: Any, url: str | None = None, **options: Unpack[Options]) -> Self:
        """Return an instance whose activities run in the workers of a Celery app, configured beside that app.

        Whatever the app was configured from (``app.config_from_object(…)``, Django's settings included) may have
        ``CONTINUUM_DATABASE_URL``, ``CONTINUUM_QUEUE`` and so on, one for each option; arguments given here win. Call
        it behind ``app.config_from_object(…)``. Raises ``ConfigError`` on a ``CONTINUUM_`` name that is no option.
        """
        provider: Any = load_provider(CELERY)
        found: dict[str, Any] = {"executor": CELERY, **provider.options_of(app), **options}
        configured = found.pop("url", None)
        return cls(url or configured, **found).init_celery(app)

    def init_celery(self, app: Any) -> Self:
        """Use this Celery app for the activities with ``executor="celery"``; without it, the current app is used.

        Reads nothing of the app's configuration yet. Raises ``ConfigError`` on what is no Celery app.
        """
        self._bind(CELERY).attach(app)
        return self

    def with_options(self, **changes: Any) -> Self:
        """Return another instance, not connected, that is like this one but for some options (``url`` included).

        Workers of executors do not know it: what it publishes, they run on the instance of the same name they have.
        """
        known = {spec.name: getattr(self.settings, spec.name) for spec in dataclasses.fields(Settings)}
        return type(self)(registry=self.registry, _like=self, **{**known, **changes})

    @property
    def executors(self) -> Mapping[str, Any]:
        """The executors outside this process that this instance uses so far, by name."""
        return self._executors

    @property
    def settings(self) -> Settings:
        """The validated configuration."""
        return self._access.settings

    @property
    def registry(self) -> Registry:
        """What this instance knows to be declared."""
        return self._access.registry

    def get_workflow(self, name: str) -> WorkflowDeclaration:
        """Return the declared workflow of this name, its highest version. Raises ``ConfigError``."""
        return find_workflow(self._access, name)

    @property
    def journal(self) -> Journal:
        """The open journal. Raises ``ConfigError``, ``JournalUnavailable``, ``SchemaOutdated``."""
        return self._access.journal

    @property
    def url(self) -> str:
        """The database's URL. Raises ``ConfigError`` if there is none."""
        return self.settings.require_url()

    def import_modules(self) -> None:
        """Import ``modules=[…]``, so that what they declare is known. Raises ``ConfigError`` if one is missing."""
        self._access.import_modules()

    def migrate(self) -> None:
        """Bring the database's schema up to this release. Raises ``ConfigError``, ``JournalUnavailable``."""
        migrate_database(self.url, schema=self.settings.schema)

    # -------------------------------------------------------------- the engine in this process

    def dispatcher(self, *, activities: bool = True, **overrides: Any) -> Dispatcher:
        """Return a dispatcher on this instance, not started; ``overrides`` replace settings.

        Raises ``ConfigError`` on a wrong one, and what opening the journal and importing ``modules`` raise.
        """
        settings = self.settings
        if overrides:
            known = {spec.name: getattr(settings, spec.name) for spec in dataclasses.fields(settings)}
            settings = settings_from({**known, **overrides})
        self._access.import_modules()
        return Dispatcher(
            settings,
            self._access.journal,
            self._access.registry,
            activities=activities,
            transports=lambda executor: self._bind(executor).transport(),
        )

    @contextmanager
    def running(self, *, activities: bool = True, **overrides: Any) -> Iterator[Dispatcher]:
        """Run the engine inside this process for the block, and drain it at the end."""
        dispatcher = self.dispatcher(activities=activities, **overrides)
        with self._lock:
            self._dispatchers.append(dispatcher)
            self._state = ReadinessState.STARTING
        try:
            dispatcher.start()
            with self._lock:
                self._state = ReadinessState.READY
            yield dispatcher
        finally:
            self._drain(dispatcher, self.settings.drain_timeout.total_seconds())

    def drain(self, timeout: float | timedelta | None = None) -> bool:
        """End what runs in this process in good order: no new work, turns and activities finish, leases are returned.

        Return whether all of it ended within ``timeout`` (seconds; default ``drain_timeout``). Runs that are still
        under way are taken up by another dispatcher, or by this process when it runs again.
        """
        seconds = check_timeout(timeout)
        if seconds is None:
            seconds = self.settings.drain_timeout.total_seconds()
        with self._lock:
            dispatchers = list(self._dispatchers)
        done = [self._drain(dispatcher, seconds) for dispatcher in dispatchers]
        return all(done)

    def readiness(self) -> Readiness:
        """Say whether this process's embedded engine takes work."""
        with self._lock:
            dispatchers, state = list(self._dispatchers), self._state
        ready = state is ReadinessState.READY and all(dispatcher.ready for dispatcher in dispatchers)
        if state is ReadinessState.READY and not ready:
            state = ReadinessState.STARTING
        return Readiness(ready=ready, state=state, dispatchers=tuple(dispatcher.status() for dispatcher in dispatchers))

    def close(self) -> None:
        """Drain what runs in this process and close all connections; waiting results raise. A later call reopens."""
        self.drain()
        self._access.close()
        server, self._embedded = self._embedded, None
        if server is not None:
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bind(self, name: str) -> Any:
        """Return an executor outside this process. Raises ``ConfigError`` if nobody provides it."""
        executor = self._executors.get(name)
        if executor is None:
            executor = self._executors[name] = load_provider(name).bind(self)
        return executor

    def _have_no_dispatchers(self) -> None:
        """At first, and after a fork: the dispatchers and their leases are the parent's, and not ours to drain."""
        self._lock = threading.Lock()
        self._dispatchers: list[Dispatcher] = []
        self._state = ReadinessState.NOT_STARTED

    def _drain(self, dispatcher: Dispatcher, seconds: float) -> bool:
        with self._lock:
            if dispatcher not in self._dispatchers:
                return True
            self._state = ReadinessState.DRAINING
        done = dispatcher.drain(seconds)
        if not done:
            dispatcher.stop_now()
        with self._lock:
            if dispatcher in self._dispatchers:
                self._dispatchers.remove(dispatcher)
            self._state = ReadinessState.READY if self._dispatchers else ReadinessState.DRAINED
        return done
