"""Here lives a dispatcher: all services of one process, started and stopped in order.

Start: check the schema, make known what is loaded, register the worker, open the lines, start the threads.

Drain, in the order that loses nothing and waits for the least: no more claims of tasks; unstarted tasks go back;
running activities get until the deadline, their results are committed or handed in; runs are given back as they
park; what is dispatched to external executors is published, then handed over, or freed where it could not be published;
the heartbeat ends last, and the worker's row is deleted. What is left at the deadline is swept by the others as if the
process had died.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from continuum.config import Settings
from continuum.declare.executors import LOCAL
from continuum.declare.registry import Registry
from continuum.errors import ConfigError, ContinuumError
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.leases import WorkflowVersion, code_mark
from continuum.runtime.guard import guard_workflows
from continuum.runtime.heartbeat import Heartbeat
from continuum.runtime.lease import Lease
from continuum.runtime.local_pool import LocalPool, PoolSettings
from continuum.runtime.maintenance import Maintenance
from continuum.runtime.offers import Offers
from continuum.runtime.outbox import Outbox
from continuum.runtime.reaper import Reaper
from continuum.runtime.service import Service
from continuum.runtime.snapshots import SnapshotMaker
from continuum.runtime.transport import Transport
from continuum.runtime.turns import Turns
from continuum.runtime.turns.outlets import Outlets
from continuum.runtime.watchdog import Watchdog
from continuum.telemetry.probes import probe

__all__ = ["Dispatcher"]

logger = logging.getLogger("continuum.runtime")

# The turns thread's floor poll sees free tasks and wakes the offers; their own poll is the floor under that.
_OFFERS_POLL: Final = timedelta(seconds=30)


class Dispatcher:
    """Turns runs, executes activities, publishes those of external executors, until it is drained. Not restartable.

    :param activities: False: bodies run elsewhere. External executors are served all the same.
    :param transports: returns the way to an executor's workers; None if its activities run in this process.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        registry: Registry,
        *,
        activities: bool = True,
        transports: Callable[[str], Transport | None] | None = None,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._registry = registry
        self._lease = lease = Lease(settings.lease_ttl)
        self._pool = self._make_pool() if activities else None
        self._transports = transports or _no_transport
        self._outboxes: list[Outbox] = []
        self._publishing = False
        self._outlets = Outlets(
            executor=settings.executor,
            pool=self._pool,
            find_outlet=self._open_outbox,
            clock=journal.clock,
            deadline=settings.dispatch_deadline,
        )
        self._turns = Turns(
            settings=settings,
            journal=journal,
            registry=registry,
            lease=lease,
            outlets=self._outlets,
            work_offered=self._offer_work,
            dead_seen=self._wake_reaper,
            let_go=self._wake_heartbeat,
        )
        self._offers = (
            Offers(journal=journal, pool=self._pool, worker=lambda: lease.worker, poll=_OFFERS_POLL)
            if self._pool is not None
            else None
        )
        self._heartbeat = Heartbeat(
            journal=journal,
            lease=lease,
            interval=settings.heartbeat_interval,
            turn_limit=settings.turn_limit,
            silence=lambda: self._turns.silence,
            changed=self._lease_changed,
            queues=tuple(settings.queues or ()),
            workflows=tuple(sorted({flow.name for flow in registry.workflows()})),
            version_hashes=tuple(code_mark(flow.name, flow.version, flow.hash) for flow in registry.workflows()),
        )
        self._reaper = Reaper(
            journal=journal,
            interval=settings.reap_interval,
            freed=self._freed,
            away_at=lambda: self._heartbeat.away_at,
            patience=settings.lease_ttl,
        )
        self._services: list[Service] = [
            self._heartbeat,
            self._reaper,
            Maintenance(journal=journal, months_ahead=settings.partitions_ahead),
            SnapshotMaker(journal=journal, growth=self._turns.growth, max_bytes=settings.max_snapshot_bytes),
            Watchdog(
                limit=settings.slow_turn,
                turning_since=lambda: self._turns.turning_since,
                thread_id=lambda: self._turns.thread_id,
            ),
        ]
        if self._offers is not None:
            self._services.append(self._offers)
        self._started = False
        self._draining = threading.Event()
        self._ended = threading.Event()

    def _make_pool(self) -> LocalPool:
        return LocalPool(
            registry=self._registry,
            journal=self._journal,
            worker=lambda: self._lease.worker,
            concurrency=self._settings.concurrency,
            queues=self._settings.queues,
            # The turns thread is made after the pool, so both are looked up when called.
            deliver=lambda outcome: self._turns.deliver(outcome),  # noqa: PLW0108
            mailed=lambda: self._turns.mailed(),  # noqa: PLW0108
            settings=PoolSettings(max_result_bytes=self._settings.max_payload_bytes),
        )

    def _open_outbox(self, executor: str) -> Outbox | None:
        transport = self._transports(executor)
        if transport is None:
            return None
        transport.check()
        outbox = Outbox(
            journal=self._journal,
            transport=transport,
            lease=self._lease,
            instance=self._settings.name,
            window=self._settings.dispatch_window,
            deadline=self._settings.dispatch_deadline,
        )
        self._outboxes.append(outbox)
        if self._publishing:
            # Named by a call, and by no declaration: this is the turns thread.
            outbox.start()
        return outbox

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Begin to work.

        Raises ``ConfigError``, ``JournalUnavailable``, ``SchemaOutdated``; nothing is left running then.
        """
        named = {activity.policy.executor for activity in self._registry.activities()}
        for executor in sorted({self._settings.executor, *filter(None, named)}):
            self._outlets.open(executor)
        self._journal.check()
        if self._settings.tripwire:
            guard_workflows(self._registry)
        self._heartbeat.register()
        try:
            # Registered first: what nobody has loaded may be retired, and is then recorded anew.
            self._record_versions()
            if self._pool is not None:
                self._pool.start()
            for outbox in self._outboxes:
                outbox.start()
            self._publishing = True
            self._turns.start()
            for service in self._services:
                service.start()
        except BaseException:
            self._undo_start()
            raise
        self._started = True

    def _record_versions(self) -> None:
        """Make known what is loaded here, and let it try what other code could not continue."""
        flows = self._registry.workflows()
        workers = self._journal.workers
        workers.record_versions(
            [
                WorkflowVersion(flow.name, flow.version, flow.hash, flow.source, flow.entry.retention_us, flow.contract)
                for flow in flows
            ]
        )
        revived = workers.revive([(flow.name, flow.version) for flow in flows])
        if revived:
            logger.info("%d stuck runs are tried again, now that this dispatcher has come", revived)
            self._journal.hint(Hint(HintKind.START))

    def _undo_start(self) -> None:
        for service in self._services:
            service.stop(2.0)
        self._turns.give_up()
        for outbox in self._outboxes:
            outbox.leave(0.0)
        if self._pool is not None:
            self._pool.stop(0.0)
        self._leave()

    def drain(self, timeout: timedelta | float | None = None) -> bool:
        """Stop claiming, finish what runs, give everything back; return whether all of it was done in time."""
        self._draining.set()
        if not self._started:
            self._ended.set()
            return True
        limit = self._settings.drain_timeout if timeout is None else timeout
        seconds = limit.total_seconds() if isinstance(limit, timedelta) else limit
        deadline = time.monotonic() + seconds
        if self._offers is not None:
            self._offers.stop(seconds)
        if self._pool is not None:
            self._pool.close()
        for outbox in self._outboxes:
            outbox.close()
        self._turns.drain(deadline)
        self._heartbeat.withdraw()
        # Tasks of commits that are still flying are handed to the pool, which puts them back: let it hear of them.
        self._turns.calm.wait(max(0.0, deadline - time.monotonic()))
        done = self._pool.stop(max(0.0, deadline - time.monotonic())) if self._pool is not None else True
        done = self._turns.stop(max(0.0, deadline - time.monotonic()) + 2.0) and done
        if self._pool is not None:
            # Results that came after their runs were given back are handed in by now, or in a moment.
            done = self._pool.stop(1.0) and done
        done = self._hand_over(deadline) and done
        for service in reversed(self._services):
            done = service.stop(2.0) and done
        self._leave()
        self._ended.set()
        return done

    def _hand_over(self, deadline: float) -> bool:
        """Publish what is dispatched, then let go of it; return whether that is done."""
        left = [outbox.leave(max(0.0, deadline - time.monotonic())) for outbox in self._outboxes]
        if not left:
            return True
        if not all(left):
            # Some of it may never have been published: the sweep of this worker offers all of it again.
            return False
        try:
            self._journal.tasks.hand_over(self._lease.worker)
        except ContinuumError as error:
            logger.warning("what was published could not be handed over (%s); it will be published again", error)
            return False
        probe("outbox.handed_over")
        # Crash: nothing is dispatched by this worker any more; its row expires. What is published is claimed, or
        # offered again at its deadline.
        return True

    def stop_now(self) -> bool:
        """Stop without waiting for running activities; others sweep what is left."""
        return self.drain(0.0)

    def _leave(self) -> None:
        try:
            self._journal.workers.deregister(self._lease.worker)
        except Exception as error:  # noqa: BLE001 - the row expires by itself
            logger.warning("could not deregister (%s); the lease will expire", error)
        else:
            # What could not be given back waits for a sweep; free runs wait for a claim.
            self._journal.hint(Hint(HintKind.START))
            self._journal.hint(Hint(HintKind.TASKS))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the dispatcher has been drained."""
        return self._ended.wait(timeout)

    # ------------------------------------------------------------------ state

    @property
    def ready(self) -> bool:
        """Whether it takes work now."""
        return self._started and not self._draining.is_set() and self._lease.live

    @property
    def alive(self) -> bool:
        """Whether its turns thread moves."""
        return self._turns.silence < self._settings.turn_limit.total_seconds()

    @property
    def worker(self) -> str:
        """The worker id in use."""
        return self._lease.worker

    def status(self) -> dict[str, object]:
        """Return a few numbers for health pages."""
        return {
            "worker": self._lease.worker,
            "ready": self.ready,
            "alive": self.alive,
            "draining": self._draining.is_set(),
            "lease": self._lease.state.value,
            "runs_in_memory": self._turns.held,
            "runs_active": self._turns.active,
            "tasks_held": 0 if self._pool is None else len(self._pool.holding()),
            "executors": {outbox.executor: outbox.status() for outbox in list(self._outboxes)},
            "seconds_since_last_pass": round(self._turns.silence, 3),
        }

    # ------------------------------------------------------------------ who wakes whom

    def _offer_work(self) -> None:
        if self._offers is not None:
            self._offers.wake()
        self._outlets.wake()

    def _lease_changed(self) -> None:
        self._turns.wake()
        self._outlets.wake()

    def _wake_reaper(self) -> None:
        self._reaper.wake()

    def _wake_heartbeat(self) -> None:
        self._heartbeat.wake()

    def _freed(self) -> None:
        self._turns.mailed()
        self._offer_work()
        # A task out of attempts has left mail, for a run that anybody may hold.
        self._journal.hint(Hint(HintKind.MAIL))
        self._journal.hint(Hint(HintKind.START))
        self._journal.hint(Hint(HintKind.TASKS))


def _no_transport(executor: str) -> Transport | None:
    message = (
        f"executor={executor!r}: this dispatcher was made without transports, so it can publish nothing. Make it with"
        f" Continuum(...).dispatcher(), or pass transports= to it; executor={LOCAL!r} needs none."
    )
    raise ConfigError(message)
