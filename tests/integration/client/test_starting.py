"""Starting runs: what is refused before anything is written, keys, namespaces, lost answers."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from continuum import (
    CodecError,
    ConfigError,
    Continuum,
    DeclarationError,
    JournalUnavailable,
    RunNotFound,
    RunState,
)
from continuum.errors import JournalBusy
from continuum.journal.protocol import Journal
from continuum.model.runs import NewRun
from tests.integration.client import flows


def count(continuum: Continuum) -> int:
    return len(continuum.search().runs)


def test_a_started_run_is_there_with_all_it_was_started_with(continuum: Continuum) -> None:
    handle = continuum.start(
        flows.total, 1, b=2, idempotency_key="k", namespace="eu", attributes={"customer": 7, "tags": ["a"]}
    )
    run = handle.refresh()
    assert (run.id, run.workflow, run.version, run.state) == (handle.id, "client.sum", 1, RunState.PENDING)
    assert (run.namespace, run.idempotency_key, run.attributes) == ("eu", "k", {"customer": 7, "tags": ["a"]})
    [started] = handle.history()
    assert '"input":[1,2]' in (started.payload or "")


def test_a_workflow_may_be_named(continuum: Continuum) -> None:
    assert continuum.start("client.sum", 1).refresh().workflow == "client.sum"


def test_an_unknown_name_is_answered_with_the_near_ones(continuum: Continuum) -> None:
    with pytest.raises(ConfigError, match=r"no workflow named 'client.sun' is loaded.*'client.sum'"):
        continuum.start("client.sun", 1)


def test_a_module_named_by_the_instance_is_imported_to_find_a_workflow(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "late_flows.py").write_text(
        "from continuum import workflow\n\n\n@workflow(name='late.flow')\nasync def flow() -> None: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Continuum("memory://late", modules=["late_flows"]) as instance:
        assert instance.start("late.flow").refresh().workflow == "late.flow"
    with pytest.raises(ConfigError, match="no_such_module"), Continuum("memory://", modules=["no_such_module"]) as one:
        one.start("another.flow")


@pytest.mark.parametrize(
    ("begin", "error", "match"),
    [
        (lambda c: c.start(flows.total), TypeError, "client.sum"),
        (lambda c: c.start(flows.total, 1, 2, 3), TypeError, "client.sum"),
        (lambda c: c.start(flows.total, 1, nonsense=2), TypeError, "nonsense"),
        (lambda c: c.start(flows.echo, [object()]), CodecError, r"input"),
        (lambda c: c.start(flows.total, float("nan")), CodecError, r"input"),
        (lambda c: c.start(flows.total, 1, namespace=""), ConfigError, "namespace"),
        (lambda c: c.start(flows.total, 1, namespace=7), ConfigError, "namespace"),
        (lambda c: c.start(flows.total, 1, idempotency_key=7), ConfigError, r"idempotency_key=str\(7\)"),
        (lambda c: c.start(flows.total, 1, idempotency_key="a\0"), ConfigError, "idempotency_key"),
        (lambda c: c.start(flows.total, 1, attributes={"a": object()}), CodecError, "attributes.a"),
        (lambda c: c.start(flows.total, 1, attributes=[1]), CodecError, "attributes"),
        (lambda c: c.start_unique(flows.total, 1), ConfigError, "needs an idempotency_key"),
        (lambda c: c.start(flows.greedy, namespace="eu"), DeclarationError, "namespace_"),
        (lambda c: c.start(flows.add, 1, 2), DeclarationError, "decorator"),
        (lambda c: c.start(flows.total.function, 1), DeclarationError, "decorator"),
    ],
)
def test_what_cannot_be_started_is_refused_and_nothing_is_written(
    continuum: Continuum, begin: Callable[[Continuum], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        begin(continuum)
    assert count(continuum) == 0


def test_an_input_has_a_largest_size() -> None:
    with Continuum("memory://", max_payload_bytes=1000) as instance:
        with pytest.raises(CodecError, match=r"1000|1,000"):
            instance.start(flows.echo, [], note="x" * 1000)
        assert count(instance) == 0
        handle = instance.start(flows.first_signal, "s")
        with pytest.raises(CodecError):
            handle.signal("s", "x" * 1000)


def test_the_first_start_under_a_key_wins(continuum: Continuum) -> None:
    first, how = continuum.start_unique(flows.total, 1, idempotency_key="k")
    again, how_again = continuum.start_unique(flows.total, 2, idempotency_key="k")
    assert (how, how_again) == ("started", "existing")
    assert first == again
    assert continuum.start(flows.total, 3, idempotency_key="k") == first
    assert count(continuum) == 1


def test_a_key_belongs_to_a_workflow_in_a_namespace(continuum: Continuum) -> None:
    handles = {
        continuum.start(flows.total, 1, idempotency_key="k").id,
        continuum.start(flows.total, 1, idempotency_key="k", namespace="eu").id,
        continuum.start(flows.forever, idempotency_key="k").id,
    }
    assert len(handles) == 3


def test_of_many_callers_with_one_key_one_starts_the_run(continuum: Continuum) -> None:
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda n: continuum.start_unique(flows.total, n, idempotency_key="k"), range(8)))
    assert sorted(how for _, how in answers) == ["existing"] * 7 + ["started"]
    assert len({handle.id for handle, _ in answers}) == 1


def test_ids_come_from_the_database_s_clock(continuum: Continuum, monkeypatch: Any) -> None:
    """A host whose clock is an hour off must not put runs into another hour's, or month's, ids."""
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.setattr("time.time_ns", lambda: 0)
    handle = continuum.start(flows.forever)
    created = handle.refresh().created_at.timestamp() * 1000
    assert abs(int(handle.id.replace("-", "")[:12], 16) - created) < 10_000


class Flaky:
    """A journal's runs whose answers are lost on order."""

    def __init__(self, journal: Journal, errors: list[tuple[Exception, bool]]) -> None:
        self._runs = journal.runs
        self._errors = errors
        self.started: list[NewRun] = []
        self.posted = 0

    def start(self, run: NewRun, *, connection: Any = None) -> Any:
        self.started.append(run)
        if self._errors:
            error, written = self._errors.pop(0)
            if written:
                self._runs.start(run)
            raise error
        return self._runs.start(run, connection=connection)

    def post(self, message: Any, *, connection: Any = None) -> Any:
        self.posted += 1
        if self._errors:
            error, written = self._errors.pop(0)
            if written:
                self._runs.post(message)
            raise error
        return self._runs.post(message, connection=connection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runs, name)


def flaky(continuum: Continuum, *errors: tuple[Exception, bool]) -> Flaky:
    journal = continuum.journal
    journal.runs = Flaky(journal, list(errors))  # type: ignore[assignment]
    return journal.runs  # type: ignore[return-value]


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("error", [JournalUnavailable("lost"), JournalBusy("later")])
def test_a_lost_answer_is_asked_for_once_more_under_the_same_id(
    continuum: Continuum, error: Exception, written: bool
) -> None:
    runs = flaky(continuum, (error, written))
    handle, how = continuum.start_unique(flows.total, 1, idempotency_key="k")
    assert how == "started"
    assert [run.id for run in runs.started] == [handle.id] * 2
    assert count(continuum) == 1


def test_a_second_lost_answer_is_the_caller_s(continuum: Continuum) -> None:
    flaky(continuum, (JournalUnavailable("lost"), False), (JournalUnavailable("lost again"), False))
    with pytest.raises(JournalUnavailable, match="again"):
        continuum.start(flows.total, 1)


def test_a_signal_whose_answer_was_lost_is_sent_again_only_under_a_delivery_id(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    runs = flaky(continuum, (JournalUnavailable("lost"), True))
    with pytest.raises(JournalUnavailable):
        handle.signal("s")
    assert runs.posted == 1
    runs = flaky(continuum, (JournalUnavailable("lost"), True))
    assert handle.signal("s", delivery_id="1") == "duplicate"
    runs = flaky(continuum, (JournalBusy("refused whole"), False))
    assert handle.signal("s") == "delivered"


def test_arguments_arrive_as_the_types_they_are_hinted_with(continuum: Continuum) -> None:
    items = [flows.Item("a", Decimal("1.10"))]
    with continuum.running():
        assert continuum.start(flows.echo, items).result(timeout=20) == items


def test_a_handle_of_an_unknown_id_finds_nothing(continuum: Continuum) -> None:
    nobody = "0190a6f0-0000-7000-8000-000000000001"
    for ask in (
        lambda: continuum.get(nobody),
        lambda: continuum.handle(nobody).result(),
        lambda: continuum.handle(nobody).refresh(),
        lambda: continuum.signal(nobody, "s"),
        lambda: continuum.cancel(nobody),
        lambda: continuum.terminate(nobody),
        lambda: continuum.history(nobody),
        lambda: continuum.tasks(nobody),
    ):
        with pytest.raises(RunNotFound):
            ask()
    assert continuum.find(nobody) is None
    assert continuum.find("order-1") is None
    with pytest.raises(RunNotFound, match="UUID"):
        continuum.handle("order-1")


@pytest.mark.parametrize("what", ["start", "result", "signal", "list"])
def test_workflow_code_cannot_use_an_instance(continuum: Continuum, monkeypatch: Any, what: str) -> None:
    monkeypatch.setattr(flows, "INSTANCE", [continuum])
    with continuum.running():
        assert "in an activity" in continuum.start(flows.impure, what).result(timeout=20)
    assert count(continuum) == 1
