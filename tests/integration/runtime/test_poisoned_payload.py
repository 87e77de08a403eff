"""A payload that cannot be unwrapped (a lost key, another codec) makes its own run stuck, and disturbs no other."""

import json
from contextlib import closing
from datetime import timedelta

import pytest

from continuum import Continuum, activity, wait_signal, workflow
from continuum.errors import CodecError
from continuum.journal.open import open_journal
from tests.support.eventually import eventually
from tests.support.watched import WatchedJournal


@activity(name="poison.quick")
def quick() -> int:
    return 1


@workflow(name="poison.step")
async def step(text: str) -> str:
    await quick()
    return text


@workflow(name="poison.wait")
async def wait(text: str) -> str:
    return str(await wait_signal("go"))


class Wrapper:
    """Stands for an encryption whose key for some payloads is gone."""

    name = "test"

    def __init__(self, why: str = "no key for this payload") -> None:
        self.why = why

    def wrap(self, payload: str) -> str:
        return json.dumps({"w": payload})

    def unwrap(self, payload: str) -> str:
        if "LOST" in payload:
            raise CodecError(self.why, path="payload")
        value = json.loads(payload)
        return value["w"] if isinstance(value, dict) and "w" in value else payload


@pytest.mark.timeout(60)
@pytest.mark.parametrize("where", ["input", "mail"])
def test_a_payload_that_cannot_be_unwrapped_disturbs_no_other_run(
    database_url: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(database_url, wrapper=Wrapper())
    options = {"poll_interval": timedelta(milliseconds=100), "stuck_backoff": timedelta(seconds=5)}
    with Continuum(journal=journal, **options) as instance, instance.running():  # type: ignore[arg-type]
        assert instance.start(step, "a").result(timeout=10) == "a"
        good = instance.start(wait, "good")
        if where == "input":
            bad = instance.start(step, "LOST")
        else:
            bad = instance.start(wait, "x")
            eventually(lambda: instance.get(bad.id).state == "suspended")
            bad.signal("go", "LOST")
        try:
            for _ in range(5):
                assert instance.start(step, "b").result(timeout=5) == "b"
            good.signal("go", "on")
            assert good.result(timeout=5) == "on"
            eventually(lambda: instance.get(bad.id).state == "stuck", 5)
        finally:
            pass
    journal.close()


@pytest.mark.timeout(60)
def test_a_reason_that_no_column_can_hold_makes_a_run_stuck_all_the_same(database_url: str) -> None:
    """Or it would be loaded again at once, for ever."""
    why = "what is \0 or \ud800? " + "x" * 1_000_000
    with closing(open_journal(database_url, wrapper=Wrapper(why))) as journal:
        watched = WatchedJournal(journal)
        options = {"poll_interval": timedelta(milliseconds=100)}
        with Continuum(journal=watched, **options) as instance, instance.running():  # type: ignore[arg-type]
            bad = instance.start(step, "LOST")
            eventually(lambda: instance.get(bad.id).state == "stuck", 10)
            reason = instance.get(bad.id).stuck_reason or ""
            assert "what is \\0 or \\ud800? xxx" in reason
            assert len(reason) < 5_000
            assert watched.sent["StickRequest"] == 1
