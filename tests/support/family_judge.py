"""Here lives the audit of races that are over: what must hold of every family, told from rows and histories alone."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from continuum import Continuum
from continuum.errors import ContinuumError
from continuum.model.events import COMMANDS, COMPLETIONS, TERMINAL, Event
from continuum.model.runs import RunState
from continuum.replay.entry import RunInfo
from continuum.replay.replayer import replay_history
from tests.support.audit import fetch
from tests.support.family_clients import Round
from tests.support.family_races import node

__all__ = ["judge"]

CHILD_ENDS = ("child_completed", "child_failed", "child_cancelled")
OUTCOMES = (*CHILD_ENDS, "activity_completed", "activity_failed", "timer_fired")
END_OF_STATE = {
    RunState.COMPLETED: "child_completed",
    RunState.FAILED: "child_failed",
    RunState.CANCELLED: "child_cancelled",
    RunState.TERMINATED: "child_cancelled",
}
RUNS = """
    select id::text, chain_id::text, state, is_tip, continued_from::text, parent_id::text, parent_chain_id::text,
           parent_command, parent_close, last_seq, lease_owner::text, namespace, workflow, version, wake_at,
           completed_at
    from continuum_runs order by id
"""
EVENTS = (
    "select run_id::text, seq, type, command, name, payload::text, at_us from continuum_events order by run_id, seq"
)


class Found:
    """One run, and its history."""

    def __init__(self, row: Sequence[Any]) -> None:
        (self.id, self.chain, self.state, self.is_tip, self.before, self.parent, self.parent_chain) = row[:7]
        (self.command, self.close, self.last_seq, self.owner) = row[7:11]
        (self.namespace, self.workflow, self.version, self.wake_at, self.completed_at) = row[11:]
        self.events: list[Event] = []

    def of(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event.type in kinds]

    def published(self, name: str) -> list[Any]:
        return [json.loads(e.payload or "") for e in self.of("value_published") if e.name == name]

    def __repr__(self) -> str:
        lines = [f"{e.seq} {e.type} {e.command} {e.name} {(e.payload or '')[:300]}" for e in self.events]
        return "\n  ".join([f"{self.id} of chain {self.chain}: {self.state}, child of {self.parent}", *lines])


class Judge:
    """Collects what is wrong; whatever it finds names the tree's seed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.faults: list[str] = []
        self.runs = {row[0]: Found(row) for row in fetch(url, RUNS)}
        for row in fetch(url, EVENTS):
            self.runs[row[0]].events.append(Event(*row[1:]))
        chains: dict[str, list[Found]] = defaultdict(list)
        for run in self.runs.values():
            chains[run.chain].append(run)
        self.chains: dict[str, list[Found]] = {chain: self._line(chain, runs) for chain, runs in chains.items()}
        self.undone: Counter[str] = Counter()
        self.booked: Counter[str] = Counter()

    def blame(self, run: Found, what: str) -> None:
        self.faults.append(f"{what}\n  {run!r}")

    # -- chains and histories ------------------------------------------------------------------------------------------

    def _line(self, chain: str, runs: list[Found]) -> list[Found]:
        """Return the runs of a chain in order; it must be a line without forks, from the chain's id to its only tip."""
        after = {run.before: run for run in runs}
        line = [self.runs[chain]] if chain in self.runs else []
        while line and line[-1].id in after:
            line.append(after[line[-1].id])
        if (
            len(line) != len(runs)
            or len(after) != len(runs)
            or [r.is_tip for r in line] != [False] * (len(line) - 1) + [True]
        ):
            self.faults.append(f"chain {chain} is no line: {runs!r}")
        for run in line:
            if (run.state == RunState.CONTINUED) == run.is_tip:
                self.blame(run, "continued, and its chain ends here; or the other way round")
            if (
                run.before is not None
                and self.runs[run.before].of("cancel_requested")
                and (run.state not in (RunState.CANCELLED, RunState.TERMINATED) or run.of("run_began"))
            ):
                self.blame(run, "runs code, and the run that it continues was asked to cancel")
            if run.parent != line[0].parent or run.command != line[0].command or run.close != line[0].close:
                self.blame(run, "has another parent than the run before it")
        return line

    def check_history(self, run: Found) -> None:
        seqs = [event.seq for event in run.events]
        if seqs != list(range(1, run.last_seq + 1)):
            self.blame(run, f"sequence numbers {seqs}, last_seq {run.last_seq}")
        ends = [event for event in run.events if event.type in TERMINAL]
        after = [] if not ends else run.events[ends[0].seq :]
        if len(ends) != 1 or any(event.type != "message_undeliverable" for event in after):
            self.blame(run, "does not end once")
            return
        if ends[0].type != f"run_{run.state}":
            self.blame(run, "has a state that is not its end")
        if run.owner is not None or run.wake_at is not None:
            self.blame(run, f"has ended, owner {run.owner}, wake_at {run.wake_at}")
        commands = [event.command for event in run.events if event.type in COMMANDS]
        if commands != list(range(len(commands))):
            self.blame(run, "has gaps in its commands")
        twice = [c for c, n in Counter(e.command for e in run.of(*OUTCOMES)).items() if n > 1]
        if twice:
            self.blame(run, f"commands {twice} ended twice")
        if [event.at for event in run.events[: ends[0].seq]] != sorted(e.at for e in run.events[: ends[0].seq]):
            self.blame(run, "goes back in time")

    def check_replay(self, run: Found, *, inline: bool) -> None:
        info = RunInfo(run.id, run.chain, run.namespace, run.workflow, run.version, run.parent)
        try:
            decision = replay_history(node.entry, info, run.events, inline=inline)
        except (ContinuumError, AssertionError) as error:
            self.blame(run, f"does not replay: {error!r}")
            return
        if decision.events or decision.orders or decision.cancelled or decision.reaches_out:
            self.blame(run, f"would go on after its end: {decision}")

    # -- families ------------------------------------------------------------------------------------------------------

    def check_children(self) -> None:
        ordered = {}
        for run in self.runs.values():
            for event in run.of("child_started"):
                child = json.loads(event.payload or "")["id"]
                ordered[run.id, event.command] = child
                if child not in self.chains:
                    self.blame(run, f"ordered child {child}, which does not exist")
        there: dict[tuple[str, int], str] = {}
        for chain, line in self.chains.items():
            first = line[0]
            if first.parent is None:
                continue
            if (first.parent, first.command) in there:
                self.blame(first, "is a second child of its parent's command")
            there[first.parent, first.command] = chain
            if first.parent not in self.runs or self.runs[first.parent].chain != first.parent_chain:
                self.blame(first, "is an orphan")
                continue
            self._check_report(self.runs[first.parent], line)
        if there != ordered:
            self.faults.append(
                f"children ordered and not there, or the reverse: {set(there.items()) ^ set(ordered.items())}"
            )

    def _check_report(self, parent: Found, line: list[Found]) -> None:
        """A report is what the child ended with, and is where the parent's code needed it to come to its own end."""
        child = line[-1]
        found = [event for event in parent.of(*CHILD_ENDS) if event.command == line[0].command]
        if found:
            [report] = found[:1]
            end = next(event for event in child.events if event.type in TERMINAL)
            if report.type != END_OF_STATE.get(child.state) or report.payload != end.payload:
                self.blame(parent, f"was told {report} of {child!r}")

    # -- signals -------------------------------------------------------------------------------------------------------

    def check_signals(self, rounds: Sequence[Round]) -> Counter[str]:
        """Each that was accepted is in its chain's histories once, or noted as undeliverable; taken once, in order."""
        accepted: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for one in rounds:
            for (chain, name, value), answers in one.told.items():
                if answers.count("delivered") > 1 or (
                    answers == ["terminal", "delivered"] or answers[0] == "duplicate"
                ):
                    self.faults.append(f"{one.seed}: signal {name} {value} to {chain} was answered {answers}")
                if "delivered" in answers or "duplicate" in answers:
                    accepted[chain].add((name, value))
        fates: Counter[str] = Counter()
        for chain, line in self.chains.items():
            self._check_mail(line, accepted[chain], fates)
        return fates

    def _check_mail(
        self,
        line: list[Found],
        accepted: set[tuple[str, str]],
        fates: Counter[str],
    ) -> None:
        journaled = [(e.name, json.loads(e.payload or "")) for run in line for e in run.of("signal_received")]
        noted = []
        for event in line[-1].of("message_undeliverable"):
            note = json.loads(event.payload or "")
            if note["kind"] == "signal_received":
                noted.append((event.name, note["payload"]))
        counts = Counter([*journaled, *noted])
        for signal in accepted:
            if counts[signal] != 1:
                self.blame(line[-1], f"signal {signal} was accepted and is there {counts[signal]} times")
        for signal, count in counts.items():
            if count > 1 or (signal[1].startswith("c:") and signal not in accepted):
                self.blame(line[-1], f"signal {signal} is there {count} times, and was not accepted as often")
        self._check_letters(line, counts)
        fates["journaled"] += len(journaled)
        fates["undeliverable"] += len(noted)
        self._check_order(line[-1], [*journaled, *noted])
        # What was taken, and what went on to the next run, is what had come, in this order.
        carried: list[tuple[str | None, str]] = []
        for run in line:
            begun = json.loads(run.events[0].payload or "")
            inherited = [tuple(pair) for pair in begun.get("signals", [])]
            if sorted(map(str, inherited)) != sorted(map(str, carried)) or _by_name(inherited) != _by_name(carried):
                self.blame(run, f"inherited {inherited}, and the run before it had left {carried}")
            came = [*inherited, *((e.name, json.loads(e.payload or "")) for e in run.of("signal_received"))]
            taken = [tuple(pair) for pair in run.published("took")]
            fates["taken"] += len(taken)
            fates["carried"] += len(inherited)
            left = _by_name(came)
            for name, values in _by_name(taken).items():
                if left.get(name, [])[: len(values)] != values:
                    self.blame(run, f"took {values} of {name}, and there were {left.get(name)}")
                left[name] = left.get(name, [])[len(values) :]
            carried = [(name, value) for name, values in left.items() for value in values]

    def _check_letters(self, line: list[Found], counts: Counter[tuple[str | None, str]]) -> None:
        """What a parent sent has arrived, unless the child had ended before."""
        parent = self.runs.get(line[0].parent or "")
        if parent is None:
            return
        for event in parent.of("signal_sent"):
            letter = json.loads(event.payload or "")
            if letter["to"] != line[0].id or (event.name, letter["value"]) in counts:
                continue
            order = next(e for e in parent.of("child_started") if e.command == line[0].command)
            if not any(e.type in COMPLETIONS for e in parent.events[order.seq : event.seq]):
                self.blame(parent, f"the signal of {event} was lost, and the same turn had started {line!r}")
            if line[-1].completed_at > parent.completed_at:
                self.blame(parent, f"the signal of {event} was lost on its way to {line!r}")

    def _check_order(self, run: Found, signals: list[tuple[str | None, str]]) -> None:
        """What one sender sent one after the other came in this order."""
        senders: dict[tuple[str | None, str], list[int]] = defaultdict(list)
        for name, value in signals:
            sender, _, number = value.rpartition(":")
            senders[name, sender].append(int(number))
        for sender, numbers in senders.items():
            if numbers != sorted(numbers):
                self.blame(run, f"heard {numbers} of {sender}")

    # -- sagas ---------------------------------------------------------------------------------------------------------

    def check_sagas(self) -> Counter[str]:
        """What was booked in a saga that was not kept is undone; what was kept is not."""
        effects: dict[str, Counter[str]] = defaultdict(Counter)
        owners: dict[str, str] = {}
        for run_id, what, item, count in fetch(
            self.url, "select run_id::text, what, item, count(*) from effects group by 1, 2, 3"
        ):
            effects[item][what] += count
            owners[item] = run_id
        kept = {item for run in self.runs.values() for items in run.published("kept") for item in items}
        fates: Counter[str] = Counter()
        for item, done in effects.items():
            run = self.runs[owners[item]]
            sound = done["sound book"] + done["sound unbook"] > 0
            undone = done["unbook"] + done["sound unbook"]
            if sound and (done["sound book"] > 1 or done["sound unbook"] > 1):
                self.blame(run, f"{item}: a transactional activity took effect twice: {done}")
            if item in kept:
                fates["kept"] += 1
                if undone:
                    self.blame(run, f"{item} was kept and is undone: {done}")
            elif run.state == RunState.TERMINATED:
                fates["terminated"] += 1
            else:
                fates["undone"] += 1
                if not undone:
                    self.blame(run, f"{item} was booked, its saga was not kept, and nobody has undone it: {done}")
        for run in self.runs.values():
            self._check_undoing(run, effects, kept)
        return fates

    def _check_undoing(self, run: Found, effects: dict[str, Counter[str]], kept: set[str]) -> None:
        succeeded = {event.command for event in run.of("activity_completed", "child_completed")}
        undoes = Counter(json.loads(event.payload or "")["undoes"] for event in run.of("compensation_scheduled"))
        for command, count in undoes.items():
            if count > 1 or command not in succeeded:
                self.blame(
                    run, f"command {command} was compensated {count} times; it had succeeded: {command in succeeded}"
                )
        if run.state == RunState.TERMINATED:
            return
        for event in run.of("compensation_scheduled"):
            if event.command not in succeeded:
                self.blame(run, f"ended before its compensation {event.command} had")
        for event in run.of("child_started"):
            start = json.loads(event.payload or "")
            if not start["key"].endswith("booked"):
                continue
            plan = _plan_of(run)
            item = f"{plan['tag']}/{plan['lap']}/{start['key'].split()[0]}"
            undone = effects[item]["unbook"] > 0 if item in effects else False
            if item not in kept and (event.command in succeeded) != undone:
                self.blame(run, f"child {item} succeeded: {event.command in succeeded}, undone: {undone}")
            if item in kept and undone:
                self.blame(run, f"child {item} was kept and is undone")

    # -- the rest ------------------------------------------------------------------------------------------------------

    def check_rest(self, rounds: Sequence[Round]) -> None:
        for table in ("continuum_tasks", "continuum_inbox"):
            left = fetch(self.url, f"select * from {table}")
            if left:
                self.faults.append(f"left in {table}: {left[:5]}")
        for one in rounds:
            if len(set(one.starts)) > 1:
                self.faults.append(f"{one.seed}: one key started {one.starts}")
        attributes = dict(
            fetch(
                self.url,
                "select r.chain_id::text, a.attributes from continuum_runs r"
                " left join continuum_attributes a on a.run_id = r.id where r.is_tip",
            )
        )
        for one in rounds:
            for chain, name in one.attributes:
                if name not in (attributes[chain] or {}):
                    self.blame(self.chains[chain][-1], f"lost the attribute {name}: {attributes[chain]}")
        [(deadlocks,)] = fetch(self.url, "select deadlocks from pg_stat_database where datname = current_database()")
        if deadlocks:
            self.faults.append(f"the server has met {deadlocks} deadlocks")


def _by_name(signals: Sequence[Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in signals:
        found.setdefault(name, []).append(value)
    return found


def _plan_of(run: Found) -> dict[str, Any]:
    call = json.loads(run.events[0].payload or "")["input"]
    args = call if isinstance(call, list) else call["args"]
    return args[0]


def judge(url: str, continuum: Continuum, rounds: Sequence[Round]) -> dict[str, Any]:
    """Audit all that happened in a database; return a few numbers. Raises ``AssertionError`` with what is wrong."""
    while continuum.journal.upkeep.discard_dead_mail():
        pass
    one = Judge(url)
    for number, run in enumerate(one.runs.values()):
        one.check_history(run)
        one.check_replay(run, inline=number % 4 > 0)
    one.check_children()
    signals = one.check_signals(rounds)
    sagas = one.check_sagas()
    one.check_rest(rounds)
    told = "\n".join(one.faults[:6])
    assert not one.faults, f"{len(one.faults)} faults\n{told}"
    states = Counter(run.state for run in one.runs.values())
    return {
        "runs": len(one.runs),
        "events": sum(len(run.events) for run in one.runs.values()),
        "states": dict(states),
        "signals": dict(signals),
        "sagas": dict(sagas),
    }
