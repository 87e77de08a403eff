"""Here lives what a run at rest waits for, in words."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from continuum.replay.loop import DeterministicLoop

__all__ = ["waits_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def waits_of(loop: DeterministicLoop) -> tuple[str, ...]:
    """Return what the code of a run waits for, commands first, by number."""
    return (*(text for _, text in sorted(_commands(loop))), *_others(loop))


def _commands(loop: DeterministicLoop) -> Iterator[tuple[int, str]]:
    for command, activity in loop.activities.items():
        yield command, f"activity {activity.target} (command {command})"
    for command, child in loop.children.items():
        yield command, f"child {child.target} (command {command})"
    for command, timer in loop.timers.items():
        at = _EPOCH + timedelta(microseconds=timer.fire_at)
        yield command, f"a timer until {at:%Y-%m-%d %H:%M:%S} UTC (command {command})"


def _others(loop: DeterministicLoop) -> Iterator[str]:
    for name, mailbox in loop.mailboxes.items():
        if mailbox.awaited:
            yield f"signal {name!r}"
    if loop.has_conditions:
        yield "a condition (wait_until)"
