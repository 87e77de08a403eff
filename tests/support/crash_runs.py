"""Here lives what crash tests do over and over: start a dispatcher, let it die, let another one finish."""

from continuum import Continuum
from tests.support.audit import audit
from tests.support.eventually import eventually
from tests.support.processes import Process, Processes

__all__ = ["RUNS", "die_and_be_inherited", "dispatcher"]

RUNS = 6


def dispatcher(processes: Processes, url: str, **env: str) -> Process:
    """Start a dispatcher; return it once it says that it is up, or has died on the way."""
    started = processes.python(
        "-m",
        "continuum.cli.dispatcher",
        "-A",
        "tests.support.crash_app",
        env={"CONTINUUM_DATABASE_URL": url, **env},
    )
    eventually(lambda: not started.alive or "continuum-dispatcher" in started.output, 20)
    return started


def die_and_be_inherited(continuum: Continuum, url: str, processes: Processes, *, crash_at: str) -> None:
    """Run flows, kill their dispatcher at a probe, and check that another one ends each of them as it should."""
    handles = [continuum.start("crash.flow", f"run{n}") for n in range(RUNS)]
    victim = dispatcher(processes, url, CONTINUUM_CRASH_AT=crash_at)
    for handle in handles:
        handle.signal("go", "gone")
    eventually(lambda: not victim.alive, 30)
    assert victim.returncode == -9, victim.output

    heir = dispatcher(processes, url)
    for number, handle in enumerate(handles):
        tag = f"run{number}"
        assert handle.result(timeout=40) == [*(f"{tag}:{n}" for n in "12345b"), "gone", f"{tag}:6"]
    assert heir.terminate() == 0, heir.output
    audit(url)
