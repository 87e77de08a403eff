"""What callers pass is refused before anything is written, and the message says what to write."""

from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from continuum import Continuum, Signal
from continuum.client.checks import check_key, check_namespace, check_run_id, check_timeout
from continuum.errors import CodecError, ConfigError, DeclarationError, RunNotFound, SearchError
from continuum.model.attributes import MAX_ATTRIBUTES, attributes_text
from continuum.model.runs import RunState


@pytest.mark.parametrize("namespace", ["", 7, "a\0b", "x" * 201, b"default", "\ud800"])
def test_a_namespace_is_a_short_text(namespace: Any) -> None:
    with pytest.raises(ConfigError, match="namespace="):
        check_namespace(namespace)


def test_no_namespace_means_not_said() -> None:
    assert check_namespace(None) is None
    assert check_namespace("eu") == "eu"


@pytest.mark.parametrize("key", ["", 7, "a\0b", "é" * 501, "\udfff"])
def test_a_key_is_a_text_that_fits_into_an_index(key: Any) -> None:
    with pytest.raises(ConfigError, match="idempotency_key="):
        check_key("idempotency_key", key)


def test_a_number_as_key_is_told_how_to_become_one() -> None:
    with pytest.raises(ConfigError, match=r"idempotency_key=str\(7\)"):
        check_key("idempotency_key", 7)


def test_a_run_id_may_be_written_in_any_case() -> None:
    text = "0190A6F0-0000-7000-8000-00000000000A"
    assert check_run_id(f" {text} ") == text.lower()


@pytest.mark.parametrize("text", ["", "order-1", None, 7])
def test_what_is_no_run_id_is_the_id_of_no_run(text: Any) -> None:
    with pytest.raises(RunNotFound, match="UUID"):
        check_run_id(text)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (0, 0.0),
        (2.5, 2.5),
        (timedelta(minutes=1), 60.0),
        (float("inf"), None),
        (1e12, None),
        (timedelta.max, None),
    ],
)
def test_a_timeout_is_seconds_or_a_timedelta(given: Any, seconds: float | None) -> None:
    assert check_timeout(given) == seconds


@pytest.mark.parametrize("given", [-1, -0.001, float("nan"), "5", True, timedelta(seconds=-1), [1]])
def test_another_timeout_is_a_value_error(given: Any) -> None:
    with pytest.raises(ValueError, match="timeout="):
        check_timeout(given)


class Nameless:
    def __str__(self) -> str:
        raise KeyError

    def __repr__(self) -> str:
        raise RuntimeError


def bottomless() -> Any:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize("strange", [bottomless, lambda: -(10**5_000), Nameless], ids=["deep", "long", "nameless"])
def test_what_has_no_text_is_refused_as_anything_else(strange: Any) -> None:
    value = strange()
    with Continuum("memory://") as continuum:
        handle = continuum.handle("0190a6f0-0000-7000-8000-00000000000a")
        calls: list[tuple[type[Exception], Any]] = [
            (RunNotFound, lambda: continuum.get(value)),
            (RunNotFound, lambda: continuum.handle(value)),
            (ConfigError, lambda: check_namespace(value)),
            (ConfigError, lambda: check_key("delivery_id", value)),
            (ValueError, lambda: check_timeout(value)),
            (SearchError, lambda: handle.tree(limit=value)),
            (ConfigError, lambda: handle.terminate(value)),
            (ConfigError, lambda: handle.history(payloads=value)),
            (DeclarationError, lambda: handle.signal(value)),
            (DeclarationError, lambda: continuum.start(value)),
            (CodecError, lambda: Signal("s", str).encode(value)),
            (CodecError, lambda: handle.signal(Signal("s", list[str]), value)),
        ]
        for error, call in calls:
            with pytest.raises(error, match="is not|wants|no run has"):
                call()
        assert continuum.find(value) is None


def test_a_timeout_longer_than_any_float_is_no_limit() -> None:
    assert check_timeout(10**5_000) is None


def test_attributes_keep_their_order_and_their_types() -> None:
    assert attributes_text({"b": 1, "a": "1", "nested": {"list": [None, True, 1.5, ("x",)]}}) == (
        '{"b":1,"a":"1","nested":{"list":[null,true,1.5,["x"]]}}'
    )
    assert attributes_text(None) is None
    assert attributes_text({}) == "{}"


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        ([1], "attributes"),
        ("x", "attributes"),
        ({"a": float("nan")}, "attributes.a"),
        ({"a": float("inf")}, "attributes.a"),
        ({"a": [1, {"b": "x\0y"}]}, "attributes.a[1].b"),
        ({"a": "\ud800"}, "attributes.a"),
        ({"a\0": 1}, "attributes.'a\\x00'"),
        ({7: 1}, "attributes"),
        ({"a": Decimal(1)}, "attributes.a"),
        ({"a": datetime(2026, 1, 1)}, "attributes.a"),  # noqa: DTZ001 - refused all the same
        ({"a": object()}, "attributes.a"),
        ({"a": [-(10**5_000)]}, "attributes.a[0]"),
        ({"a": b"x"}, "attributes.a"),
    ],
)
def test_attributes_that_are_not_json_are_refused_with_their_path(attributes: Any, path: str) -> None:
    with pytest.raises(CodecError) as refused:
        attributes_text(attributes)
    assert refused.value.path == path


def test_attributes_of_subclasses_are_stored_as_what_they_are_to_a_search() -> None:
    class Markup(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

    class Amount(float):
        pass

    given = {"a": Markup("<b>"), "b": Amount(1.5), "c": MappingProxyType({Markup("k"): RunState.FAILED}), "d": True}
    assert attributes_text(given) == '{"a":"<b>","b":1.5,"c":{"k":"failed"},"d":true}'
    with pytest.raises(CodecError) as refused:
        attributes_text({"a": {"b": [Markup("\0")]}})
    assert refused.value.path == "attributes.a.b[0]"


def test_attributes_are_small_and_shallow() -> None:
    with pytest.raises(CodecError):
        attributes_text({"a": "x" * MAX_ATTRIBUTES})
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(100):
        inner["a"] = {}
        inner = inner["a"]
    with pytest.raises(CodecError, match="nested"):
        attributes_text(deep)


def test_attributes_that_contain_themselves_are_refused() -> None:
    attributes: dict[str, Any] = {}
    attributes["self"] = attributes
    with pytest.raises(CodecError, match="nested"):
        attributes_text(attributes)


def test_a_workflow_searched_for_is_no_list_without_a_bottom() -> None:
    deep: Any = "flow"
    for _ in range(100_000):
        deep = [deep]
    with Continuum("memory://") as continuum, pytest.raises(SearchError):
        continuum.search({"workflow": deep})
