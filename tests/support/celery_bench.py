"""Here lives a bench for the worker's side of the Celery executor: messages are delivered by hand, on this thread.

The journal is the memory wing's; `CeleryBench.ask` orders an activity and returns what its message would ask for.
"""

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from celery import Celery

from continuum.celery_executor.binding import CeleryExecutor
from continuum.celery_executor.delivery import Verdict, deliver
from continuum.celery_executor.messages import WORKER_KEY, Ask
from continuum.client.instance import Continuum
from continuum.declare.activities import Activity
from continuum.declare.registry import Registry
from continuum.journal.memory import MemoryJournal
from continuum.model.failures import Failure
from continuum.model.ids import WorkerId
from continuum.model.leases import ClaimedRun
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import TaskOrder, TaskRecord, TaskRef
from tests.support.dispatches import letters, published
from tests.support.journals import HOUR, Desk

__all__ = ["CeleryBench"]

_names = itertools.count(1)


class CeleryBench:
    """One instance, one dispatcher (``owner``), one Celery worker (``worker``)."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.desk = Desk(self.journal, wing="memory", locked=lambda _run: nullcontext())
        self.registry = Registry()
        self.app = Celery(f"bench{next(_names)}", broker="memory://", set_as_current=False)
        self.instance = Continuum(
            journal=self.journal,
            registry=self.registry,
            name=f"bench{next(_names)}",
            lease_ttl=timedelta(seconds=1),
            heartbeat_interval=timedelta(milliseconds=100),
        )
        self.executor = CeleryExecutor(self.instance)
        self.executor.attach(self.app)
        self.owner = self.desk.make_worker(HOUR)
        self.worker = self.desk.make_worker(HOUR)

    def declare(self, function: Callable[..., Any], **policy: Any) -> Activity[..., Any]:
        """Declare a function as an activity of this bench."""
        declared: Activity[..., Any] = Activity(function, name=function.__name__, policy=ActivityPolicy(**policy))
        self.registry.register_activity(declared)
        return declared

    def ask(
        self, activity: str, *, arguments: str = "[]", key: str | None = None, **policy: Any
    ) -> tuple[ClaimedRun, Ask]:
        """Order an activity as dispatched; return its run and what the message asks for."""
        known = self.registry.find_activity(activity)
        base = ActivityPolicy() if known is None else known.policy
        values = {name: getattr(base, name) for name in base.__struct_fields__}
        wanted = ActivityPolicy(**{**values, "executor": "celery", **policy})
        run = published(self.desk, self.owner, TaskOrder(0, activity, arguments, wanted, wanted.encode(), key))
        return run, Ask(self.instance.settings.name, TaskRef(run.run_id, 0, 1), activity)

    def deliver(self, ask: Ask, *, worker: WorkerId | None = None, **request: Any) -> Verdict:
        """Deliver a message on this thread."""
        named = self.worker if worker is None else worker
        return deliver(self.executor, ask, SimpleNamespace(**{WORKER_KEY: named, "timelimit": None, **request}))

    def run(self, function: Callable[..., Any], *, arguments: str = "[]", **policy: Any) -> Verdict:
        """Declare a function, order it, deliver its message; return how that ended."""
        self.declare(function, **policy)
        _, ask = self.ask(function.__name__, arguments=arguments)
        return self.deliver(ask)

    def letters(self) -> list[tuple[str, int | None, str | None]]:
        """Return what the runs were told."""
        return letters(self.desk, self.owner)

    def failure(self) -> Failure:
        """Return the failure that the one run was told."""
        [(kind, _, payload)] = self.letters()
        assert kind == "activity_failed"
        assert payload is not None
        return Failure.parse(payload)

    def row(self, run: ClaimedRun) -> TaskRecord:
        """Return the run's one task."""
        [row] = self.journal.tasks.of_run(run.run_id)
        return row

    def rows(self) -> list[TaskRecord]:
        """Return every task."""
        return [row.seen() for row in self.journal._store.all_tasks()]

    def close(self) -> None:
        self.desk.close()
        self.instance.close()
