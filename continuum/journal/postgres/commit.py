"""Here lives how a group commit is written down: which of its texts (see `commit_texts`), and what it is called with.

This is the hot path of the turns thread: lists and joins of strings, no object per value.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from continuum.errors import JournalError
from continuum.journal.postgres.commit_family import Family, family_flags
from continuum.journal.postgres.commit_texts import (
    COMMIT,
    COMMIT_DOOMED,
    COMMIT_FAMILY,
    COMMIT_MAIL,
    COMMIT_SINGLE,
    COMMIT_STEP,
    ENDED_FLAG,
    WOKE_FLAG,
)
from continuum.journal.postgres.literals import NOTHING, ids, integers, sparse, text, texts, words
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.wide import NONE
from continuum.journal.requests import CommitRequest
from continuum.model.decisions import Commit
from continuum.model.events import Event, EventType
from continuum.model.runs import ENDED
from continuum.model.tasks import TaskOrder

__all__ = ["LOCAL", "MAX_RUNS", "MAX_TEXT", "commit_call"]

MAX_RUNS: Final = 500
# A batch stays far below; one run's decision, which is never split, may be this large.
MAX_TEXT: Final = 64 * 1024 * 1024

LOCAL: Final = "local"  # the executor of an order that names none

# How an order is inserted (see `commit_texts`); a dispatched one by its deadline in milliseconds, from 2 on.
_FREE: Final = 0
_CLAIMED: Final = 1
_SHORTEST_DEADLINE: Final = 2

_MILLISECOND: Final = timedelta(milliseconds=1)
_CANCEL: Final = EventType.CANCEL_REQUESTED
_NO_ORDERS: Final = (NOTHING,) * 8
# By the policy's text: its number in the call, and the first order with it.
_Policies = dict[str, tuple[int, TaskOrder]]
# Of policies by themselves, for `_single_policies`.
_literals: Final[dict[str, tuple[str, str]]] = {}
_MOST_LITERALS: Final = 1_000
# What is written so little of that walking along an array of texts costs nothing.
_FEW: Final = 16


def commit_call(request: CommitRequest, payloads: Payloads) -> str:
    """Return the text that executes the commit.

    Raises ``ValueError`` for a batch of too many runs, or that holds a run twice, and ``JournalError`` for a text that
    is too long.
    """
    commits = request.commits
    if len(commits) > MAX_RUNS:
        raise ValueError(f"{len(commits)} runs in one commit are more than {MAX_RUNS}: send several")
    family = Family() if any(commit.reaches_out for commit in commits) else None
    if len(commits) == 1 and family is None and _is_plain(commits[0]):
        call = _single_call(request, payloads)
    else:
        columns = _Columns(payloads, _deadline(request), family)
        for place, commit in enumerate(commits, 1):
            columns.add(place, commit)
        call = columns.call(request.worker)
    if len(call) > MAX_TEXT:
        raise JournalError(f"a commit of {len(call):,} characters is larger than {MAX_TEXT:,}: send fewer runs at once")
    return call


def _is_plain(commit: Commit) -> bool:
    """Whether the text for a single run can hold it: nothing consumed or cancelled, and little written."""
    decision = commit.decision
    return not (commit.consumed or decision.cancelled or len(decision.events) > _FEW or len(decision.orders) > _FEW)


class _Columns:
    """The columns of a batch, filled run by run."""

    def __init__(self, payloads: Payloads, deadline: int, family: Family | None) -> None:
        self._payloads = payloads
        self._deadline = deadline
        self._family = family
        self.ids: list[str] = []
        self.chains: list[str] = []
        self.states: list[str] = []
        self.adopted: list[str | None] = []
        self.run_numbers: list[int] = []
        self.finished: list[int] = []
        self.cancelled: list[int] = []
        self.event_numbers: list[int] = []
        self.types: list[str] = []
        self.names: list[str | None] = []
        self.bodies: list[str | None] = []
        self.locations: list[str | None] = []
        self.order_numbers: list[int] = []
        self.orders: list[TaskOrder] = []
        self.policies: _Policies = {}
        self.mail: list[int] = []

    def add(self, place: int, commit: Commit) -> None:
        """Take in one run."""
        decision = commit.decision
        cancelled = self._add_events(place, decision.events)
        self.ids.append(commit.run_id)
        self.chains.append(commit.chain_id)
        self.states.append(decision.state)
        self.adopted.append(commit.adopted_hash)
        if self._family is None:
            self.run_numbers += _run_numbers(commit, cancelled)
        else:
            self.run_numbers += _run_numbers(commit, cancelled, family_flags(commit))
            self._family.add(place, commit)
        for order in _orders(commit):
            claim = _claim(commit, order.command, self._deadline)
            self.order_numbers += (place, claim, order.command, _policy(self.policies, order))
            self.orders.append(order)
        for command, attempt in commit.finished:
            self.finished += (place, command, attempt)
        for command in decision.cancelled:
            self.cancelled += (place, command)
        for number in commit.consumed:
            self.mail += (place, number)

    def _add_events(self, place: int, events: Sequence[Event]) -> int:
        """Take in a run's events; return when its cancellation was requested."""
        cancelled = NONE
        for event in events:
            command, kind = event.command, event.type
            self.event_numbers += (place, event.at, event.seq, NONE if command is None else command)
            self.types.append(kind)
            self.names.append(event.name)
            self.bodies.append(event.payload)
            self.locations.append(event.location)
            if kind == _CANCEL and cancelled == NONE:
                cancelled = event.at
        return cancelled

    def call(self, worker: str) -> str:
        """Return the text."""
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("a run is in this commit twice: make one decision of both")
        columns = [
            text(worker),
            ids(self.ids),
            integers(self.run_numbers),
            words(self.states),
            sparse(self.adopted),
            integers(self.finished),
            integers(self.event_numbers),
            words(self.types),
            sparse(self.names),
            sparse(self._payloads.wrap_all(self.bodies)),
            sparse(self.locations),
            *_order_columns(self.orders, self.order_numbers, self.policies, self._payloads),
        ]
        if self._family is not None:
            columns += (integers(self.mail), ids(self.chains), integers(self.cancelled))
            return COMMIT_FAMILY.call(*columns, *self._family.columns(self._payloads))
        if not self.mail and not self.cancelled:
            return COMMIT.call(*columns)
        columns += (integers(self.mail), ids(self.chains) if self.mail else NOTHING)
        if not self.cancelled:
            return COMMIT_MAIL.call(*columns)
        return COMMIT_DOOMED.call(*columns, integers(self.cancelled))


def _single_call(request: CommitRequest, payloads: Payloads) -> str:
    """Return the call for one run of which nothing is cancelled or consumed, and that wrote few events."""
    [commit] = request.commits
    decision = commit.decision
    cancelled = NONE
    numbers: list[int] = []
    words: list[str | None] = []
    for event in decision.events:
        command, kind = event.command, event.type
        numbers += (event.at, event.seq, NONE if command is None else command)
        words += (kind, event.name, payloads.wrap(event.payload), event.location)
        if kind == _CANCEL and cancelled == NONE:
            cancelled = event.at
    columns = (
        text(request.worker),
        text(commit.run_id),
        integers(_run_numbers(commit, cancelled)),
        text(decision.state),
        integers([number for claim in commit.finished for number in claim]),
        integers(numbers),
        texts(words),
        *_single_orders(commit, payloads, _deadline(request) if commit.dispatched else _FREE),
    )
    if commit.woke or commit.adopted_hash is not None or cancelled != NONE or decision.state in ENDED:
        return COMMIT_SINGLE.call(*columns, text(commit.adopted_hash))
    return COMMIT_STEP.call(*columns)


def _single_orders(commit: Commit, payloads: Payloads, deadline: int) -> tuple[str, ...]:
    orders = _orders(commit)
    if not orders:
        return (NOTHING,) * 4
    policies: _Policies = {}
    numbers: list[int] = []
    words: list[str | None] = []
    for order in orders:
        command = order.command
        numbers += (_claim(commit, command, deadline), command, _policy(policies, order))
        words += (order.activity, payloads.wrap(order.arguments), order.idempotency_key)
    return integers(numbers), texts(words), *_single_policies(policies)


def _single_policies(policies: _Policies) -> tuple[str, str]:
    """Return the literals of some policies; an activity is called again and again, so those of one are kept."""
    alone = next(iter(policies)) if len(policies) == 1 else None
    known = None if alone is None else _literals.get(alone)
    if known is None:
        firsts = [order for _, order in policies.values()]
        words = [
            word for one in firsts for word in (one.policy.queue_name, one.policy.executor or LOCAL, one.policy_text)
        ]
        known = (_policy_numbers(firsts), texts(words))
        if alone is not None:
            if len(_literals) >= _MOST_LITERALS:
                _literals.clear()
            _literals[alone] = known
    return known


def _policy_numbers(orders: Sequence[TaskOrder]) -> str:
    return integers([number for order in orders for number in (order.policy.retry.max_attempts, order.policy.priority)])


def _run_numbers(commit: Commit, cancelled: int, more_flags: int = 0) -> tuple[int, ...]:
    decision, retention = commit.decision, commit.retention_us
    ended = decision.state in ENDED
    wake = None if ended else decision.wake_at
    return (
        commit.token,
        commit.seen,
        len(decision.events),
        len(commit.finished),
        (ENDED_FLAG | WOKE_FLAG if ended else WOKE_FLAG if commit.woke else 0) | more_flags,
        NONE if wake is None else wake,
        NONE if retention is None else retention,
        cancelled,
    )


def _orders(commit: Commit) -> Sequence[TaskOrder]:
    """Return the tasks to create: what an ended run still asked for will never be awaited."""
    return () if commit.decision.state in ENDED else commit.decision.orders


def _claim(commit: Commit, command: int, deadline: int) -> int:
    """Return how an order is inserted."""
    return _CLAIMED if command in commit.claimed else deadline if command in commit.dispatched else _FREE


def _deadline(request: CommitRequest) -> int:
    return max(_SHORTEST_DEADLINE, request.dispatch_deadline // _MILLISECOND)


def _policy(policies: _Policies, order: TaskOrder) -> int:
    """Return the number of an order's policy among those of the call."""
    known = policies.get(order.policy_text)
    if known is None:
        known = policies[order.policy_text] = (len(policies) + 1, order)
    return known[0]


def _order_columns(
    orders: Sequence[TaskOrder], numbers: list[int], policies: _Policies, payloads: Payloads
) -> tuple[str, ...]:
    if not orders:
        return _NO_ORDERS
    firsts = [order for _, order in policies.values()]
    found = [order.policy for order in firsts]
    return (
        integers(numbers),
        texts([order.activity for order in orders]),
        texts(payloads.wrap_all([order.arguments for order in orders])),
        sparse([order.idempotency_key for order in orders]),
        _policy_numbers(firsts),
        texts([policy.queue_name for policy in found]),
        texts([policy.executor or LOCAL for policy in found]),
        texts([order.policy_text for order in firsts]),
    )
