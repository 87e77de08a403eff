"""The record of code while dispatchers start: what one has loaded is on record, whoever retires at that moment."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from continuum.model.ids import new_worker_id
from continuum.model.leases import WorkerInfo, WorkflowVersion, code_mark
from tests.support.eventually import eventually
from tests.support.journals import Desk

WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
Connect = Callable[..., Any]


def version(version_hash: str) -> WorkflowVersion:
    return WorkflowVersion("order", 1, version_hash, "code")


def test_what_a_dispatcher_loads_while_others_are_retired_stays_on_record(
    desk: Desk, connect: Connect, sql: Callable[..., list[Any]]
) -> None:
    workers = desk.journal.workers
    workers.record_versions([version("a"), version("b")])
    holder = connect()
    holder.cursor().execute("select 1 from continuum_workflow_versions where hash = 'a' for update")
    retiring = threading.Thread(target=workers.retire_versions, args=([("order", "a"), ("order", "b")],))
    retiring.start()
    eventually(lambda: sql(WAITING) == [(1,)])
    # A dispatcher registers, then records what it has loaded.
    workers.register(
        WorkerInfo(new_worker_id(), "host", 1, timedelta(hours=1), (), ("order",), (code_mark("order", 1, "b"),))
    )
    workers.record_versions([version("b")])
    holder.rollback()
    retiring.join(20)
    assert (workers.source_of("order", "a"), workers.source_of("order", "b")) == (None, "code")
