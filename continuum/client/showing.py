"""Here lives what is left of payloads when a person looks: all of them, capped, redacted, or none.

The engine's own part of a payload stays as it is, so that what explains a run can go on reading it; only what users put
in is looked at. What is too large is not decoded, only measured.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec

from continuum.errors import ConfigError
from continuum.model.events import Event, EventType
from continuum.model.failures import Failure
from continuum.model.names import shown
from continuum.model.questions import read_question, write_question
from continuum.model.runs import Run
from continuum.model.tasks import TaskRecord

__all__ = ["Redact", "Screen"]

Redact = Callable[[str, str | None, Any], Any]
"""Given the kind of an event (or ``attributes``, ``heartbeat``, ``stuck_reason``), its name and a plain JSON value.

Returns what to show.
"""

# Where users' values are inside of a payload of ours; elsewhere they are all of it.
_INSIDE: Final = {
    EventType.RUN_STARTED: "input",
    EventType.COMPENSATION_SCHEDULED: "arguments",
    EventType.CHILD_STARTED: "input",
    EventType.SIGNAL_SENT: "value",
    EventType.SIGNAL_ANSWERED: "value",
}
_FAILURES: Final = frozenset(
    {
        EventType.ACTIVITY_FAILED,
        EventType.CHILD_FAILED,
        EventType.CHILD_CANCELLED,
        EventType.RUN_FAILED,
        EventType.RUN_CANCELLED,
        EventType.RUN_TERMINATED,
    }
)
_OURS: Final = frozenset({EventType.TIMER_STARTED, EventType.PATCH_MARKED, EventType.VERSION_ADOPTED})
_SIGNALS: Final = "signals"
_FAILED: Final = '{"omitted":"redaction_failed"}'

_parse_parts: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_parse_signals: Final = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]]).decode


class Screen:
    """Through which payloads are looked at.

    :param redact: the instance's redactor, None if it has none. One that fails shows nothing.
    :param payloads: False leaves all payloads out.
    :param max_bytes: what takes more is replaced by ``{"omitted": "payload_too_large", "bytes": n}``.
    """

    def __init__(self, redact: Redact | None, *, payloads: bool = True, max_bytes: int | None = None) -> None:
        if not isinstance(payloads, bool):
            message = f"payloads={shown(payloads)} is not valid: write True or False."
            raise ConfigError(message)
        if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 0):
            message = f"max_payload_bytes={shown(max_bytes)} is not valid: write a whole number, or None for no limit."
            raise ConfigError(message)
        self._redact = redact
        self._payloads = payloads
        self._max_bytes = max_bytes

    def event(self, event: Event) -> Event:
        """Return the event as it is shown."""
        payload = event.payload
        if payload is None or (self._payloads and self._redact is None and self._max_bytes is None):
            return event
        return msgspec.structs.replace(event, payload=self._shown(event, payload) if self._payloads else None)

    def task(self, task: TaskRecord) -> TaskRecord:
        """Return the task row as it is shown."""
        error = task.last_error
        return msgspec.structs.replace(
            task,
            heartbeat=None if task.heartbeat is None else self._value("heartbeat", task.activity, task.heartbeat),
            last_error=None if error is None else self._failure(EventType.ACTIVITY_FAILED, error),
        )

    def run(self, run: Run) -> Run:
        """Return the run as it is shown: its attributes redacted, and why it is stuck, which may quote a payload."""
        if self._redact is None:
            return run
        if run.stuck_reason:
            run = replace(run, stuck_reason=self.reason(run.workflow, run.stuck_reason))
        if not run.attributes:
            return run
        left = msgspec.json.decode(self._redacted("attributes", None, run.attributes))
        return replace(run, attributes=left if isinstance(left, dict) else {"omitted": left})

    def reason(self, workflow: str, text: str) -> str:
        """Return why a run is stuck, or would be, as it is shown: it may quote a payload."""
        return text if self._redact is None else self._text("stuck_reason", workflow, text)

    def _shown(self, event: Event, payload: str) -> str:
        kind = EventType(event.type)
        if kind in _OURS:
            return payload
        if kind in _FAILURES:
            if self._is_large(payload):
                return Failure("(omitted)", f"payload_too_large, {_size(payload):,} bytes").encode()
            return self._failure(kind, Failure.parse(payload)).encode()
        inside = _INSIDE.get(kind)
        if kind is EventType.SIGNAL_RECEIVED:
            return self._signal(event.name, payload)
        if inside is None:
            return self._value(kind, event.name, payload)
        parts = _parse_parts(payload)
        if inside in parts:
            parts[inside] = self._part(kind, event.name, parts[inside])
        if kind is EventType.RUN_STARTED and _SIGNALS in parts:
            signals = _parse_signals(bytes(parts[_SIGNALS]))
            left = [(name, msgspec.Raw(self._signal(name, bytes(value).decode()).encode())) for name, value in signals]
            parts[_SIGNALS] = msgspec.Raw(msgspec.json.encode(left))
        return msgspec.json.encode(parts).decode()

    def _signal(self, name: str | None, payload: str) -> str:
        """Return a signal as it is shown; of one that asks, the question's id stays."""
        try:
            question, value = read_question(payload)
        except (msgspec.DecodeError, RecursionError):
            return _FAILED
        left = self._value(EventType.SIGNAL_RECEIVED, name, value)
        return left if question is None else write_question(question, left)

    def _part(self, kind: str, name: str | None, part: msgspec.Raw) -> msgspec.Raw:
        return msgspec.Raw(self._value(kind, name, bytes(part).decode()).encode())

    def _value(self, kind: str, name: str | None, payload: str) -> str:
        if self._is_large(payload):
            return f'{{"omitted":"payload_too_large","bytes":{_size(payload)}}}'
        if self._redact is None:
            return payload
        try:
            value = msgspec.json.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return _FAILED
        return self._redacted(str(kind), name, value)

    def _redacted(self, kind: str, name: str | None, value: Any) -> str:
        assert self._redact is not None
        try:
            return msgspec.json.encode(self._redact(kind, name, value)).decode()
        except Exception:  # noqa: BLE001 - it is the user's, and what it would have hidden must not be shown
            return _FAILED

    def _failure(self, kind: str, failure: Failure) -> Failure:
        if self._redact is None:
            return failure
        cause = failure.cause
        return msgspec.structs.replace(
            failure,
            message=self._text(kind, failure.type_name, failure.message),
            traceback=self._text(kind, failure.type_name, failure.traceback),
            cause=None if cause is None else self._failure(kind, cause),
        )

    def _text(self, kind: str, name: str, text: str) -> str:
        """Return a message or a traceback; the redactor sees each as a text."""
        if not text:
            return text
        left = self._redacted(str(kind), name, text)
        value = msgspec.json.decode(left)
        return value if isinstance(value, str) else left

    def _is_large(self, payload: str) -> bool:
        return self._max_bytes is not None and _size(payload) > self._max_bytes


def _size(payload: str) -> int:
    return len(payload) if payload.isascii() else len(payload.encode())
