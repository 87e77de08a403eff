"""Here lives the list of what has been declared in this process.

Declaring is importing: a decorator registers, and a worker imports the modules it was told to (`load_modules`).
Reloading a module replaces what it declared; two different pieces of code under one name are refused.
"""

import importlib
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, Protocol, TypeVar

from continuum.declare.checks import finish_checks
from continuum.errors import ConfigError, DeclarationError, DuplicateName
from continuum.model.patches import PatchSite
from continuum.model.policies import ActivityPolicy
from continuum.replay.entry import Entry

__all__ = [
    "REGISTRY",
    "ActivityDeclaration",
    "Declaration",
    "Registry",
    "WorkflowDeclaration",
    "is_missing",
    "load_modules",
]


class Declaration(Protocol):
    """What every declaration says about itself."""

    @property
    def name(self) -> str:
        """The name in histories."""

    @property
    def place(self) -> str:
        """``module:qualname`` of the code."""

    @property
    def location(self) -> str:
        """``file:line`` of the code."""


class ActivityDeclaration(Declaration, Protocol):
    """An activity as those see it who run it."""

    @property
    def policy(self) -> ActivityPolicy:
        """The rules it runs under unless the call says otherwise."""

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""

    @property
    def is_async(self) -> bool:
        """Whether it is an ``async def``."""

    @property
    def gives_up(self) -> bool:
        """Whether its failures are final unless it asks for another attempt by raising ``RetryAfter``."""

    def decode_arguments(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a recorded call. Raises ``CodecError``."""

    def encode_result(self, value: Any) -> str:
        """Return the payload of a result. Raises ``CodecError``."""


class WorkflowDeclaration(Declaration, Protocol):
    """A workflow as those see it who start and turn its runs."""

    @property
    def version(self) -> int:
        """The declared version."""

    @property
    def hash(self) -> str:
        """The fingerprint of its code."""

    @property
    def source(self) -> str:
        """Its source text and that of its helpers."""

    @property
    def contract(self) -> str | None:
        """The contract of its signals, None if it declares none and takes any."""

    @property
    def patches(self) -> tuple[PatchSite, ...]:
        """Where it asks ``patched("id")``."""

    @property
    def snapshots(self) -> int | Literal[False] | None:
        """After how many events its runs get a snapshot; False for never, None for what the instance says."""

    @property
    def entry(self) -> Entry:
        """What replay needs."""

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the payload of a start. Raises ``TypeError``, ``CodecError``."""

    def read_input(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that a person wrote as JSON. Raises ``TypeError``, ``CodecError``."""

    def decode_result(self, payload: str) -> Any:
        """Return the value a run ended with. Raises ``CodecError``."""


_D = TypeVar("_D", bound=Declaration)


class Registry:
    """Workflows by name and version, activities by name. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._activities: dict[str, ActivityDeclaration] = {}
        self._workflows: dict[str, dict[int, WorkflowDeclaration]] = {}

    def register_activity(self, activity: ActivityDeclaration) -> None:
        """Add an activity. Raises ``DuplicateName`` if other code has its name."""
        with self._lock:
            _check_free(self._activities.get(activity.name), activity, f"activity {activity.name!r}")
            self._activities[activity.name] = activity

    def register_workflow(self, workflow: WorkflowDeclaration) -> None:
        """Add a version of a workflow. Raises ``DuplicateName`` if other code has its name and version."""
        with self._lock:
            versions = self._workflows.setdefault(workflow.name, {})
            known = versions.get(workflow.version)
            _check_free(known, workflow, f"workflow {workflow.name!r}, version {workflow.version}")
            versions[workflow.version] = workflow

    def find_activity(self, name: str) -> ActivityDeclaration | None:
        """Return the activity of this name."""
        return self._activities.get(name)

    def get_activity(self, name: str) -> ActivityDeclaration:
        """Return the activity of this name. Raises ``DeclarationError`` if none is declared here."""
        found = self.find_activity(name)
        if found is None:
            raise DeclarationError(_unknown("activity", name, self._activities))
        return found

    def find_workflow(self, name: str, version: int | None = None) -> WorkflowDeclaration | None:
        """Return a workflow's given version, or its highest."""
        versions = self._workflows.get(name)
        if not versions:
            return None
        return versions[max(versions)] if version is None else versions.get(version)

    def get_workflow(self, name: str, version: int | None = None) -> WorkflowDeclaration:
        """Return a workflow's given version, or its highest. Raises ``DeclarationError`` if it is not declared here."""
        found = self.find_workflow(name, version)
        if found is None:
            if self._workflows.get(name):
                known = ", ".join(str(number) for number in sorted(self._workflows[name]))
                raise DeclarationError(f"workflow {name!r} has no version {version} here; declared: {known}.")
            raise DeclarationError(_unknown("workflow", name, self._workflows))
        return found

    def activities(self) -> list[ActivityDeclaration]:
        """Return all activities, by name."""
        with self._lock:
            return [self._activities[name] for name in sorted(self._activities)]

    def workflows(self) -> list[WorkflowDeclaration]:
        """Return all versions of all workflows, by name and version."""
        with self._lock:
            return [
                versions[number] for _name, versions in sorted(self._workflows.items()) for number in sorted(versions)
            ]


REGISTRY: Final = Registry()
"""The registry of the decorators, one per process."""


def is_missing(name: str, error: ModuleNotFoundError) -> bool:
    """Whether a module could not be imported because it does not exist itself, nor a package it stands in."""
    return error.name is not None and (name == error.name or name.startswith(f"{error.name}."))


def load_modules(names: Iterable[str]) -> None:
    """Import modules, so that what they declare is known here.

    Raises ``ConfigError`` naming the module that does not exist, ``DeterminismError`` if a workflow cannot be replayed
    for what stands below it in its module; what a module itself raises comes through.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not is_missing(name, error):
                raise  # one of its own imports
            raise ConfigError(
                f"modules: there is no module {name!r} here; write its dotted name as in an import statement,"
                " and start the process where it can be imported."
            ) from error
    finish_checks()


def _check_free(known: _D | None, new: _D, what: str) -> None:
    if known is not None and known.place != new.place:
        raise DuplicateName(
            f"two declarations of {what}: {known.place} ({known.location}) and {new.place} ({new.location})."
            " Give one of them another name=."
        )


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    some = ", ".join(sorted(known)[:10]) or "none"
    return f"no {what} {name!r} is declared in this process; import its module first. Declared: {some}."
