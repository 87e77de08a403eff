"""Here lives reading what a Celery task says about itself, without waking its app.

``@app.task`` returns a promise and ``@shared_task`` a proxy. Touching either makes the task: that reads the app's
configuration, or finalizes the app, or makes a default app where there is none yet, while the module that declares
the task is still being imported. So an unborn task is read where its proxy keeps what the decorator was given, and is
made when it first runs. What cannot be read so is made at once.
"""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import msgspec
from celery import Celery, _state
from celery import Task as CeleryTask
from celery.canvas import Signature
from celery.local import PromiseProxy, Proxy
from kombu.utils.imports import symbol_by_name

from continuum.celery_executor.binding import list_executors
from continuum.celery_executor.messages import TASK_NAME
from continuum.errors import DeclarationError

__all__ = ["Source", "read_source"]

_PYDANTIC: Final = "pydantic"


class Source(msgspec.Struct, frozen=True):
    """A Celery task, made or not yet.

    :ivar function: the function it runs, as its author wrote it.
    :ivar signature: what its callers pass.
    :ivar find: returns the task, and makes it if need be.
    """

    name: str
    function: types.FunctionType
    signature: inspect.Signature
    options: Mapping[str, Any]
    base: type
    validates: bool
    find: Callable[[], CeleryTask]

    def option(self, name: str) -> Any:
        """Return an option of the task: the decorator's, else its base class's."""
        given = self.options.get(name)
        return getattr(self.base, name, None) if given is None and name not in self.options else given


def read_source(task: Any) -> Source:
    """Return what is to be known of a task. Raises ``DeclarationError`` if it is none."""
    kind = type(task)
    if kind is PromiseProxy and not task.__evaluated__():
        found = _read_promise(task)
    elif kind is Proxy:
        found = _read_shared(task)
    else:
        found = None
    if found is not None:
        return found
    made = task._get_current_object() if kind in {PromiseProxy, Proxy} else task  # noqa: SLF001 - how proxies are left
    return _read_task(made)


def _read_task(task: Any) -> Source:
    if isinstance(task, Signature):
        raise DeclarationError(
            f"from_celery({task!r}): that is a signature; pass the task, and the arguments where a workflow calls it."
        )
    if not isinstance(task, CeleryTask):
        what = "a task class: pass the task that app.register_task() returned" if inspect.isclass(task) else "no task"
        raise DeclarationError(f"from_celery({task!r:.200}): {what}. It takes what @app.task or @shared_task made.")
    run = task.run
    chain = list(_layers(run))
    function = _function(chain[-1], task.name)
    return Source(
        name=task.name,
        function=function,
        signature=inspect.signature(run),
        options={},
        base=type(task),
        validates=any(map(_is_validator, chain)),
        find=lambda: task,
    )


def _read_promise(task: Any) -> Source | None:
    make = _slot(task, "local")
    app, arguments, options = getattr(make, "__self__", None), _slot(task, "args"), _slot(task, "kwargs")
    if not isinstance(app, Celery) or len(arguments or ()) != 1:
        return None
    find = task._get_current_object  # noqa: SLF001 - how proxies are left
    return _read_unborn(arguments[0], options or {}, app=app, find=find)


def _read_shared(task: Any) -> Source | None:
    scope = _closure(_slot(task, "local"))
    function = scope.get("fun")
    if function is None or not inspect.isfunction(function):
        return None
    for finalizer in list(_state._on_app_finalizers):  # noqa: SLF001 - only there are the options kept
        known = _closure(finalizer)
        if known.get("fun") is function and isinstance(known.get("options"), Mapping):
            options = known["options"]
            return _read_unborn(function, options, app=None, find=_finder(function, options.get("name")))
    return None


def _read_unborn(
    function: Any, options: Mapping[str, Any], *, app: Celery | None, find: Callable[[], CeleryTask]
) -> Source | None:
    if not inspect.isfunction(function) or function.__module__ == "__main__":
        return None  # the name of the latter depends on the app
    name = options.get("name")
    if name is None:
        if app is None and _shop_app() is not None:
            app = _shop_app()
        module, called = function.__module__, function.__name__
        name = f"{module}.{called}" if app is None else app.gen_task_name(called, module)
    signature = inspect.signature(function)
    if options.get("bind"):
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    return Source(
        name=name,
        function=_function(inspect.unwrap(function), name),
        signature=signature,
        options=dict(options),
        base=options.get("base") or _base_of(app),
        validates=options.get(_PYDANTIC) is True,
        find=find,
    )


def _finder(function: Any, name: str | None) -> Callable[[], CeleryTask]:
    """Return how to find the shop's copy of a shared task. Most threads have no current app."""

    def find() -> CeleryTask:
        app = _shop_app() or _state.get_current_app()
        return app.tasks[name or app.gen_task_name(function.__name__, function.__module__)]

    return find


def _shop_app() -> Celery | None:
    carrier = _state.get_current_worker_task()
    if carrier is not None and carrier.name == TASK_NAME:
        return carrier.app  # the message came to this app's worker; a process may have others
    current = _state._tls.current_app  # noqa: SLF001 - asking for the current app would make one
    attached = [executor.attached for executor in list_executors() if executor.attached is not None]
    return current or (attached[-1] if attached else None) or _state.default_app or _only_app()


def _only_app() -> Celery | None:
    apps = list(_state._get_active_apps())  # noqa: SLF001 - as shared_task does
    return apps[0] if len(apps) == 1 else None


def _base_of(app: Celery | None) -> type:
    found = CeleryTask if app is None else app.__dict__.get("Task") or symbol_by_name(app.task_cls)
    return cast("type", found)


def _layers(run: Any) -> Iterator[Any]:
    """Yield a task's ``run`` and what it wraps, down to what its author wrote."""
    while run is not None:
        run = getattr(run, "__func__", run)
        yield run
        run = getattr(run, "__wrapped__", None)


def _is_validator(layer: Any) -> bool:
    """Whether this is what ``pydantic=True`` puts around a function: dicts become models in it, and back."""
    scope = getattr(layer, "__globals__", {})
    return scope.get("__name__") == "celery.app.base" and "pydantic_wrapper" in scope


def _function(found: Any, name: str) -> types.FunctionType:
    if not inspect.isfunction(found):
        raise DeclarationError(f"from_celery: Celery task {name} runs {found!r:.200}, which is no Python function.")
    return found


def _slot(proxy: Any, name: str) -> Any:
    try:
        return object.__getattribute__(proxy, f"_Proxy__{name}")
    except AttributeError:
        return None


def _closure(function: Any) -> dict[str, Any]:
    code = getattr(function, "__code__", None)
    if code is None:
        return {}
    try:
        return {
            name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
        }
    except ValueError:  # a name that is not bound yet
        return {}
