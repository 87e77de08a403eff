"""The pytest plugin, as a user's project has it: pytest runs inside of pytest, in processes of its own."""

import os
import tomllib
from pathlib import Path

import pytest

import continuum_pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
APP = """
from continuum import Continuum, activity, wait_signal, workflow

continuum = Continuum()

@activity(name="shop.price")
def price(item: str) -> int:
    return len(item)

@workflow(name="shop.order")
async def order(item: str) -> int:
    total = await price(item)
    await wait_signal("go")
    return total
"""
# What shops have in their environments, too. pytest-celery's plugins are called like this.
NEIGHBOURS = ["-p", "celery.contrib.pytest", "-p", "pytest_celery.plugin", "-p", "xdist", "-p", "randomly"]


@pytest.fixture
def shop(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> pytest.Pytester:
    monkeypatch.setenv("CONTINUUM_TEST_DATABASE_URL", postgres_url)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    pytester.syspathinsert()
    pytester.makepyfile(shop=APP)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def run(shop: pytest.Pytester, *options: str) -> pytest.RunResult:
    return shop.runpytest_subprocess("-p", "continuum_pytest", "-p", "no:cacheprovider", *options, timeout=100)


MEMORY_TEST = """
import shop

def test_memory(continuum_memory):
    handle = continuum_memory.start(shop.order, "tea")
    handle.signal("go")
    assert handle.result(timeout=20) == 3
"""
POSTGRES_TEST = """
import pytest, shop

@pytest.mark.parametrize("turn", [1, 2])
def test_postgres(continuum_postgres, turn):
    assert continuum_postgres.search().runs == []
    with continuum_postgres.running():
        handle = continuum_postgres.start(shop.order, "tea")
        handle.signal("go")
        assert handle.result(timeout=20) == 3
"""


def test_an_instance_in_memory_runs_workflows(shop: pytest.Pytester) -> None:
    shop.makepyfile(test_it=MEMORY_TEST)
    run(shop).assert_outcomes(passed=1)


def test_an_instance_on_postgres_has_a_new_database_for_each_test(shop: pytest.Pytester) -> None:
    shop.makepyfile(test_it=POSTGRES_TEST)
    run(shop).assert_outcomes(passed=2)


def test_a_dispatcher_is_a_process_that_can_be_killed(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        test_it="""
        import os, signal, shop

        def test_it(continuum_postgres, continuum_worker):
            first = continuum_worker("shop")
            assert first.pid != os.getpid() and first.alive and repr(first) == f"<continuum-dispatcher {first.pid}>"
            handle = continuum_postgres.start(shop.order, "tea")
            while "signal_awaited" not in [event.type for event in handle.history()]:
                pass
            first.freeze()
            first.thaw()
            first.kill()
            assert first.returncode == -signal.SIGKILL and not first.alive
            handle.signal("go")
            second = continuum_worker("shop", "--concurrency", "1")
            assert handle.result(timeout=20) == 3
            assert second.stop() == 0
            assert "drained" in second.output
            assert [event.type for event in handle.history()].count("activity_scheduled") == 1

        def test_one_that_cannot_start_says_why(continuum_worker):
            import pytest
            with pytest.raises(AssertionError, match="ended with 2(?s:.*)no module"):
                continuum_worker("nowhere")
        """
    )
    run(shop).assert_outcomes(passed=2)


def test_it_lives_with_celerys_plugins_and_xdist_and_a_random_order(shop: pytest.Pytester) -> None:
    shop.makepyfile(test_memory=MEMORY_TEST, test_postgres=POSTGRES_TEST)
    shop.makepyfile(
        test_celery="""
        import pytest

        @pytest.fixture(scope="session")
        def celery_config():
            return {"broker_url": "memory://", "result_backend": "cache+memory://"}

        def test_both(celery_app, continuum_memory):
            assert celery_app.conf.broker_url == "memory://"
            assert continuum_memory.settings.name == "default"
        """
    )
    shop.makeini("[pytest]\nfilterwarnings = error\n    ignore::DeprecationWarning\n    ignore::pytest.PytestWarning\n")
    # pytest-celery asks for a Docker engine when its fixtures are used, not before.
    run(shop, *NEIGHBOURS, "-n", "2").assert_outcomes(passed=4)


def test_processes_of_xdist_share_a_server_that_is_started(
    shop: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTINUUM_TEST_DATABASE_URL")
    shop.makepyfile(
        test_it=POSTGRES_TEST
        + """
    port = continuum_postgres.url.partition("@")[2].partition("/")[0]
    with open("ports", "a") as file:
        print(port, file=file)
"""
    )
    run(shop, "-p", "xdist", "-n", "2").assert_outcomes(passed=2)
    assert len(set((shop.path / "ports").read_text().split())) == 1


def test_async_tests_of_strict_plugins_may_use_the_fixtures(shop: pytest.Pytester) -> None:
    """As pytest-asyncio and anyio do it: the test runs inside of a running loop, and warnings are errors."""
    shop.makepyfile(
        test_it="""
        import asyncio, pytest, shop

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_it(continuum_memory):
            handle = await continuum_memory.aio.start(shop.order, "tea")
            await handle.signal("go")
            assert await handle.result(timeout=20) == 3
        """
    )
    run(shop, "-p", "anyio.pytest_plugin", "--strict-markers", "--strict-config").assert_outcomes(passed=1)


@pytest.mark.parametrize("options", [[], ["--collect-only"], ["--continuum-paranoid"]])
def test_a_session_that_does_not_use_it_imports_nothing(shop: pytest.Pytester, options: list[str]) -> None:
    shop.makepyfile(test_it="def test_nothing(): pass")
    shop.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            heavy = {"continuum", "sqlalchemy", "psycopg2", "msgspec", "celery", "alembic"}
            print("found", sorted(heavy & set(sys.modules)), "continuum_pytest" in sys.modules)
        """
    )
    result = run(shop, *options)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*found [[][]] True"])


def test_the_option_makes_every_engine_paranoid(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        test_it="""
        import os
        from continuum import activity, pure, workflow
        from continuum.testing import RunStuck, run

        SEEN = []

        @activity(name="shop.count")
        def count(number: int) -> int:
            return number

        @pure
        def seen() -> int:
            SEEN.append(1)
            return len(SEEN)

        @workflow(name="shop.counting")
        async def counting() -> int:
            return await count(seen())

        def test_it(request):
            paranoid = request.config.getoption("--continuum-paranoid")
            assert os.environ.get("CONTINUUM_PARANOID") == ("1" if paranoid else None)
            if not paranoid:
                assert run(counting) >= 1
                return
            try:
                run(counting)
            except RunStuck as error:
                assert "paranoid mode" in str(error)
            else:
                raise AssertionError("not found")
        """
    )
    run(shop).assert_outcomes(passed=1)
    run(shop, "--continuum-paranoid").assert_outcomes(passed=1)


def test_histories_are_kept_with_an_option_and_compared_without(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        test_it="""
        import shop

        def test_it(continuum_memory, continuum_history):
            handle = continuum_memory.start(shop.order, "tea")
            handle.signal("go")
            handle.result(timeout=20)
            continuum_history(handle, "order")
        """
    )
    missing = run(shop)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["*there is no history *order.json: record it with --continuum-update-histories*"])
    run(shop, "--continuum-update-histories").assert_outcomes(passed=1)
    kept = (shop.path / "histories" / "order.json").read_text()
    run(shop).assert_outcomes(passed=1)
    assert (shop.path / "histories" / "order.json").read_text() == kept
    shop.makepyfile(shop=APP.replace("await price(item)\n", "await price(item + '!')\n"))
    drifted = run(shop)
    drifted.assert_outcomes(failed=1)
    drifted.stdout.fnmatch_lines(["*does not replay: command 0*"])


def test_pytest_finds_the_plugin_where_the_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"continuum_pytest": continuum_pytest.__name__}
    assert "continuum_pytest.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert Path(continuum_pytest.__file__).parent == ROOT
    assert "CONTINUUM_PARANOID" not in os.environ or os.environ["CONTINUUM_PARANOID"]
