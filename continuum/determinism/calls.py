"""Here lives what workflow code must not call, and what to write instead.

A name is that of the *resolved object*, as people write it: ``datetime.datetime.now``, ``time.time``,
``random.choice``, ``requests.get``. What an object calls itself (``posix.getcwd``, ``_io.open``,
``asyncio.threads.to_thread``) is understood, too. A method of an instance is named by the class that defines it:
``logging.Logger.info``, ``pathlib.Path.read_text``.

The longest entry that fits wins, so one entry forbids a whole module, a longer one gives a better hint for a part of
it, and a longer one still allows another part. Of modules that are forbidden as a whole, exceptions (by their usual
endings) and constants (in capitals) are allowed: ``except requests.ConnectionError``, ``socket.AF_INET``.

Classes only matter when they are called: ``isinstance(value, requests.Response)`` and annotations are harmless.
"""

import functools
import re
from typing import Final, Literal

import msgspec

from continuum.determinism.calls_packages import PACKAGES
from continuum.determinism.calls_stdlib import STANDARD_LIBRARY, Entry
from continuum.determinism.rules import RULES

__all__ = ["ENTRIES", "Forbidden", "canonical_name", "find_forbidden"]


class Forbidden(msgspec.Struct, frozen=True):
    """Why something must not be called.

    :ivar code: of the rule.
    :ivar hint: what to write instead.
    :ivar fewer_than: only calls with fewer arguments than this (``random.Random()``, ``time.gmtime()``). References
        are harmless, and so are calls with ``*args``, of which nobody knows.
    :ivar unless: not if one of these keywords is given (``print(…, file=buffer)``).
    :ivar dynamic: only if the argument at this position is not a literal (``operator.methodcaller(name)``).
    """

    code: str
    hint: str
    fewer_than: int | None = None
    unless: tuple[str, ...] = ()
    dynamic: int | None = None


# What objects call themselves, and how people call them. Longest first.
_ALIASES: Final = (
    ("asyncio.base_events.BaseEventLoop", "asyncio.AbstractEventLoop"),
    ("asyncio.events.AbstractEventLoop", "asyncio.AbstractEventLoop"),
    ("concurrent.futures._base", "concurrent.futures"),
    ("concurrent.futures.process", "concurrent.futures"),
    ("concurrent.futures.thread", "concurrent.futures"),
    ("multiprocessing.context.BaseContext", "multiprocessing"),
    ("_thread._local", "threading.local"),
    ("importlib._bootstrap", "importlib"),
    ("pathlib._abc.PathBase", "pathlib.Path"),  # 3.13
    ("pathlib._local", "pathlib"),
    ("pathlib.PosixPath", "pathlib.Path"),
    ("pathlib.WindowsPath", "pathlib.Path"),
    ("os._Environ", "os.environ"),
    ("_contextvars", "contextvars"),
    ("_datetime", "datetime"),
    ("_operator", "operator"),
    ("_weakrefset", "weakref"),
    ("_weakref", "weakref"),
    ("_warnings", "warnings"),
    ("_random", "random"),
    ("_pyio", "io"),
    ("_queue", "queue"),
    ("_socket", "socket"),
    ("_sqlite3", "sqlite3"),
    ("_thread", "threading"),
    ("_signal", "signal"),
    ("_posixsubprocess", "subprocess"),
    ("genericpath", "os.path"),
    ("posixpath", "os.path"),
    ("ntpath", "os.path"),
    ("_asyncio", "asyncio"),
    ("_io", "io"),
    ("posix", "os"),
    ("nt", "os"),
)
_BUILTIN: Final = {
    "io.open": "builtins.open",
    "codecs.open": "builtins.open",
    "threading.allocate_lock": "threading.Lock",
}
# asyncio.tasks.sleep is asyncio.sleep; asyncio.subprocess stays, it is public.
_ASYNCIO_PART: Final = re.compile(
    r"^asyncio\.(?:tasks|threads|runners|events|streams|locks|queues|base_events|futures|subprocess"
    r"|timeouts|taskgroups|unix_events|selector_events)\.(?=\w)"
)
_EXCEPTION: Final = re.compile(r"(?:Error|Exception|Warning|Timeout|Expired|Empty|Full|Interrupt|Exit|DoesNotExist)$")


def canonical_name(dotted: str) -> str:
    """Return the name as people write it: ``posix.getcwd`` is ``os.getcwd``."""
    for given, usual in _ALIASES:
        if dotted.startswith(given) and (len(dotted) == len(given) or dotted[len(given)] == "."):
            dotted = usual + dotted[len(given) :]
            break
    dotted = _ASYNCIO_PART.sub("asyncio.", dotted)
    return _BUILTIN.get(dotted, dotted)


@functools.lru_cache(maxsize=8192)
def find_forbidden(dotted: str) -> Forbidden | None:
    """Return why the thing of this name must not be called in workflow code; None if it may be."""
    name = canonical_name(dotted)
    last = name.rpartition(".")[2]
    entry = _TABLE.get(name)
    if entry is not None:
        return _hinted(entry, last)
    prefix = name
    while "." in prefix:
        prefix = prefix.rpartition(".")[0]
        entry = _TABLE.get(f"{prefix}.*")
        if entry is None:
            entry = _TABLE.get(prefix)
        if entry is not None:
            return None if last.isupper() or _EXCEPTION.search(last) else _hinted(entry, last)
    return None


def _hinted(entry: Forbidden | Literal[False], last: str) -> Forbidden | None:
    return msgspec.structs.replace(entry, hint=entry.hint.replace("{0}", last)) if entry else None


def _forbidden(entry: Entry) -> Forbidden | Literal[False]:
    if entry.code is None:
        return False
    return Forbidden(
        entry.code,
        entry.hint or RULES[entry.code].hint,
        fewer_than=entry.fewer_than,
        unless=entry.unless,
        dynamic=entry.dynamic,
    )


ENTRIES: Final[tuple[Entry, ...]] = STANDARD_LIBRARY + PACKAGES
# False: allowed.
_TABLE: Final = {name: _forbidden(entry) for entry in ENTRIES for name in entry.names}
