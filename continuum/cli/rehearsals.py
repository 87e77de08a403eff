"""Here lives how rehearsals look in a terminal, and as JSON."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from continuum.cli.render import event_json
from continuum.cli.terminal import plain
from continuum.client.findings import say_count
from continuum.errors import ContinuumError
from continuum.model.events import Event
from continuum.replay.drift import describe
from continuum.replay.rehearsal import Rehearsal

__all__ = ["Rehearsed", "Word", "rehearsed_json", "rehearsed_lines"]


class Word(StrEnum):
    """What became of a target: the verdict of its rehearsal, or why there is none."""

    FITS = "fits"
    DRIFT = "drift"
    BROKEN = "broken"
    NO_CODE = "no code"
    UNREADABLE = "unreadable"


class Rehearsed(msgspec.Struct, frozen=True, kw_only=True):
    """One target of ``continuum replay``, and what came of it.

    :ivar source: what was asked for: the id of a run, or a file.
    """

    source: str
    run_id: str = ""
    workflow: str = ""
    version: int = 0
    word: Word = Word.FITS
    reason: str = ""
    rehearsal: Rehearsal | None = None

    def with_result(self, found: Rehearsal) -> "Rehearsed":
        """Return it with its rehearsal."""
        reason = "" if found.error is None else f"{type(found.error).__name__}: {found.error}"
        return msgspec.structs.replace(self, word=Word(found.verdict), reason=reason, rehearsal=found)

    def failed(self, word: Word, error: ContinuumError) -> "Rehearsed":
        """Return it with the reason why there is no rehearsal."""
        return msgspec.structs.replace(self, word=word, reason=str(error))


def rehearsed_lines(one: Rehearsed) -> Iterator[str]:
    """Yield lines of markup."""
    named = plain(f"{one.workflow} v{one.version} {one.run_id}" if one.run_id else one.source)
    source = f" [dim]({plain(one.source)})[/]" if one.run_id and one.source != one.run_id else ""
    found = one.rehearsal
    if found is None:
        yield f"[bold red]✗[/] {named}{source}: [bold]{one.word}[/]: {plain(one.reason)}"
        return
    if found.fits:
        yield f"[green]✓[/] {named}{source}: {_agreement(found)}"
        return
    yield f"[bold red]✗[/] {named}{source}: [bold]{one.word}[/] after {say_count(found.matched, 'command', 'commands')}"
    for event in found.before:
        yield f"    [green]✓[/] {_command(event)}"
    if found.at is not None:
        yield f"    [red]✗[/] {_command(found.at)}"
    drift = found.drift
    if drift is None or not drift.requested:  # a history of a newer release asks for nothing in particular
        yield f"      {plain(one.reason)}"
    else:
        if found.at is None:
            yield f"    [red]✗[/] {plain(drift.recorded)}"
        where = f"  [dim]{plain(drift.location)}[/]" if drift.location else ""
        yield f"      the code: {plain(drift.requested or str(drift))}{where}"
        for line in drift.difference.splitlines():
            yield f"        [yellow]{plain(line)}[/]"
    for event in found.after:
        yield f"      [dim]{_command(event, where=False)}[/]"
    if drift is not None and drift.advice:
        yield f"    {plain(drift.advice)}"


def _agreement(found: Rehearsal) -> str:
    matched = f"{say_count(found.matched, 'command', 'commands')} as recorded"
    if found.waits_for:
        matched += f"; it waits for {', '.join(map(plain, found.waits_for))}"
    elif found.state is not None:
        matched += f"; it is {found.state}"
    if found.news:
        matched += f"; and asks for more: {', '.join(plain(_said(event)) for event in found.news)}"
    return matched


def _command(event: Event, *, where: bool = True) -> str:
    place = f"  [dim]{plain(event.location)}[/]" if event.location and where else ""
    return f"{event.command:>4}  {plain(_said(event))}{place}"


def _said(event: Event) -> str:
    # A recorded value is what came of a call, not what was asked for.
    return describe(event.type, event.name, None if event.type == "value_recorded" else event.payload)


def rehearsed_json(one: Rehearsed) -> dict[str, Any]:
    """Return it for `--json`."""
    found = one.rehearsal
    drift = None if found is None else found.drift
    return {
        "source": one.source,
        "id": one.run_id or None,
        "workflow": one.workflow or None,
        "version": one.version or None,
        "verdict": one.word.replace(" ", "_"),
        "reason": one.reason or None,
        "matched": None if found is None else found.matched,
        "recorded": None if found is None else found.recorded,
        "state": None if found is None else found.state,
        "waits_for": [] if found is None else found.waits_for,
        "patches": {} if found is None else found.patches,
        "news": [] if found is None else [event_json(event) for event in found.news],
        "drift": None
        if drift is None or found is None
        else {
            "command": drift.command,
            "recorded": drift.recorded,
            "recorded_location": drift.recorded_location or None,
            "requested": drift.requested,
            "location": drift.location or None,
            "difference": drift.difference.splitlines(),
            "advice": drift.advice,
            "before": [event_json(event) for event in found.before],
            "at": None if found.at is None else event_json(found.at),
            "after": [event_json(event) for event in found.after],
        },
    }
