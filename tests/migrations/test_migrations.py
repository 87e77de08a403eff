"""A migrated database is what `tables.py` says, however it came about."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from continuum.errors import ConfigError, JournalUnavailable, SchemaOutdated
from continuum.journal.open import migrate_database, open_journal
from continuum.journal.postgres import migrate, tables
from continuum.journal.postgres.migrate import current, pending, upgrade
from continuum.model.leases import WorkflowVersion
from continuum.model.runs import ParentLink
from continuum.model.tasks import TaskRef
from tests.support.audit import fetch
from tests.support.families import bear, child_of, claim_children, continued
from tests.support.journals import HOUR, STARTED, Desk, order, row_locked, succeeded

HEAD = "0004"


@pytest.fixture
def connection(database_url: str) -> Any:
    engine = sqlalchemy.create_engine(database_url)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def ours(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Leave out what no table declares: partitions, and Alembic's own table."""
    if kind == "table":
        return not (name or "").startswith(("continuum_events_", "continuum_alembic"))
    return True


def test_the_migrated_tables_are_the_declared_ones(connection: Connection) -> None:
    context = MigrationContext.configure(
        connection, opts={"include_object": ours, "compare_type": True, "compare_server_default": True}
    )
    assert compare_metadata(context, tables.metadata) == []


def test_indexes_have_the_declared_form(connection: Connection) -> None:
    """Alembic compares neither predicates nor methods."""
    rows = connection.execute(text("select indexname, indexdef from pg_indexes where schemaname = 'public'"))
    found = dict(tuple(row) for row in rows)
    dialect = connection.dialect
    for table in tables.metadata.tables.values():
        for index in table.indexes:
            declared = str(sqlalchemy.schema.CreateIndex(index).compile(dialect=dialect))
            name = str(index.name)
            assert plain(found[name]) == plain(declared), name


def plain(definition: str) -> str:
    for noise in ("public.", "USING btree ", "USING gin ", "(", ")", "'", "::text", " "):
        definition = definition.replace(noise, "")
    return definition.lower().replace("usinggin", "")


def test_storage_is_as_declared(connection: Connection) -> None:
    rows = connection.execute(text("select relname, reloptions from pg_class where relkind = 'r'"))
    found = {name: dict(option.split("=") for option in options or ()) for name, options in rows}
    for table in tables.metadata.tables.values():
        wanted = {key: str(value) for key, value in table.info.get("storage", {}).items()}
        if "postgresql_partition_by" not in table.kwargs and not table.dialect_options["postgresql"].get(
            "partition_by"
        ):
            assert found[table.name] == wanted, table.name


def test_the_database_says_which_format_it_has(connection: Connection) -> None:
    [row] = connection.execute(sqlalchemy.select(tables.schema_row)).all()
    assert row.format == tables.FORMAT


def test_migrating_creates_this_month_and_three_more(connection: Connection) -> None:
    names = connection.execute(
        text("select inhrelid::regclass::text from pg_inherits where inhparent = 'continuum_events'::regclass")
    ).scalars()
    assert len(set(names)) == 5  # and the default one


def test_migrating_again_changes_nothing(database_url: str) -> None:
    assert pending(database_url) == []
    assert upgrade(database_url) == current(database_url) == HEAD


def test_an_empty_database_has_everything_pending(empty_database_url: str) -> None:
    assert current(empty_database_url) is None
    assert pending(empty_database_url) == ["0001", "0002", "0003", HEAD]
    assert migrate_database(empty_database_url) == HEAD
    assert pending(empty_database_url) == []


def test_several_may_migrate_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        reached = list(pool.map(lambda _: upgrade(empty_database_url), range(4)))
    assert reached == [HEAD] * 4


@pytest.mark.parametrize("schema", ["tenant", "Tenant-B", 'odd "one"', "ünïcode", "percent %s"])
def test_any_schema_can_be_migrated_beside_another(database_url: str, schema: str) -> None:
    assert current(database_url, schema) is None
    assert upgrade(database_url, schema) == HEAD
    assert current(database_url, schema) == HEAD
    assert pending(database_url, schema) == []
    with closing(open_journal(database_url, schema=schema)) as journal:
        assert journal.check() is not None


def test_the_migrations_are_found_without_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed wheel has them inside the package."""
    installed = tmp_path / "continuum" / "journal" / "postgres" / "migrate.py"
    source = Path(migrate.__file__).resolve().parents[3] / "migrations"
    installed.parent.mkdir(parents=True)
    (tmp_path / "continuum" / "_migrations").symlink_to(source)
    monkeypatch.setattr(migrate, "__file__", str(installed))
    location = migrate._configuration().get_main_option("script_location")
    assert location == str(tmp_path.resolve() / "continuum" / "_migrations")


def test_missing_migrations_are_a_broken_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "__file__", str(tmp_path / "continuum" / "journal" / "postgres" / "migrate.py"))
    with pytest.raises(ConfigError, match="install"):
        migrate._configuration()


# -- one release beside the next: the format stays, and each works on the tables of the other --------------------------


def step_of_a_dispatched_task(url: str) -> None:
    """Do everything that this release does with a task of an external executor."""
    with closing(open_journal(url)) as journal:
        journal.check()
        desk = Desk(journal, wing="postgres", locked=partial(row_locked, url))
        dispatcher, worker = desk.make_worker(), desk.make_worker()
        run = desk.parked(dispatcher, orders=[order(1, executor="celery")])
        found = journal.tasks.dispatch(dispatcher, executor="celery", rooms={}, room=9, limit=9, deadline=HOUR)
        refs = [task.ref for task in found.tasks]
        assert refs == [TaskRef(run.run_id, 1, 1)]
        assert not desk.look(dispatcher, queues=None).dead
        assert journal.workers.reap().reoffered == 0
        [task] = journal.tasks.claim_dispatched(worker, refs)
        assert journal.tasks.finish_many(worker, [succeeded(task)]) == set(refs)
        desk.close()


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_this_release_asks_for_the_migration_before_it_works_on_older_tables(
    empty_database_url: str, revision: str
) -> None:
    """It needs the new columns, and says so at once: neither at its first commit, nor to a caller who starts a run."""
    assert upgrade(empty_database_url, revision=revision) == revision
    assert "continuum migrate" in complaint(empty_database_url, SchemaOutdated)
    with closing(open_journal(empty_database_url)) as journal, pytest.raises(SchemaOutdated, match="continuum migrate"):
        journal.open_line()
    assert upgrade(empty_database_url) == HEAD
    step_of_a_dispatched_task(empty_database_url)


COLUMNS = """
    select table_name, column_name, data_type, is_nullable, column_default from information_schema.columns
    where table_schema = 'public' and starts_with(table_name, 'continuum_')
"""


def test_the_release_before_works_on_these_tables(empty_database_url: str) -> None:
    """Its statements name columns, and those are as they were; what was added may be left out of an insert."""
    upgrade(empty_database_url, revision="0003")
    before = set(fetch(empty_database_url, COLUMNS))
    upgrade(empty_database_url)
    after = set(fetch(empty_database_url, COLUMNS))
    assert before <= after
    known = {table for table, *_ in before}
    added = [column for column in after - before if column[0] in known]
    assert added
    assert all(nullable == "YES" or default is not None for *_, nullable, default in added)


def test_what_an_early_release_has_left_is_taken_on(empty_database_url: str) -> None:
    """Its runs have no parents, and its versions no contracts; whoever knows a contract fills it in."""
    upgrade(empty_database_url, revision="0002")
    run_id = "0190a6f0-0000-7000-8000-000000000001"
    execute(
        empty_database_url,
        f"""
        insert into continuum_runs (id, chain_id, namespace, workflow, version, version_hash, state, last_seq, wake_at)
        values ('{run_id}', '{run_id}', 'default', 'order', 1, 'hash-1', 'pending', 1, now());
        insert into continuum_events (run_id, seq, type, payload, at_us)
        values ('{run_id}', 1, 'run_started', '{STARTED}', 1);
        insert into continuum_workflow_versions (name, hash, version, source) values ('order', 'hash-1', 1, 'code');
        """,
    )
    upgrade(empty_database_url)
    with closing(open_journal(empty_database_url)) as journal:
        desk = Desk(journal, wing="postgres", locked=partial(row_locked, empty_database_url))
        worker = desk.make_worker()
        run = desk.claim_one(worker)
        assert (run.run_id, run.parent) == (run_id, None)
        assert journal.runs.contract(run.run_id) is None
        journal.workers.record_versions([WorkflowVersion("order", 1, "hash-1", "code", signals="[]")])
        assert journal.runs.contract(run.run_id) == "[]"
        run = bear(desk, worker, desk.began(worker, run), child_of(desk, run))
        [child] = claim_children(desk, worker)
        assert child.parent == ParentLink(run.run_id, 0)
        assert continued(desk, worker, run).chain_id == run.chain_id
        desk.close()


def test_what_0002_drops_held_nothing_and_the_rest_of_a_task_stays(empty_database_url: str) -> None:
    """The release before never wrote `published_at`, so its statements work on these tables as well."""
    upgrade(empty_database_url, revision="0001")
    execute(
        empty_database_url,
        "insert into continuum_tasks (run_id, command, max_attempts, state, activity, queue, executor, arguments,"
        " policy) values ('0190a6f0-0000-7000-8000-000000000001', 1, 3, 'available', 'a', 'q', 'local', '[]', '{}')",
    )
    kept = "select to_jsonb(t) - 'published_at' from continuum_tasks t"
    before = fetch(empty_database_url, kept)
    assert upgrade(empty_database_url, revision="0002") == "0002"
    assert fetch(empty_database_url, kept) == before
    upgrade(empty_database_url)
    step_of_a_dispatched_task(empty_database_url)


# -- what check() says about it ----------------------------------------------------------------------------------------


def execute(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def complaint(url: str, error: type[Exception], **options: Any) -> str:
    with closing(open_journal(url, **options)) as journal:
        with pytest.raises(error) as raised:
            journal.check()
        return str(raised.value)


def test_a_database_that_was_never_migrated_is_told_to(empty_database_url: str) -> None:
    assert "continuum migrate" in complaint(empty_database_url, SchemaOutdated)
    with closing(open_journal(empty_database_url)) as journal, pytest.raises(SchemaOutdated, match="continuum migrate"):
        journal.open_line()


def test_a_schema_that_does_not_exist_is_told_to(database_url: str) -> None:
    assert "continuum migrate" in complaint(database_url, SchemaOutdated, schema="nowhere")


def test_tables_of_a_later_release_ask_for_an_upgrade_of_the_package(database_url: str) -> None:
    execute(database_url, "update continuum_schema set format = 99, release = '9.9'")
    message = complaint(database_url, SchemaOutdated)
    assert "99" in message
    assert "9.9" in message
    assert "upgrade the package" in message


def test_tables_of_an_earlier_release_ask_for_a_migration(database_url: str) -> None:
    execute(database_url, "update continuum_schema set format = 0")
    assert "continuum migrate" in complaint(database_url, SchemaOutdated)


def test_a_schema_row_that_is_missing_asks_for_a_migration(database_url: str) -> None:
    execute(database_url, "delete from continuum_schema")
    assert "continuum migrate" in complaint(database_url, SchemaOutdated)


def test_a_database_in_another_encoding_is_refused(postgres_url: str) -> None:
    name = "continuum_test_latin"
    execute(postgres_url, f"drop database if exists {name}")
    execute(postgres_url, f"create database {name} template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'")
    url = sqlalchemy.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    try:
        upgrade(url)
        assert "UTF8" in complaint(url, ConfigError)
    finally:
        execute(postgres_url, f"drop database {name} with (force)")


def test_an_unreachable_database_is_named_without_its_password() -> None:
    with closing(open_journal("postgresql://me:secret@127.0.0.1:1/shop")) as journal:
        with pytest.raises(JournalUnavailable) as raised:
            journal.check()
        assert "127.0.0.1:1/shop" in str(raised.value)
        assert "secret" not in str(raised.value)
    with pytest.raises(JournalUnavailable):
        upgrade("postgresql://me:secret@127.0.0.1:1/shop")


# -- what migrate() says about it --------------------------------------------------------------------------------------


def test_the_owner_of_the_schema_needs_no_right_on_the_database(empty_database_url: str) -> None:
    name = sqlalchemy.make_url(empty_database_url).database
    role = f"owner_of_{name}"
    execute(empty_database_url, f"create role {role} login password 'test'")
    try:
        execute(empty_database_url, f"create schema app authorization {role}")
        url = (
            sqlalchemy.make_url(empty_database_url)
            .set(username=role, password="test")
            .render_as_string(hide_password=False)
        )
        assert upgrade(url, "app") == HEAD
    finally:
        execute(empty_database_url, f"drop owned by {role} cascade")
        execute(empty_database_url, f"drop role {role}")


def test_migrating_tables_of_a_later_release_asks_for_an_upgrade_of_the_package(database_url: str) -> None:
    execute(database_url, "update continuum_alembic_version set version_num = '9999'")
    with pytest.raises(SchemaOutdated, match="upgrade the package") as refused:
        upgrade(database_url)
    assert "9999" in str(refused.value)


def test_migrating_tables_of_a_later_format_does_not_call_them_up_to_date(database_url: str) -> None:
    execute(database_url, "update continuum_schema set format = 99, release = '9.9'")
    with pytest.raises(SchemaOutdated, match=r"99.*upgrade the package"):
        upgrade(database_url)


@pytest.mark.parametrize("change", ["update continuum_schema set format = 0", "delete from continuum_schema"])
def test_a_format_that_no_migration_wrote_is_not_answered_with_migrate(database_url: str, change: str) -> None:
    execute(database_url, change)
    with pytest.raises(SchemaOutdated, match="somebody has changed it") as refused:
        upgrade(database_url)
    assert "run `continuum migrate`" not in str(refused.value)


def test_a_database_that_does_not_exist_is_a_mistake_in_the_url(postgres_url: str) -> None:
    url = sqlalchemy.make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False)
    assert "nowhere" in complaint(url, ConfigError)
    with pytest.raises(ConfigError, match="nowhere"):
        upgrade(url)


def test_a_user_who_does_not_exist_is_a_mistake_in_the_url(database_url: str) -> None:
    url = sqlalchemy.make_url(database_url).set(username="nobody_here", password="secret")
    said = complaint(url.render_as_string(hide_password=False), ConfigError)
    assert "nobody_here" in said
    assert "secret" not in said
