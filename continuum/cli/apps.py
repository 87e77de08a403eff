"""Here lives finding the instance that ``-A`` names, the way Celery finds an app."""

import importlib
import os
from types import ModuleType
from typing import Any, Final

from continuum.cli.modules import look_here
from continuum.client.instance import Continuum
from continuum.declare.registry import is_missing
from continuum.errors import ConfigError

__all__ = ["find_instance"]

FAVOURITE: Final = "continuum"
# Where a package usually keeps it, if not in itself.
SUBMODULES: Final = ("continuum", "celery", "app", "flows", "workflows")


def find_instance(app: str | None, *, database_url: str | None = None, schema: str | None = None) -> Continuum:
    """Return the instance of an app, or one that knows the database only. Raises ``ConfigError``.

    ``app`` is ``module``, ``package`` or ``module:attribute``; the current directory can be imported from.
    """
    changes = {"url": database_url} if database_url is not None else {}
    if schema is not None:
        changes["schema"] = schema
    if app is None:
        return Continuum(**changes)  # type: ignore[arg-type]
    look_here()
    module_name, _, attribute = app.partition(":")
    module = _import(module_name, app)
    instance = _named(module, attribute, app) if attribute else _searched(module, app)
    return instance.with_options(**changes) if changes else instance


def _import(name: str, app: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if is_missing(name, error):
            message = (
                f"-A {app}: there is no module {error.name!r} here. Start where it can be imported (now in"
                f" {os.getcwd()}), or install it."  # noqa: PTH109
            )
            raise ConfigError(message) from None
        raise _broken(name, app, error) from error
    except Exception as error:
        raise _broken(name, app, error) from error


def _broken(name: str, app: str, error: Exception) -> ConfigError:
    return ConfigError(f"-A {app}: importing {name} failed: {type(error).__name__}: {error}")


def _named(module: ModuleType, path: str, app: str) -> Continuum:
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            message = f"-A {app}: {module.__name__} has no {path!r}."
            raise ConfigError(message)
        found = getattr(found, part)
    if not isinstance(found, Continuum):
        message = f"-A {app}: {path!r} is a {type(found).__name__}, not a Continuum."
        raise ConfigError(message)
    return found


def _searched(module: ModuleType, app: str) -> Continuum:
    places = [module]
    found = _instances(module)
    if not found and hasattr(module, "__path__"):
        for name in SUBMODULES:
            full = f"{module.__name__}.{name}"
            if importlib.util.find_spec(full) is None:
                continue
            submodule = _import(full, app)
            places.append(submodule)
            found = _instances(submodule)
            if found:
                break
    if FAVOURITE in found:
        return found[FAVOURITE]
    if not found:
        looked = ", ".join(place.__name__ for place in places)
        message = (
            f"-A {app}: found no Continuum instance in {looked}. Write `continuum = Continuum(...)` there, or name it:"
            f" -A {app}:attribute."
        )
        raise ConfigError(message)
    if len({id(instance) for instance in found.values()}) > 1:
        message = (
            f"-A {app}: found several instances; say which one: {', '.join(f'-A {app}:{name}' for name in found)}."
        )
        raise ConfigError(message)
    return next(iter(found.values()))


def _instances(module: ModuleType) -> dict[str, Continuum]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Continuum)}
