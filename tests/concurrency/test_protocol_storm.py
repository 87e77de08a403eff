"""The protocol with everybody acting at once: threads instead of a schedule, judged by what the histories say."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from random import Random
from threading import Event, Thread

import pytest

from continuum.journal.memory import MemoryJournal
from tests.support.eventually import eventually
from tests.support.protocol_celery import PAST_ANY_DEADLINE
from tests.support.protocol_dispatcher import Dispatcher
from tests.support.protocol_setting import Wing
from tests.support.protocol_wings import memory_wing, postgres_wing
from tests.support.protocol_world import World

RUNS = 24
FAULT = 0.004  # of each kind, per action
OUTSIDERS = 0.05  # cancellations and terminations, per signal
END_SECONDS = 60


@pytest.fixture(params=["memory", "postgres"])
def wing(request: pytest.FixtureRequest) -> Iterator[Wing]:
    if request.param == "memory":
        made = memory_wing(lambda now: MemoryJournal(now=now))
        with closing(made.journal):
            yield made
        return
    from continuum.journal.open import open_journal

    url = request.getfixturevalue("database_url")
    with closing(open_journal(url)) as journal, closing(postgres_wing(journal, url)) as made:
        yield made


class Storm:
    """Threads that act until they are stopped; the first error of any of them is kept."""

    def __init__(self, world: World) -> None:
        self.world, self.stopped = world, Event()
        self.errors: list[BaseException] = []
        self.threads: list[Thread] = []

    def run(self, act: Callable[[], object]) -> None:
        def loop() -> None:
            try:
                while not self.stopped.is_set():
                    act()
            except BaseException as error:
                self.errors.append(error)
                self.stopped.set()

        thread = Thread(target=loop)
        self.threads.append(thread)
        thread.start()

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        for error in self.errors:
            raise error

    # ---- what the threads do

    def dispatch(self, one: Dispatcher, random: Random) -> None:
        actions = one.actions()
        [(_, act, _)] = random.choices(actions, weights=[weight for _, _, weight in actions])
        if random.random() < FAULT:
            act = one.crash
        elif one.flight is not None and random.random() < 3 * FAULT:
            act = one.lose
        act()

    def reap(self, random: Random) -> None:
        world = self.world
        mine = {one.worker for one in (*world.dispatchers, *world.celery.consumers)} | {world.elsewhere}
        for record in world.journal.workers.list_workers():
            # Whoever crashed has left its row; now and then a living one is taken for dead.
            if record.id not in mine or random.random() < FAULT:
                world._expire(record.id)
        world.journal.workers.reap(limit=random.choice((1, 5, 100)))
        for ghost in list(world.ghosts):
            world._land_ghost(ghost)
        for zombie in list(world.zombies):
            world._zombie(zombie)
        world._pass_time()
        self.stopped.wait(0.005)

    def work_elsewhere(self) -> None:
        world = self.world
        (world._claim_elsewhere if world.job is None else world._finish_elsewhere)()

    def consume(self, random: Random) -> None:
        celery = self.world.celery
        assert celery is not None
        actions = celery.actions()
        [(_, act, _)] = random.choices(actions, weights=[weight for _, _, weight in actions])
        act()
        if random.random() < FAULT:
            # What was lost is overdue, however many faults there have been.
            self.world.wing.age_tasks(PAST_ANY_DEADLINE)
        self.stopped.wait(0.001)

    def signal(self, random: Random) -> None:
        world = self.world
        if world.unsent and (len(world.unsaved) < 3 or not world.unsaved):
            world._begin_signal()
        elif world.unsaved:
            world._commit_signal(random.choice(world.unsaved))
        elif world.runs and not world.unsaved:
            world.cancel_doomed()
            self.stopped.wait(0.5)
        if random.random() < OUTSIDERS:
            random.choice((world.cancel_any, world.terminate_any))()
        self.stopped.wait(0.002)


@pytest.mark.timeout(180)
def test_dispatchers_at_once_break_nothing(wing: Wing) -> None:
    world = World(wing, 4711, runs=RUNS, external=True, families=True)
    world.watched = False
    storm = Storm(world)
    try:
        for number, one in enumerate(world.dispatchers):
            storm.run(partial(storm.dispatch, one, Random(number)))
        storm.run(partial(storm.reap, Random(10)))
        storm.run(storm.work_elsewhere)
        storm.run(partial(storm.consume, Random(12)))
        storm.run(partial(storm.signal, Random(11)))
        eventually(lambda: storm.errors or world.ended(), END_SECONDS, interval=0.05)
        storm.stop()
        world.settle()
    finally:
        storm.stopped.set()
        for thread in storm.threads:
            thread.join()
        world.close()
