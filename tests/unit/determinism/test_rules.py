"""The rules and the table of forbidden calls are well formed, and say what they should."""

import importlib
import re

import pytest

import continuum
from continuum.determinism.calls import ENTRIES, canonical_name, find_forbidden
from continuum.determinism.findings import Severity
from continuum.determinism.rules import FAMILIES, RULES, get_rule, match_codes
from continuum.errors import ConfigError

NAME = re.compile(r"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\.\*)?$")
HINTS = sorted({entry.hint for entry in ENTRIES if entry.hint} | {rule.hint for rule in RULES.values()})


def test_every_rule_has_a_code_of_a_family_a_name_and_a_hint() -> None:
    for code, rule in RULES.items():
        assert re.fullmatch(r"CT\d{3}", code)
        assert code == rule.code
        assert code[:3] in FAMILIES
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
        assert rule.summary.endswith(".")
        assert rule.hint
        assert not rule.hint.endswith(".")
    assert len({rule.name for rule in RULES.values()}) == len(RULES)


def test_every_entry_of_the_table_has_well_formed_names_and_a_rule_for_calls() -> None:
    for entry in ENTRIES:
        assert entry.names
        for name in entry.names:
            assert NAME.match(name), name
        if entry.code is not None:
            assert RULES[entry.code].severity is Severity.ERROR
            assert entry.code.startswith("CT1")


def test_no_name_stands_in_the_table_twice() -> None:
    names = [name for entry in ENTRIES for name in entry.names]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_what_is_allowed_is_well_formed_and_an_exception_from_something() -> None:
    allowed = [name for entry in ENTRIES if entry.code is None for name in entry.names]
    forbidden = {name.removesuffix(".*") for entry in ENTRIES if entry.code for name in entry.names}
    assert allowed
    for name in allowed:
        parts = name.removesuffix(".*").split(".")
        assert any(".".join(parts[:end]) in forbidden for end in range(1, len(parts) + 1)), name
        assert find_forbidden(name.replace("*", "some_method")) is None


@pytest.mark.parametrize("hint", HINTS)
def test_hints_name_only_what_exists(hint: str) -> None:
    for name in re.findall(r"continuum\.(\w+)", hint):
        assert name in continuum.__all__, hint
    for name in re.findall(r"asyncio\.([a-zA-Z]\w*)", hint):
        assert hasattr(importlib.import_module("asyncio"), name), hint


def test_the_hint_for_loggers_is_the_log_of_workflows() -> None:
    for level in ("debug", "info", "warning", "error", "critical", "exception", "log"):
        found = find_forbidden(f"logging.Logger.{level}")
        assert found is not None
        assert found.code == "CT111"
        assert f"continuum.log.{level}(" in found.hint
        assert hasattr(continuum.log, level)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("datetime.datetime.now", "CT101"),
        ("time.monotonic", "CT101"),
        ("random.choice", "CT102"),
        ("random.betavariate", "CT102"),
        ("secrets.token_bytes", "CT102"),
        ("uuid.uuid1", "CT103"),
        ("os.environ", "CT104"),
        ("os._Environ.get", "CT104"),
        ("posix.getcwd", "CT104"),
        ("_io.open", "CT105"),
        ("posix.scandir", "CT105"),
        ("genericpath.exists", "CT105"),
        ("pathlib._local.Path.read_text", "CT105"),
        ("requests.api.get", "CT106"),
        ("_socket.getaddrinfo", "CT106"),
        ("socket.gethostname", "CT112"),
        ("sqlalchemy.engine.create.create_engine", "CT106"),
        ("sqlalchemy.orm.session.Session.execute", "CT106"),
        ("asyncio.subprocess.create_subprocess_exec", "CT107"),
        ("asyncio.threads.to_thread", "CT108"),
        ("asyncio.base_events.BaseEventLoop.run_in_executor", "CT108"),
        ("_thread.allocate_lock", "CT108"),
        ("queue.Queue.put", "CT108"),
        ("time.sleep", "CT109"),
        ("builtins.print", "CT110"),
        ("structlog.contextvars.bind_contextvars", "CT111"),
        ("loguru._logger.Logger.info", "CT111"),
        ("os.getpid", "CT112"),
        ("builtins.eval", "CT113"),
        ("_weakref.ref", "CT114"),
        ("celery.app.task.Task.delay", "CT115"),
        ("continuum.client.handles.RunHandle.result", "CT115"),
        ("asyncio.runners.run", "CT116"),
    ],
)
def test_names_are_found_as_objects_and_as_people_call_them(name: str, code: str) -> None:
    found = find_forbidden(name)
    assert found is not None
    assert found.code == code
    assert "{" not in found.hint


@pytest.mark.parametrize(
    "name",
    [
        "datetime.datetime.fromisoformat",
        "datetime.timedelta",
        "random.Random.choice",
        "uuid.uuid5",
        "os.path.join",
        "posixpath.basename",
        "os.fspath",
        "os.O_RDONLY",
        "io.StringIO",
        "io.StringIO.write",
        "pathlib.PurePath.joinpath",
        "pathlib.Path",
        "urllib.parse.quote",
        "http.HTTPStatus",
        "ipaddress.ip_address",
        "socket.AF_INET",
        "socket.inet_aton",
        "requests.exceptions.ConnectionError",
        "requests.Timeout",
        "subprocess.CalledProcessError",
        "subprocess.TimeoutExpired",
        "queue.Empty",
        "sqlalchemy.sql.expression.select",
        "celery.exceptions.MaxRetriesExceededError",
        "logging.getLogger",
        "logging.INFO",
        "asyncio.tasks.sleep",
        "asyncio.queues.Queue.get",
        "asyncio.AbstractEventLoop.call_later",
        "contextvars.ContextVar.set",
        "continuum.replay.effects.timer.sleep",
        "myapp.random.choice",
        "timekeeper.time",
        "oslo.path",
    ],
)
def test_what_is_safe_is_not_found(name: str) -> None:
    assert find_forbidden(name) is None


def test_a_specific_hint_beats_that_of_the_module() -> None:
    assert "asyncio.Lock" in find_forbidden("threading.Lock").hint  # type: ignore[union-attr]
    assert "continuum.now()" in find_forbidden("time.time").hint  # type: ignore[union-attr]
    assert find_forbidden("threading.stack_size").hint == RULES["CT108"].hint  # type: ignore[union-attr]


def test_ten_functions_of_a_forbidden_module_are_forbidden_without_being_listed() -> None:
    names = [
        "copyfile",
        "copytree",
        "move",
        "disk_usage",
        "chown",
        "which",
        "make_archive",
        "copymode",
        "copystat",
        "x",
    ]
    assert {find_forbidden(f"shutil.{name}").code for name in names} == {"CT105"}  # type: ignore[union-attr]


def test_canonical_names_are_stable() -> None:
    assert canonical_name("posix.getcwd") == "os.getcwd"
    assert canonical_name("posixlike.getcwd") == "posixlike.getcwd"
    assert canonical_name("asyncio.tasks.sleep") == "asyncio.sleep"
    assert canonical_name("_io.open") == "builtins.open"
    assert canonical_name("time.time") == "time.time"


def test_a_rule_is_got_by_its_code() -> None:
    assert get_rule("CT101").name == "clock"
    with pytest.raises(ConfigError, match=r"There is no rule 'clocks': did you mean CT101 \(clock\)\?"):
        get_rule("clocks")
    with pytest.raises(ConfigError, match=r"There is no rule 'CT999': did you mean CT\d+"):
        get_rule("CT999")
    with pytest.raises(ConfigError, match="codes look like CT101, or CT1 for all CT1xx"):
        get_rule("?")


def test_codes_are_matched_by_their_beginning() -> None:
    assert match_codes("ct101") == ("CT101",)
    assert set(match_codes("CT4")) == {"CT401", "CT402"}
    assert set(match_codes("CT")) == set(RULES)
    for wrong in ("", " ", "CT9", "clock"):
        with pytest.raises(ConfigError, match="There is no rule"):
            match_codes(wrong)
