"""Here lives ``@activity``: a function that may touch the world, and how workflows call it."""

import copy
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from continuum.declare.annotations import hints_of, signature_of
from continuum.declare.executors import load_provider
from continuum.declare.names import check_function, check_name, location_of, place_of
from continuum.declare.options import (
    CallOptions,
    DeclaredOptions,
    IdempotencyKey,
    check_key,
    check_key_function,
    check_known,
    policy_with,
)
from continuum.declare.registry import REGISTRY
from continuum.errors import DeclarationError
from continuum.model.codec import ArgumentsCodec, TypedCodec, codec_for
from continuum.model.policies import ActivityPolicy
from continuum.replay.effects.activity import ActivityFuture, plan, schedule
from continuum.replay.effects.base import get_running
from continuum.replay.loop import DeterministicLoop

__all__ = ["Activity", "CeleryTask", "Declarator", "activity"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_CONNECTION = "connection"


class Activity(Generic[P, R]):
    """A declared activity. Call it in a workflow to schedule it, elsewhere to run the function.

    To a type checker every call returns an awaitable of the function's result, which is what workflow code sees, for
    ``def`` and ``async def`` alike. Outside a workflow (unit tests, plain scripts) a call returns just what the
    function returns; write ``charge.function(...)`` there to have it typed so.

    :ivar name: its name in histories: ``module.qualname``, unless ``name=`` says otherwise.
    :ivar policy: the rules its calls run under.
    :ivar function: the function itself.
    :ivar is_async: whether it is an ``async def``.
    """

    is_declaration: ClassVar = True  # fingerprints do not follow it

    def __init__(
        self, function: Callable[P, Any], *, name: str, policy: ActivityPolicy, idempotency_key: IdempotencyKey = None
    ) -> None:
        functools.update_wrapper(self, function)
        self.name = name
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.place = place_of(function)
        self.location = location_of(function)
        self._codecs = _Codecs(function, name=name, transactional=policy.transactional)
        self._govern(policy, idempotency_key)

    def _govern(self, policy: ActivityPolicy, key: IdempotencyKey) -> None:
        if isinstance(key, str):
            check_key(key, activity=self.name)
        elif callable(key):
            check_key_function(key, signature_of(self.function), activity=self.name)
        elif key is not None:
            raise DeclarationError(
                f"idempotency_key={key!r} of {self.name} is not valid: write a text, or a function of the call's"
                " arguments that returns one."
            )
        if key is not None and policy.transactional:
            raise DeclarationError(
                f"{self.name} is transactional, so it has no idempotency_key: its result and what it writes through"
                " its connection commit together. To share results between runs, write them to a table there."
            )
        self.policy = policy
        self._policy_text = policy.encode()  # once per declaration rather than once per call
        self._key = key

    def __repr__(self) -> str:
        return f"<activity {self.name}>"

    @property
    def gives_up(self) -> bool:
        """Whether its failures are final unless it asks for another attempt by raising ``RetryAfter``."""
        return self.policy.retry.gives_up

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ActivityFuture[R]:
        """Schedule the activity (in a workflow), or run the function (elsewhere).

        In a workflow: raises ``TypeError`` on wrong arguments, ``CodecError`` on arguments that cannot be recorded,
        ``DeclarationError`` on an unusable idempotency key; nothing has been scheduled then. Awaiting the call raises
        ``ActivityFailed``, ``ActivityTimedOut`` or ``ActivityCancelled`` if the activity ends without a result.
        """
        if type(get_running()) is not DeterministicLoop:
            return cast("ActivityFuture[R]", self.function(*args, **kwargs))
        codecs = self._codecs
        bound, named, payload = codecs.arguments.record(args, kwargs)
        return schedule(
            self.name,
            payload,
            policy=self.policy,
            policy_text=self._policy_text,
            decode=codecs.result.decode,
            idempotency_key=None if self._key is None else self._key_of(bound, named),
        )

    def plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[int | None], ActivityFuture[R]]:
        """Bind and encode the arguments of a compensation; return what schedules it, given the command it undoes.

        Raises as a call does; what is returned then never does so.
        """
        codecs = self._codecs
        bound, named = codecs.arguments.bind(args, kwargs)
        return plan(
            self.name,
            codecs.arguments.encode(bound, named),
            policy=self.policy,
            policy_text=self._policy_text,
            decode=codecs.result.decode,
            idempotency_key=self._key_of(bound, named),
        )

    def _key_of(self, bound: tuple[Any, ...], named: dict[str, Any]) -> str | None:
        key = self._key
        if key is None:
            return None
        return check_key(key if isinstance(key, str) else key(*bound, **named), activity=self.name)

    def options(self, **overrides: Unpack[CallOptions]) -> "Activity[P, R]":
        """Return the activity with some options replaced, to be called like it; the declaration stays as it is.

        Raises ``TypeError`` on an option that does not exist, ``DeclarationError`` on a value that is not valid.
        """
        check_known(overrides, CallOptions, what=f"{self.name}.options()")
        given = dict(overrides)
        key = cast("IdempotencyKey", given.pop("idempotency_key", self._key))
        variant = copy.copy(self)
        variant._govern(policy_with(self.policy, given), key)  # noqa: SLF001 - it is one of us
        return variant

    def decode_arguments(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a recorded call. Raises ``CodecError``."""
        return self._codecs.arguments.decode(payload)

    def encode_result(self, value: Any) -> str:
        """Return the payload of what the function returned. Raises ``CodecError`` with the path of what cannot be."""
        return self._codecs.result.encode(value, where="result")


class _Codecs:
    """How calls of one function are recorded. Built when first used: an annotation may name what is defined later."""

    def __init__(self, function: Callable[..., Any], *, name: str, transactional: bool) -> None:
        self._function = function
        self._name = name
        self._transactional = transactional

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return hints_of(self._function)

    @functools.cached_property
    def arguments(self) -> ArgumentsCodec:
        signature = signature_of(self._function)
        if self._transactional:
            # The pool passes the connection; to callers the parameter does not exist.
            kept = [parameter for parameter in signature.parameters.values() if parameter.name != _CONNECTION]
            signature = signature.replace(parameters=kept)
        return ArgumentsCodec.for_signature(signature, self._hints, name=self._name)

    @functools.cached_property
    def result(self) -> TypedCodec:
        return codec_for(self._hints.get("return", Any))


class ActivityDecorator(Protocol):
    """What ``@activity(...)`` with options decorates."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Activity[P, R]: ...


class CeleryTask(Protocol[P, R_co]):
    """A Celery task, as far as a type checker has to know it."""

    @property
    def name(self) -> str:
        """Its name in Celery."""

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Do what it does."""


class Declarator:
    """Declare a function (``def`` or ``async def``) as an activity, with or without options.

    Options, each of which a call may override through ``.options(...)`` unless marked:

    - ``name`` (not per call): the name in histories; default ``module.qualname``.
    - ``retry``: a :class:`~continuum.model.policies.Retry`, or just the number of attempts. Default 3 attempts.
    - ``timeout``: longest time one attempt may take, a timedelta or seconds; default one hour, at most 24.
    - ``heartbeat_timeout``: longest silence between two heartbeats; default None, no limit.
    - ``queue``, ``priority`` (-1000 to 1000, higher first), ``executor``: where and when it runs.
    - ``idempotency_key``: a text, or a function that takes the arguments as the activity does and returns one (at most
      512 characters).
      Of all calls of this activity with the same key, in any run, the first success counts: the others get its result.
      Computed once, in workflow code, when the call is scheduled; the function must depend on its arguments only.
    - ``transactional`` (not per call; ``def`` only): the function receives a connection of the journal's database as
      its keyword ``connection``; what it writes there and its result commit together, exactly once.

    Raises ``DeclarationError`` on an option or function that cannot work, ``TypeError`` on an unknown option,
    ``DuplicateName`` if other code has the name.
    """

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, **options: Unpack[DeclaredOptions]) -> ActivityDecorator: ...
    def __call__(self, function: Any = None, /, **options: Any) -> Any:  # type: ignore[misc]  # it does take them all
        """Declare a function, or return what declares it with these options."""
        check_known(options, DeclaredOptions, what="@activity")
        if function is None:
            return functools.partial(_declare, options=options)
        return _declare(function, options=options)

    @overload
    def from_celery(
        self, task: CeleryTask[P, Coroutine[Any, Any, R]], /, **options: Unpack[CallOptions]
    ) -> Activity[P, R]: ...
    @overload
    def from_celery(self, task: CeleryTask[P, R], /, **options: Unpack[CallOptions]) -> Activity[P, R]: ...
    def from_celery(self, task: Any, /, **options: Any) -> Activity[..., Any]:
        """Declare an existing Celery task (what ``@app.task`` or ``@shared_task`` made), unchanged, as an activity.

        It has the task's name, runs the task's own code, and keeps the meaning of the task's options: ``bind``, base
        class, ``pydantic``, ``throws``, time limits, queue and routes; ``self.retry()``, ``autoretry_for`` and
        ``max_retries`` decide about further attempts, which the journal makes, and any other exception is final. With
        ``retry=`` every exception is tried again as that says. A task without a time limit may take 24 hours.

        Raises ``ConfigError`` if Celery is not installed, ``DeclarationError`` on what is no task or an option that
        cannot work, ``TypeError`` on an unknown option, ``DuplicateName`` if other code has the name.
        """
        check_known(options, CallOptions, what="from_celery()")
        adapted = load_provider("celery").adapt(task)
        return _register(adapted.function, name=adapted.name, options={**adapted.options, **options})


activity: Final = Declarator()


def _declare(function: Callable[..., Any], /, *, options: dict[str, Any]) -> Activity[..., Any]:
    check_function(function, what="activity")
    given = dict(options)
    name = check_name(given.pop("name", f"{function.__module__}.{function.__qualname__}"), what="name")
    return _register(function, name=name, options=given)


def _register(function: Callable[..., Any], *, name: str, options: dict[str, Any]) -> Activity[..., Any]:
    given = dict(options)
    key = given.pop("idempotency_key", None)
    policy = policy_with(ActivityPolicy(), given)
    if policy.transactional:
        _check_transactional(function)
    declared: Activity[..., Any] = Activity(function, name=name, policy=policy, idempotency_key=key)
    REGISTRY.register_activity(declared)
    return declared


def _check_transactional(function: Callable[..., Any]) -> None:
    name = function.__qualname__
    if inspect.iscoroutinefunction(function):
        raise DeclarationError(f"{name}: transactional=True needs a def; the journal's connection is not async.")
    parameters = signature_of(function).parameters
    found = parameters.get(_CONNECTION)
    if found is None:
        takes = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    else:
        takes = found.kind in {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if not takes:
        raise DeclarationError(
            f"{name}: transactional=True passes the keyword `connection`; add it, such as `*, connection: Any = None`."
        )
