"""Here lives a run with all that it has started: reading the tree, and ending it from the top.

A child stands below the chain that started it, and is shown as the last run of its own chain.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from continuum.client.access import Access
from continuum.client.checks import check_namespace, check_run_id
from continuum.client.letters import send_cancel, terminate_run
from continuum.client.lookups import tip_of
from continuum.errors import ConfigError, RunError, RunTerminal, SearchError
from continuum.model.ids import ChainId, RunId
from continuum.model.names import shown
from continuum.model.runs import Run

__all__ = ["MAX_TREE", "RunTree", "cancel_tree", "read_tree", "terminate_tree"]

MAX_TREE: Final = 10_000
"""Runs of one tree: more are not read at once, and not ended by one call."""


@dataclass(frozen=True, slots=True)
class RunTree:
    """A run and the runs it has started, each with those that it has started.

    :ivar cut: whether there are more below it than were read; on the run that was asked for, and only there.
    """

    run: Run
    children: tuple["RunTree", ...] = ()
    cut: bool = False

    def __iter__(self) -> Iterator[Run]:
        """Iterate over all runs, each before what it has started."""
        yield self.run
        for child in self.children:
            yield from child

    def __len__(self) -> int:
        """Return how many runs it has."""
        return 1 + sum(map(len, self.children))


def read_tree(access: Access, run_id: str, *, namespace: str | None, limit: int) -> RunTree:
    """Return the tip of the run's chain with up to ``limit`` runs below it, those nearest to it."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_TREE:
        message = f"limit={shown(limit)} is not valid: write a whole number from 1 to {MAX_TREE}."
        raise SearchError(message)
    top = tip_of(access, run_id, namespace=namespace)
    below = access.journal.runs.descendants(top.id, namespace=namespace, limit=limit + 1)
    return replace(_tree_of(top, below[:limit]), cut=len(below) > limit)


def _tree_of(top: Run, below: Sequence[Run]) -> RunTree:
    # From the last to the first: children come after their parents, so each finds its own complete.
    children: dict[ChainId | None, list[RunTree]] = {}
    for run in reversed(below):
        tree = RunTree(run, tuple(reversed(children.pop(run.chain_id, []))))
        children.setdefault(run.parent_chain_id, []).append(tree)
    return RunTree(top, tuple(reversed(children.get(top.chain_id, []))))


# ------------------------------------------------------------------ ending


def cancel_tree(access: Access, run_id: str, *, namespace: str | None, connection: Any) -> list[RunId]:
    """Ask the run and all below it to cancel themselves; return those that were asked, parents first."""
    _refuse_connection(connection)

    def ask(one: RunId) -> RunId:
        send_cancel(access, one, namespace=None, connection=None)
        return one

    return _each(access, run_id, ask, namespace=namespace)


def terminate_tree(access: Access, run_id: str, *, reason: str | None, namespace: str | None) -> list[RunId]:
    """End the run and all below it without their code; return those that were ended, parents first."""
    return _each(
        access, run_id, lambda one: terminate_run(access, one, reason=reason, namespace=None), namespace=namespace
    )


def _each(access: Access, run_id: str, act: Callable[[RunId], RunId], *, namespace: str | None) -> list[RunId]:
    """Do it to the run, then generation by generation to what is below it, each in a call of its own.

    Looked at again until there is nothing new: a run may start children until it has been reached. What has ended is
    passed over, not what is below it: an abandoned child lives on.
    """
    known, namespace = check_run_id(run_id), check_namespace(namespace)
    top = tip_of(access, known, namespace=namespace)
    reached: list[RunId] = []
    seen: set[ChainId] = set()
    fresh = [top]
    while fresh:
        for run in fresh:
            seen.add(run.chain_id)
            if run.ended and run.is_tip:
                continue
            try:
                reached.append(act(run.id))
            except RunTerminal:
                continue
        below = access.journal.runs.descendants(known, namespace=namespace, limit=MAX_TREE + 1)
        fresh = [run for run in below[:MAX_TREE] if run.chain_id not in seen]
        if len(below) > MAX_TREE and not fresh:
            message = (
                f"more than {MAX_TREE:,} runs are below run {known}; {len(reached):,} were reached. Find the others"
                f" with search({{'parent_id': …}}), and end each of their trees by itself."
            )
            raise RunError(message)
    return reached


def _refuse_connection(connection: object) -> None:
    if connection is not None:
        message = (
            "cascade=True reads the tree and asks each run in a transaction of its own: leave out connection=, or"
            " cancel only the run, which asks the children that it waits for."
        )
        raise ConfigError(message)
