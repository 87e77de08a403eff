"""Here lives how statements find whom a run has to tell of its end: the parent, and the children.

Neither is locked. Each is found by its index, and at most once: a parent by its key, children by their parent's chain.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from typing import Final

from continuum.model.runs import ENDED

__all__ = ["ENDED_STATES", "children", "parent"]

ENDED_STATES: Final = ", ".join(f"'{state}'" for state in sorted(ENDED))


def parent(*, run_id: str, given: str = "true") -> str:
    """Return a query for a run that waits for a child: (chain_id, run_id).

    Nobody reads a letter for a run that has ended, as it has if it is no longer the tip.
    """
    return f"""
        select p.chain_id, p.id as run_id from continuum_runs p
        where {given} and p.id = {run_id} and p.is_tip and p.state not in ({ENDED_STATES})
    """


def children(*, chain_id: str, closes: str = "true", given: str = "true") -> str:
    """Return a query for the chains below a chain that are to end with it: (chain_id, ends, kind).

    ``closes`` says whether it has ended: if so, some ``ends`` without their code, and get a payload that says why.
    """
    return f"""
        select c.chain_id, c.ends, case when c.ends then 'run_terminated' else 'cancel_requested' end as kind
        from (
            select c.chain_id, c.parent_close = 'terminate' and {closes} as ends from continuum_runs c
            where {given} and c.parent_chain_id = {chain_id} and c.is_tip and c.state not in ({ENDED_STATES})
              and c.parent_close <> 'abandon'
            order by c.id
        ) c
    """
