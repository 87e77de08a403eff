"""Here lives where a task goes: to the local pool, to an external executor, or free into the journal.

::

    order ─(placed: which executor, which queue)─► local ────► claimed     the pool has a place for it
                                                  │      └──► free        any pool may claim it
                                                  └► external ► dispatched  its outbox has room, and publishes it
                                                         └──► free        its outbox marks it when it can

A placed order names its executor; None and ``local`` both mean a local pool. Placing costs the local ones a comparison
and the others a look-up. It is pure: what is stored is what the executor's rules say at the moment of the turn.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, Protocol

import msgspec

from continuum.declare.executors import LOCAL
from continuum.model.clock import DatabaseClock
from continuum.model.decisions import Commit, Decision
from continuum.model.ids import RunId
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import ClaimedTask, DispatchedTask, TaskOrder, TaskRef
from continuum.runtime.turns.pace import Pace
from continuum.runtime.turns.pool import Pool

__all__ = ["Outlet", "Outlets"]

# Policies are made by declarations and by calls; the latter could be endlessly many.
_MOST_PLACED: Final = 4096

_Placed = tuple[ActivityPolicy, str]


class Outlet(Protocol):
    """The outbox of an external executor, as seen from the turns thread. No method blocks."""

    @property
    def outstanding(self) -> int:
        """How many tasks are dispatched, as far as is known here, and have not ended."""

    def place(self, activity: str, policy: ActivityPolicy) -> ActivityPolicy:
        """Return the policy a call is stored under: with its queue."""

    def reserve(self, order: TaskOrder) -> bool:
        """Whether a task may be inserted as dispatched by this worker; if so, a place is kept for it."""

    def unreserve(self, order: TaskOrder) -> None:
        """Give back a place: the task was not inserted."""

    def submit(self, tasks: Sequence[DispatchedTask]) -> None:
        """Publish tasks for which places were reserved; their commit is acknowledged."""

    def settle(self, run_id: RunId, command: int) -> None:
        """The task's outcome has come."""

    def cancel(self, run_id: RunId, command: int) -> None:
        """Nobody waits for this task any more."""

    def wake(self) -> None:
        """Free tasks may be waiting."""


class Outlets:
    """Places orders and hands out what was committed. Used by the turns thread; ``open`` and ``wake`` by any.

    :param executor: what ``executor=None`` means.
    :param find_outlet: returns the outlet of an executor, None if it runs in this process; called once for each.
        Raises ``ConfigError`` if there is no such executor here.
    :ivar pool: the local pool, None in a dispatcher that runs no activities.
    """

    def __init__(
        self,
        *,
        executor: str,
        pool: Pool | None,
        find_outlet: Callable[[str], Outlet | None],
        clock: DatabaseClock,
        deadline: timedelta,
    ) -> None:
        self.pool = pool
        self._default = executor
        self._find = find_outlet
        self._clock = clock
        self._deadline_us = deadline // timedelta(microseconds=1)
        self._outlets: dict[str, Outlet | None] = {}
        self._external: tuple[Outlet, ...] = ()
        self._executors: tuple[str, ...] = ()
        self._pace = Pace()
        self._placed: dict[tuple[str, str], _Placed] = {}
        self._claimed: list[ClaimedTask] = []
        self._dispatched: dict[str, list[DispatchedTask]] = {}

    @property
    def executors(self) -> tuple[str, ...]:
        """The external executors that have an outlet here."""
        return self._executors

    def open(self, executor: str) -> Outlet | None:
        """Return an executor's outlet, None for one that runs in this process. Raises ``ConfigError``."""
        if executor not in self._outlets:
            self._outlets[executor] = None if executor == LOCAL else self._find(executor)
            found = {name: outlet for name, outlet in self._outlets.items() if outlet is not None}
            self._external, self._executors = tuple(found.values()), tuple(found)
        return self._outlets[executor]

    def wake(self) -> None:
        """Free tasks may be waiting."""
        for outlet in self._external:
            outlet.wake()

    # ------------------------------------------------------------------ before the commit

    def place_all(self, decision: Decision) -> Decision:
        """Return the decision with its orders placed. Raises ``ConfigError`` on an executor that is not there."""
        if not decision.orders:
            return decision
        orders = [self.place(order) for order in decision.orders]
        if all(map(_is_same, orders, decision.orders)):
            return decision
        return msgspec.structs.replace(decision, orders=orders)

    def place(self, order: TaskOrder) -> TaskOrder:
        """Return the order with its executor and its queue."""
        executor = order.policy.executor or self._default
        if executor == LOCAL:
            return order
        key = order.activity, order.policy_text
        known = self._placed.get(key)
        if known is None:
            outlet = self.open(executor)
            if outlet is None:
                policy = msgspec.structs.replace(order.policy, executor=LOCAL)
            else:
                policy = msgspec.structs.replace(outlet.place(order.activity, order.policy), executor=executor)
            if len(self._placed) >= _MOST_PLACED:
                self._placed.clear()
            known = self._placed[key] = policy, policy.encode()
        policy, policy_text = known
        return msgspec.structs.replace(order, policy=policy, policy_text=policy_text)

    def reserve(self, orders: Sequence[TaskOrder]) -> tuple[frozenset[int], frozenset[int]]:
        """Keep places for placed orders; return the commands to be inserted as claimed, and as dispatched."""
        claimed: list[int] = []
        dispatched: list[int] = []
        pool = self.pool
        for order in orders:
            outlet = self._outlet_of(order)
            if outlet is not None:
                if outlet.reserve(order):
                    dispatched.append(order.command)
            elif pool is not None and pool.reserve(order):
                claimed.append(order.command)
        return frozenset(claimed), frozenset(dispatched)

    def unreserve(self, commit: Commit) -> None:
        """Give back the places of a commit that will not be acknowledged here."""
        for order in commit.decision.orders:
            if order.command in commit.claimed:
                if self.pool is not None:
                    self.pool.unreserve(order)
            elif order.command in commit.dispatched:
                outlet = self._outlet_of(order)
                if outlet is not None:
                    outlet.unreserve(order)

    # ------------------------------------------------------------------ after the commit

    def acknowledged(self, commit: Commit) -> bool:
        """A commit was acknowledged; return whether some of its tasks are free."""
        run_id, free = commit.run_id, False
        for command in commit.decision.cancelled:
            self._cancel(run_id, command)
        for order in commit.decision.orders:
            if order.command in commit.claimed:
                self._claimed.append(
                    ClaimedTask(
                        run_id,
                        order.command,
                        1,
                        order.activity,
                        order.arguments,
                        order.policy,
                        order.idempotency_key,
                    )
                )
            elif order.command in commit.dispatched:
                self._dispatched.setdefault(order.policy.executor or LOCAL, []).append(
                    DispatchedTask(
                        TaskRef(run_id, order.command, 1),
                        order.activity,
                        order.policy,
                        1,
                        self._clock.now_us() + self._deadline_us,
                    )
                )
            else:
                free = True
        return free

    def arrived(self, run_id: RunId, command: int) -> None:
        """The outcome of a task that ran elsewhere is journaled."""
        self._pace.arrived()
        for outlet in self._external:
            outlet.settle(run_id, command)

    def pause(self) -> float:
        """Return for how many seconds outcomes that ran elsewhere may wait for others."""
        if not self._external:
            return 0.0
        return self._pace.pause(sum(outlet.outstanding for outlet in self._external))

    def hand_out(self) -> None:
        """Hand out the tasks of all acknowledged commits."""
        if self._claimed:
            claimed, self._claimed = self._claimed, []
            if self.pool is not None:
                self.pool.submit(claimed)
        if self._dispatched:
            dispatched, self._dispatched = self._dispatched, {}
            for executor, tasks in dispatched.items():
                outlet = self._outlets[executor]
                assert outlet is not None
                outlet.submit(tasks)

    def _cancel(self, run_id: RunId, command: int) -> None:
        if self.pool is not None:
            self.pool.cancel(run_id, command)
        for outlet in self._external:
            outlet.cancel(run_id, command)

    def _outlet_of(self, order: TaskOrder) -> Outlet | None:
        executor = order.policy.executor
        return None if executor is None or executor == LOCAL else self._outlets[executor]


def _is_same(one: object, other: object) -> bool:
    return one is other
