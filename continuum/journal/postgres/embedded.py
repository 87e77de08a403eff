"""Here lives the embedded Postgres: a server of our own, for `continuum demo`, ``Continuum.dev()`` and tests.

Where the binaries come from: `binaries`.

Who ends the server. Each process that uses it is an *owner*. A small *supervisor* (`supervisor`) holds the
server, watches its owners and stops it when the last one has left, also when that one was killed with
SIGKILL; a temporary directory then disappears too, within a second or so. Several processes may share one
directory. A forked child is not an owner: `stop` does nothing there. If the supervisor itself is killed, the
next owner, or the last one when it stops, starts another, which ends the stray server before anything else.

Running as root. Postgres refuses that, so the server runs as ``postgres`` or, where there is no such user,
``nobody``; only the data directory belongs to it. Permissions of directories that are not ours are never
touched: a directory that user cannot reach is an error which names the one that stands in the way, and
binaries it cannot reach (a virtual environment below a closed home directory) are copied into our own.

Safety. The server listens on a loopback port only, without Unix sockets, and asks for a random password (it
is in `url`), because on a shared machine every local user can reach that port. Durability is on;
``fast=True`` (fsync off) is meant for tests: it survives crashes and restarts of the server, but not of the
machine.
"""

import fcntl
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

from continuum.errors import ConfigError, JournalUnavailable
from continuum.journal.postgres import supervisor
from continuum.journal.postgres.binaries import blocking_directory, find_binaries

__all__ = ["EmbeddedPostgres", "start_embedded"]

START_SECONDS: Final = 90.0  # longer than the supervisor waits, so that its reason is what is reported
STOP_SECONDS: Final = 30.0  # a fast shutdown, an immediate one, and some air
SETTINGS: Final = {"max_connections": "200"}
# Only the power plug can hurt these: synchronous_commit stays on, or a restart in a test would lose commits.
FAST_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off"}

# flock belongs to an open file, so two threads of one process would not keep each other out of the gate.
_gate_thread = threading.Lock()


@final
class EmbeddedPostgres:
    """One owner's hold on an embedded Postgres; leave it with `stop` or as a context manager.

    Made by `start_embedded`. `url` is what SQLAlchemy, psycopg2 and libpq accept.
    """

    def __init__(self, directory: Path, *, url: str, owner_file: Path, owner_lock: int) -> None:
        """Take over an owner file that is already locked; `start_embedded` is the way to get here."""
        self.directory: Final = directory
        self.url: Final = url
        self._owner_file = owner_file
        self._owner_lock: int | None = owner_lock
        self._owner_pid = os.getpid()

    @property
    def pid(self) -> int:
        """The process id of the server (its postmaster); another one after a restart."""
        return int(_await_running(self.directory)["pid"])

    def restart(self) -> None:
        """Stop the server the hard way and start it again, same port and data; every connection breaks."""
        with self.outage():
            pass

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Keep the server down inside the block (stopped in immediate mode, like a crash)."""
        hold = self.directory / "hold"
        hold.touch()
        try:
            _await_state(self.directory, "down")
            yield
        finally:
            hold.unlink(missing_ok=True)
        _await_running(self.directory)

    def stop(self) -> None:
        """Leave the server; the last owner's call returns when it has ended. Again: does nothing."""
        if self._owner_lock is None or os.getpid() != self._owner_pid:
            return
        self._owner_file.unlink(missing_ok=True)
        os.close(self._owner_lock)
        self._owner_lock = None
        lock, status = self.directory / "supervisor.lock", self.directory / "status.json"
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if any((self.directory / "owners").glob("owner-*")):
                return
            if not supervisor.is_locked(lock):
                if not status.exists():
                    return
                with _gate(self.directory):
                    # Crash: a killed supervisor leaves its status and its server behind; a new one ends that
                    # server.
                    if status.exists() and not supervisor.is_locked(lock):
                        _launch_supervisor(self.directory)
            time.sleep(0.02)
        msg = f"The embedded Postgres in {self.directory} did not stop within {STOP_SECONDS:.0f} s."
        raise JournalUnavailable(msg)

    def __enter__(self) -> Self:
        """Hold the server for the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the server."""
        self.stop()


def start_embedded(directory: Path | None = None, *, persistent: bool = False, fast: bool = False) -> EmbeddedPostgres:
    """Start a Postgres, or join the one that runs in `directory`, and return this process's hold on it.

    Without a directory a temporary one is used. Unless `persistent`, the directory is removed with the
    server. `fast` gives up surviving a crash of the machine for speed, and is meant for tests.

    Raises `ConfigError` if there are no binaries or the directory cannot be used, and `JournalUnavailable`,
    with the end of the server's log, if it does not start.
    """
    if directory is None and persistent:
        msg = "A persistent embedded Postgres needs a directory: start_embedded(Path(...), persistent=True)."
        raise ConfigError(msg)
    account = _server_account()
    base = _temporary_directory(account) if directory is None else directory.expanduser().resolve()
    _prepare_directory(base, account)
    with _gate(base):
        old = supervisor.read_json(base / "spec.json")
        _refuse_other_terms(base, old, persistent=persistent, fast=fast)
        owner_file, owner_lock = _become_owner(base)
        try:
            if not supervisor.is_locked(base / "supervisor.lock"):
                spec = _plan_spec(base, old, account=account, persistent=persistent, fast=fast)
                supervisor.write_json(base / "spec.json", spec)
                (base / "status.json").unlink(missing_ok=True)
                _launch_supervisor(base)
            status = _await_running(base)
            spec = supervisor.read_json(base / "spec.json")
            if spec.get("port") != status["port"]:  # a persistent server keeps its port if it can
                supervisor.write_json(base / "spec.json", {**spec, "port": status["port"]})
        except BaseException:
            owner_file.unlink(missing_ok=True)
            os.close(owner_lock)
            if not persistent and not supervisor.is_locked(base / "supervisor.lock"):
                shutil.rmtree(base, ignore_errors=True)
            raise
    url = f"postgresql://postgres:{spec['password']}@127.0.0.1:{status['port']}/postgres"
    return EmbeddedPostgres(base, url=url, owner_file=owner_file, owner_lock=owner_lock)


# -- owners and the supervisor -------------------------------------------------------------------


@contextmanager
def _gate(base: Path) -> Iterator[None]:
    """Keep other owners, and a supervisor about to leave, out for the length of the block."""
    with _gate_thread:
        while True:
            base.mkdir(mode=_directory_mode(), parents=True, exist_ok=True)
            descriptor = os.open(base / "gate", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                current = (base / "gate").stat().st_ino == os.fstat(descriptor).st_ino
            except FileNotFoundError:
                current = False
            if current:
                break
            os.close(descriptor)  # the directory was removed while we waited: start again with a new one
        try:
            yield
        finally:
            os.close(descriptor)


def _become_owner(base: Path) -> tuple[Path, int]:
    """Create this owner's file, locked before it can be seen."""
    owners = base / "owners"
    owners.mkdir(mode=0o700, exist_ok=True)
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    scratch, path = owners / f"new-{name}", owners / f"owner-{name}"
    descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    scratch.rename(path)
    return path, descriptor


def _launch_supervisor(base: Path) -> None:
    """Run the supervisor; it goes into the background by itself once it holds its lock."""
    log = base / "supervisor.log"
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-I", "-S", supervisor.__file__, str(base)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            check=False,
        )
    if done.returncode != 0:
        msg = f"The supervisor of the embedded Postgres could not be started:\n{supervisor.tail(log)}"
        raise JournalUnavailable(msg)


def _await_running(base: Path) -> dict[str, Any]:
    """Wait until the server runs; raise with the supervisor's reason if it cannot."""
    return _await_state(base, "running")


def _await_state(base: Path, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = supervisor.read_json(base / "status.json")
        if status.get("state") == state:
            return status
        if status.get("state") == "failed":
            raise JournalUnavailable(str(status["error"]))
        if not supervisor.is_locked(base / "supervisor.lock"):
            break
        time.sleep(0.02)
    log = supervisor.tail(base / "supervisor.log")
    msg = f"The embedded Postgres in {base} is not {state} and its supervisor does not answer. Its log:\n{log}"
    raise JournalUnavailable(msg)


# -- what to run, and where ----------------------------------------------------------------------


def _refuse_other_terms(base: Path, old: dict[str, Any], *, persistent: bool, fast: bool) -> None:
    """Keep from joining on other terms than the owners before us, above all from making data temporary."""
    if old and old["persistent"] != persistent:
        msg = f"{base} holds a Postgres started with persistent={old['persistent']}; say the same here."
        raise ConfigError(msg)
    if supervisor.is_locked(base / "supervisor.lock") and old.get("fast") != fast:
        msg = f"The Postgres in {base} runs with fast={old.get('fast')}; say the same here, or stop it first."
        raise ConfigError(msg)


def _plan_spec(
    base: Path, old: dict[str, Any], *, account: pwd.struct_passwd | None, persistent: bool, fast: bool
) -> dict[str, Any]:
    version_file = base / "data" / "PG_VERSION"
    major = int(version_file.read_text(encoding="utf-8")) if version_file.exists() else None
    return {
        "binaries": str(find_binaries(base, account, major=major)),
        "uid": account.pw_uid if account else None,
        "gid": account.pw_gid if account else None,
        "password": old.get("password") or secrets.token_urlsafe(24),
        "port": old.get("port"),
        "persistent": persistent,
        "fast": fast,
        "settings": SETTINGS | FAST_SETTINGS if fast else SETTINGS,
    }


def _server_account() -> pwd.struct_passwd | None:
    """Return the user the server must run as, None for the present one."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    msg = "Postgres refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as."
    raise ConfigError(msg)


def _directory_mode() -> int:
    """As root the server's user must pass through our directory; nobody may list it either way."""
    return 0o711 if os.geteuid() == 0 else 0o700


def _temporary_directory(account: pwd.struct_passwd | None) -> Path:
    """Make a directory that the server's user can reach; TMPDIR may well be private to us."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp makes the directory itself
        if blocking_directory(Path(parent).resolve(), account) is None and os.access(parent, os.W_OK):
            made = Path(tempfile.mkdtemp(prefix="continuum-postgres-", dir=parent)).resolve()
            made.chmod(_directory_mode())
            return made
    msg = "Found no directory for temporary files that the server's user can reach; set TMPDIR to one."
    raise ConfigError(msg)


def _prepare_directory(base: Path, account: pwd.struct_passwd | None) -> None:
    """Make our directory, or make sure that an existing one is ours and can be reached."""
    try:
        if not base.exists():
            base.mkdir(parents=True, exist_ok=True)
            base.chmod(_directory_mode())  # whatever the umask says
        names = {path.name for path in base.iterdir()}
    except (OSError, ValueError) as error:
        msg = f"The directory {base} cannot be used for the embedded Postgres: {error}"
        raise ConfigError(msg) from error
    if names and not names & {"spec.json", "gate"}:
        msg = f"The directory {base} has other things in it; give the embedded Postgres an empty or a new one."
        raise ConfigError(msg)
    blocking = blocking_directory(base, account)
    if blocking is not None and account is not None:
        msg = (
            f"Postgres does not run as root, and the user `{account.pw_name}` it would run as may not "
            f"pass through {blocking}. Choose a directory below one open to all, /var/lib for example."
        )
        raise ConfigError(msg)
