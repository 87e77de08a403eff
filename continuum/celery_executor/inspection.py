"""Here lives looking at a Celery setup from outside: the app's configuration, its broker, and the workers behind it."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol

from celery import Celery

from continuum.celery_executor.checks import (
    Finding,
    broker_findings,
    check_app,
    clock_findings,
    find_settings,
    pool_findings,
)
from continuum.celery_executor.messages import TASK_NAME
from continuum.celery_executor.routes import Routes
from continuum.celery_executor.wires import connection_of
from continuum.client.instance import Continuum
from continuum.declare.registry import ActivityDeclaration

__all__ = ["Examined", "examine", "queues_of"]

# Workers that are well answer within milliseconds.
_ANSWER_SECONDS: Final = 1.5


class Examined(Protocol):
    """What an examination needs of an executor."""

    @property
    def instance(self) -> Continuum:
        """The instance."""

    @property
    def app(self) -> Celery:
        """Its app."""

    @property
    def eager(self) -> bool:
        """Whether nothing is published."""


def examine(executor: Examined, *, skew: timedelta) -> list[Finding]:
    """Return what is wrong with a setup. Raises ``ConfigError`` on what can never work."""
    app, instance = executor.app, executor.instance
    if executor.eager:
        message = "task_always_eager is set: activities run in the dispatcher's process, and nothing is published."
        return [Finding("eager", message)]
    check_app(app, queue=instance.settings.queue)
    found = [*find_settings(app), *clock_findings(skew)]
    away = broker_findings(app)
    return [*found, *away, *([] if away else _of_workers(app, queues_of(instance, app)))]


def queues_of(instance: Continuum, app: Celery) -> dict[str, list[str]]:
    """Return the queues this instance publishes to, each with the activities that go there."""
    routes = Routes(app, settings=instance.settings, registry=instance.registry)
    queues: dict[str, list[str]] = {}
    for activity in instance.registry.activities():
        if _executor_of(activity, instance) == "celery":
            queue = activity.policy.queue or routes.queue_of(activity.name, activity.policy)
            queues.setdefault(queue, []).append(activity.name)
    return queues


def _executor_of(activity: ActivityDeclaration, instance: Continuum) -> str:
    return activity.policy.executor or instance.settings.executor


def _of_workers(app: Celery, queues: Mapping[str, list[str]]) -> Iterator[Finding]:
    with connection_of(app) as connection:
        ask = app.control.inspect(timeout=_ANSWER_SECONDS, connection=connection)
        consumed: dict[str, Any] = ask.active_queues() or {}
        known: dict[str, Any] = ask.registered() or {}
        stats: dict[str, Any] = ask.stats() or {}
    if not consumed:
        names = ",".join(sorted(queues)) or "…"
        message = (
            f"no Celery worker answers: start one with celery -A … worker -Q {names}. (Those of brokers without"
            " fan-out, such as SQS, never answer.)"
        )
        yield Finding("no-worker", message)
        return
    served = {queue["name"] for each in consumed.values() for queue in each}
    for queue, activities in sorted(queues.items()):
        if queue not in served:
            some = ", ".join(activities[:3]) + (" …" if len(activities) > 3 else "")  # noqa: PLR2004 - enough to see
            message = f"no Celery worker takes from queue {queue!r} ({some}): start one with -Q {queue}."
            yield Finding("no-consumer", message)
    for worker, each in sorted(consumed.items()):
        if not {queue["name"] for queue in each} & set(queues):
            continue
        if TASK_NAME not in {name.split(" ")[0] for name in known.get(worker, ())}:
            message = (
                f"{worker} takes from an activity queue and does not know {TASK_NAME}: it throws our messages away."
                " Let its app import the module with the Continuum instance."
            )
            yield Finding("task-unknown", message, broken=True)
        pool = str(stats.get(worker, {}).get("pool", {}).get("implementation", "prefork"))
        for finding in pool_findings(pool):
            yield Finding(finding.code, f"{worker}: {finding.message}")
