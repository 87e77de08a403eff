"""The tripwire: forbidden calls that workflow code makes, and the same calls made by anybody else."""

# ruff: noqa: PLW0108, PTH100, PTH104, PTH107, PTH109, PTH123, PTH207, PTH208, LOG015, SIM115, UP020, T201 - just these are tested

import asyncio
import copy
import datetime as dt
import gc
import glob
import importlib
import inspect
import io
import logging
import os
import pathlib
import pickle
import pkgutil
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from random import choice
from time import monotonic as kept_monotonic
from zoneinfo import ZoneInfo

import pytest

from continuum import configure_checks, log, pure, side_effect
from continuum.declare.registry import Registry
from continuum.determinism.calls import find_forbidden
from continuum.determinism.wiretaps import EVENTS
from continuum.errors import ForbiddenCall
from continuum.model.events import Event, EventType
from continuum.replay.effects.signal import wait_until
from continuum.replay.execution import Execution
from continuum.runtime.guard import guard_workflows
from tests.replay.lab import RUN, Lab, act, entry_of, started
from tests.support.tripping import begin, trip, untripped

NOWHERE = "/nonexistent/tripwire"


@pytest.fixture(autouse=True)
def _guarded():
    guard_workflows(Registry())
    yield
    configure_checks()


# One line each, so that a failure names it: what is called, by which name it is reported, the rule.
CALLS = {
    "time": (lambda: time.time(), "time.time", "CT101"),
    "time_ns": (lambda: time.time_ns(), "time.time_ns", "CT101"),
    "monotonic": (lambda: time.monotonic(), "time.monotonic", "CT101"),
    "imported from": (lambda: kept_monotonic(), "time.monotonic", "CT101"),
    "perf_counter": (lambda: time.perf_counter(), "time.perf_counter", "CT101"),
    "process_time": (lambda: time.process_time(), "time.process_time", "CT101"),
    "clock_gettime": (lambda: time.clock_gettime(0), "time.clock_gettime", "CT101"),
    "gmtime": (lambda: time.gmtime(), "time.gmtime", "CT101"),
    "localtime": (lambda: time.localtime(None), "time.localtime", "CT104"),
    "strftime": (lambda: time.strftime("%Y"), "time.strftime", "CT101"),
    "ctime": (lambda: time.ctime(), "time.ctime", "CT101"),
    "random": (lambda: random.random(), "random.random", "CT102"),
    "choice": (lambda: random.choice([1, 2]), "random.choice", "CT102"),
    "choice imported from": (lambda: choice([1, 2]), "random.choice", "CT102"),
    "shuffle": (lambda: random.shuffle([1, 2]), "random.shuffle", "CT102"),
    "randint": (lambda: random.randint(1, 2), "random.randint", "CT102"),
    "seed": (lambda: random.seed(1), "random.seed", "CT102"),
    "unseeded": (lambda: random.Random(), "random.Random", "CT102"),
    "system random": (lambda: random.SystemRandom().random(), "random.SystemRandom.random", "CT102"),
    "urandom": (lambda: os.urandom(4), "os.urandom", "CT102"),
    "token_hex": (lambda: secrets.token_hex(), "secrets.token_hex", "CT102"),
    "secrets.choice": (lambda: secrets.choice([1]), "os.urandom", "CT102"),
    "uuid4": (lambda: uuid.uuid4(), "uuid.uuid4", "CT103"),
    "uuid1": (lambda: uuid.uuid1(), "uuid.uuid1", "CT103"),
    "environ[]": (lambda: os.environ["PATH"], "os.environ", "CT104"),
    "environ.get": (lambda: os.environ.get("NOTHING"), "os.environ", "CT104"),
    "in environ": (lambda: "PATH" in os.environ, "os.environ", "CT104"),
    "environ copied": (lambda: dict(os.environ), "os.environ", "CT104"),
    "environ[]=": (lambda: os.environ.__setitem__("A", "b"), "os.environ.__setitem__", "CT104"),
    "getenv": (lambda: os.getenv("PATH"), "os.getenv", "CT104"),
    "getcwd": (lambda: os.getcwd(), "os.getcwd", "CT104"),
    "abspath": (lambda: os.path.abspath("x"), "os.path.abspath", "CT104"),
    "Path.cwd": (lambda: pathlib.Path.cwd(), "pathlib.Path.cwd", "CT104"),
    "open": (lambda: open(NOWHERE), "open", "CT105"),
    "io.open": (lambda: io.open(NOWHERE), "open", "CT105"),
    "os.open": (lambda: os.open(NOWHERE, 0), "open", "CT105"),
    "read_text": (lambda: pathlib.Path(NOWHERE).read_text(), "pathlib.Path.read_text", "CT105"),
    "write_text": (lambda: pathlib.Path(NOWHERE).write_text(""), "pathlib.Path.write_text", "CT105"),
    "Path.mkdir": (lambda: pathlib.Path(NOWHERE).mkdir(), "pathlib.Path.mkdir", "CT105"),
    "Path.iterdir": (lambda: list(pathlib.Path("/").iterdir()), "pathlib.Path.iterdir", "CT105"),
    "listdir": (lambda: os.listdir("/"), "os.listdir", "CT105"),
    "remove": (lambda: os.remove(NOWHERE), "os.remove", "CT105"),
    "rename": (lambda: os.rename(NOWHERE, NOWHERE), "os.rename", "CT105"),
    "glob": (lambda: glob.glob("/*"), "glob.glob", "CT105"),
    "rmtree": (lambda: shutil.rmtree(NOWHERE), "shutil.rmtree", "CT105"),
    "mkdtemp": (lambda: tempfile.mkdtemp(), "tempfile.mkdtemp", "CT105"),
    "socket": (lambda: socket.socket(), "socket.socket", "CT106"),
    "create_connection": (lambda: socket.create_connection(("127.0.0.1", 1)), "socket.create_connection", "CT106"),
    "getaddrinfo": (lambda: socket.getaddrinfo("localhost", 1), "socket.getaddrinfo", "CT106"),
    "urlopen": (lambda: urllib.request.urlopen("http://127.0.0.1:1/"), "urllib.request.urlopen", "CT106"),
    "sqlite3": (lambda: sqlite3.connect(":memory:"), "sqlite3.connect", "CT106"),
    "subprocess.run": (lambda: subprocess.run(["true"], check=False), "subprocess.run", "CT107"),
    "Popen": (lambda: subprocess.Popen(["true"]), "subprocess.Popen", "CT107"),
    "system": (lambda: os.system("true"), "os.system", "CT107"),
    "fork": (lambda: os.fork(), "os.fork", "CT107"),
    "kill": (lambda: os.kill(1, 0), "os.kill", "CT107"),
    "thread": (lambda: threading.Thread(target=int).start(), "threading.Thread.start", "CT108"),
    "executor": (lambda: ThreadPoolExecutor(1).submit(int), "concurrent.futures.ThreadPoolExecutor.submit", "CT108"),
    "sleep": (lambda: time.sleep(60), "time.sleep", "CT109"),
    "print": (lambda: print("x"), "print", "CT110"),
    "input": (lambda: input(), "input", "CT110"),
    "logging": (lambda: logging.getLogger("tripped").warning("x"), "logging.Logger.warning", "CT111"),
    "root logging": (lambda: logging.error("x"), "logging.error", "CT111"),
    "getpid": (lambda: os.getpid(), "os.getpid", "CT112"),
    "hostname": (lambda: socket.gethostname(), "socket.gethostname", "CT112"),
    "uname": (lambda: os.uname(), "os.uname", "CT112"),
}


@pytest.fixture(autouse=True)
def _levels(caplog):
    """What is not logged does not trip, and other tests leave levels behind."""
    caplog.set_level(logging.WARNING)


@pytest.mark.parametrize("what", CALLS)
def test_a_forbidden_call_raises_in_workflow_code_with_its_name_its_hint_and_its_place(what):
    call, name, code = CALLS[what]
    error = trip(call)
    assert error.call.split(" ")[0] == name
    assert f"({code})" in str(error)
    assert error.replacement
    assert error.replacement in str(error)
    assert error.location == f"test_tripwire.py:{call.__code__.co_firstlineno}"
    assert "goes on once code is deployed" in str(error)


def test_the_hints_are_those_of_the_table_of_the_scanner():
    assert trip(lambda: time.sleep(1)).replacement == find_forbidden("time.sleep").hint
    assert trip(lambda: logging.info("x") or logging.warning("x")).replacement == find_forbidden("logging.warning").hint


def test_every_event_that_is_listened_to_stands_for_a_call_of_the_table():
    assert {call for call in EVENTS.values() if find_forbidden(call) is None} == set()


def parsed_config():
    import this_module_reads_files_and_clocks

    return this_module_reads_files_and_clocks.VALUE


class Unpickled:
    value = 1


# What is no call of an author, or none that a replay could not repeat.
HARMLESS = {
    "gmtime of a time": lambda: time.gmtime(0),
    "strftime of a time": lambda: time.strftime("%Y", (2020, 1, 1, 0, 0, 0, 0, 1, 0)),
    "seeded": lambda: random.Random(7).random(),
    "uuid5": lambda: uuid.uuid5(uuid.NAMESPACE_DNS, "x"),
    "paths": lambda: pathlib.PurePath("a") / "b",
    "StringIO": lambda: io.StringIO("x").read(),
    "print to a buffer": lambda: print("x", file=io.StringIO()),
    "traceback": lambda: "".join(traceback.format_stack()),
    "zone": lambda: dt.datetime(2020, 1, 1, tzinfo=dt.UTC).astimezone(ZoneInfo.no_cache("Europe/Berlin")),
    "deepcopy": lambda: copy.deepcopy({1: [2]}),
    "pickle": lambda: pickle.loads(pickle.dumps(Unpickled())).value,
    "logger": lambda: logging.getLogger("tripped").name,
    "not logged": lambda: logging.getLogger("tripped").debug("x"),
    "sorted": lambda: sorted({"b", "a"}),
    "a library's look at the environment": lambda: tempfile.gettempprefix() and __import__("gettext").find("x"),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_a_harmless_call_does_not_trip(what):
    untripped(HARMLESS[what])


def test_modules_may_be_imported_inside_workflow_code_whatever_their_bodies_do(tmp_path, monkeypatch):
    body = "import os, random, time, uuid, tempfile, logging, threading\n"
    body += "VALUE = (time.time(), random.random(), uuid.uuid4(), os.getenv('HOME'), os.listdir('.'))\n"
    body += "threading.Thread(target=int).start(); logging.getLogger('tripped').info('x')\n"
    (tmp_path / "this_module_reads_files_and_clocks.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    try:
        assert untripped(parsed_config)[0] > 0
    finally:
        sys.modules.pop("this_module_reads_files_and_clocks", None)


# -- by somebody else


@pytest.mark.parametrize("what", ["time", "uuid4", "environ.get", "listdir", "system random", "getpid", "strftime"])
def test_the_same_call_outside_of_workflows_does_what_it_did(what):
    CALLS[what][0]()


def test_functions_of_c_that_a_class_keeps_are_called_without_self(capsys):
    """As the functions they stand for, which do not bind: in classes of modules that are imported late."""

    class Keeper:
        now = time.monotonic
        chance = random.random
        process = os.getpid
        say = print
        fill = os.urandom

    one = Keeper()
    assert one.now() > 0
    assert 0 <= one.chance() < 1
    assert one.process() == os.getpid()
    assert len(one.fill(3)) == 3
    one.say("x")
    assert capsys.readouterr().out == "x\n"
    assert trip(lambda: one.now()).call == "time.monotonic"


@pytest.mark.parametrize("name", ["time.time", "random.choice", "os.getpid", "os.urandom", "builtins.print"])
def test_functions_are_found_again_by_pickle_and_copied_as_they_are(name):
    function = pkgutil.resolve_name(name)
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.copy(function) is function
    assert copy.deepcopy(function) == function


def test_functions_are_seen_as_they_were():
    assert str(inspect.signature(random.choice)) == "(seq)"
    assert str(inspect.signature(os.getpid)) == "()"
    assert time.time.__name__ == "time"
    assert time.time.__module__ == "time"


def test_another_thread_may_do_what_it_likes_while_workflow_code_runs():
    asked, answered = threading.Event(), threading.Event()
    seen = []

    def other():
        asked.wait(30)
        try:
            seen.append((time.time(), uuid.uuid4(), os.listdir("/"), os.environ.get("X"), random.random()))
            logging.getLogger("tripped").debug("x")
            threading.Thread(target=int).start()
        except BaseException as error:
            seen.append(error)
        answered.set()

    thread = threading.Thread(target=other)
    thread.start()

    def call():
        asked.set()
        return answered.wait(30)

    assert untripped(call)
    thread.join()
    assert len(seen) == 1
    assert isinstance(seen[0], tuple)


def test_a_run_that_is_not_guarded_is_left_alone():
    lab = Lab(lambda: flow())

    async def flow():
        return time.time() > 0

    lab.begin()
    assert lab.execution.ended


def test_a_side_effect_may_look_at_anything():
    assert untripped(lambda: side_effect(time.time)) > 0
    assert untripped(lambda: side_effect(lambda: os.environ.get("PATH")))


def test_the_text_of_a_log_line_may_look_at_anything():
    class Told:
        def __str__(self):
            return str(time.time())

    untripped(lambda: log.info("at %s", Told()))


def test_the_text_of_an_error_that_ends_the_run_may_look_at_anything():
    class Told(Exception):
        def __str__(self):
            return str(time.time())

    async def flow():
        raise Told

    assert begin(flow).ended


def test_a_finalizer_that_the_garbage_collector_calls_may_do_what_it_likes():
    class Temporary:
        def __init__(self):
            self.me = self
            self.done = None

        def __del__(self):
            closed.append(cleaned())

    def cleaned():
        return time.time(), os.listdir("/")

    closed = []
    gc.collect()
    Temporary()
    untripped(lambda: [gc.collect()])
    assert len(closed) == 1


class Watcher:
    def __init__(self):
        self.seen = []

    def __call__(self, *_):
        self.seen.append((time.time(), os.listdir("/")))

    def heard(self, *_):
        self()


@pytest.mark.parametrize("kind", ["object", "method"])
def test_a_handler_of_signals_that_interrupts_workflow_code_may_do_what_it_likes(kind):
    watcher = Watcher()
    before = signal.signal(signal.SIGUSR1, watcher if kind == "object" else watcher.heard)
    try:
        untripped(lambda: signal.raise_signal(signal.SIGUSR1))
        assert len(watcher.seen) == 1
        assert trip(lambda: time.time())
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("name", ["ipdb", "IPython", "pudb"])
def test_a_debugger_that_is_installed_may_do_what_it_likes(name):
    code = compile("import os\ndef set_trace(): return open(os.devnull)", f"/site-packages/{name}/__init__.py", "exec")
    space = {}
    exec(code, space)
    untripped(space["set_trace"]).close()


# -- nothing swallows it


def test_except_exception_does_not_swallow_it():
    def call():
        try:
            time.time()
        except Exception:
            return

    assert trip(call).call == "time.time"


def test_except_base_exception_does_not_swallow_it():
    def call():
        try:
            time.time()
        except BaseException:
            return

    assert trip(call).call == "time.time"


def test_code_that_tries_again_for_ever_is_ended():
    def call():
        while True:
            try:
                time.time()
            except Exception:
                continue

    assert trip(call).call == "time.time"


def test_what_is_called_after_a_swallowed_one_is_refused_too_and_the_first_is_reported():
    async def flow():
        try:
            time.time()
        except ForbiddenCall:
            pass
        try:
            os.listdir("/")
        except ForbiddenCall:
            pass
        await act("charge")

    with pytest.raises(ForbiddenCall, match="called time.time at"):
        begin(flow)


def test_a_task_that_swallows_it_does_not_save_the_run():
    async def helper():
        with pytest.raises(ForbiddenCall):
            random.random()

    async def flow():
        await asyncio.gather(helper(), return_exceptions=True)
        await asyncio.sleep(1)

    with pytest.raises(ForbiddenCall, match=r"random\.random"):
        begin(flow)


def test_a_predicate_of_wait_until_is_workflow_code():
    async def later():
        await asyncio.sleep(0)

    async def flow():
        await asyncio.gather(wait_until(lambda: time.time() < 0), later())

    with pytest.raises(ForbiddenCall, match=r"time\.time"):
        begin(flow)


def test_a_library_function_as_predicate_or_callback_trips_without_a_place():
    async def predicate():
        await wait_until(time.time)

    async def callback():
        asyncio.get_running_loop().call_soon(time.sleep, 1)
        await asyncio.sleep(60)

    with pytest.raises(ForbiddenCall, match=r"called time\.time "):
        begin(predicate)
    with pytest.raises(ForbiddenCall, match=r"called time\.sleep ") as caught:
        begin(callback)
    assert caught.value.location == ""


def test_what_encodes_the_result_is_workflow_code():
    async def flow():
        return 1

    def encode_result(value):
        return str(time.time())

    entry = entry_of(flow)
    entry = type(entry)(entry.name, 1, "hash", flow, entry.decode_input, encode_result)
    execution = Execution(entry=entry, run=RUN)
    execution.guard()
    first = started()
    execution.replay([first])
    with pytest.raises(ForbiddenCall):
        execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, first.at))
    execution.evict()


def test_what_is_caught_while_a_run_is_evicted_costs_it_nothing():
    seen = []

    async def flow():
        try:
            await asyncio.sleep(60)
        finally:
            try:
                time.time()
            except ForbiddenCall as error:
                seen.append(error)

    execution = begin(flow)
    before = execution.decide()
    execution.evict()
    assert [error.call for error in seen] == ["time.time"]
    assert [event.type for event in before.events] == ["run_began", "timer_started"]


# -- policy


def test_a_rule_that_is_no_error_in_this_process_does_not_trip():
    configure_checks(severities={"CT101": "warning"})
    assert untripped(lambda: time.time()) > 0
    assert trip(lambda: random.random())


def test_the_environment_can_switch_it_off_for_a_hotfix(monkeypatch):
    monkeypatch.setenv("CONTINUUM_CHECKS", "off")
    assert untripped(lambda: time.time()) > 0


def test_a_trusted_module_is_believed():
    configure_checks(trusted_modules=[__name__])
    assert untripped(lambda: time.time()) > 0


@pure
def marked():
    return time.time()


@pure
class Marked:
    def ask(self):
        return time.time()


def test_what_is_marked_as_pure_is_believed():
    assert untripped(lambda: marked()) > 0
    assert untripped(lambda: Marked().ask()) > 0


def test_a_suppression_with_a_reason_is_believed_on_the_line_and_on_the_def():
    def on_the_def():  # continuum: allow[CT101] only compared with itself
        return time.time()

    assert untripped(lambda: time.time()) > 0  # continuum: allow[CT101, CT102] a test
    assert untripped(on_the_def) > 0
    assert trip(lambda: time.time())  # continuum: allow[CT102] another rule
    assert trip(lambda: time.time())  # continuum: allow[CT101]
