"""Which app belongs to which instance: lazily, for as long as somebody needs it."""

import gc
import threading
import weakref
from collections.abc import Iterator

import celery
import pytest
from celery import Celery, _state

from continuum import Continuum
from continuum.celery_executor import provider
from continuum.celery_executor.binding import CeleryExecutor, bind, find_executor
from continuum.declare.registry import Registry
from continuum.errors import ConfigError
from continuum.journal.open import open_journal


@pytest.fixture(autouse=True)
def no_apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no app of another test be the current one."""
    monkeypatch.setattr(_state, "_apps", weakref.WeakSet())
    monkeypatch.setattr(_state, "default_app", None)
    before = _state._tls.current_app
    _state._tls.current_app = None
    yield
    _state._tls.current_app = before


def make_instance(name: str = "shop") -> Continuum:
    return Continuum(name=name, registry=Registry(), journal=open_journal("memory://binding"))


def test_an_instance_has_one_executor() -> None:
    instance = make_instance()
    assert bind(instance) is bind(instance)
    assert bind(instance).instance is instance


def test_an_executor_is_found_by_the_instances_name() -> None:
    instance = make_instance("found")
    executor = bind(instance)
    assert find_executor("found") is executor
    assert find_executor("unheard of") is None


def test_of_several_instances_of_one_name_the_last_is_found_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    first, second = make_instance("twice"), make_instance("twice")
    bind(first)
    executor = bind(second)
    assert find_executor("twice") is executor
    assert find_executor("twice") is executor
    assert caplog.text.count("2 Continuum instances are named 'twice'") == 1


def test_an_executor_goes_with_its_instance() -> None:
    instance = make_instance("gone")
    executor = bind(instance)
    del instance
    gc.collect()
    assert find_executor("gone") is None
    with pytest.raises(ConfigError, match="module variable"):
        _ = executor.instance


def test_an_attached_app_keeps_the_instance() -> None:
    app = Celery("keeper", broker="memory://")
    bind(make_instance("kept")).attach(app)
    gc.collect()
    found = find_executor("kept")
    assert found is not None
    assert found.app is app


def test_without_an_app_it_says_what_to_write() -> None:
    instance = make_instance()
    with pytest.raises(ConfigError, match=r"found no Celery app.*init_celery\(app\)"):
        _ = bind(instance).app


def test_the_current_app_is_used() -> None:
    instance, app = make_instance(), Celery("current", broker="memory://")
    assert bind(instance).app is app


def test_in_another_thread_the_only_app_is_the_current_one() -> None:
    instance, app = make_instance(), Celery("only", broker="memory://")
    executor = bind(instance)
    found: list[Celery] = []
    thread = threading.Thread(target=lambda: found.append(executor.app))
    thread.start()
    thread.join()
    assert found == [app]


def test_of_several_apps_none_is_guessed() -> None:
    instance = make_instance()
    apps = [Celery(name, broker="memory://", set_as_current=False) for name in ("one", "two")]
    with pytest.raises(ConfigError, match=r"several Celery apps.*'one', 'two'.*init_celery"):
        _ = bind(instance).app
    bind(instance).attach(apps[1])
    assert bind(instance).app is apps[1]


def test_attaching_neither_finalizes_nor_configures_the_app() -> None:
    instance, app = make_instance(), Celery("early")
    bind(instance).attach(app)
    provider.bind(instance)
    assert not app.finalized
    assert not app.configured


def test_something_else_is_no_app() -> None:
    instance = make_instance()
    with pytest.raises(ConfigError, match="write the Celery app"):
        bind(instance).attach("shop")


def test_an_eager_app_has_no_transport() -> None:
    instance, app = make_instance(), Celery("eager", broker="memory://")
    executor = bind(instance)
    executor.attach(app)
    assert executor.transport() is not None
    app.conf.task_always_eager = True
    assert executor.transport() is None


@pytest.mark.parametrize("version", ["5.3.0", "5.7.1", "5.10.0b1"])
def test_supported_releases_of_celery_are_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery, "__version__", version)
    provider.check()


@pytest.mark.parametrize("version", ["4.4.7", "5.2.7", "6.0.0"])
def test_other_releases_of_celery_are_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery, "__version__", version)
    with pytest.raises(ConfigError, match=f"Celery {version} is installed"):
        provider.check()


def test_every_app_has_the_tasks_whether_finalized_before_or_after() -> None:
    before = Celery("before", broker="memory://", set_as_current=False)
    before.finalize()
    instance = make_instance()
    assert isinstance(provider.bind(instance), CeleryExecutor)
    after = Celery("after", broker="memory://", set_as_current=False)
    for app in (before, after):
        assert {"continuum.activity", "continuum.start"} <= set(app.tasks)
