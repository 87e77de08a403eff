"""Here lives asking a run and waiting for its answer.

The question is a signal with a question id in its payload; the answer is an event of the run, or of a later one of its
chain, with that id. It is looked for in what is new in the history, at growing intervals. So an answer is never lost:
whoever asks again with the same delivery id asks the same question, and finds the answer that is there.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from continuum.client.access import Access
from continuum.client.checks import check_key, check_namespace, check_run_id
from continuum.client.letters import post, write_signal
from continuum.client.lookups import not_found
from continuum.client.results import read_outcome
from continuum.declare.signals import Question, Signal, signal_name
from continuum.errors import (
    DeclarationError,
    JournalBusy,
    JournalUnavailable,
    ResultTimeout,
    RunTerminal,
)
from continuum.journal.protocol import PostResult
from continuum.model.codec import decode
from continuum.model.events import TERMINAL, Event, EventType
from continuum.model.ids import RunId
from continuum.model.messages import NewMessage
from continuum.model.questions import read_answer, write_question
from continuum.model.runs import Run, RunState

__all__ = ["Asking", "pauses"]

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
_CHUNK: Final = 1_000
_ID_BYTES: Final = 16


def pauses() -> Iterator[float]:
    """Yield how long to wait before each further look, in seconds."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.5, LONGEST_PAUSE)


class Asking:
    """One question to one run: `send` it, `look` until that returns True, take the `reply`. Nothing here waits."""

    def __init__(
        self,
        access: Access,
        run_id: str,
        question: Signal[Any] | str,
        value: Any,
        *,
        delivery_id: str | None = None,
        namespace: str | None = None,
        workflow: str | None = None,
    ) -> None:
        if isinstance(question, Signal) and not isinstance(question, Question):
            message = f"{question!r} has no reply: declare it as Signal({question.name!r}, …, reply=…)."
            raise DeclarationError(message)
        self._access = access
        self._question = question
        self._value = value
        self._workflow = workflow
        # Its own id for each question makes it safe to post it again after a lost answer.
        repeatable = check_key("delivery_id", delivery_id)
        self._id: Final = repeatable or os.urandom(_ID_BYTES).hex()
        self._repeatable = repeatable is not None
        self._message = NewMessage(
            run_id=check_run_id(run_id),
            kind=EventType.SIGNAL_RECEIVED,
            name=signal_name(question),
            payload=None,
            namespace=check_namespace(namespace),
            delivery_id=self._id,
        )
        self._run = self._message.run_id  # whose history is being read
        self._seen = 0
        self._payload: str | None = None

    def send(self) -> None:
        """Ask.

        Raises ``CodecError``, ``SignalRefused``, ``RunNotFound``, ``RunTerminal`` if the run has ended.
        """
        access, message = self._access, self._message
        payload = write_signal(access, message, self._question, self._value, workflow=self._workflow, asks=True)
        # What is in the history by now cannot be the answer to a question that was not asked before.
        tip = self._tip()
        self._run, self._seen = tip.id, tip.last_seq
        try:
            posted = post(access, msgspec.structs.replace(message, payload=write_question(self._id, payload)))
        except RunTerminal:
            if not self._look_back(tip):
                raise
        else:
            if posted is PostResult.DUPLICATE:
                self._look_back(tip)

    def look(self) -> bool:
        """Say whether the answer is there.

        Raises ``RunFailed`` if the run failed without answering, ``RunTerminal`` if it ended otherwise.
        """
        try:
            return self._find()
        except (JournalBusy, JournalUnavailable):
            return False  # the answer stays where it is

    @property
    def reply(self) -> Any:
        """What was answered. Raises ``CodecError``."""
        assert self._payload is not None
        question = self._question
        return question.decode_reply(self._payload) if isinstance(question, Question) else decode(self._payload)

    def late(self, seconds: float | None) -> ResultTimeout:
        """Return the error of a question that was not answered in time."""
        message = (
            f"run {self._message.run_id} has not answered {self._message.name!r} within {seconds} s. It may still:"
            " ask again with the same delivery_id= to get that answer"
        )
        return ResultTimeout(message, run_id=self._message.run_id)

    # -------------------------------------------------------------- the history, and that of the runs after it

    def _find(self) -> bool:
        while self._payload is None:
            chunk = self._access.journal.runs.history(self._run, after=self._seen, limit=_CHUNK)
            if not chunk:
                return False
            self._seen = chunk[-1].seq
            if not self._read(chunk) and chunk[-1].type in TERMINAL:
                self._go_on(chunk[-1])
        return True

    def _look_back(self, run: Run | None) -> bool:
        """Say whether a question that was asked before has been answered, by this run or one before it."""
        while self._repeatable and run is not None and self._payload is None:
            seen = 0
            while chunk := self._access.journal.runs.history(run.id, after=seen, limit=_CHUNK):
                if self._read(chunk):
                    return True
                seen = chunk[-1].seq
            # The first runs of a long chain may be gone.
            before = run.continued_from
            run = None if before is None else self._access.journal.runs.find(before)
        return self._payload is not None

    def _read(self, events: Sequence[Event]) -> bool:
        for event in events:
            if event.type == EventType.SIGNAL_ANSWERED and event.name == self._message.name and event.payload:
                self._payload = read_answer(event.payload, self._id)
                if self._payload is not None:
                    return True
        return False

    def _go_on(self, end: Event) -> None:
        """Turn to the run that continued this one. Raises ``RunFailed``, ``RunTerminal`` if it ended for good."""
        if end.type == EventType.RUN_CONTINUED:
            self._run, self._seen = self._after(self._run).id, 0
            return
        if end.type == EventType.RUN_FAILED:
            read_outcome(self._run, (RunState.FAILED, end), workflow=None, registry=self._access.registry)
        state = end.type.removeprefix("run_")
        message = f"run {self._run} ended ({state}) without answering {self._message.name!r}"
        raise RunTerminal(message, run_id=self._run, state=state)

    def _after(self, run_id: RunId) -> Run:
        """Return the run that continued another."""
        run = self._tip()
        while run.continued_from != run_id:
            if run.continued_from is None:
                raise not_found(run_id, self._message.namespace)
            run = self._get(run.continued_from)
        return run

    def _tip(self) -> Run:
        return self._get(self._message.run_id, tip=True)

    def _get(self, run_id: RunId, *, tip: bool = False) -> Run:
        found = self._access.journal.runs.find(run_id, namespace=self._message.namespace, tip=tip)
        if found is None:
            raise not_found(run_id, self._message.namespace)
        return found
