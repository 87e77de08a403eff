"""Here live the words in which it is said why a run does not move: a finding, its weight, durations and numbers."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

__all__ = ["Finding", "Weight", "say_count", "say_duration", "worst_first"]


class Weight(StrEnum):
    """How a finding should be read."""

    FINE = "fine"  # as it should be
    SLOW = "slow"  # will probably move by itself, look again
    BLOCKED = "blocked"  # needs somebody


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason, and what can be done about it."""

    weight: Weight
    text: str
    remedy: str | None = None


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Return them with what needs somebody at the head; else in their order."""
    order = [Weight.BLOCKED, Weight.SLOW, Weight.FINE]
    return sorted(findings, key=lambda finding: order.index(finding.weight))


def say_count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things: ``1 child``, ``2 children``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def say_duration(length: timedelta) -> str:
    """Return a duration as people say it: two units at most."""
    seconds = length.total_seconds()
    sign = "-" if seconds < 0 else ""
    seconds = abs(seconds)
    if round(seconds * 1000) < 1000:  # noqa: PLR2004 - a second
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{sign}{seconds:.3g} s"
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{days} d"] * bool(days) + [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes)
    if not days and not hours and rest:
        parts.append(f"{rest} s")
    return sign + " ".join(parts[:2])
