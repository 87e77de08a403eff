"""Where a task goes: placed before the commit, handed out after it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from continuum.errors import ConfigError
from continuum.model.clock import DatabaseClock
from continuum.model.decisions import Commit, Decision
from continuum.model.ids import ChainId, RunId
from continuum.model.policies import ActivityPolicy
from continuum.model.runs import RunState
from continuum.model.tasks import ClaimedTask, DispatchedTask, TaskOrder
from continuum.runtime.turns.outlets import Outlets

RUN = RunId("0190a8f0-0000-7000-8000-000000000001")


class FakeOutlet:
    """Takes what it is given, as far as it has room."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.room = 100
        self.placed: list[str] = []
        self.submitted: list[DispatchedTask] = []
        self.cancelled: list[int] = []
        self.settled: list[int] = []
        self.woken = 0
        self.outstanding = 0

    def place(self, activity: str, policy: ActivityPolicy) -> ActivityPolicy:
        self.placed.append(activity)
        return ActivityPolicy(queue=policy.queue or f"{self.name}-queue", priority=policy.priority)

    def reserve(self, _order: TaskOrder) -> bool:
        self.room -= 1
        return self.room >= 0

    def unreserve(self, _order: TaskOrder) -> None:
        self.room += 1

    def submit(self, tasks: Sequence[DispatchedTask]) -> None:
        self.submitted += tasks

    def settle(self, _run_id: RunId, command: int) -> None:
        self.settled.append(command)

    def cancel(self, _run_id: RunId, command: int) -> None:
        self.cancelled.append(command)

    def wake(self) -> None:
        self.woken += 1


class FakePool(FakeOutlet):
    def __init__(self) -> None:
        super().__init__("local")
        self.claimed: list[ClaimedTask] = []

    def submit(self, tasks: Sequence[Any]) -> None:
        self.claimed += tasks


Make = Callable[..., Outlets]


@pytest.fixture
def found() -> dict[str, FakeOutlet | None]:
    return {"celery": FakeOutlet("celery"), "other": FakeOutlet("other"), "eager": None}


@pytest.fixture
def make(found: dict[str, FakeOutlet | None]) -> Make:
    def find(executor: str) -> Any:
        if executor not in found:
            raise ConfigError(f"no {executor}")
        return found[executor]

    clock = DatabaseClock()
    clock.observe(5_000_000, 0, 0)

    def made(executor: str = "local", *, pool: Any = None) -> Outlets:
        return Outlets(executor=executor, pool=pool, find_outlet=find, clock=clock, deadline=timedelta(seconds=60))

    return made


def order(command: int = 1, **policy: Any) -> TaskOrder:
    rules = ActivityPolicy(**policy)
    return TaskOrder(command, "charge", "[[],{}]", rules, rules.encode())


def commit(orders: Sequence[TaskOrder], **fields: Any) -> Commit:
    decision = Decision([], list(orders), fields.pop("cancelled", []), RunState.RUNNING, None, [])
    return Commit(RUN, ChainId(RUN), 1, 1, decision, **fields)


@pytest.mark.parametrize(("executor", "named"), [("local", None), ("local", "local"), ("celery", "local")])
def test_local_orders_are_left_as_they_are(make: Make, executor: str, named: str | None) -> None:
    outlets = make(executor)
    wanted = order(executor=named)
    assert outlets.place(wanted) is wanted
    decision = Decision([], [wanted], [], RunState.RUNNING, None, [])
    assert outlets.place_all(decision) is decision
    assert outlets.executors == ()


@pytest.mark.parametrize(("executor", "named"), [("local", "celery"), ("celery", None), ("other", "celery")])
def test_an_external_order_gets_its_executor_and_its_queue(make: Make, executor: str, named: str | None) -> None:
    placed = make(executor).place(order(executor=named, priority=7))
    assert (placed.policy.executor, placed.policy.queue, placed.policy.priority) == ("celery", "celery-queue", 7)
    assert ActivityPolicy.parse(placed.policy_text) == placed.policy


def test_an_activity_is_placed_once_for_each_policy(make: Make, found: dict[str, FakeOutlet]) -> None:
    outlets = make("celery")
    for number in range(5):
        outlets.place(order(number))
        outlets.place(order(number, queue="mine"))
    assert found["celery"].placed == ["charge", "charge"]
    assert outlets.place(order(9, queue="mine")).policy.queue == "mine"


def test_an_executor_that_runs_in_this_process_is_the_local_one(make: Make) -> None:
    pool = FakePool()
    outlets = make("eager", pool=pool)
    placed = outlets.place(order())
    assert placed.policy.executor == "local"
    assert ActivityPolicy.parse(placed.policy_text) == placed.policy
    assert outlets.reserve([placed]) == (frozenset({1}), frozenset())
    assert outlets.executors == ()


def test_an_executor_that_is_not_there_is_an_error_and_keeps_no_place(make: Make) -> None:
    pool = FakePool()
    outlets = make(pool=pool)
    decision = Decision([], [order(1), order(2, executor="nowhere")], [], RunState.RUNNING, None, [])
    for _ in range(2):
        with pytest.raises(ConfigError, match="no nowhere"):
            outlets.place_all(decision)
    assert pool.room == 100


def test_each_order_is_claimed_dispatched_or_free(make: Make, found: dict[str, FakeOutlet]) -> None:
    pool = FakePool()
    pool.room, found["celery"].room = 1, 1
    outlets = make(pool=pool)
    orders = [outlets.place(item) for item in (order(1), order(2), *(order(n, executor="celery") for n in (3, 4)))]
    assert outlets.reserve(orders) == (frozenset({1}), frozenset({3}))
    done = commit(orders, claimed=frozenset({1}), dispatched=frozenset({3}))
    assert outlets.acknowledged(done)
    assert not pool.claimed
    outlets.hand_out()
    outlets.hand_out()
    assert [(task.command, task.attempt) for task in pool.claimed] == [(1, 1)]
    [task] = found["celery"].submitted
    assert (task.ref.run_id, task.ref.command, task.ref.attempt, task.dispatch_no) == (RUN, 3, 1, 1)
    assert task.policy.queue == "celery-queue"
    assert task.deadline_us > 60_000_000


def test_without_a_pool_local_orders_are_free_and_external_ones_are_dispatched(make: Make) -> None:
    outlets = make()
    orders = [outlets.place(item) for item in (order(1), order(2, executor="celery"))]
    assert outlets.reserve(orders) == (frozenset(), frozenset({2}))


def test_the_places_of_a_commit_that_came_to_nothing_are_given_back(make: Make, found: dict[str, FakeOutlet]) -> None:
    pool = FakePool()
    outlets = make(pool=pool)
    orders = [outlets.place(item) for item in (order(1), order(2, executor="celery"), order(3, executor="other"))]
    found["other"].room = 0
    claimed, dispatched = outlets.reserve(orders)
    outlets.unreserve(commit(orders, claimed=claimed, dispatched=dispatched))
    assert (pool.room, found["celery"].room, found["other"].room) == (100, 100, -1)


def test_everybody_hears_of_cancelled_commands_and_outboxes_of_outcomes(
    make: Make, found: dict[str, FakeOutlet]
) -> None:
    pool = FakePool()
    outlets = make("celery", pool=pool)
    outlets.open("celery")
    assert not outlets.acknowledged(commit([], cancelled=[4]))
    outlets.arrived(RUN, 5)
    outlets.wake()
    assert (pool.cancelled, found["celery"].cancelled) == ([4], [4])
    assert (pool.settled, found["celery"].settled) == ([], [5])
    assert (pool.woken, found["celery"].woken) == (0, 1)
    assert outlets.executors == ("celery",)


def test_policies_made_by_calls_do_not_pile_up(make: Make) -> None:
    outlets = make("celery")
    for number in range(5_000):
        outlets.place(order(1, priority=0, timeout=timedelta(seconds=1 + number)))
    assert len(outlets._placed) <= 4096
