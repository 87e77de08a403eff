"""Here lives the shell of ``celery -A shop continuum …``: which instance belongs to that Celery app."""

from typing import Any

from continuum.celery_executor.binding import list_executors
from continuum.cli.shell import Shell
from continuum.client.instance import Continuum
from continuum.errors import ConfigError

__all__ = ["CeleryShell"]


class CeleryShell(Shell):
    """A shell whose ``-A`` was given to ``celery``."""

    module = "celery"

    def __init__(self, celery_app: Any, *, name: str | None) -> None:
        super().__init__()
        self._celery_app = celery_app
        self._name = name
        self.app = str(celery_app.main or "")

    def find_instance(self) -> Continuum:
        """Return the Celery app's instance. Raises ``ConfigError`` if there is none, or there are several."""
        found = self._named(self._instances())
        changes = {"url": self.database_url, "schema": self.schema}
        given = {option: value for option, value in changes.items() if value is not None}
        return found.with_options(**given) if given else found

    def _instances(self) -> list[Continuum]:
        app = self._celery_app
        app.loader.import_default_modules()  # what a worker imports before it looks around
        found = []
        for executor in list_executors():
            try:
                if executor.app is app:
                    found.append(executor.instance)
            except ConfigError:
                continue  # another one, that has no app
        return found

    def _named(self, instances: list[Continuum]) -> Continuum:
        names = ", ".join(sorted(repr(instance.settings.name) for instance in instances))
        if self._name is not None:
            instances = [instance for instance in instances if instance.settings.name == self._name]
            if not instances:
                raise ConfigError(
                    f"the Celery app {self.app!r} has no Continuum instance named {self._name!r}; it has"
                    f" {names or 'none at all'}."
                )
        if not instances:
            raise ConfigError(
                f"the Celery app {self.app!r} has no Continuum instance. Write Continuum.for_celery(app), or"
                " Continuum(…).init_celery(app), in a module that it imports."
            )
        if len(instances) > 1:
            raise ConfigError(
                f"the Celery app {self.app!r} has several Continuum instances: {names}. Say which: celery -A …"
                " continuum --instance NAME …, and give each its own name=."
            )
        return instances[0]
