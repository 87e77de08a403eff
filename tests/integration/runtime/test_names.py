"""A name that cannot be stored is the workflow's error, at its line, and never makes the run stuck."""

from typing import Any

import pytest

from continuum import Continuum, patched, side_effect, wait_signal, workflow
from continuum.errors import RunFailed
from continuum.journal.protocol import Journal
from tests.integration.runtime.test_disasters import SETTINGS


@workflow(name="names.ask")
async def ask(effect: str, number: int) -> str:
    name = [chr(0xD800), "a\0b", "x" * 501][number]
    match effect:
        case "signal":
            await wait_signal(name)
        case "patch":
            patched(name)
        case _:

            def function() -> int:
                return 1

            function.__qualname__ = name
            side_effect(function)
    return "accepted"


@pytest.mark.parametrize("effect", ["signal", "patch", "side effect"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_name_that_cannot_be_stored_fails_at_its_line(journal: Journal, effect: str, number: int) -> None:
    settings: dict[str, Any] = SETTINGS
    with Continuum(journal=journal, **settings) as instance, instance.running():
        with pytest.raises(RunFailed, match="is not valid") as failed:
            instance.start(ask, effect, number).result(timeout=20)
        assert failed.value.type_name == "ValueError"
        assert "null" not in failed.value.error_message
