"""Where an activity's messages go: who names the queue, and what else Celery's rules add."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import celery
import pytest
from celery import Celery
from kombu import Exchange, Queue

from continuum.celery_executor.messages import TASK_ATTRIBUTE
from continuum.celery_executor.routes import Route, Routes, limits_of
from continuum.config import Settings
from continuum.declare.activities import Activity
from continuum.declare.registry import Registry
from continuum.model.policies import ActivityPolicy

# Celery 5.7 wants queues in task_routes; shops have them in decorators.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*task attribute is deprecated")

NAME = "shop.ship"
TO_ROUTED = {"shop.*": {"queue": "routed", "priority": 3}}


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("routes", broker="memory://", set_as_current=False)
    yield app
    app.close()


def registry_with(task: Any = None) -> Registry:
    registry = Registry()

    def ship() -> None: ...

    if task is not None:
        setattr(ship, TASK_ATTRIBUTE, task)
    registry.register_activity(Activity(ship, name=NAME, policy=ActivityPolicy()))
    return registry


def legacy_task(app: Celery, **options: Any) -> Any:
    @app.task(name="legacy.ship", shared=False, **options)
    def ship() -> None: ...

    return ship


def routes_of(app: Celery, task: Any = None) -> Routes:
    return Routes(app, settings=Settings(queue="instance"), registry=registry_with(task))


def placed(routes: Routes, queue: str | None = None) -> Route:
    return routes.find(NAME, routes.queue_of(NAME, ActivityPolicy(queue=queue)))


@pytest.mark.parametrize(
    ("called", "decorated", "routed", "expected"),
    [
        (None, None, None, "instance"),
        (None, None, TO_ROUTED, "routed"),
        (None, "decorated", None, "decorated"),
        (None, "decorated", TO_ROUTED, "decorated"),
        ("called", None, None, "called"),
        ("called", None, TO_ROUTED, "called"),
        ("called", "decorated", None, "called"),
        ("called", "decorated", TO_ROUTED, "called"),
    ],
)
def test_the_nearest_names_the_queue(
    app: Celery, called: str | None, decorated: str | None, routed: Any, expected: str
) -> None:
    app.conf.task_routes = routed
    task = legacy_task(app, queue=decorated) if decorated else None
    route = placed(routes_of(app, task), called)
    assert (route.queue, route.exchange, route.routing_key) == (expected, "", expected)


def test_a_route_adds_its_priority_to_a_queue_named_nearer(app: Celery) -> None:
    app.conf.task_routes = TO_ROUTED
    assert placed(routes_of(app), "called").priority == 3


def test_the_decorators_priority_beats_the_routes(app: Celery) -> None:
    app.conf.task_routes = TO_ROUTED
    task = legacy_task(app, priority=7)
    assert placed(routes_of(app, task)).priority == 7


def test_without_a_word_from_celery_there_is_no_broker_priority(app: Celery) -> None:
    route = routes_of(app).find(NAME, "instance")
    assert route.priority is None


def test_a_queue_named_nearer_is_not_sent_to_the_exchange_of_a_route(app: Celery) -> None:
    app.conf.task_routes = {NAME: {"queue": "media", "exchange": "media", "routing_key": "media.video"}}
    app.conf.task_queues = [Queue("media", Exchange("media", "topic"), routing_key="media.#")]
    routes = routes_of(app)
    assert (placed(routes).exchange, placed(routes).routing_key) == ("media", "media.video")
    assert (placed(routes, "called").exchange, placed(routes, "called").routing_key) == ("", "called")


def test_a_topic_queue_of_the_app_is_reached_through_its_exchange(app: Celery) -> None:
    queue = Queue("media", Exchange("media", "topic", delivery_mode=1), routing_key="media.all")
    app.conf.task_queues = [queue]
    route = placed(routes_of(app), "media")
    assert (route.exchange, route.routing_key, route.delivery_mode) == ("media", "media.all", 1)
    assert route.entity == queue


def test_an_exchange_without_a_queue_is_followed_and_not_counted(app: Celery) -> None:
    app.conf.task_routes = {NAME: {"exchange": "media", "routing_key": "media.video"}}
    routes = routes_of(app)
    route = placed(routes)
    assert (route.exchange, route.routing_key, route.entity) == ("media", "media.video", None)
    assert not routes.is_counted(route.queue)


def test_a_stored_queue_leads_back_to_its_destination(app: Celery) -> None:
    app.conf.task_routes = {NAME: {"exchange": "media", "routing_key": "media.video"}}
    routes = routes_of(app)
    stored = routes.queue_of(NAME, ActivityPolicy())
    again = routes_of(app)  # another dispatcher
    assert again.find(NAME, again.queue_of(NAME, ActivityPolicy(queue=stored))) == placed(routes)


def test_a_router_function_is_asked_with_the_activitys_name(app: Celery) -> None:
    asked = []

    def router(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **more: Any) -> str:
        asked.append((name, task))
        return "function"

    app.conf.task_routes = (router,)
    routes = routes_of(app)
    assert placed(routes).queue == "function"
    assert placed(routes).queue == "function"
    assert asked == [(NAME, None)]


def test_a_router_that_raises_leaves_the_activity_on_the_instances_queue(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    def router(*args: Any, **kwargs: Any) -> str:
        raise RuntimeError("no database")

    app.conf.task_routes = (router,)
    assert placed(routes_of(app)).queue == "instance"
    assert "task_routes failed" in caplog.text


def test_a_queue_that_may_not_be_added_is_used_and_said(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    app.conf.task_queues = [Queue("known")]
    app.conf.task_create_missing_queues = False
    route = placed(routes_of(app))
    assert (route.queue, route.routing_key, route.entity) == ("instance", "instance", None)
    assert "task_create_missing_queues" in caplog.text


@pytest.mark.skipif(celery.VERSION[:2] < (5, 6), reason="the setting came with Celery 5.6")
def test_quorum_queues_of_the_app_are_made_as_quorum_queues(app: Celery) -> None:
    app.conf.task_create_missing_queue_type = "quorum"
    assert placed(routes_of(app)).entity.queue_arguments == {"x-queue-type": "quorum"}


def test_an_activity_nobody_declared_here_still_has_a_queue(app: Celery) -> None:
    routes = Routes(app, settings=Settings(queue="instance"), registry=Registry())
    assert routes.queue_of("elsewhere", ActivityPolicy()) == "instance"


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (None, None, (35.0, 30.0)),
        (10.0, None, (35.0, 10.0)),
        (None, 20.0, (20.0, None)),
        (10.0, 20.0, (20.0, 10.0)),
        (50.0, 60.0, (35.0, 30.0)),
    ],
)
def test_time_limits_are_the_policys_unless_the_task_has_its_own(
    soft: float | None, hard: float | None, expected: tuple[float, float | None]
) -> None:
    policy = ActivityPolicy(timeout=timedelta(seconds=30))
    route = Route(queue="q", routing_key="q", soft=soft, hard=hard)
    assert limits_of(policy, route) == expected
