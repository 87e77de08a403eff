"""Here lives what can be known to be wrong with a Celery setup, before it costs anybody a night.

Two kinds: what can never work is a ``ConfigError`` at the dispatcher's start; the rest are findings, said once at a
worker's start and by ``continuum check``. A broker that is away is a finding only: work waits in Postgres.
"""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec
from celery import Celery

from continuum.celery_executor.wires import connection_of, open_wire
from continuum.errors import ConfigError

__all__ = [
    "Finding",
    "broker_findings",
    "check_app",
    "check_queue",
    "clock_findings",
    "explain_flaw",
    "explain_refusal",
    "explain_unreachable",
    "find_settings",
    "pool_findings",
    "uri_of",
]

# Celery worker and database may disagree this far about the time: far less than a message lives.
_MOST_SKEW: Final = timedelta(seconds=30)
# AMQP's short strings.
_LONGEST_QUEUE_NAME: Final = 255
# AMQP: access refused, not allowed (no such virtual host); Redis: a wrong password or none, a rule against it.
_LOCKED_OUT: Final = frozenset({403, 530})
_AUTHENTICATION: Final = frozenset({"AuthenticationError", "AuthorizationError", "NoPermissionError"})
_JSON: Final = frozenset({"json", "application/json"})


class Finding(msgspec.Struct, frozen=True):
    """Something that works less well than people expect.

    :ivar code: a word to search for.
    :ivar broken: whether activities do not run as long as it is so.
    """

    code: str
    message: str
    broken: bool = False


def check_app(app: Celery, *, queue: str) -> None:
    """Raise ``ConfigError`` if messages of this app could never be sent or read. Asks no broker."""
    flaw = _flaw_of_broker(app) or _flaw_of_content(app) or _flaw_of_routes(app)
    if flaw is not None:
        raise ConfigError(flaw)
    check_queue(queue)


def check_queue(queue: str) -> None:
    """Raise ``ConfigError`` if brokers do not take a queue of this name."""
    flaw = _flaw_of_queue(queue)
    if flaw is not None:
        raise ConfigError(flaw)


def find_settings(app: Celery) -> list[Finding]:
    """Return what an app's configuration makes harder."""
    found = []
    if app.conf.task_protocol == 1:
        message = (
            "task_protocol = 1 is set; Continuum's messages are of protocol 2, which every Celery worker since 4.0"
            " reads. Other consumers of the same queues may not: give Continuum's activities a queue of their own."
        )
        found.append(Finding("task-protocol", message))
    return found


def pool_findings(pool: str) -> list[Finding]:
    """Return what a pool of Celery workers cannot do, and what holds instead. ``pool`` as in ``celery worker -P``."""
    name = pool.lower()  # a word, or module:class
    if any(word in name for word in ("prefork", "processes")):
        return []
    limits = (
        "An attempt that exceeds its timeout is ended in the journal all the same, and its late result is refused;"
        " its code runs on until it returns. Give clients and drivers timeouts of their own, or use -P prefork."
    )
    if "thread" in name or "solo" in name:
        kind = "threads" if "thread" in name else "solo"
        found = [
            Finding("no-time-limits", f"the {kind} pool ignores time limits and cannot terminate a task. {limits}")
        ]
        if kind == "solo":
            message = (
                "the solo pool runs one task at a time in the main process, which answers nothing meanwhile: remote"
                " control and broker heartbeats stand still. Its lease is kept by a thread, unless native code holds"
                " the interpreter's lock for longer than the lease. Use -P prefork for anything but development."
            )
            found.append(Finding("solo", message))
        return found
    if "gevent" in name or "eventlet" in name:
        kind = "gevent" if "gevent" in name else "eventlet"
        found = [
            Finding("no-soft-limits", f"the {kind} pool ignores soft time limits; hard ones hold on gevent. {limits}")
        ]
        if not _is_psycopg2_green():
            message = (
                f"psycopg2 blocks the whole {kind} worker during each statement of Continuum: claims and results of"
                " all tasks wait for one another, and a slow database stops the heartbeat that keeps their lease."
                " Call psycogreen's patch_psycopg() at the start of the worker, or use -P prefork."
            )
            found.append(Finding("blocking-driver", message))
        return found
    return [Finding("unknown-pool", f"Continuum was never tried with the pool {pool!r}. {limits}")]


def clock_findings(skew: timedelta) -> list[Finding]:
    """Return a finding if this machine's clock is too far from the database's. ``skew`` is ours less the database's."""
    if abs(skew) <= _MOST_SKEW:
        return []
    seconds = abs(skew) / timedelta(seconds=1)
    side = "ahead of" if skew > timedelta(0) else "behind"
    message = (
        f"the clock of this machine is {seconds:.0f} s {side} the database's. Messages expire by the clock of the"
        " Celery worker: one that is ahead throws fresh messages away, and their tasks wait for the next dispatch."
        " Let both machines follow one time server (chrony, systemd-timesyncd)."
    )
    return [Finding("clock-skew", message)]


def broker_findings(app: Celery) -> list[Finding]:
    """Return a finding if the broker cannot be reached within seconds."""
    try:
        wire = open_wire(app)
    except Exception as error:  # noqa: BLE001 - every transport has errors of its own
        return [Finding("broker-unreachable", explain_unreachable(uri_of(app), error), broken=True)]
    wire.drop()
    return []


def explain_unreachable(uri: str, error: BaseException) -> str:
    """Return what it means that a broker cannot be reached."""
    if _is_locked_out(error):
        return (
            f"the broker {uri} does not let this app in: {_text_of(error)}. Check user, password and virtual host in"
            " broker_url, and what the user may do. Celery activities wait in Postgres until then; nothing else is"
            " delayed."
        )
    return (
        f"the broker {uri} cannot be reached, or does not answer: {_text_of(error)}. Celery activities wait in"
        " Postgres until it is back; nothing else is delayed."
    )


def _is_locked_out(error: BaseException) -> bool:
    if getattr(error, "reply_code", None) in _LOCKED_OUT:
        return True
    # Redis need not be installed.
    return any(type(each).__name__ in _AUTHENTICATION for each in (error, error.__cause__))


def explain_refusal(queue: str, error: BaseException) -> str:
    """Return what it means that a broker does not take messages for one queue, and what to do."""
    code = getattr(error, "reply_code", None) or getattr(error, "code", None)
    match code or ("WRONGTYPE" if "WRONGTYPE" in _text_of(error) else type(error).__name__):
        case "WRONGTYPE":
            what = "its Redis key holds something else. Give the broker a database of its own, or choose another queue="
        case 406:
            what = (
                "it exists with other arguments than this app's configuration gives it. Write its real arguments into"
                " task_queues (Queue(…, queue_arguments={…})), or delete the queue when it is empty"
            )
        case 403 | "NoPermissionError":
            what = "this user may not write to it, or not create it. Grant it the permissions, or choose another queue="
        case 405:
            what = "another connection holds it exclusively. Choose another queue="
        case 404 | 312:
            what = (
                "there is no such queue or exchange, and it may not be made. Add it to task_queues, or choose another"
                " queue="
            )
        case _:
            what = "the broker rejects its messages; is there a limit on its length?"
    return (
        f"the broker refuses messages for the queue {queue!r}: {what}. ({_text_of(error)}) Its activities wait in"
        " Postgres and are dispatched again later; those of other queues go on."
    )


def explain_flaw(activity: str, queue: str, error: BaseException) -> str:
    """Return what it means that a message can never be written, and what to do."""
    return (
        f"a message of activity {activity} for the queue {queue!r} cannot be written: {type(error).__name__}:"
        f" {_text_of(error)}. Look at the compression, priority and headers of its route in task_routes, and at"
        " task_compression. Its task waits in Postgres and is dispatched again later; the others go on."
    )


def uri_of(app: Celery) -> str:
    """Return the broker's URL without its password, for people."""
    try:
        return str(app.connection_for_write().as_uri())
    except Exception:  # noqa: BLE001 - said by whoever uses the URL
        return "(unknown)"


def _flaw_of_broker(app: Celery) -> str | None:
    try:
        connection = connection_of(app)
        _ = connection.transport
    except (ImportError, AttributeError) as error:
        return (
            f"the broker URL of the Celery app {app.main!r} needs something that is not installed here:"
            f" {_text_of(error)}. Install it, as in pip install 'celery[{_extra_of(app)}]'."
        )
    except Exception as error:  # noqa: BLE001 - each parser fails in its own way
        return (
            f"the broker URL of the Celery app {app.main!r} cannot be used: {_text_of(error)}. Write one such as"
            " redis://host:6379/0 or amqp://user:password@host:5672//."
        )
    return None


def _extra_of(app: Celery) -> str:
    """Return the extra of Celery's package for a broker, which mostly has the name of its scheme."""
    scheme = str(app.conf.broker_write_url or app.conf.broker_url or "").partition(":")[0].partition("+")[0]
    return {"": "redis", "rediss": "redis", "sentinel": "redis", "SQS": "sqs"}.get(scheme, scheme)


def _flaw_of_content(app: Celery) -> str | None:
    content = app.conf.accept_content
    if isinstance(content, str):
        return f"accept_content of the Celery app {app.main!r} is the text {content!r}: write a list, ['json']."
    accepted = {str(each).lower() for each in content or ()}
    if content is None or accepted & _JSON:  # None: whatever kombu can read
        return None
    return (
        f"accept_content of the Celery app {app.main!r} is {sorted(accepted)}: its workers would refuse Continuum's"
        " messages, which are JSON. Add 'json' to it; task_serializer may stay as it is."
    )


def _flaw_of_routes(app: Celery) -> str | None:
    """Return what is wrong with routes that Celery itself cannot read: whatever the app publishes fails then."""
    try:
        _ = app.amqp.router
    except Exception as error:  # noqa: BLE001 - a user's own class may be behind each of them
        return (
            f"task_routes (or task_queues) of the Celery app {app.main!r} cannot be read: {_text_of(error)}. Write a"
            " dict of names, a router function, or a list of those and of (pattern, route) pairs."
        )
    return None


def _flaw_of_queue(queue: str) -> str | None:
    rules: list[tuple[Callable[[str], Any], str]] = [
        (lambda name: len(name.encode()) > _LONGEST_QUEUE_NAME, "at most 255 bytes"),
        (
            lambda name: name.startswith("amq."),
            "a name that does not begin with 'amq.', which RabbitMQ keeps for itself",
        ),
        (
            lambda name: name != name.strip() or not name.isprintable(),
            "a name without control characters or blanks around",
        ),
        (lambda name: "," in name, "a name without commas, which `celery worker -Q` takes apart"),
    ]
    for is_broken, wanted in rules:
        if is_broken(queue):
            return f"queue={queue!r} is not valid: write {wanted}."
    return None


def _is_psycopg2_green() -> bool:
    """Whether psycopg2 lets other greenlets run; True if it is not used at all."""
    extensions = sys.modules.get("psycopg2.extensions")
    return extensions is None or extensions.get_wait_callback() is not None


def _text_of(error: BaseException) -> str:
    if isinstance(error.__cause__, Exception):
        error = error.__cause__  # kombu wraps what happened in words of its own
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
