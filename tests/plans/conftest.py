"""A database with many runs, and the plans that prepared statements get in it."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from continuum.journal.postgres.database import SETTINGS
from continuum.journal.postgres.names import Names, Statement
from tests.support.databases import Databases

# 50,000 runs: 20,000 parked with one worker, 10,000 free and due in an hour, 100 free and due, the rest ended. Of the
# parked ones 1,000 have ten children among those that are due in an hour; every second run has attributes.
FILL = """
insert into continuum_workers (id, hostname, pid, queues, workflows, expires_at)
select md5('worker' || n)::uuid, 'host', n, '{}', '{}', clock_timestamp() + interval '1 hour'
from generate_series(1, 3) n;

insert into continuum_runs (id, chain_id, namespace, workflow, version, version_hash, state, last_seq, lease_owner,
                            wake_at, lease_token, parent_id, parent_chain_id, parent_command, parent_close)
select id, id, 'default', case when n % 2 = 0 then 'order' else 'other' end, 1, 'hash',
       case when n <= 30100 then 'suspended' else 'completed' end, 4,
       case when n <= 20000 then md5('worker1')::uuid when n <= 20003 then md5('dead' || n)::uuid end,
       case when n <= 30000 then now() + interval '1 hour' when n <= 30100 then now() - interval '1 second' end, 1,
       parent, parent, case when parent is not null then 7 end, case when parent is not null then 'cancel' end
from (select n, md5('run' || n)::uuid as id,
             case when n between 20004 and 30000 then md5('run' || n % 1000 + 1)::uuid end as parent
      from generate_series(1, 50000) n) g;

insert into continuum_attributes (run_id, attributes)
select md5('run' || n)::uuid, '{"region": "north"}' from generate_series(1, 50000, 2) n;

insert into continuum_workflow_versions (name, hash, version, source, signals)
select 'order', 'hash' || n, 1, '', '[]' from generate_series(1, 2000) n;

insert into continuum_events (run_id, seq, type, command, name, payload, at_us)
select md5('run' || n)::uuid, seq, case when n > 30100 and seq = 4 then 'run_completed' else 'activity_scheduled' end,
       seq, 'charge', '{"a": 1}', 1
from generate_series(1, 50000) n, generate_series(1, 4) seq;

insert into continuum_tasks (run_id, command, state, claimed_by, max_attempts, activity, queue, executor, arguments,
                             policy)
select md5('run' || n)::uuid, 2, case when n % 20 = 0 then 'available' else 'leased' end,
       case when n % 20 > 0 then md5('worker1')::uuid end, 3, 'charge', 'queue' || n % 3, 'local', '[]', '{}'
from generate_series(1, 20000) n;

-- An external executor's: 200 due, 9,500 due in an hour, as many dispatched, the others running; 100 are over time.
insert into continuum_tasks (run_id, command, state, claimed_by, lease_expires_at, available_at, max_attempts, activity,
                             queue, executor, arguments, policy)
select md5('run' || n)::uuid, 4, case when n <= 29800 then 'available' when n <= 39500 then 'dispatched'
       else 'leased' end, case when n > 29800 and n % 2 = 0 then md5('worker2')::uuid end,
       case when n > 39900 then now() - interval '1 minute' when n > 29800 then now() + interval '1 hour' end,
       case when n <= 20200 then now() - interval '1 second' else now() + interval '1 hour' end,
       3, 'charge', 'mail' || n % 3, 'celery', '[]', '{}'
from generate_series(20001, 40000) n;

insert into continuum_snapshots (run_id, through_seq, format, body)
select md5('run' || n)::uuid, 3, 1, '{}' from generate_series(1, 20000) n;

insert into continuum_inbox (chain_id, run_id, kind, command, payload)
select md5('run' || n)::uuid, null, 'signal_received', null, '1' from generate_series(1, 40000, 20) n;
"""


class Planner:
    """Explains statements as our sessions plan them."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._names = Names("public")
        self._prepared: set[str] = set()

    def plan(self, statement: Statement, call: str, *, analyze: bool = False) -> dict[str, Any]:
        """Return the generic plan; with ``analyze`` it is executed, and undone."""
        with self._connection.cursor() as cursor:
            if statement.name not in self._prepared:
                cursor.execute(self._names.prepare(statement))
                self._prepared.add(statement.name)
            cursor.execute("begin")
            try:
                options = "analyze, timing off, format json" if analyze else "format json"
                cursor.execute(f"explain ({options}) {call}")
                plan = cursor.fetchone()[0]
            finally:
                cursor.execute("rollback")
        found: dict[str, Any] = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        return found


@pytest.fixture(scope="module", params=["never analysed", "analysed", "empty"])
def planner(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Planner]:
    """Yield a planner: over 50,000 runs without and with statistics, and over tables as they were migrated."""
    with databases.fresh() as url, closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            if request.param != "empty":
                cursor.execute("alter table continuum_runs set (autovacuum_enabled = off)")
                cursor.execute(FILL)
            if request.param == "analysed":
                cursor.execute("analyze")
            cursor.execute(SETTINGS)
        yield Planner(connection)
