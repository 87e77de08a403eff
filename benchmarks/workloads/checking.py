"""Here lives the proof that what was measured was also done, read from the database afterwards."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from benchmarks.child import MeasurementError

__all__ = ["check_runs", "cursor_on"]

STATES = "select state, count(*) from continuum_runs group by state"
LEFT = "select (select count(*) from continuum_tasks), (select count(*) from continuum_inbox)"
# Consecutive from 1 to the run's own last_seq, for every run.
TORN = """
    select count(*) from continuum_runs r left join (
        select run_id, count(*) as n, min(seq) as low, max(seq) as high from continuum_events group by run_id
    ) e on e.run_id = r.id
    where e.n is distinct from r.last_seq or e.low is distinct from 1 or e.high is distinct from r.last_seq
"""
STEPS = "select count(*) from continuum_events where type = 'activity_completed'"


@contextmanager
def cursor_on(url: str) -> Iterator[Any]:
    """Yield an autocommitting cursor."""
    with closing(psycopg2.connect(url, application_name="continuum-benchmarks")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def check_runs(url: str, *, runs: int, steps: int) -> str:
    """Raise unless ``runs`` runs completed, with gapless histories of ``steps`` steps in all, and left nothing."""
    with cursor_on(url) as cursor:
        cursor.execute(STATES)
        states = dict(cursor.fetchall())
        if states != {"completed": runs}:
            raise MeasurementError(f"expected {runs} completed runs, found {states}")
        cursor.execute(TORN)
        torn = cursor.fetchone()[0]
        if torn:
            raise MeasurementError(f"{torn} histories have gaps or do not end where their run says")
        cursor.execute(LEFT)
        tasks, mail = cursor.fetchone()
        if tasks or mail:
            raise MeasurementError(f"{tasks} tasks and {mail} messages were left behind")
        cursor.execute(STEPS)
        done = cursor.fetchone()[0]
        if done != steps:
            raise MeasurementError(f"expected {steps} completed steps, found {done}")
    return f"{runs} runs completed, {steps} steps, histories gapless, no task or message left"
