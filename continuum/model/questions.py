"""Here live the two payloads of a question that a client asks a run: what is asked, and what is answered.

A question is a signal whose payload names it::

    {"$ask": ["<question id>", <value>]}

A value never begins like this, because the codec escapes objects whose first key begins with a dollar sign. The answer
is a command of the run, ``signal_answered``, named like the signal::

    {"question": "<question id>", "value": <reply>}
"""

from typing import Final

import msgspec

from continuum.model.tags import encode_json

__all__ = ["read_answer", "read_question", "write_answer", "write_question"]

_PREFIX: Final = '{"$ask":'


class _Question(msgspec.Struct, rename={"asked": "$ask"}):
    asked: tuple[str, msgspec.Raw]


class _Answer(msgspec.Struct):
    question: str
    value: msgspec.Raw


_parse_question: Final = msgspec.json.Decoder(_Question).decode
_parse_answer: Final = msgspec.json.Decoder(_Answer).decode


def write_question(question: str, payload: str) -> str:
    """Return the payload of a signal that asks."""
    return encode_json(_Question((question, msgspec.Raw(payload.encode())))).decode()


def read_question(payload: str) -> tuple[str | None, str]:
    """Return the id of the question, None if the signal asks nothing, and the payload of its value."""
    if not payload.startswith(_PREFIX):
        return None, payload
    question, value = _parse_question(payload).asked
    return question, bytes(value).decode()


def write_answer(question: str, payload: str) -> str:
    """Return the payload of an answer."""
    return encode_json(_Answer(question, msgspec.Raw(payload.encode()))).decode()


def read_answer(payload: str, question: str) -> str | None:
    """Return the payload of the reply, None if it answers another question."""
    answer = _parse_answer(payload)
    return bytes(answer.value).decode() if answer.question == question else None
