"""Here lives where an activity's messages go: its queue, and what Celery's own rules add to that.

The queue is named by the first of: the call or the declaration (``queue=``), the decorator of an adapted Celery task,
a route in ``task_routes`` that matches the activity's name, the instance. Whoever names it also says the exchange and
routing key; a route's exchange with a call's queue would be neither. Everything else (priority, compression, delivery
mode, headers) merges, nearer first. Continuum's own ``priority`` orders tasks in Postgres and is no business of a
broker, where 0 may mean first or last.

A task row stores only the queue's name, so a name must lead back to the destination it came from.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec
from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast

from continuum.celery_executor.messages import TASK_ATTRIBUTE
from continuum.config import Settings
from continuum.declare.registry import Registry
from continuum.journal.protocol import ATTEMPT_GRACE
from continuum.model.policies import ActivityPolicy

__all__ = ["Route", "Routes", "limits_of"]

log = logging.getLogger("continuum.celery")

_DESTINATION: Final = ("queue", "exchange", "routing_key", "exchange_type")
_EXTRA: Final = ("priority", "compression", "delivery_mode", "headers")
# What is published after a soft limit raised in the body: time to clean up and report, within the journal's grace.
_HARD_AFTER_SOFT: Final = ATTEMPT_GRACE / 2


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how messages are published.

    :ivar queue: the name stored with the task.
    :ivar entity: what to declare; None if there is nothing, or somebody else's.
    :ivar counted: whether ``queue`` is the name of a queue in the broker.
    :ivar soft: the adapted task's own soft time limit in seconds, as is :ivar hard: its hard one.
    """

    queue: str
    exchange: str = ""
    routing_key: str
    entity: Any = None
    counted: bool = True
    priority: int | None = None
    compression: str | None = None
    delivery_mode: Any = None
    headers: dict[str, Any] | None = None
    soft: float | None = None
    hard: float | None = None


class Routes:
    """The rules of one app and one instance. Asked once for each activity; safe to use from several threads."""

    def __init__(self, app: Celery, *, settings: Settings, registry: Registry) -> None:
        self._app = app
        self._settings = settings
        self._registry = registry
        self._own: dict[str, Route] = {}
        self._all: dict[tuple[str, str], Route] = {}

    def queue_of(self, activity: str, policy: ActivityPolicy) -> str:
        """Return the queue of a call."""
        return policy.queue or self._own_route(activity).queue

    def find(self, activity: str, queue: str) -> Route:
        """Return how to publish to a queue that :meth:`queue_of` has named."""
        key = (activity, queue)
        route = self._all.get(key)
        if route is None:
            own = self._own_route(activity)
            route = own if own.queue == queue else self._resolve(activity, queue)
            self._all[key] = route
        return route

    def is_counted(self, queue: str) -> bool:
        """Whether the name is that of a queue in the broker, as far as is known."""
        return all(route.counted for (_, name), route in list(self._all.items()) if name == queue)

    def _own_route(self, activity: str) -> Route:
        route = self._own.get(activity)
        if route is None:
            route = self._own[activity] = self._resolve(activity, None)
        return route

    def _resolve(self, activity: str, queue: str | None) -> Route:
        declared = self._registry.find_activity(activity)
        task = getattr(declared.function, TASK_ATTRIBUTE, None) if declared is not None else None
        decorated = _options_of(task, activity)
        sources = ({"queue": queue} if queue else {}, decorated, self._look_up(activity, decorated, task))
        destination = next(
            (source for source in sources if source.get("queue") or source.get("exchange")),
            {"queue": self._settings.queue},
        )
        extras = {name: value for source in reversed(sources) for name, value in source.items() if value is not None}
        parts = self._place(activity, destination) | {name: extras[name] for name in _EXTRA if name in extras}
        return Route(**parts, soft=decorated.get("soft_time_limit"), hard=decorated.get("time_limit"))

    def _look_up(self, activity: str, options: dict[str, Any], task: Any) -> dict[str, Any]:
        # A user's router may be any function; an activity without its route is better than a dispatcher without turns.
        try:
            route = self._app.amqp.router.lookup_route(activity, (), {}, dict(options), task)
        except Exception:
            log.exception("task_routes failed for activity %s: it is not routed", activity)
            return {}
        if not route:
            return {}
        return dict(route) if isinstance(route, Mapping) else {"queue": route}

    def _place(self, activity: str, destination: dict[str, Any]) -> dict[str, Any]:
        """Do with a destination what Celery does when it publishes."""
        queue, exchange, key = (destination.get(name) for name in ("queue", "exchange", "routing_key"))
        exchange = exchange.name if isinstance(exchange, Exchange) else exchange
        entity = self._entity(activity, queue) if queue else None
        if entity is None and exchange:
            return {
                "queue": f"{exchange}:{key or ''}",
                "exchange": exchange,
                "routing_key": key or "",
                "counted": False,
            }
        if entity is None:  # task_queues does not have it, and none may be added
            return {"queue": str(queue), "routing_key": str(queue)}
        kind = destination.get("exchange_type") or entity.exchange.type
        name = entity.name
        if (not exchange or not key) and kind == "direct":
            exchange, key = "", name
        else:
            exchange = exchange or entity.exchange.name or self._app.conf.task_default_exchange
            key = key or entity.routing_key or self._app.conf.task_default_routing_key
        return {
            "queue": name,
            "exchange": exchange,
            "routing_key": key,
            "entity": None if isinstance(entity, Broadcast) else entity,
            "counted": not isinstance(entity, Broadcast),
            "delivery_mode": entity.exchange.delivery_mode,
        }

    def _entity(self, activity: str, queue: Any) -> Any:
        if isinstance(queue, Queue):
            return queue
        try:
            return self._app.amqp.queues[str(queue)]
        except KeyError:
            log.warning(
                "the queue %r of activity %s is not in task_queues, and task_create_missing_queues is off:"
                " its messages go there if the broker has it",
                queue,
                activity,
            )
            return None


def limits_of(policy: ActivityPolicy, route: Route) -> tuple[float, float | None]:
    """Return the hard and the soft time limit of a message, in seconds.

    The soft one is the policy's timeout; the hard one comes a little later, for a body that does not listen. What an
    adapted task declares keeps its meaning: a hard limit without a soft one stays without.
    """
    timeout = policy.timeout / timedelta(seconds=1)
    hard = timeout + _HARD_AFTER_SOFT / timedelta(seconds=1)
    if route.hard is None and route.soft is None:
        return hard, timeout
    return min(hard, route.hard or hard), None if route.soft is None else min(timeout, route.soft)


def _options_of(task: Any, activity: str) -> dict[str, Any]:
    """Return what the decorator of an adapted Celery task says of its messages."""
    if task is None:
        return {}
    try:
        options: dict[str, Any] = task._get_exec_options()  # noqa: SLF001 - what apply_async itself starts from
    except Exception:
        log.exception("the options of the Celery task behind activity %s cannot be read: they are left out", activity)
        return {}
    return {name: value for name, value in options.items() if value is not None}
