"""Here lives where the tripwire listens: the audit events of Python, and thin wrappers where it has none.

A wrapper looks at one list, which is empty unless workflow code runs somewhere in the process, and calls the original.
It says that it is ``time.time``, so that whoever asks (the scanner, pickle) hears what they would have heard before.

``from time import time`` keeps the function itself. Where an author's module has done so before the wrappers came, its
global is set to the wrapper; what was kept elsewhere (a default argument, an installed package) is not seen.

The functions of C that are wrapped do not bind: ``clock = time.monotonic`` in the body of a class is called without
``self``. So a wrapper in a module is a bound method already, which no class binds again. In a class it is a function.

Wrappers of `time` make room for ``time_machine``, which writes into the C functions of that module and would write into
ours: as soon as it is imported they are taken away, for good. Then only the scanner watches clocks. ``freezegun`` goes
on freezing whatever it froze before: see `Taps.cover`.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from types import MethodType, ModuleType
from typing import Any, Final

from continuum.determinism.culprits import is_of_authors

__all__ = ["EVENTS", "TIME_MACHINE", "Taps"]

TIME_MACHINE: Final = "_time_machine"
# It exchanges what modules hold of `time`, and knows that by identity: by what it was when it was imported itself.
_FREEZER: Final = "freezegun"

# A look at the list and, if there is anything in it, at who is calling; raises if it must not be.
_Watch = list[object]
_Judge = Callable[[str], None]
_Make = Callable[[Any, str, _Watch, _Judge], Any]


# Events that are named as the call is.
_BY_NAME: Final = (
    "os.system os.fork os.forkpty os.posix_spawn os.startfile os.putenv os.unsetenv os.listdir os.scandir os.mkdir",
    "os.rmdir os.remove os.rename os.link os.symlink os.chmod os.chown os.lchown os.truncate os.utime os.chflags",
    "os.lockf os.listxattr os.getxattr os.setxattr os.removexattr os.walk os.fwalk os.chdir os.fchdir",
    "shutil.chown shutil.copyfile shutil.copymode shutil.copystat shutil.copytree shutil.make_archive shutil.move",
    "shutil.rmtree shutil.unpack_archive tempfile.mkdtemp tempfile.mkstemp glob.glob pathlib.Path.glob",
    "pathlib.Path.rglob socket.bind socket.connect socket.getaddrinfo socket.gethostbyaddr socket.gethostbyname",
    "socket.gethostname socket.getnameinfo socket.getservbyname socket.getservbyport socket.sendmsg socket.sendto",
    "socket.sethostname ftplib.connect ftplib.sendcmd smtplib.connect smtplib.send",
    "poplib.connect poplib.putline imaplib.open imaplib.send telnetlib.Telnet.open syslog.openlog syslog.syslog",
    "signal.pthread_kill fcntl.fcntl fcntl.flock fcntl.ioctl fcntl.lockf subprocess.Popen sqlite3.connect pty.spawn",
    "webbrowser.open time.sleep builtins.input os.kill os.killpg http.client.connect http.client.send",
)


def _table() -> dict[str, str]:
    events = {
        "open": "builtins.open",
        "os.exec": "os.execv",
        "os.spawn": "os.spawnv",
        "glob.glob/2": "glob.glob",
        "socket.__new__": "socket.socket",
        "urllib.Request": "urllib.request.urlopen",
        "mmap.__new__": "mmap.mmap",
        "_thread.start_new_thread": "threading.Thread",
        "_thread.start_joinable_thread": "threading.Thread",
    }
    events.update({name: name for group in _BY_NAME for name in group.split()})
    return events


EVENTS: Final = _table()
"""Audit events that workflow code must not cause, and the call each stands for."""


# ------------------------------------------------------------------ wrappers


class _Home:
    """What a wrapper is bound to: it stands for the module, by which pickle finds the wrapper again."""

    __slots__ = ("_module",)

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)

    def __deepcopy__(self, _memo: object) -> "_Home":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self._module,)


def _bare(original: Any, name: str, watch: _Watch, judge: _Judge) -> Any:
    def call(_home: _Home) -> Any:
        if watch:
            judge(name)
        return original()

    return call


def _any(original: Any, name: str, watch: _Watch, judge: _Judge) -> Any:
    def call(_home: _Home, /, *args: Any, **kwargs: Any) -> Any:
        if watch:
            judge(name)
        return original(*args, **kwargs)

    return call


def _of_class(original: Any, name: str, watch: _Watch, judge: _Judge) -> Any:
    def call(*args: Any) -> Any:
        if watch:
            judge(name)
        return original(*args)

    return call


def _unless_told(original: Any, name: str, watch: _Watch, judge: _Judge) -> Any:
    """Wrap what asks the clock only if it is not given a time."""

    def call(_home: _Home, *args: Any) -> Any:
        if watch and (not args or args[-1] is None):
            judge(name)
        return original(*args)

    return call


def _strftime(original: Any, name: str, watch: _Watch, judge: _Judge) -> Any:
    def call(_home: _Home, *args: Any) -> Any:
        if watch and len(args) == 1:
            judge(name)
        return original(*args)

    return call


def _print(original: Any, name: str, watch: _Watch, judge: _Judge) -> Any:
    def call(_home: _Home, /, *args: Any, **kwargs: Any) -> None:
        if watch and kwargs.get("file") is None:
            judge(name)
        original(*args, **kwargs)

    return call


def _seeding(original: Any, name: str, watch: _Watch, judge: _Judge) -> Any:
    def seed(self: Any, a: Any = None, version: int = 2) -> None:
        if watch and a is None:
            judge(name)
        original(self, a, version)

    return seed


_CLOCKS: Final = (
    "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns thread_time"
    " thread_time_ns"
)
_SLEEP: Final = "sleep"
_CHANCE: Final = (
    "random uniform triangular randint choice randrange sample shuffle choices normalvariate lognormvariate expovariate"
    " vonmisesvariate gammavariate gauss betavariate binomialvariate paretovariate weibullvariate getrandbits randbytes"
    " seed setstate"
)
# Module, names in it, how each is wrapped, and what it is called where that is not its own name. A dot leads into a
# class of the module.
_WRAPPED: Final[tuple[tuple[str, str, _Make, str | None], ...]] = (
    ("time", _CLOCKS, _bare, None),
    ("time", "clock_gettime clock_gettime_ns", _any, None),
    ("time", _SLEEP, _any, None),
    ("time", "gmtime localtime ctime asctime", _unless_told, None),
    ("time", "strftime", _strftime, None),
    ("os", "urandom getrandom", _any, None),
    ("random", _CHANCE, _any, None),
    ("random", "_urandom", _any, "os.urandom"),  # of SystemRandom, and so of secrets
    ("random", "Random.seed", _seeding, "random.Random"),
    ("uuid", "_generate_time_safe", _bare, "uuid.uuid1"),
    ("os", "getpid getppid getcwd getcwdb cpu_count uname getlogin", _bare, None),
    ("os", "_Environ.__getitem__ _Environ.__iter__", _of_class, "os.environ"),
    ("threading", "_start_new_thread _start_joinable_thread", _any, "threading.Thread"),
    ("_thread", "start_new_thread start_joinable_thread", _any, "threading.Thread"),
    ("builtins", "print", _print, None),
)


class Taps:
    """The wrappers of this process. They stay for its life, except those of clocks.

    :param watch: not empty while workflow code runs somewhere in the process.
    :param judge: called with the name of a call while it is not; raises if the call must not be made.
    """

    def __init__(self, watch: _Watch, judge: _Judge) -> None:
        self._watch = watch
        self._judge = judge
        # (where, name, original, wrapper), in the order they were put there.
        self._put: list[tuple[Any, str, Any, Any]] = []
        self._by_original: dict[int, Any] = {}

    def install(self) -> None:
        """Put the wrappers into their modules. Those there already stay; those somebody took away come back."""
        for module_name, names, make, called in _WRAPPED:
            if module_name == "time" and names != _SLEEP and TIME_MACHINE in sys.modules:
                continue
            module = importlib.import_module(module_name)
            for name in names.split():
                self._install(module, name, make, called or f"{module_name}.{name}")

    def _install(self, module: ModuleType, name: str, make: _Make, called: str) -> None:
        owner: Any = module
        *outer, last = name.split(".")
        for part in outer:
            owner = getattr(owner, part)
        original = getattr(owner, last, None)
        if original is None or hasattr(original, "__continuum_tap__"):
            return
        wrapper = self._by_original.get(id(original))
        if wrapper is None:
            wrapper = make(original, called, self._watch, self._judge)
            wrapper.__name__, wrapper.__qualname__, wrapper.__module__ = last, name, module.__name__
            wrapper.__doc__ = original.__doc__
            wrapper.__wrapped__ = original
            wrapper.__continuum_tap__ = True
            if owner is module:
                wrapper = _bound(wrapper, original, module)
            self._by_original[id(original)] = wrapper
        self._put.append((owner, last, original, wrapper))
        setattr(owner, last, wrapper)

    def cover(self, packages: Iterable[str]) -> None:
        """Put the wrappers where authors' modules imported the functions themselves.

        Not clocks once there is a ``freezegun``: where it came first, it would not know the wrappers.

        :param packages: of authors, besides all code that is not installed.
        """
        own = frozenset(packages)
        left = self._clocks() if _FREEZER in sys.modules else frozenset()
        for module in list(sys.modules.values()):
            names = getattr(module, "__dict__", None)
            file = names.get("__file__") if names else None
            if not names or not file or not (is_of_authors(file) or _package(names) in own):
                continue
            for name, value in list(names.items()):
                wrapper = self._by_original.get(id(value))
                if wrapper is not None and wrapper.__wrapped__ is value and id(wrapper) not in left:
                    names[name] = wrapper
                    self._put.append((module, name, value, wrapper))

    def free_clocks(self) -> None:
        """Take the wrappers of clocks away."""
        clocks = self._clocks()
        for owner, name, original, wrapper in reversed(self._put):
            if id(wrapper) in clocks and getattr(owner, name, None) is wrapper:
                setattr(owner, name, original)
        self._by_original = {key: value for key, value in self._by_original.items() if id(value) not in clocks}

    def _clocks(self) -> frozenset[int]:
        clocks = importlib.import_module("time")
        return frozenset(id(wrapper) for owner, name, _, wrapper in self._put if owner is clocks and name != _SLEEP)


def _bound(wrapper: Any, original: Any, module: ModuleType) -> MethodType:
    """Return the wrapper as what no class binds, and `inspect` sees as it sees the original."""
    try:
        seen = inspect.signature(original)
    except ValueError:
        pass  # as it is for many a function of C
    else:
        home = inspect.Parameter("_home", inspect.Parameter.POSITIONAL_ONLY)
        wrapper.__signature__ = seen.replace(parameters=[home, *seen.parameters.values()])
    return MethodType(wrapper, _Home(module.__name__))


def _package(names: dict[str, Any]) -> str:
    return str(names.get("__name__") or "").partition(".")[0]
