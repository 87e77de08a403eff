"""Here live an instance's options among the settings of a Celery app: ``CONTINUUM_*`` beside ``CELERY_*``."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any, Final

from celery import Celery

from continuum.config import DATABASE_URL, Settings
from continuum.errors import ConfigError

__all__ = ["options_of"]

_PREFIX: Final = "CONTINUUM_"
# Read from the environment by commands and tests; a settings module that takes everything from there may repeat them.
_ELSEWHERE: Final = frozenset({"CONTINUUM_APP"})
_OPTIONS: Final = {
    DATABASE_URL if spec.name == "url" else f"{_PREFIX}{spec.name.upper()}": spec.name for spec in fields(Settings)
}


def options_of(app: Any) -> dict[str, Any]:
    """Return the options among what an app was configured from; None counts as not given.

    Reads the module, object or mapping itself: the app's own configuration stays unread. Raises ``ConfigError`` on a
    name that is no option, with the near one, and on what is no app.
    """
    if not isinstance(app, Celery):
        raise ConfigError(f"for_celery({app!r}) is not valid: write the Celery app, as in for_celery(app).")
    source, where = _source_of(app)
    found = {}
    for name, value in source.items():
        if name in _ELSEWHERE or value is None:
            continue
        option = _OPTIONS.get(name)
        if option is None:
            ends = [known.removeprefix(_PREFIX) for known in _OPTIONS]  # the prefix alone would make all of them near
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), ends, n=1)
            advice = f"Did you mean {_PREFIX}{near[0]}?" if near else f"There are {', '.join(sorted(_OPTIONS))}."
            raise ConfigError(f"{where}: {name} is no setting of Continuum. {advice}")
        found[option] = value
    return found


def _source_of(app: Celery) -> tuple[dict[str, Any], str]:
    source = app._config_source  # noqa: SLF001 - what config_from_object() was given; app.conf would freeze it
    if source is None:
        return {}, ""
    where = source if isinstance(source, str) else getattr(source, "__name__", "the settings")
    if isinstance(source, str):
        source = _import(app, source)
    if isinstance(source, Mapping):
        return {name: value for name, value in source.items() if _is_ours(name)}, where
    names = vars(source) if isinstance(source, ModuleType) else dir(source)
    return {name: getattr(source, name) for name in names if _is_ours(name)}, where


def _import(app: Celery, path: str) -> Any:
    try:
        return app.loader._smart_import(path, imp=app.loader.import_from_cwd)  # noqa: SLF001 - as the app will
    except (ImportError, AttributeError) as error:
        if getattr(app, "_config_source_silent", False):  # what older releases forget
            return {}
        raise ConfigError(f"the Celery app {app.main!r} is configured from {path!r}: {error}.") from error


def _is_ours(name: object) -> bool:
    return isinstance(name, str) and name.startswith(_PREFIX)
