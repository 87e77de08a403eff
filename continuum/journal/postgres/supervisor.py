"""Here lives the process that keeps one embedded Postgres alive, and ends it when nobody needs it any more.

It runs as a script (``python -I -S supervisor.py DIRECTORY``, see `embedded`), so it imports nothing but the
standard library: it starts in tens of milliseconds and works whatever the owner's environment looks like.

What it sees is a directory::

    spec.json         what to run: binaries, user, password, settings (written by the first owner)
    status.json       how that goes: starting, running, down or failed; pid, port, reason (written here)
    owners/           one file per owner, with a POSIX record lock held as long as the owner lives
    hold              while this exists the server is kept down (an outage, for tests)
    gate              held by whoever joins or whoever is deciding that nobody is left
    supervisor.lock   held by this process, so that there is one
    data/             Postgres' own, 0700, owned by the user that runs it

Why record locks and not pids: the kernel drops them when the process ends, however it ends; they are not
inherited by a fork, and a number that was used again cannot be mistaken for an owner.

Invariants. There is at most one supervisor per directory, and only it starts or signals a server. A server
whose supervisor was killed is stopped by the next one, after making sure that the pid is ours. The decision
to leave is taken holding the gate, so an owner cannot join a server that is about to go.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["Supervisor", "is_locked", "read_json", "tail", "write_json"]

POLL_SECONDS = 0.1  # how long a dead owner may go unnoticed; ten looks at a small directory cost nothing
START_ATTEMPTS = 6  # a lost race for a port, or a killed predecessor's shared memory, goes away
READY_SECONDS = 60.0  # crash recovery after an outage under load can take many seconds
GRACE_SECONDS = 10.0  # for a fast shutdown, before an immediate one


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in `path`, or an empty one while there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace `path` in one step, readable by its owner only (the password is in one of them)."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)
    scratch.replace(path)


def is_locked(path: Path) -> bool:
    """Say whether some process holds the flock on `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def tail(path: Path, *, lines: int = 20) -> str:
    """Return the last lines of a log, for an error message."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


class StartError(Exception):
    """The server cannot be started; the message carries the end of its log."""


class Supervisor:
    """Keeps the server of one directory running while it has owners."""

    def __init__(self, base: Path) -> None:
        """Read the specification the first owner left in `base`."""
        self.base = base
        self.data = base / "data"
        self.log = base / "postgres.log"
        spec = read_json(base / "spec.json")
        self.binaries = Path(spec["binaries"])
        self.uid: int | None = spec["uid"]
        self.gid: int | None = spec["gid"]
        self.password: str = spec["password"]
        self.settings: dict[str, str] = spec["settings"]
        self.persistent: bool = spec["persistent"]
        self.port: int = spec.get("port") or 0
        self.was_running = False
        self.stopping = False
        self.server: subprocess.Popen[bytes] | None = None

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Supervise until the last owner has left, a signal says so, or the server cannot start."""
        self.log.write_bytes(b"")
        try:
            while not self.stopping:
                self.run_once()
                time.sleep(POLL_SECONDS)
        except (StartError, OSError) as error:
            self.report("failed", error=str(error))
            while not self.stopping:  # the owners read the reason, and leave
                time.sleep(POLL_SECONDS)
                self.leave_if_alone()
        self.close()

    def run_once(self) -> None:
        """Compare the world with what it should be, and take one step towards that."""
        if self.server is not None and self.server.poll() is not None:
            self.server = None
            self.report("down")
        held = (self.base / "hold").exists()
        if held and self.server is not None:
            self.stop_server(signal.SIGQUIT)
            self.report("down")
        elif not held and self.server is None:
            self.start_server()
        self.leave_if_alone()

    def leave_if_alone(self) -> None:
        """Stop and tidy up if there is no owner, holding the gate so that none can join meanwhile."""
        if self.owners():
            return
        descriptor = os.open(self.base / "gate", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.owners():
                self.stopping = True
                self.close()
        except BlockingIOError:  # somebody is joining: look again at the next round
            pass
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Stop the server; leave what is persistent, remove what is not. Closing again does nothing."""
        self.stop_server(signal.SIGINT if self.persistent else signal.SIGQUIT)
        for name in ("status.json", "hold"):
            (self.base / name).unlink(missing_ok=True)
        if not self.persistent:
            # The rename makes the directory disappear in one step: nobody finds half of it.
            doomed = self.base.with_name(f"{self.base.name}.gone-{os.getpid()}")
            try:
                self.base.rename(doomed)
            except OSError:
                doomed = self.base
            shutil.rmtree(doomed, ignore_errors=True)

    def owners(self) -> list[Path]:
        """List the owners that live, and forget the others."""
        alive = []
        for path in (self.base / "owners").glob("owner-*"):
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # POSIX allows either errno
                alive.append(path)
            else:
                path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
        return alive

    def report(self, state: str, *, error: str | None = None) -> None:
        """Tell the owners how things are."""
        pid = self.server.pid if self.server is not None else None
        write_json(self.base / "status.json", {"state": state, "pid": pid, "port": self.port, "error": error})

    # -- the server -------------------------------------------------------------------------------

    def start_server(self) -> None:
        """Make the data directory if there is none, then start Postgres on it and wait until it answers."""
        self.report("starting")
        self.end_stray_server()
        if not self.data.exists():
            self.init_data()
        for attempt in range(1, START_ATTEMPTS + 1):
            # Once somebody may have connected, the port is a promise; before that any free one will do.
            if not self.was_running and (attempt > 1 or not self.port):
                self.port = free_port()
            mark = self.log.stat().st_size
            if self.launch():
                self.was_running = True
                self.report("running")
                return
            reason = self.log.read_bytes()[mark:].decode(errors="replace")
            if not any(text in reason for text in ("Address already in use", "shared memory", "lock file")):
                break
            time.sleep(POLL_SECONDS * attempt)
        msg = f"Postgres could not be started on port {self.port}. The end of its log:\n{tail(self.log)}"
        raise StartError(msg)

    def launch(self) -> bool:
        """Start one server process; say whether it became ready."""
        settings = {
            **self.settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",  # the path of a deep directory would exceed the limit of 107 bytes
        }
        command = [str(self.binaries / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self.server = self.spawn(command, log)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.server.poll() is None:
            # The eighth line of postmaster.pid is its state: what pg_ctl looks at.
            lines = pid_file_lines(self.data)
            if len(lines) > 7 and lines[0] == str(self.server.pid) and lines[7] == "ready":  # noqa: PLR2004 - line 8
                return True
            time.sleep(0.02)
        self.stop_server(signal.SIGQUIT)
        return False

    def stop_server(self, how: signal.Signals) -> None:
        """End the server, the polite way first."""
        server, self.server = self.server, None
        if server is None:
            return
        for step in (how, signal.SIGQUIT, signal.SIGKILL):
            server.send_signal(step)
            try:
                server.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            return

    def init_data(self) -> None:
        """Create the cluster aside and rename it, so that a half-made one is never taken for a whole one."""
        fresh, secret = self.base / "data.new", self.base / "password"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(self.password)
        if self.uid is not None and self.gid is not None:
            os.chown(fresh, self.uid, self.gid)
            os.chown(secret, self.uid, self.gid)
        command = [str(self.binaries / "initdb"), "-D", str(fresh), "-U", "postgres"]
        command += ["-E", "UTF8", "--locale=C", "-A", "scram-sha-256", f"--pwfile={secret}"]
        if self.settings.get("fsync") == "off":
            command.append("--no-sync")
        with self.log.open("ab") as log:
            code = self.spawn(command, log).wait()
        secret.unlink()
        if code != 0:
            msg = f"initdb failed with exit code {code}. The end of its output:\n{tail(self.log)}"
            raise StartError(msg)
        fresh.rename(self.data)

    def spawn(self, command: list[str], log: Any) -> subprocess.Popen[bytes]:
        """Start a Postgres program as the user it must run as, with nothing of ours in its environment."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={**ours, "LC_ALL": "C"},
            user=self.uid,
            group=self.gid,
            extra_groups=[] if self.uid is not None else None,
        )

    def end_stray_server(self) -> None:
        """Stop a server that a killed supervisor left behind, and drop a pid file that means nothing."""
        lines = pid_file_lines(self.data)
        if not lines or not lines[0].isdigit():
            return
        stray = int(lines[0])
        if runs_on(stray, self.data):
            for step in (signal.SIGQUIT, signal.SIGKILL):
                os.kill(stray, step)
                deadline = time.monotonic() + GRACE_SECONDS
                while runs_on(stray, self.data) and time.monotonic() < deadline:
                    time.sleep(0.02)
                if not runs_on(stray, self.data):
                    break
        (self.data / "postmaster.pid").unlink(missing_ok=True)


def pid_file_lines(data: Path) -> list[str]:
    """Return the lines of a data directory's ``postmaster.pid``; none while nothing runs there."""
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []


def runs_on(pid: int, data: Path) -> bool:
    """Say whether `pid` is a server of this data directory, and not a stranger who got its number."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data  # the postmaster works inside its data directory
    except FileNotFoundError:
        if Path("/proc/self/cwd").exists():
            return False
    except PermissionError:
        return False  # another user's process
    asked = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return f"-D {data} " in asked.stdout


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Take the directory, go into the background, supervise."""
    base = Path(sys.argv[1])
    lock = os.open(base / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # The lock goes along into the background: when this call returns to the owner, the supervisor exists.
    if os.fork():
        return 0
    os.setsid()
    supervisor = Supervisor(base)

    def ask_to_leave(_number: int, _frame: object) -> None:
        supervisor.stopping = True

    signal.signal(signal.SIGTERM, ask_to_leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        supervisor.run()
    finally:
        supervisor.stop_server(signal.SIGQUIT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
