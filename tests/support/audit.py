"""Here lives the audit after a disaster: what must hold of every run, whatever was killed."""

from collections import Counter, defaultdict
from typing import Any

import psycopg2

from continuum.model.events import COMMANDS, TERMINAL, EventType

__all__ = ["audit", "fetch"]

FINISHING = (
    EventType.ACTIVITY_COMPLETED,
    EventType.ACTIVITY_FAILED,
    EventType.TIMER_FIRED,
    EventType.CHILD_COMPLETED,
    EventType.CHILD_FAILED,
    EventType.CHILD_CANCELLED,
)
# By the order of the columns: the same as what follows from the events.
_CHILDREN_ROWS = """
    select parent_id::text, parent_command, id::text from continuum_runs
    where parent_id is not null and continued_from is null order by 1, 2, 3
"""
_CHILDREN_EVENTS = """
    select run_id::text, command, payload->>'id' from continuum_events where type = 'child_started' order by 1, 2, 3
"""
_CHAINS = """
    select chain_id::text, count(*), count(*) filter (where is_tip), count(distinct continued_from),
           count(*) filter (where state = 'continued')
    from continuum_runs group by 1
"""


def fetch(url: str, query: str, *args: Any) -> list[tuple[Any, ...]]:
    """Run a query on a connection of its own."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query, args)
            return cursor.fetchall()
    finally:
        connection.close()


def audit(url: str, *, max_attempts: int = 6, ledger: bool = True) -> None:
    """Check that every run ended once, with a gapless history, nothing twice and nothing left over."""
    runs = fetch(url, "select id::text, state, last_seq, lease_owner::text from continuum_runs")
    histories: dict[str, list[tuple[int, str, int | None]]] = defaultdict(list)
    for run_id, seq, kind, command in fetch(
        url, "select run_id::text, seq, type, command from continuum_events order by run_id, seq"
    ):
        histories[run_id].append((seq, kind, command))
    for run_id, state, last_seq, owner in runs:
        history = histories[run_id]
        seqs = [seq for seq, _, _ in history]
        assert seqs == list(range(1, last_seq + 1)), f"{run_id}: sequence numbers {seqs}, last_seq {last_seq}"
        ends = [kind for _, kind, _ in history if kind in TERMINAL]
        assert len(ends) == 1, f"{run_id} ({state}) has terminal events {ends}: {history}"
        assert history[-1][1] in TERMINAL, f"{run_id} goes on after its end: {history}"
        assert owner is None, f"{run_id} has ended and is still owned by {owner}"
        commands = [command for _, kind, command in history if kind in COMMANDS]
        assert commands == list(range(len(commands))), f"{run_id}: command numbers {commands}"
        outcomes = Counter(command for _, kind, command in history if kind in FINISHING)
        twice = [command for command, count in outcomes.items() if count > 1]
        assert not twice, f"{run_id}: commands {twice} completed more than once: {history}"
    # Each child that was ordered is there, and nobody else's is.
    assert fetch(url, _CHILDREN_ROWS) == fetch(url, _CHILDREN_EVENTS)
    for chain_id, length, tips, successors, continued in fetch(url, _CHAINS):
        found = (tips, successors, continued)
        assert found == (1, length - 1, length - 1), f"chain {chain_id} of {length} runs: {found}"
    assert fetch(url, "select * from continuum_tasks") == []
    assert fetch(url, "select * from continuum_inbox") == []
    if ledger:
        for run_id, name, item, attempts in fetch(
            url,
            "select run_id::text, activity, item, array_agg(attempt order by id) from ledger group by 1, 2, 3",
        ):
            # One attempt never begins twice, and none begins beyond the policy.
            assert len(set(attempts)) == len(attempts), f"{run_id} {name} {item}: attempts began {attempts}"
            assert max(attempts) <= max_attempts, f"{run_id} {name} {item}: attempts {attempts}"
