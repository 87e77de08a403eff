"""Here live the rules of the scanner: what workflow code must not do, and what it had better not.

The first digit of a code is its family: CT0xx the scanner's own, CT1xx calls, CT2xx state, CT3xx control flow, CT4xx
trust, CT5xx undoing, CT6xx signals. An error is certain: the name was resolved to the real object, and a replay could
differ. What is merely likely to be wrong is a warning, and what most people would call noise is off until asked for.
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from continuum.determinism.findings import Rule, Severity
from continuum.errors import ConfigError

__all__ = ["FAMILIES", "RULES", "get_rule", "match_codes"]

_ERROR, _WARNING, _OFF = Severity.ERROR, Severity.WARNING, Severity.OFF

FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CT0": "The scanner itself",
        "CT1": "Calls a replay cannot repeat",
        "CT2": "State that outlives the run",
        "CT3": "Control flow",
        "CT4": "Trust",
        "CT5": "Undoing",
        "CT6": "Signals",
    }
)

_ALL: Final = (
    # ------------------------------------------------------------------ the scanner itself
    Rule(
        "CT001",
        "source-missing",
        _OFF,
        "The source of the function cannot be read, so nobody has looked at it.",
        "declare workflows in files; in a console or in generated code, mind the rules yourself",
    ),
    Rule(
        "CT002",
        "suppression-without-reason",
        _WARNING,
        "A suppression does not say why it is right.",
        "write the reason behind it: # continuum: allow[CT101] only shown to people",
    ),
    Rule(
        "CT003",
        "suppression-of-unknown-code",
        _WARNING,
        "A suppression names a rule that does not exist.",
        "write one of the codes of docs/reference/determinism.md",
    ),
    Rule(
        "CT004",
        "unused-suppression",
        _WARNING,
        "A suppression suppresses nothing.",
        "delete it, or put it on the line of the finding (or on the line of the def, for the whole function)",
    ),
    # ------------------------------------------------------------------ calls
    Rule(
        "CT101",
        "clock",
        _ERROR,
        "A clock is read: a replay would read another time.",
        "use continuum.now() or continuum.today()",
    ),
    Rule(
        "CT102",
        "randomness",
        _ERROR,
        "Chance is asked: a replay would draw something else.",
        "use continuum.random(), or random.Random(continuum.uuid4().int) for more than a number",
    ),
    Rule(
        "CT103",
        "unique-id",
        _ERROR,
        "An id is made up: a replay would make up another.",
        "use continuum.uuid4()",
    ),
    Rule(
        "CT104",
        "environment",
        _ERROR,
        "The environment or configuration of the process is read: another worker may have another.",
        "pass it as input of the workflow, or read it in an activity or continuum.side_effect()",
    ),
    Rule(
        "CT105",
        "files",
        _ERROR,
        "Files are touched: a replay may find them changed, and would touch them again.",
        "do it in an activity",
    ),
    Rule(
        "CT106",
        "network",
        _ERROR,
        "The network, a database or a broker is used: a replay would ask again, and be answered differently.",
        "do it in an activity",
    ),
    Rule(
        "CT107",
        "processes",
        _ERROR,
        "Processes or signals of the operating system are handled: a replay would do it again.",
        "do it in an activity",
    ),
    Rule(
        "CT108",
        "threads",
        _ERROR,
        "Threads, executors or their locks are used: their order is not recorded, and they block all runs.",
        "run blocking work in an activity, concurrent work in asyncio.TaskGroup; asyncio.Lock and Queue are recorded",
    ),
    Rule(
        "CT109",
        "blocking-sleep",
        _ERROR,
        "The thread sleeps, or a timer outside the history is set: all runs wait, and a crash forgets it.",
        "use await continuum.sleep(), a durable timer",
    ),
    Rule(
        "CT110",
        "console",
        _ERROR,
        "Standard input, output or warnings are used: a replay would repeat the text, or ask again.",
        "use continuum.log, which is silent on replay; take input by a signal",
    ),
    Rule(
        "CT111",
        "logging",
        _ERROR,
        "A logger is used: every replay would log the line again.",
        "use continuum.log, which logs every line once",
    ),
    Rule(
        "CT112",
        "host-identity",
        _ERROR,
        "The host, process or interpreter is asked who it is: a replay may run on another.",
        "use continuum.run_info() for the run's identity, or ask in an activity",
    ),
    Rule(
        "CT113",
        "run-time-code",
        _ERROR,
        "What is called is only made or chosen at run time: nobody can say whether it is safe.",
        "write the call out, with match or a dict of functions to choose from",
    ),
    Rule(
        "CT114",
        "process-dependent-answer",
        _ERROR,
        "The answer differs between processes: hashes are salted, addresses and garbage are each process's own.",
        "use a value of the data itself, or hashlib for a stable hash",
    ),
    Rule(
        "CT115",
        "client",
        _ERROR,
        "The client or a task queue is used from workflow code: a replay would start or send it again.",
        "call the workflow as a child (continuum.start_child()), the task as an activity (activity.from_celery)",
    ),
    Rule(
        "CT116",
        "raw-event-loop",
        _ERROR,
        "An event loop is made, run or replaced: the history drives the loop of a workflow.",
        "await it; asyncio.create_task, gather and TaskGroup work as they are",
    ),
    # ------------------------------------------------------------------ state
    Rule(
        "CT201",
        "shared-state-written",
        _ERROR,
        "Something global is changed: other runs see it, and a replay changes it again.",
        "keep it in a local variable (locals are durable: they are replayed), or change it in an activity",
    ),
    Rule(
        "CT202",
        "shared-state-read",
        _WARNING,
        "A global is read that functions of its module change: a replay may read something else.",
        "pass it as input, or read it in an activity or continuum.side_effect()",
    ),
    # ------------------------------------------------------------------ control flow
    Rule(
        "CT301",
        "cancellation-swallowed",
        _WARNING,
        "The handler takes the cancellation of the run, too, and goes on.",
        "write except Exception, or raise at the end of the handler",
    ),
    Rule(
        "CT302",
        "effect-in-finally",
        _WARNING,
        "Something is awaited in the finally of an async generator: if it is left early, that runs at some later time.",
        "clean up where the generator is used, or make it a context manager (contextlib.asynccontextmanager)",
    ),
    Rule(
        "CT303",
        "effect-in-del",
        _ERROR,
        "An effect is asked for in __del__: when that runs is up to the garbage collector.",
        "use async with, or try and finally",
    ),
    Rule(
        "CT304",
        "never-awaited",
        _WARNING,
        "A call is neither awaited nor kept: its result and its failure are lost.",
        "await it, or keep it and await it later (asyncio.gather, TaskGroup)",
    ),
    Rule(
        "CT305",
        "set-order",
        _ERROR,
        "A set is walked through: the order of its elements differs between processes.",
        "use sorted(...), or dict.fromkeys(...) to keep the order of arrival",
    ),
    Rule(
        "CT306",
        "finally-leaves",
        _WARNING,
        "return, break or continue in finally swallows the exception that passes, cancellation included.",
        "leave after the finally block",
    ),
    Rule(
        "CT307",
        "async-generator-left-early",
        _WARNING,
        "An async generator may be left before its end: its clean-up then runs at some later time.",
        "iterate it in async with contextlib.aclosing(...)",
    ),
    Rule(
        "CT308",
        "foreign-awaitable",
        _WARNING,
        "What is awaited is answered by a package that the history knows nothing of.",
        "await it in an activity; wait for the outside with continuum.wait_signal()",
    ),
    Rule(
        "CT309",
        "lost-update",
        _WARNING,
        "A variable of several tasks is read before the await and written after it: updates in between are lost.",
        "await first, then add; or return the parts and sum what asyncio.gather returns",
    ),
    # ------------------------------------------------------------------ trust
    Rule(
        "CT401",
        "untrusted-call",
        _OFF,
        "The code that is called cannot be followed, and nobody has said that it is safe.",
        "do it in an activity, mark your own code @continuum.pure, or trust the module: continuum.configure_checks()",
    ),
    Rule(
        "CT402",
        "unknown-receiver",
        _OFF,
        "What is called is only known at run time.",
        "annotate the parameter with its class, or call a function of a module",
    ),
    # ------------------------------------------------------------------ undoing
    Rule(
        "CT501",
        "no-compensation",
        _WARNING,
        "An activity has no compensation in a workflow that compensates all.",
        "write .compensate(undo, ...) on the call; if nothing is to undo, # continuum: allow[CT501] and why",
    ),
    # ------------------------------------------------------------------ signals
    Rule(
        "CT601",
        "undeclared-signal",
        _ERROR,
        "The workflow waits for a signal that it does not declare: nobody can send it.",
        "add it to @workflow(signals=[...])",
    ),
)

RULES: Final[Mapping[str, Rule]] = MappingProxyType({rule.code: rule for rule in _ALL})


def get_rule(code: str) -> Rule:
    """Return the rule of the code. Raises ``ConfigError`` with the nearest one if there is none."""
    try:
        return RULES[code]
    except KeyError:
        raise ConfigError(_unknown(code)) from None


def match_codes(text: str) -> tuple[str, ...]:
    """Return the codes that the text names: one (``CT101``), or a whole family by its beginning (``CT1``).

    Raises ``ConfigError`` if there is none.
    """
    wanted = text.strip().upper() if isinstance(text, str) else ""
    found = tuple(code for code in RULES if code.startswith(wanted)) if wanted else ()
    if not found:
        raise ConfigError(_unknown(text))
    return found


def _unknown(text: object) -> str:
    # People remember the names as well.
    known = {**{rule.name: code for code, rule in RULES.items()}, **{code.lower(): code for code in RULES}}
    near = difflib.get_close_matches(str(text).lower(), known, n=1, cutoff=0.5)
    if not near:
        return f"There is no rule {text!r}: codes look like CT101, or CT1 for all CT1xx."
    rule = RULES[known[near[0]]]
    return f"There is no rule {text!r}: did you mean {rule.code} ({rule.name})?"
