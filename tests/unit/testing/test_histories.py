"""Histories as files, and what today's code makes of them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from continuum import Continuum, RunFailed, continue_as_new, sleep, uuid4, wait_signal
from continuum.declare.activities import Activity, activity
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.errors import HistoryError
from continuum.model.events import Event
from continuum.model.histories import RecordedRun
from continuum.testing import (
    HistoryVerdict,
    assert_compatible,
    assert_replays,
    assert_same_histories,
    check_histories,
    dump_history,
    load_history,
)
from tests.support.eventually import eventually

WAIT = 10


@activity(name="kept.price")
def price(item: str) -> int:
    return len(item)


@activity(name="kept.refuse")
def refuse() -> None:
    raise ValueError("no")


def flow_of(function: Callable[..., Any], *, version: int = 1) -> Workflow[..., Any]:
    return Workflow(function, name="kept.order", version=version)


async def order(item: str) -> int:
    total = await price(item)
    await wait_signal("go")
    return total


async def reordered(item: str) -> int:
    await wait_signal("go")
    return await price(item)


async def longer(item: str) -> int:
    total = await price(item)
    await wait_signal("go")
    return total + await price("more")


async def another_end(item: str) -> int:
    await price(item)
    await wait_signal("go")
    return 0


class Shop:
    """An instance with one workflow, in memory."""

    def __init__(self, *flows: Workflow[..., Any]) -> None:
        self.registry = Registry()
        for flow in flows:
            self.registry.register_workflow(flow)
        for one in (price, refuse):
            assert isinstance(one, Activity)
            self.registry.register_activity(one)
        self.continuum = Continuum("memory://", registry=self.registry)


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop(flow_of(order))
    with made.continuum:
        yield made


def ended(shop: Shop, item: str = "tea") -> Any:
    with shop.continuum.running():
        handle = shop.continuum.start("kept.order", item)
        handle.signal("go")
        handle.result(WAIT)
    return handle


def waiting(shop: Shop, item: str = "tea") -> Any:
    with shop.continuum.running():
        handle = shop.continuum.start("kept.order", item)
        eventually(lambda: "signal_awaited" in [event.type for event in handle.history()], WAIT)
    return handle


# -- files -----------------------------------------------------------------------------------------


def test_a_history_is_written_to_a_file_and_read_back_unchanged(shop: Shop, tmp_path: Path) -> None:
    handle = ended(shop)
    path = tmp_path / "kept" / "order.json"
    dumped = dump_history(handle, path)
    assert load_history(path) == dumped
    assert dumped.events == tuple(handle.history())
    assert dumped.state == "completed"
    assert (dumped.workflow, dumped.version, dumped.run_id) == ("kept.order", 1, handle.id)
    assert dumped.version_hash == handle.refresh().version_hash
    # Written again, it is the same text: files in a repository do not change without a reason.
    before = path.read_text()
    dump_history(load_history(path), path)
    assert path.read_text() == before


def test_an_async_handle_is_written_down_too(shop: Shop) -> None:
    handle = ended(shop)
    assert dump_history(handle.aio) == dump_history(handle)


def test_a_file_that_is_no_history_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text("{}")
    with pytest.raises(HistoryError, match=r"wrong\.json: this is not a history"):
        load_history(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "its format is nothing, not a number"),
        ('{"format": "1"}', 'its format is "1", not a number'),
        ('{"format": 1, "run', "truncated"),
        ('{"format": 2}', "the history has format 2, and this release reads 1: upgrade it"),
        ('{"format": ' + "[" * 100_000, "this is not a history"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(HistoryError, match=told):
        load_history(path)


def test_what_cannot_be_a_history_is_refused_with_what_can() -> None:
    with pytest.raises(TypeError, match="int is no history: pass a path"):
        dump_history(3)  # type: ignore[arg-type]


# -- one history -----------------------------------------------------------------------------------


def test_a_recorded_history_replays_and_its_result_comes_back(shop: Shop, tmp_path: Path) -> None:
    flow = flow_of(order)
    handle = ended(shop)
    path = tmp_path / "order.json"
    recorded = dump_history(handle, path)
    for history in (handle, recorded, path, str(path)):
        assert assert_replays(flow, history, result=3) == 3


def test_an_open_history_replays_too_and_has_no_result(shop: Shop) -> None:
    handle = waiting(shop)
    assert assert_replays(flow_of(order), handle) is None
    with pytest.raises(AssertionError, match="has returned nothing; its last event is signal_awaited"):
        assert_replays(flow_of(order), handle, result=3)


def test_another_result_than_expected_is_told(shop: Shop) -> None:
    with pytest.raises(AssertionError, match="returned 3, not 4"):
        assert_replays(flow_of(order), ended(shop), result=4)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (reordered, "activity kept.price"),
        (longer, "kept.price"),
        (another_end, "run_completed"),
    ],
)
def test_an_edit_that_a_history_contradicts_is_told(shop: Shop, edit: Any, told: str) -> None:
    with pytest.raises(AssertionError, match=rf"does not replay: (?s:.*){told}"):
        assert_replays(flow_of(edit), ended(shop))


def test_code_that_asks_for_more_at_the_end_of_an_open_history_does_not_reproduce_it(shop: Shop) -> None:
    async def more(item: str) -> int:
        total = await price(item)

        async def later() -> int:
            return await price("more")

        _, more = await asyncio.gather(wait_signal("go"), later())
        return total + more

    handle = waiting(shop)
    with pytest.raises(AssertionError, match="asks for more than the history .* has: activity_scheduled kept.price"):
        assert_replays(flow_of(more), handle)
    # A dispatcher adopts it all the same: nothing of what is recorded is contradicted.
    [report] = assert_compatible(flow_of(more), handle)
    assert report.verdict is HistoryVerdict.COMPATIBLE


def test_the_history_of_another_workflow_is_refused(shop: Shop) -> None:
    other = Workflow(order, name="kept.other", version=1)
    with pytest.raises(HistoryError, match=r"of a run of workflow 'kept\.order', not of 'kept\.other'"):
        assert_replays(other, ended(shop))


def test_a_version_nobody_declares_is_told(shop: Shop) -> None:
    with pytest.raises(AssertionError, match=r"pinned to version 1 .* no code declares it \(declared: none\)"):
        assert_replays(flow_of(order, version=2), ended(shop))


def test_another_version_of_the_workflow_replays_its_own_histories(shop: Shop) -> None:
    assert assert_replays(flow_of(reordered, version=2), ended(shop), registry=shop.registry) == 3


def test_a_failed_run_replays_and_returns_nothing() -> None:
    async def failing() -> None:
        await refuse.options(retry=None)()

    shop = Shop(flow_of(failing))
    with shop.continuum, shop.continuum.running():
        handle: Any = shop.continuum.start("kept.order")
        with pytest.raises(RunFailed):
            handle.result(WAIT)
        assert assert_replays(flow_of(failing), handle) is None


def test_the_recorded_continuation_is_compared_and_not_skipped() -> None:
    async def chain(left: int) -> str:
        await price("x")
        if left:
            continue_as_new(left - 1)
        return "done"

    async def jumps(left: int) -> str:
        await price("x")
        if left:
            continue_as_new(left - 2)
        return "done"

    shop = Shop(flow_of(chain))
    with shop.continuum, shop.continuum.running():
        handle: Any = shop.continuum.start("kept.order", 2)
        assert handle.result(WAIT) == "done"
        first = dump_history(shop.continuum.handle(handle.id))
        assert first.events[-1].type == "run_continued"
        assert assert_replays(flow_of(chain), first) is None
        with pytest.raises(AssertionError, match="run_continued"):
            assert_replays(flow_of(jumps), first)


# -- many ------------------------------------------------------------------------------------------


def test_a_directory_of_histories_is_checked_and_each_difference_reported(shop: Shop, tmp_path: Path) -> None:
    dump_history(ended(shop), tmp_path / "ended.json")
    dump_history(waiting(shop), tmp_path / "deep" / "waiting.json")
    reports = assert_compatible(flow_of(order), tmp_path)
    assert [(Path(report.source).name, report.ok) for report in reports] == [
        ("waiting.json", True),
        ("ended.json", True),
    ]

    # An edit behind the point where a run waits hurts only those that have passed it.
    reports = check_histories(flow_of(longer), tmp_path)
    assert [report.verdict for report in reports] == [HistoryVerdict.COMPATIBLE, HistoryVerdict.DRIFT]
    with pytest.raises(AssertionError) as caught:
        assert_compatible(flow_of(longer), tmp_path)
    assert "1 of 2 histories do not go on under this code" in str(caught.value)
    assert "ended.json: " in str(caught.value)
    assert "waiting.json" not in str(caught.value)

    with pytest.raises(AssertionError, match="2 of 2 histories"):
        assert_compatible(flow_of(reordered), [tmp_path / "ended.json", tmp_path / "deep"])


def test_histories_of_other_workflows_are_left_out_and_none_at_all_proves_nothing(shop: Shop, tmp_path: Path) -> None:
    dump_history(ended(shop), tmp_path / "ended.json")
    other = Workflow(order, name="kept.other", version=1)
    assert len(assert_compatible(flow_of(order), tmp_path)) == 1
    with pytest.raises(AssertionError, match=r"there is no history of kept\.other in"):
        assert_compatible([flow_of(order), other], tmp_path)
    with pytest.raises(AssertionError, match=r"there is no history of kept\.other in .*: nothing was compared"):
        assert_compatible(other, tmp_path)
    with pytest.raises(AssertionError, match="nothing was compared"):
        assert_compatible(flow_of(order), [])


def test_a_file_that_cannot_be_read_is_not_passed_over(shop: Shop, tmp_path: Path) -> None:
    dump_history(ended(shop), tmp_path / "ended.json")
    (tmp_path / "torn.json").write_text('{"format": 1, "run')
    reports = check_histories(flow_of(order), tmp_path)
    assert [report.verdict for report in reports] == [HistoryVerdict.COMPATIBLE, HistoryVerdict.UNREADABLE]
    with pytest.raises(AssertionError, match=r"torn\.json: .*this is not a history"):
        assert_compatible(flow_of(order), tmp_path)
    assert check_histories(flow_of(order), tmp_path / "missing.json")[0].verdict is HistoryVerdict.UNREADABLE


def test_a_version_that_was_removed_is_reported(shop: Shop) -> None:
    [report] = check_histories(flow_of(order, version=2), ended(shop), registry=Registry())
    assert report.verdict is HistoryVerdict.NO_CODE
    assert "keep the old function declared under its old number" in report.reason


def test_a_payload_that_cannot_be_read_is_reported_as_broken(shop: Shop) -> None:
    recorded = dump_history(ended(shop))

    def broken(event: Event) -> Event:
        return msgspec.structs.replace(event, payload="nonsense") if event.type == "activity_completed" else event

    torn = msgspec.structs.replace(recorded, events=tuple(broken(event) for event in recorded.events))
    assert isinstance(torn, RecordedRun)
    [report] = check_histories(flow_of(order), torn)
    assert report.verdict is HistoryVerdict.BROKEN
    assert report.source == torn.run_id


# -- sameness --------------------------------------------------------------------------------------


def drawing() -> Shop:
    async def draws(item: str) -> int:
        await sleep(0.001)
        await price(f"{item} {uuid4()}")
        return 1

    return Shop(flow_of(draws))


def test_two_runs_of_one_workflow_have_done_the_same() -> None:
    shop = drawing()
    with shop.continuum, shop.continuum.running():
        handles: list[Any] = [shop.continuum.start("kept.order", "tea") for _ in range(2)]
        for handle in handles:
            handle.result(WAIT)
        first, second = (dump_history(handle) for handle in handles)
    assert first.events != second.events
    assert_same_histories(first, second)


def test_where_an_event_stands_and_when_it_came_is_not_compared(shop: Shop) -> None:
    recorded = dump_history(ended(shop))
    moved = tuple(
        msgspec.structs.replace(event, seq=event.seq + 5, at=event.at + 1_000, location=None)
        for event in recorded.events
    )
    assert_same_histories(recorded, msgspec.structs.replace(recorded, events=moved))


def test_other_commands_are_not_the_same(shop: Shop) -> None:
    first, second = dump_history(ended(shop, "tea")), dump_history(ended(shop, "milk"))
    with pytest.raises(AssertionError, match=r"part at fact 1: run_started with \[\"tea\"\] in the first"):
        assert_same_histories(first, second)

    def renumbered(event: Event) -> Event:
        return event if event.command is None else msgspec.structs.replace(event, command=event.command + 1)

    other = msgspec.structs.replace(first, events=tuple(renumbered(event) for event in first.events))
    with pytest.raises(AssertionError, match=r"part at fact 3: activity_scheduled #0 kept\.price"):
        assert_same_histories(first, other)
    shorter = msgspec.structs.replace(first, events=first.events[:-1])
    with pytest.raises(AssertionError, match="the first history has 1 more facts, next run_completed with 3"):
        assert_same_histories(first, shorter)
