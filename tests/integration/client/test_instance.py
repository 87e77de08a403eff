"""The instance: configuration, what is wrong with a database, forks, the engine inside this process."""

import os
import socket
import threading
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import psycopg2
import pytest

import continuum as package
from continuum import ConfigError, Continuum, JournalUnavailable, SchemaOutdated
from continuum.client.options import Options
from continuum.config import Settings
from tests.integration.client import flows
from tests.support.eventually import eventually

WAIT = 20


def test_the_typed_options_are_the_settings() -> None:
    assert set(get_type_hints(Options)) == {spec.name for spec in fields(Settings)} - {"url"}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"concurency": 3}, "Did you mean 'concurrency'"),
        ({"concurrency": 0}, "at least 1"),
        ({"queues": {"a": 0}}, "queues"),
        ({"executor": "carrier_pigeon"}, "carrier_pigeon.*'local'"),
        ({"modules": "myapp"}, "write a list"),
        ({"namespace": ""}, "namespace"),
        ({"lease_ttl": timedelta(seconds=1)}, "heartbeat_interval"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_else(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Continuum("postgresql://nobody@nowhere/none", **options)


def test_nothing_is_connected_by_making_an_instance() -> None:
    threads = threading.active_count()
    instance = Continuum("postgresql://nobody@192.0.2.1:1/none")
    assert not instance._access.is_open
    assert threading.active_count() == threads
    instance.close()


def test_without_a_database_the_error_says_how_to_name_one() -> None:
    with pytest.raises(ConfigError, match=r"CONTINUUM_DATABASE_URL.*Continuum.dev\(\)"):
        Continuum().search()


def test_the_environment_names_the_database_when_it_is_needed(database_url: str, monkeypatch: Any) -> None:
    with Continuum() as instance:
        monkeypatch.setenv("CONTINUUM_DATABASE_URL", database_url)
        assert instance.search().runs == []
        assert instance.url == database_url


def test_two_instances_are_two_worlds() -> None:
    with Continuum("memory://one", name="one") as one, Continuum("memory://two", name="two") as two:
        handle = one.start(flows.total, 1)
        assert two.find(handle.id) is None
        with two.running():
            assert two.start(flows.total, 1).result(timeout=WAIT) == 2
        assert one.find(handle.id) is not None


def test_an_unreachable_database_is_named_and_nothing_stays_open() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Continuum(f"postgresql://user:secret@127.0.0.1:{port}/none") as instance:
        with pytest.raises(JournalUnavailable, match=f"127.0.0.1:{port}/none") as refused:
            instance.start(flows.total, 1)
        assert "secret" not in str(refused.value)
        assert not instance._access.is_open


def test_an_empty_database_says_to_migrate_and_migrating_helps(empty_database_url: str) -> None:
    with Continuum(empty_database_url) as instance:
        with pytest.raises(SchemaOutdated, match="continuum migrate"):
            instance.start(flows.total, 1)
        instance.migrate()
        instance.migrate()
        assert instance.start(flows.total, 1).id


def test_a_schema_of_a_later_release_says_to_upgrade_the_package(database_url: str) -> None:
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute("update continuum_schema set format = format + 1")
    connection.close()
    with Continuum(database_url) as instance, pytest.raises(SchemaOutdated, match="upgrade"):
        instance.search()


def test_a_schema_of_its_own_keeps_to_itself(empty_database_url: str) -> None:
    with Continuum(empty_database_url, schema="durable things") as instance:
        instance.migrate()
        with instance.running():
            assert instance.start(flows.total, 1).result(timeout=WAIT) == 2
    with psycopg2.connect(empty_database_url) as connection, connection.cursor() as cursor:
        cursor.execute("select distinct schemaname from pg_tables where tablename like 'continuum%'")
        assert cursor.fetchall() == [("durable things",)]
    connection.close()


def test_a_given_engine_is_used_and_left_open(database_url: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with Continuum(database_url, engine=engine) as instance:
        assert instance.start(flows.total, 1).id
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select count(*) from continuum_runs").scalar() == 1
    engine.dispose()


def test_threads_open_one_journal(database_url: str) -> None:
    with Continuum(database_url) as instance:
        seen: list[object] = []
        threads = [threading.Thread(target=lambda: seen.append(instance.journal)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, seen))) == 1


def test_a_forked_child_opens_connections_of_its_own(postgres: Continuum) -> None:
    """And leaves the parent's alone: a goodbye of the child's on a shared socket would end them."""
    handle = postgres.start(flows.first_signal, "s")
    # A waiter, so that the results thread and its ears exist in the parent.
    future = postgres._access.hub.watch(handle.id)
    eventually(lambda: postgres._access.hub.listening)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert not postgres._access.is_open
            postgres.signal(handle.id, "s", "from the child")
            run = postgres.start(flows.total, 1)
            postgres.close()
            os.write(writer, run.id.encode())
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    started = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert postgres.get(started).workflow == "client.sum"
    with postgres.running():
        assert future.result(WAIT)
        assert handle.result(timeout=WAIT) == "from the child"


def test_a_forked_child_leaves_the_parent_s_engine_alone(postgres: Continuum) -> None:
    with postgres.running() as dispatcher:
        child = os.fork()
        if child == 0:
            try:
                assert postgres.readiness().state == "not_started"
                postgres.close()  # must not drain, and so deregister, the parent's worker
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert [worker.id for worker in postgres.list_workers()] == [dispatcher.worker]
        assert postgres.start(flows.total, 1).result(timeout=WAIT) == 2


def test_the_engine_in_this_process_comes_and_goes(continuum: Continuum) -> None:
    assert continuum.readiness().state == "not_started"
    assert continuum.drain() is True
    with continuum.running() as dispatcher:
        assert continuum.readiness().ready
        assert continuum.readiness().dispatchers[0]["worker"] == dispatcher.worker
        assert continuum.start(flows.total, 1).result(timeout=WAIT) == 2
        assert len(continuum.list_workers()) == 1
    assert continuum.readiness().state == "drained"
    assert not continuum.readiness().ready
    assert continuum.list_workers() == []
    with continuum.running():
        assert continuum.start(flows.total, 2).result(timeout=WAIT) == 3


def test_settings_of_an_engine_can_be_overridden_and_are_checked(continuum: Continuum) -> None:
    with continuum.running(concurrency=1, queues={"other": 1}):
        handle = continuum.start(flows.total, 1)
        eventually(lambda: continuum.tasks(handle.id))
        assert continuum.tasks(handle.id)[0].claimed_by is None
    with pytest.raises(ConfigError, match="Did you mean 'concurrency'"), continuum.running(concurency=1):
        pass
    assert continuum.settings.concurrency == 2


def test_draining_ends_the_engine_before_its_block_does(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.drain(timeout=10)
        assert continuum.readiness().state == "drained"
    for timeout in (-1, "x"):
        with pytest.raises(ValueError, match="timeout"):
            continuum.drain(timeout=timeout)  # type: ignore[arg-type]


def test_closing_drains_what_runs_here(database_url: str) -> None:
    instance = Continuum(database_url)
    context = instance.running()
    context.__enter__()
    handle = instance.start(flows.forever)
    eventually(lambda: handle.refresh().state == "suspended")
    instance.close()
    with Continuum(database_url) as other:
        assert other.list_workers() == []
        assert other.get(handle.id).lease_owner is None
    context.__exit__(None, None, None)


def test_an_engine_that_cannot_start_leaves_nothing_running(empty_database_url: str) -> None:
    threads = threading.active_count()
    with Continuum(empty_database_url) as instance, pytest.raises(SchemaOutdated), instance.running():
        pass
    eventually(lambda: threading.active_count() <= threads)


def test_dev_needs_nothing_but_binaries() -> None:
    with Continuum.dev(concurrency=2) as instance:
        with instance.running():
            assert instance.start(flows.total, 1).result(timeout=WAIT) == 2
        pid = instance._embedded.pid
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_dev_in_a_directory_keeps_the_data(open_directory: Any) -> None:
    place = open_directory / "data"
    with Continuum.dev(place) as instance:
        run_id = instance.start(flows.total, 1).id
    with Continuum.dev(place) as instance:
        assert instance.get(run_id).workflow == "client.sum"


def test_what_the_package_offers_is_all_there() -> None:
    assert sorted(package.__all__) == list(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
