# ruff: noqa: PLR0915 - one program, every construct
"""Here live random programs: every construct, combined by chance, and random worlds that answer them."""

import asyncio
import random as chance
from collections.abc import Callable
from typing import Any

from continuum.errors import ActivityError
from continuum.model.events import Event, EventType
from continuum.model.failures import Failure, FailureKind
from continuum.replay.effects.attributes import publish, set_attributes
from continuum.replay.effects.continue_as_new import continue_as_new
from continuum.replay.effects.log import log
from continuum.replay.effects.patch import patched
from continuum.replay.effects.saga import saga
from continuum.replay.effects.signal import wait_signal, wait_until
from continuum.replay.effects.values import now, random, side_effect, uuid4
from continuum.replay.execution import Execution
from tests.replay.lab import RUN, Lab, act, commands_of, entry_of, kid, loaded
from tests.support.undoing import Undoes

DEEPEST = 3


def program(seed: int, trace: list[Any], *, families: bool = False) -> Callable[..., Any]:
    """Return a workflow that is a function of its seed, and tells in `trace` what it did, in order.

    :param families: whether it also starts children, and does what a run can do to them.
    """
    dice = chance.Random(seed)

    async def main() -> int:
        lock, flag, semaphore = asyncio.Lock(), asyncio.Event(), asyncio.Semaphore(2)
        state: list[int] = []
        pool: list[Any] = []
        kids: list[Any] = []
        loop = asyncio.get_running_loop()

        async def outcome_of(awaitable: Any, tag: str) -> None:
            try:
                value = await awaitable
            except ActivityError as error:
                value = type(error).__name__
            trace.append((tag, value))

        async def block(depth: int, tag: str) -> None:
            for k in range(dice.randint(1, 5)):
                t = f"{tag}.{k}"
                trace.append(t)
                try:
                    if families and dice.random() < 0.4:
                        await family_step(dice.randint(0, 14 if depth < DEEPEST else 9), depth, t)
                    else:
                        await step(dice.randint(0, 29 if depth < DEEPEST else 17), depth, t)
                except asyncio.CancelledError:
                    trace.append(t + " cancelled")
                    if dice.random() < 0.4:
                        raise
                except ActivityError as error:
                    trace.append((t, type(error).__name__))
                except TimeoutError:
                    trace.append(t + " timeout")
                trace.append(t + "/")

        async def step(what: int, depth: int, t: str) -> None:
            if what <= 2:
                await outcome_of(act(t), t)
            elif what == 3:
                future = act(t)
                pool.append(future)
                await future
            elif what == 4:
                pool.append(act(t))
            elif what == 5 and pool:
                future = dice.choice(pool)
                await (asyncio.shield(future) if dice.random() < 0.4 else future)
            elif what == 6 and pool:
                dice.choice(pool).add_done_callback(lambda _: (trace.append(t + " called"), pool.append(act(t + "cb"))))
            elif what == 7 and dice.random() < 0.3:
                asyncio.current_task().cancel()  # type: ignore[union-attr]
            elif what == 8:
                await asyncio.sleep(0)
            elif what == 9:
                await asyncio.sleep(dice.choice([1, 5, 60]))
            elif what == 10:
                state.append(side_effect(lambda: len(trace)))
                trace.append(state[-1])
            elif what == 11:
                trace.append(patched(f"patch-{dice.randint(0, 3)}"))
            elif what == 12:
                trace.append((str(uuid4()), random(), now().isoformat()))
                log.info("at %s", t)
            elif what == 13:
                trace.append((t, await wait_signal(dice.choice("ab"), timeout=dice.choice([None, 5]))))
            elif what == 14:
                state.append(1)
                seen = len(state)
                task = asyncio.create_task(outcome_of(act(t + "bg"), t))
                task.add_done_callback(lambda _: state.append(2))
                await wait_until(lambda: len(state) > seen, timeout=dice.choice([None, 30]))
            elif what == 15 and pool:
                dice.choice(pool).cancel()
            elif what == 16:
                loop.call_later(dice.choice([1, 20]), flag.set)
                await flag.wait()
                flag.clear()
            elif what == 17:
                loop.call_soon(trace.append, t + " soon")
            elif what == 18:
                await asyncio.gather(*[block(depth + 1, f"{t}g{i}") for i in range(dice.randint(1, 3))])
            elif what == 19:
                await asyncio.gather(*[act(f"{t}g{i}") for i in range(dice.randint(1, 3))], return_exceptions=True)
            elif what == 20:
                task = asyncio.create_task(block(depth + 1, t + "t"))
                await outcome_of(act(t + "x"), t)
                if dice.random() < 0.4:
                    task.cancel()
                await task
            elif what == 21:
                asyncio.create_task(block(depth + 1, t + "t"))  # noqa: RUF006 - a task that nobody keeps
            elif what == 22:
                async with lock if dice.random() < 0.5 else semaphore:
                    await outcome_of(act(t + "l"), t)
            elif what == 23:
                async with asyncio.timeout(dice.choice([0, 1, 50])):
                    await block(depth + 1, t + "o")
            elif what == 24:
                async with asyncio.TaskGroup() as group:
                    for i in range(2):
                        group.create_task(block(depth + 1, f"{t}G{i}"))
            elif what == 25:
                tasks = [asyncio.create_task(block(depth + 1, f"{t}w{i}")) for i in range(3)]
                done, pending = await asyncio.wait(
                    tasks, timeout=dice.choice([None, 3]), return_when=asyncio.FIRST_COMPLETED
                )
                trace.append([task.get_name() for task in done])
                for task in pending:
                    task.cancel()
            elif what == 26:
                for each in asyncio.as_completed([block(depth + 1, f"{t}c{i}") for i in range(2)]):
                    await each
            elif what == 27:
                await asyncio.wait_for(block(depth + 1, t + "f"), dice.choice([1, 100]))
            elif what == 28:
                inner = asyncio.ensure_future(block(depth + 1, t + "s"))
                await asyncio.shield(inner)
            elif what == 29:
                try:
                    await block(depth + 1, t + "y")
                finally:
                    await outcome_of(act(t + "undo"), t)

        def born(t: str) -> Any:
            child = kid(t, close=dice.choice(["cancel", "terminate", "abandon"]), key=dice.choice([None, t]))
            trace.append(child.id)
            kids.append(child)
            pool.append(child)
            return child

        async def family_step(what: int, depth: int, t: str) -> None:
            if what <= 2:
                await outcome_of(born(t), t)
            elif what == 3:
                born(t)
            elif what == 4 and kids:
                trace.append(dice.choice(kids).request_cancel())
            elif what == 5 and kids:
                trace.append(dice.choice(kids).cancel())
            elif what == 6 and kids:
                dice.choice(kids).signal("s", t)
            elif what == 7:
                set_attributes({dice.choice("ab"): t})
                publish("at", t)
            elif what == 8 and dice.random() < 0.3:
                try:
                    continue_as_new(t)
                except RuntimeError:
                    trace.append(t + " no main task")
            elif what == 9:
                async with asyncio.timeout(dice.choice([0, 1, 50])):
                    await outcome_of(born(t), t)
            elif what == 10:
                await asyncio.gather(born(t), act(t), block(depth + 1, t + "k"), return_exceptions=dice.random() < 0.5)
            elif what == 11:
                async with asyncio.TaskGroup() as group:
                    for i in range(2):
                        group.create_task(born(f"{t}K{i}"))
            elif what == 12:
                done, _ = await asyncio.wait([born(t), act(t)], return_when=asyncio.FIRST_COMPLETED)
                trace.append(len(done))
            elif what >= 13:
                async with saga(parallel=dice.random() < 0.5) as undo:
                    try:
                        await outcome_of(born(t + "u").compensate(Undoes(t + "undo child")), t)
                        pool.append(act(t + "u").compensate(Undoes(t + "undo")))
                        await block(depth + 1, t + "S")
                    finally:
                        trace.append((t, undo.outcome is None))

        for part in range(dice.randint(1, 4)):
            try:
                await block(0, f"m{part}")
            except asyncio.CancelledError:
                trace.append("main cancelled")
                if dice.random() < 0.3:
                    raise
        trace.append("end")
        return len(trace)

    return main


def live(seed: int, *, most: int = 250, families: bool = False) -> tuple[Lab, list[Any]]:
    """Run a program in a random world: any open command may complete next, in turns of any length."""
    dice = chance.Random(seed * 7 + 1)
    trace: list[Any] = []
    lab = Lab(program(seed, trace, families=families), inline=False)
    lab.deliver(EventType.RUN_BEGAN, None, None, None, decide=dice.random() < 0.8)
    cancelled = False
    for _ in range(most):
        if lab.ended:
            break
        execution = lab.execution
        options = {"decide": dice.random() < 0.7}
        timers = execution.due_timers(1 << 60)
        roll = dice.random()
        if roll < 0.1:
            lab.signal(dice.choice("ab"), roll, **options)
        elif roll < 0.12 and not cancelled:
            cancelled = True
            lab.cancel(**options)
        elif families and execution._loop.children and dice.random() < 0.5:
            command = dice.choice(sorted(execution._loop.children))
            if roll < 0.7:
                lab.child_done(command, roll, **options)
            elif roll < 0.85:
                lab.child_failed(command, Failure("E", "no"), **options)
            else:
                lab.child_cancelled(command, Failure("T", "no") if roll < 0.95 else None, **options)
        elif execution.open_activities and (roll < 0.75 or not timers):
            command = dice.choice(sorted(execution.open_activities))
            if roll < 0.2:
                kind = dice.choice([FailureKind.RAISED, FailureKind.TIMED_OUT, FailureKind.CANCELLED])
                lab.fail(command, Failure("E", "no", kind=kind), **options)
            else:
                lab.complete(command, {"value": roll}, **options)
        elif timers:
            lab.fire(dice.choice(timers), **options)
        elif not execution.open_activities:
            lab.signal(dice.choice("ab"), roll, **options)
    lab.decide()
    return lab, trace


def recorded(seed: int, *, families: bool = False) -> tuple[Lab, list[Any]]:
    """Run the program of this seed; return the lab, closed, and the trace until then: closing goes on with the code."""
    lab, trace = live(seed, families=families)
    trace = list(trace)
    lab.close()
    return lab, trace


def again(seed: int, history: list[Event], *, inline: bool, families: bool = False) -> tuple[list[Any], list[Any], Any]:
    """Replay; return the trace, what the run would add to its history, and how it stands."""
    trace: list[Any] = []
    execution = Execution(entry=entry_of(program(seed, trace, families=families)), run=RUN, inline=inline)
    try:
        execution.replay(loaded(history))
        decision = execution.decide()
        assert not decision.reaches_out, decision
        return list(trace), decision.events, (decision.state, decision.wake_at)
    finally:
        execution.evict()


def continued(
    seed: int, history: list[Event], cut: int, *, inline: bool, families: bool = False
) -> tuple[list[Any], list[Any]]:
    """Replay up to a cut, then deliver what the history goes on with; return the trace and the commands."""
    trace: list[Any] = []
    lab = Lab(program(seed, trace, families=families), history=history[:cut], inline=inline)
    rest = [e for e in history[cut:] if e.type in COMPLETIONS_TEXT]
    for event in rest:
        lab.clock = event.at - 1_000
        lab.deliver(event.type, event.command, event.name, event.payload)
    lab.close()
    return [e for e in trace if e != "end" or lab.ended], commands_of(lab.history)


COMPLETIONS_TEXT = {
    EventType.RUN_BEGAN,
    EventType.ACTIVITY_COMPLETED,
    EventType.ACTIVITY_FAILED,
    EventType.TIMER_FIRED,
    EventType.SIGNAL_RECEIVED,
    EventType.CANCEL_REQUESTED,
    EventType.CHILD_COMPLETED,
    EventType.CHILD_FAILED,
    EventType.CHILD_CANCELLED,
}
