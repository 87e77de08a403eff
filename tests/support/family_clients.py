"""Here live the clients of racing families: threads that start trees, disturb them, and bring them to an end.

Each tree is a round, with a plan and a list of disturbances of its own, both from its seed. A few dozen trees are under
way at once; whoever has time picks one of them at random and does what comes next to it.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from continuum import Continuum
from continuum.errors import JournalBusy, JournalUnavailable, RunTerminal
from tests.support.audit import fetch
from tests.support.eventually import eventually
from tests.support.family_plans import SIGNALS, make_plan
from tests.support.family_races import node

__all__ = ["Clients", "Round", "describe"]

# All runs of a tree, as far as they are there.
TREE = """
    with recursive tree as (
        select chain_id from continuum_runs where id = %s
        union select r.chain_id from continuum_runs r join tree t on r.parent_chain_id = t.chain_id
    )
    select r.id::text, r.chain_id::text from continuum_runs r join tree using (chain_id) order by r.id
"""
# Tops that have not ended: those that a client started, and children that were abandoned by a parent that ended.
LOOSE = """
    select r.id::text from continuum_runs r
    where r.is_tip and r.state not in ('completed', 'failed', 'cancelled', 'terminated') and (
        r.parent_chain_id is null
        or r.parent_close = 'abandon' and exists (
            select from continuum_runs p where p.chain_id = r.parent_chain_id and p.is_tip
            and p.state in ('completed', 'failed', 'cancelled', 'terminated')
        )
    )
"""
# Runs that wait for nothing but a signal or a child, for all that rows can tell.
WAITING = """
    select r.id::text, r.chain_id::text from continuum_runs r
    where r.is_tip and r.state = 'suspended' and r.wake_at is null
    and not exists (select from continuum_inbox i where i.chain_id = r.chain_id)
    and not exists (select from continuum_tasks t where t.run_id = r.id)
"""
UNENDED = """
    select count(*) from continuum_runs
    where state not in ('completed', 'failed', 'cancelled', 'terminated', 'continued')
"""
UNENDED_RUNS = """
    select id::text from continuum_runs
    where state not in ('completed', 'failed', 'cancelled', 'terminated', 'continued')
    order by id limit 6
"""
DETAILS = (
    """
    select state, lease_owner::text, lease_token, wake_at < clock_timestamp(), last_seq, grants, is_tip, stuck_reason,
           parent_id::text, parent_command, parent_close, continued_from::text, now() - created_at
    from continuum_runs where id = %s
    """,
    """
    select seq, type, command, name, left(payload::text, 400), location from continuum_events where run_id = %s
    order by seq
    """,
    """
    select 'task', command, attempt, state, claimed_by::text, activity, available_at < clock_timestamp(),
           clock_timestamp() - claimed_at
    from continuum_tasks where run_id = %s
    """,
    """
    select 'mail', i.id, i.run_id::text, i.kind, i.command, i.name, i.payload::text, clock_timestamp() - i.at
    from continuum_inbox i join continuum_runs r using (chain_id) where r.id = %s order by i.id
    """,
)
WORKERS = "select id::text, expires_at > clock_timestamp() from continuum_workers"
DISTURBANCES = (
    ("breathe", 12),
    ("signal", 9),
    ("signal in transaction", 5),
    ("cancel", 4),
    ("terminate", 3),
    ("attributes", 3),
    ("start again", 2),
    ("cancel tree", 1),
    ("terminate tree", 1),
    ("look", 1),
)


@dataclass
class Round:
    """One tree: what is to happen to it, and what its clients were told.

    :ivar told: outcome of each signal that was sent, by (chain, name, value); the second of two counts as well.
    :ivar attributes: what was set, by chain.
    """

    seed: str
    rng: random.Random
    root: str | None = None
    starts: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    told: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    busy: threading.Lock = field(default_factory=threading.Lock)


def describe(url: str, runs: str = UNENDED_RUNS) -> str:
    """Return all that is known of the runs that have not ended, or of others."""
    lines = []
    for (run_id,) in fetch(url, runs):
        for query in DETAILS:
            lines += [f"{run_id[-8:]}  {row!r}" for row in fetch(url, query, run_id)]
    lines += [f"worker {row!r}" for row in fetch(url, WORKERS)]
    return "\n".join(lines)


class Clients:
    """Threads that take trees through their lives."""

    def __init__(self, continuum: Continuum, url: str, seed: str, rounds: int, *, threads: int = 3, window: int = 16):
        self.continuum = continuum
        self.url = url
        self.seed = seed
        self.rng = random.Random(f"{seed} clients")
        self.rounds: list[Round] = []
        self.wanted = rounds
        self.window = window
        self.lock = threading.Lock()
        self.under_way: list[Round] = []
        self.done: Counter[str] = Counter()
        self.error: BaseException | None = None
        self.threads = [threading.Thread(target=self._run, name=f"client {n}") for n in range(threads)]

    def run(self) -> None:
        """Do it all; return when every tree has been started and disturbed."""
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        connection = psycopg2.connect(self.url, application_name="races client")
        connection.autocommit = True
        try:
            while self.error is None:
                one = self._next()
                if one is None:
                    return
                # Several clients may be at one tree.
                self._disturb(one, connection)
        except BaseException as error:
            self.error = error
        finally:
            connection.close()

    def _next(self) -> Round | None:
        with self.lock:
            while len(self.under_way) < self.window and len(self.rounds) < self.wanted:
                made = self._make(f"{self.seed}:{len(self.rounds)}")
                self.rounds.append(made)
                self.under_way.append(made)
            self.under_way = [one for one in self.under_way if one.todo]
            if not self.under_way:
                return None if len(self.rounds) == self.wanted else self.rounds[-1]
            return self.rng.choice(self.under_way)

    def _make(self, seed: str) -> Round:
        rng = random.Random(f"{seed} round")
        kinds, weights = zip(*DISTURBANCES, strict=True)
        todo = rng.choices(kinds, weights, k=rng.randint(3, 14))
        if rng.random() < 0.7:
            # The others are left to themselves, until all are told to end.
            todo.append(rng.choice(("end", "end", "terminate root")))
        return Round(seed, rng, todo=["start", *todo])

    def _disturb(self, one: Round, connection: Any) -> None:
        with one.busy:
            if not one.todo:
                return
            what = one.todo.pop(0)
            rng = random.Random(one.rng.random())
            if what == "start":
                self._start(one)
                return
        assert one.root is not None
        with connection.cursor() as cursor:
            cursor.execute(TREE, (one.root,))
            found = cursor.fetchall()
        run_id, chain_id = rng.choice(found)
        try:
            if what == "signal in transaction":
                self._signal_in_transaction(one, run_id, chain_id, rng, connection)
            else:
                self._try(one, what, run_id, chain_id, rng)
        except RunTerminal:
            what += ", too late"
        except (JournalBusy, JournalUnavailable) as error:
            what += f": {type(error).__name__}"
        with self.lock:
            self.done[what] += 1

    def _start(self, one: Round) -> None:
        handle = self.continuum.start(node, make_plan(one.seed), idempotency_key=one.seed)
        one.starts.append(handle.id)
        one.root = handle.id

    def _try(self, one: Round, what: str, run_id: str, chain_id: str, rng: random.Random) -> None:
        continuum = self.continuum
        assert one.root is not None
        match what:
            case "signal":
                self._signal(one, run_id, chain_id, rng)
            case "cancel":
                continuum.cancel(run_id)
            case "terminate":
                continuum.terminate(run_id, "a client's wish")
            case "attributes":
                name = f"c{rng.getrandbits(32)}"
                continuum.set_attributes(run_id, {name: 1})
                one.attributes.append((chain_id, name))
            case "start again":
                one.starts.append(continuum.start(node, make_plan(one.seed), idempotency_key=one.seed).id)
            case "cancel tree":
                continuum.cancel(run_id, cascade=True)
            case "terminate tree":
                continuum.terminate(run_id, cascade=True)
            case "look":
                continuum.tree(run_id)
                continuum.progress(run_id)
            case "end":
                continuum.cancel(one.root)
            case "terminate root":
                continuum.terminate(one.root)

    def _signal(self, one: Round, run_id: str, chain_id: str, rng: random.Random) -> None:
        """Send a few, one after the other, each twice."""
        name, burst = rng.choice(SIGNALS), rng.getrandbits(40)
        for number in range(rng.randint(1, 3)):
            value = f"c:{burst}:{number}"
            for _ in range(2):
                try:
                    answer = self.continuum.signal(run_id, name, value, delivery_id=value)
                    outcome = str(answer)
                except RunTerminal:
                    outcome = "terminal"
                except JournalBusy:
                    outcome = "busy"
                one.told.setdefault((chain_id, name, value), []).append(outcome)

    def _signal_in_transaction(
        self, one: Round, run_id: str, chain_id: str, rng: random.Random, connection: Any
    ) -> None:
        """Send a few in a transaction of one's own, which takes its time, and may be rolled back in the end."""
        name, burst = rng.choice(SIGNALS), rng.getrandbits(40)
        values = [f"c:{burst}:{number}" for number in range(rng.randint(1, 3))]
        keeps = rng.random() < 0.8
        connection.autocommit = False
        try:
            for value in values:
                self.continuum.signal(run_id, name, value, delivery_id=value, connection=connection)
                with connection.cursor() as cursor:
                    cursor.execute(TREE, (one.root,))
            if rng.random() < 0.5:
                # The letters lie there, unseen, and newer ones are read before them.
                threading.Event().wait(rng.uniform(0, 0.03))
            if keeps:
                connection.commit()
                for value in values:
                    one.told.setdefault((chain_id, name, value), []).append("delivered")
        finally:
            connection.rollback()
            connection.autocommit = True

    # -- the end -------------------------------------------------------------------------------------------------------

    def end_all(self, timeout: float) -> None:
        """Ask every tree to end, from its top only, then those that were abandoned; nobody is terminated.

        Whoever goes on in spite of that gets signals: each plan comes to an end with enough of them. So a run that does
        not has lost something: a timer, an outcome, the report of a child.
        """
        connection = psycopg2.connect(self.url, application_name="races client")
        connection.autocommit = True
        asked: set[str] = set()
        last = Round(f"{self.seed}:end", random.Random(f"{self.seed} end"))
        self.rounds.append(last)
        looks = 0

        def all_ended() -> bool:
            nonlocal looks
            looks += 1
            with connection.cursor() as cursor:
                cursor.execute(LOOSE)
                for (run_id,) in cursor.fetchall():
                    if run_id not in asked:
                        asked.add(run_id)
                        self._tell(lambda run_id=run_id: self.continuum.cancel(run_id))
                if looks % 5 == 0:
                    cursor.execute(WAITING)
                    for run_id, chain_id in cursor.fetchall():
                        self._tell(lambda args=(last, run_id, chain_id, last.rng): self._signal(*args))
                cursor.execute(UNENDED)
                left = cursor.fetchone()[0]
            assert left == 0, f"{left} runs have not ended"
            return True

        try:
            eventually(all_ended, timeout, interval=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{describe(self.url)}") from None
        finally:
            connection.close()

    def _tell(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (RunTerminal, JournalBusy):
            pass
