"""Here lives ``continuum demo``: real orders, a real dispatcher, a real ``kill -9``, and a proof that nothing is lost.

What it does is what its lines say. It ends by itself, leaves no process and nothing listening, and its exit code is 0
only if the proof holds.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, NoReturn

import click

from continuum.cli.demo_terms import AMOUNT, APP, EFFECTS, LEASE_TTL, SCHEMA, SCHEMA_VARIABLE
from continuum.cli.demo_view import OrderLine, View
from continuum.cli.shell import ExitCode, Shell, command_options, pass_shell
from continuum.cli.supervisor import SUPERVISOR
from continuum.client.handles import RunHandle
from continuum.client.instance import Continuum
from continuum.client.timeline import Step, StepKind, StepState, timeline
from continuum.errors import ContinuumError
from continuum.model.events import Event

__all__ = ["Order", "Proof", "demo_command", "prove"]

LIMIT_SECONDS: Final = 40.0
LOOK_SECONDS: Final = 0.1
# What a frozen process has sent before, Postgres executes within this.
SETTLE_SECONDS: Final = 0.2
# How long an order waits for its review; the one that nobody reviews goes on by itself after this.
PATIENCE: Final = 8.0
WAITING_AT_KILL: Final = 2
DECISIONS: Final = ("approved", "approved", "approved after a call", "approved", "approved", None)


@dataclass(slots=True)
class Order:
    """One order of the demonstration."""

    name: str
    decision: str | None
    handle: RunHandle[str]

    @property
    def expected(self) -> str:
        """What its workflow should return."""
        return f"{self.decision or 'approved by timeout'}: payment-{self.name}, label-{self.name}"


@dataclass(frozen=True, slots=True)
class Proof:
    """What holds, and what does not."""

    claims: tuple[tuple[bool, str], ...]

    @property
    def holds(self) -> bool:
        """Whether all of it does."""
        return all(true for true, _ in self.claims)


@click.command("demo")
@command_options
@pass_shell
def demo_command(shell: Shell) -> None:
    """Kill a dispatcher in the middle of its work, and watch every order finish exactly once.

    Starts a Postgres of its own unless --database-url is given; there it uses the schema continuum_demo, or that of
    --schema.
    """
    signal.signal(signal.SIGTERM, _leave)
    view = View(shell.console, quiet=shell.as_json)
    with ExitStack() as stack:
        instance = stack.enter_context(_database(shell.database_url, shell.schema or SCHEMA, view))
        proof, document = Demonstration(instance, view, stack).run()
    if shell.as_json:
        shell.emit(document)
    sys.exit(ExitCode.DONE if proof.holds else ExitCode.ERROR)


class Demonstration:
    """One performance. ``stack`` ends what it starts."""

    def __init__(self, instance: Continuum, view: View, stack: ExitStack) -> None:
        self._instance = instance
        self._view = view
        self._stack = stack
        self._batch = secrets.token_hex(3)
        self._deadline = time.monotonic() + LIMIT_SECONDS

    def run(self) -> tuple[Proof, dict[str, Any]]:
        """Perform, and return the proof."""
        view = self._view
        first = self._start_dispatcher()
        view.step(f"continuum-dispatcher runs as process {first.pid}")
        self._instance.start("demo.prepare").result(self._left())

        orders = [self._start(number, decision) for number, decision in enumerate(DECISIONS, 1)]
        view.step(f"started {len(orders)} orders: validate → charge → wait for a review → ship and notify")
        with view.live(lambda: self._lines(orders)):
            self._until(lambda: self._frozen_ripe(first, orders), "some orders wait and some are being charged")
        in_flight = self._in_flight(orders)
        before = {order.name: order.handle.history() for order in orders}

        first.send_signal(signal.SIGKILL)
        first.wait()
        view.alarm(
            f"kill -9 {first.pid}: the dispatcher is gone, in the middle of {len(in_flight)} activities"
            f" ({', '.join(f'{activity} of {name}' for name, activity in in_flight)})"
        )
        for order in orders[::2]:
            if order.decision is not None:
                order.handle.signal("fraud_review", order.decision)
        view.step("some reviews arrive while nobody runs; Postgres keeps them")

        second = self._start_dispatcher()
        view.step(
            f"a new dispatcher runs as process {second.pid}; the dead one's lease ({LEASE_TTL.total_seconds():.0f} s)"
            " expires, and its runs go on where they were"
        )
        for order in orders[1::2]:
            if order.decision is not None:
                order.handle.signal("fraud_review", order.decision)
        with view.live(lambda: self._lines(orders)):
            self._until(lambda: all(order.handle.refresh().ended for order in orders), "all orders have ended")

        results = {order.name: _result(order) for order in orders}
        after = {order.name: order.handle.history() for order in orders}
        ledger = self._instance.start("demo.report", self._batch).result(self._left())
        proof = prove(
            orders, results=results, before=before, after=after, ledger=ledger, in_flight=in_flight, survivor=second.pid
        )
        shown = in_flight[0][0] if in_flight else orders[0].name
        view.history(shown, after[shown], killed_after=len(before[shown]))
        view.ledger(ledger)
        view.claims(proof.claims)
        second.send_signal(signal.SIGTERM)
        second.wait(self._left())
        return proof, {
            "holds": proof.holds,
            "claims": [{"holds": true, "claim": text} for true, text in proof.claims],
            "killed_pid": first.pid,
            "in_flight": in_flight,
            "results": results,
            "ledger": ledger,
        }

    # -------------------------------------------------------------- acts

    def _start_dispatcher(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "continuum.cli.dispatcher", "-A", APP, "--log-level", "error"],
            env={
                **os.environ,
                "CONTINUUM_DATABASE_URL": self._instance.url,
                SCHEMA_VARIABLE: self._instance.settings.schema,
                # It ends by itself if this process is killed.
                SUPERVISOR: str(os.getpid()),
            },
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._stack.callback(_end, process)
        return process

    def _start(self, number: int, decision: str | None) -> Order:
        name = f"{self._batch}-{number}"
        handle = self._instance.start(
            "demo.order", name, PATIENCE, idempotency_key=name, attributes={"order": name, "amount": AMOUNT}
        )
        return Order(name, decision, handle)

    def _frozen_ripe(self, process: subprocess.Popen[bytes], orders: Sequence[Order]) -> bool:
        """Freeze the process at the moment to kill it, so that what is noted down before the kill is what it left."""
        if not self._ripe(orders):
            return False
        process.send_signal(signal.SIGSTOP)
        time.sleep(SETTLE_SECONDS)
        if self._ripe(orders):
            return True
        process.send_signal(signal.SIGCONT)  # something finished just then
        return False

    def _ripe(self, orders: Sequence[Order]) -> bool:
        """Say whether this is the moment at which a crash hurts most."""
        waiting = sum(step.kind is StepKind.SIGNAL for order in orders for step in self._open(order))
        return waiting >= WAITING_AT_KILL and len(self._in_flight(orders)) >= 1

    def _in_flight(self, orders: Sequence[Order]) -> list[tuple[str, str]]:
        """Return (order, effect) of the activities that are running now."""
        return [
            (order.name, step.name.removeprefix("demo."))
            for order in orders
            for step in self._open(order)
            if step.state is StepState.RUNNING and step.name.removeprefix("demo.") in EFFECTS
        ]

    def _open(self, order: Order) -> list[Step]:
        steps = timeline(order.handle.history(), self._instance.tasks(order.handle.id))
        return [step for step in steps if step.state in {StepState.WAITING, StepState.RUNNING, StepState.RETRYING}]

    # -------------------------------------------------------------- watching

    def _lines(self, orders: Sequence[Order]) -> list[OrderLine]:
        lines = []
        for order in orders:
            run = order.handle.refresh()
            steps = timeline(order.handle.history(), self._instance.tasks(run.id))
            lines.append(OrderLine(order.name, run.state, tuple(steps)))
        return lines

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            if time.monotonic() > self._deadline:
                message = f"the demo gave up after {LIMIT_SECONDS:.0f} s waiting until {what}"
                raise ContinuumError(message)
            self._view.refresh()
            time.sleep(LOOK_SECONDS)
        self._view.refresh()

    def _left(self) -> float:
        return max(1.0, self._deadline - time.monotonic())


def prove(
    orders: Sequence[Order],
    *,
    results: dict[str, str],
    before: dict[str, list[Event]],
    after: dict[str, list[Event]],
    ledger: Sequence[tuple[str, str, str, int, int]],
    in_flight: Sequence[tuple[str, str]],
    survivor: int,
) -> Proof:
    """Check what the demonstration claims."""
    wrong = [order.name for order in orders if results[order.name] != order.expected]
    wanted = {(order.name, effect) for order in orders for effect in EFFECTS}
    written = [(order, effect) for order, effect, *_ in ledger]
    again = {(order, effect) for order, effect, _, attempt, pid in ledger if attempt > 1 and pid == survivor}
    kept = all(after[name][: len(events)] == events for name, events in before.items())
    return Proof(
        (
            (not wrong, f"all {len(orders)} orders ended as they should" + (f", but {wrong}" if wrong else "")),
            (
                len(written) == len(set(written)) and set(written) == wanted,
                f"each of the {len(wanted)} side effects happened exactly once",
            ),
            (
                bool(in_flight) and set(in_flight) <= again,
                f"the {len(in_flight)} activities that were running at the kill were undone by it and executed again",
            ),
            (kept, "what was in the histories before the kill is still there, event for event"),
        )
    )


def _result(order: Order) -> str:
    try:
        return order.handle.result(0)
    except ContinuumError as error:
        return f"{type(error).__name__}: {error}"


@contextmanager
def _database(url: str | None, schema: str, view: View) -> Iterator[Continuum]:
    if url is None:
        view.step("starting a Postgres of its own …")
        instance = Continuum.dev(schema=schema, modules=[APP])
    else:
        instance = Continuum(url, schema=schema, modules=[APP])
    with instance:
        if url is not None:
            instance.migrate()
        view.step(f"the journal is ready (schema {schema})")
        yield instance


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)
