"""Here live rules of families that hold at every moment, each one query: one snapshot, whatever is under way."""

import threading
from typing import Self

import psycopg2

from tests.support.family_clients import describe

__all__ = ["RULES", "Watch"]

_ENDED = "('completed', 'failed', 'cancelled', 'terminated')"

RULES: dict[str, str] = {
    # A child that is to be cancelled with its parent has heard of it, or has a letter that says so.
    "a child escaped the end of its parent": f"""
        select c.id::text, c.state, c.parent_close, p.id::text, p.state
        from continuum_runs c join continuum_runs p on p.chain_id = c.parent_chain_id and p.is_tip
        where c.is_tip and c.state not in {_ENDED} and p.state in {_ENDED} and c.parent_close <> 'abandon'
        and not exists (
            select from continuum_inbox i where i.chain_id = c.chain_id and (
                i.kind = 'run_terminated' or i.kind = 'cancel_requested' and c.parent_close = 'cancel'
            )
        )
        and not (c.parent_close = 'cancel' and exists (
            select from continuum_events e join continuum_runs r on r.id = e.run_id
            where r.chain_id = c.chain_id and e.type = 'cancel_requested'
        ))
    """,
    # The same of a parent that was asked to cancel, for children started before it first was.
    "a child escaped the cancellation of its parent": f"""
        select c.id::text, c.state, c.parent_close, p.id::text, p.state
        from continuum_runs c
        join continuum_runs first on first.id = c.chain_id
        join continuum_runs p on p.chain_id = c.parent_chain_id and p.is_tip
        join continuum_events asked on asked.run_id = p.id and asked.type = 'cancel_requested'
        join continuum_events ordered on ordered.run_id = first.parent_id and ordered.type = 'child_started'
            and ordered.command = first.parent_command
        where c.is_tip and c.state not in {_ENDED} and p.state not in {_ENDED} and c.parent_close <> 'abandon'
        and not exists (
            select from continuum_events e where e.run_id = p.id and e.type = 'cancel_requested' and e.seq < asked.seq
        )
        and (first.parent_id <> p.id or ordered.seq < asked.seq)
        and not exists (
            select from continuum_inbox i
            where i.chain_id = c.chain_id and i.kind in ('run_terminated', 'cancel_requested')
        )
        and not exists (
            select from continuum_events e join continuum_runs r on r.id = e.run_id
            where r.chain_id = c.chain_id and e.type = 'cancel_requested'
        )
    """,
    # Whoever waits for a child that has ended has its report, or a letter with it.
    "a parent waits for a child that has ended": f"""
        select c.id::text, c.state, p.id::text, p.state, c.parent_command
        from continuum_runs c join continuum_runs p on p.id = c.parent_id and p.is_tip
        where c.is_tip and c.state in {_ENDED} and p.state not in {_ENDED}
        and not exists (
            select from continuum_inbox i where i.chain_id = p.chain_id and i.run_id = p.id
            and i.command = c.parent_command
        )
        and not exists (
            select from continuum_events e where e.run_id = p.id and e.command = c.parent_command
            and e.type in ('child_completed', 'child_failed', 'child_cancelled', 'child_cancel_requested')
        )
        -- Nobody waits for a child whose handle was cancelled: asked before, by the parent's own cancel, or abandoned.
        and not exists (select from continuum_events e where e.run_id = p.id and e.type = 'cancel_requested')
        and c.parent_close <> 'abandon'
    """,
    "a run is set aside": "select id::text, stuck_reason from continuum_runs where state = 'stuck'",
    "two children of one command": """
        select parent_id::text, parent_command, count(*) from continuum_runs
        where parent_id is not null and continued_from is null group by 1, 2 having count(*) > 1
    """,
    "two ends of one child": """
        select run_id::text, command, count(*) from continuum_events
        where type in ('child_completed', 'child_failed', 'child_cancelled') group by 1, 2 having count(*) > 1
    """,
    "a run that was ended goes on": f"""
        select id::text, state, wake_at, lease_owner from continuum_runs
        where state in ('continued', {_ENDED[1:-1]}) and (lease_owner is not null or wake_at is not null)
    """,
}


class Watch:
    """A thread that asks for every rule all the time, until the block ends; it raises what it found."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg2.connect(url, application_name="races watch")
        self.connection.autocommit = True
        self.stopping = threading.Event()
        self.found: list[str] = []
        self.looks = 0
        self.thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stopping.set()
        self.thread.join()
        self.connection.close()
        if self.found:
            told = "\n".join(self.found[:5])
            raise AssertionError(told)

    def _run(self) -> None:
        while not self.stopping.wait(0.25):
            self.look()

    def look(self) -> None:
        with self.connection.cursor() as cursor:
            for name, query in RULES.items():
                cursor.execute(query)
                for row in cursor.fetchmany(3):
                    ids = ", ".join(f"'{value}'" for value in row if isinstance(value, str) and len(value) == 36)
                    now = describe(self.url, f"select unnest(array[{ids}])")
                    self.found.append(f"{name}: {row}\n{now}")
        self.looks += 1
