"""Instances and Celery apps: found, attached, configured together, run in process if the app is eager."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import Any

import celery
import pytest
from celery import Celery, _state

from continuum import Continuum, activity, workflow
from continuum.celery_executor.binding import bind
from continuum.declare import executors
from continuum.errors import ConfigError

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _celery_as_it_was() -> Iterator[None]:
    before = _state._tls.current_app, _state.default_app, set(_state._on_app_finalizers)
    _state._tls.current_app = _state.default_app = None
    yield
    _state._tls.current_app, _state.default_app, finalizers = before
    _state._on_app_finalizers.intersection_update(finalizers)


def make_app(**options: Any) -> Celery:
    return Celery("shop", broker=NOBODY, **{"set_as_current": False, **options})


# ------------------------------------------------------------------ which app


def test_an_attached_app_is_used_though_it_is_not_the_current_one() -> None:
    app, other = make_app(), make_app(set_as_current=True)
    instance = Continuum("memory://", executor="celery")
    assert instance.init_celery(app) is instance
    assert instance.executors["celery"].app is app
    assert not app.configured
    assert not app.finalized
    assert other is not app


def test_without_one_the_current_app_is_used_also_if_it_is_made_later() -> None:
    instance = Continuum("memory://", executor="celery")
    app = make_app(set_as_current=True)
    assert instance.executors["celery"].app is app


def test_without_any_app_the_dispatcher_says_what_to_write() -> None:
    instance = Continuum("memory://", executor="celery")
    with pytest.raises(ConfigError, match=r"init_celery\(app\)"):
        instance.executors["celery"].transport()


@pytest.mark.parametrize("attach", [lambda app: Continuum("memory://").init_celery(app), Continuum.for_celery])
def test_what_is_no_app_is_refused(attach: Any) -> None:
    with pytest.raises(ConfigError, match="write the Celery app"):
        attach("shop")


def test_an_instance_with_other_options_keeps_the_app() -> None:
    app = make_app()
    instance = Continuum("memory://one", executor="celery", name="named").init_celery(app)
    twin = instance.with_options(url="memory://two")
    assert (twin.url, twin.settings.name, twin.settings.executor) == ("memory://two", "named", "celery")
    assert twin.executors["celery"].app is app
    assert Continuum("memory://one").with_options(concurrency=3).executors == {}


def test_every_app_has_the_tasks_of_continuum() -> None:
    before, after = make_app(), make_app()
    before.finalize()
    instance = Continuum("memory://", executor="celery")
    for app in (before, after):
        assert {"continuum.activity", "continuum.start"} <= set(app.tasks)
    assert bind(instance) is instance.executors["celery"]


# ------------------------------------------------------------------ is there a Celery


@pytest.fixture
def unknown_providers() -> Iterator[None]:
    executors.load_provider.cache_clear()
    yield
    executors.load_provider.cache_clear()


@pytest.mark.usefixtures("unknown_providers")
def test_without_celery_the_constructor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_point: EntryPoint) -> Any:
        raise ModuleNotFoundError("No module named 'celery'", name="celery")

    monkeypatch.setattr(EntryPoint, "load", load)
    with pytest.raises(ConfigError, match=r"needs the package 'celery'.*pip install 'continuum-workflows\[celery\]'"):
        Continuum("memory://", executor="celery")
    with pytest.raises(ConfigError, match="needs the package 'celery'"):
        Continuum("memory://").init_celery(SimpleNamespace())


@pytest.mark.usefixtures("unknown_providers")
@pytest.mark.parametrize("version", ["5.2.7", "4.4.0", "6.0.0"])
def test_a_celery_we_do_not_know_is_refused_by_the_constructor(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery, "__version__", version)
    with pytest.raises(ConfigError, match=f"Celery {version} is installed; executor='celery' needs 5.3"):
        Continuum("memory://", executor="celery")


def test_an_executor_that_nobody_provides_is_refused() -> None:
    with pytest.raises(ConfigError, match="executor='selery' is not known: write 'celery' or 'local'"):
        Continuum("memory://", executor="selery")


# ------------------------------------------------------------------ CONTINUUM_*


class Flags:
    """Settings as an object, such as Django's."""

    CONTINUUM_DATABASE_URL = "memory://flags"
    CONTINUUM_QUEUE = "steps"
    CONTINUUM_NAMESPACE = "eu"
    CONTINUUM_MODULES = ("json",)
    CONTINUUM_CONCURRENCY = None
    CELERY_TASK_DEFAULT_QUEUE = "shop"


def as_module() -> ModuleType:
    module = ModuleType("tests_shop_settings")
    vars(module).update({name: getattr(Flags, name) for name in dir(Flags) if name.isupper()})
    return module


@pytest.mark.parametrize(
    "source",
    [
        Flags(),
        Flags,
        as_module(),
        {name: getattr(Flags, name) for name in dir(Flags) if name.isupper()},
        "tests_shop_settings",
        "tests_shop_settings:inner",
    ],
    ids=["object", "class", "module", "mapping", "name of a module", "name of an attribute"],
)
def test_options_stand_beside_those_of_celery(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = as_module()
    module.inner = Flags()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_shop_settings", module)
    app = make_app()
    app.config_from_object(source, namespace="CELERY")
    instance = Continuum.for_celery(app)
    settings = instance.settings
    assert (settings.url, settings.queue, settings.namespace) == ("memory://flags", "steps", "eu")
    assert (settings.executor, settings.modules, settings.concurrency) == ("celery", ("json",), 16)
    assert not app.configured
    assert instance.executors["celery"].app is app
    assert app.conf.task_default_queue == "shop"


def test_arguments_win_over_settings() -> None:
    app = make_app()
    app.config_from_object(Flags, namespace="CELERY")
    settings = Continuum.for_celery(app, "memory://given", queue="other", executor="local").settings
    assert (settings.url, settings.queue, settings.namespace) == ("memory://given", "other", "eu")
    assert settings.executor == "local"


def test_an_app_that_is_configured_from_nothing_is_fine() -> None:
    app = make_app()
    app.conf.task_default_queue = "shop"
    assert Continuum.for_celery(app, "memory://").settings.executor == "celery"


def test_an_unknown_name_is_refused_with_the_near_one() -> None:
    app = make_app()
    app.config_from_object({"CONTINUUM_DATABSE_URL": "memory://"})
    with pytest.raises(
        ConfigError, match=r"CONTINUUM_DATABSE_URL is no setting.*Did you mean CONTINUUM_DATABASE_URL\?"
    ):
        Continuum.for_celery(app)
    app.config_from_object({"CONTINUUM_XYZZY": 1})
    with pytest.raises(ConfigError, match="There are CONTINUUM_ACTIVE_RUNS, CONTINUUM_CACHED_RUNS"):
        Continuum.for_celery(app)


def test_a_wrong_value_is_refused_like_an_argument() -> None:
    app = make_app()
    app.config_from_object({"CONTINUUM_CONCURRENCY": "many"})
    with pytest.raises(ConfigError, match="concurrency='many' is not valid: write a whole number"):
        Continuum.for_celery(app)


def test_settings_that_do_not_exist_are_named() -> None:
    app = make_app()
    app.config_from_object("no.such.settings")
    with pytest.raises(ConfigError, match=r"'shop' is configured from 'no\.such\.settings'"):
        Continuum.for_celery(app)
    app.config_from_object("no.such.settings", silent=True)
    if hasattr(app, "_config_source_silent"):  # older releases forget it
        assert Continuum.for_celery(app, "memory://").settings.queue == "continuum_activities"


# ------------------------------------------------------------------ eager


def test_activities_of_an_eager_app_run_in_process_with_their_retries() -> None:
    app = make_app()
    app.conf.task_always_eager = True
    seen: list[tuple[int, str]] = []

    @app.task(name="client.charge", bind=True, autoretry_for=(OSError,), default_retry_delay=0)
    def charge(self: Any, order: str) -> str:
        seen.append((self.request.retries, self.app.main))
        if self.request.retries < 2:
            raise OSError("the bank is closed")
        return f"paid {order}"

    @activity(name="client.stamp")
    def stamp(text: str) -> str:
        return text.upper()

    charge_order = activity.from_celery(charge)

    @workflow(name="client.order")
    async def order_flow(order: str) -> str:
        return await stamp(await charge_order(order))

    with Continuum("memory://", executor="celery").init_celery(app) as continuum, continuum.running():
        assert continuum.start(order_flow, "o1").result(timeout=30) == "PAID O1"
    assert seen == [(0, "shop"), (1, "shop"), (2, "shop")]


def test_a_task_of_celery_runs_in_the_local_pool_if_it_is_told_to() -> None:
    app = make_app()

    @app.task(name="client.local")
    def double(n: int) -> int:
        return n * 2

    doubled = activity.from_celery(double, executor="local")

    @workflow(name="client.doubling")
    async def flow(n: int) -> int:
        return await doubled(n)

    with Continuum("memory://", executor="celery").init_celery(app) as continuum, continuum.running():
        assert continuum.start(flow, 4).result(timeout=30) == 8
