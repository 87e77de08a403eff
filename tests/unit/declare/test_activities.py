"""What `@activity` accepts, and what a call of one becomes."""

import asyncio
import functools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from continuum.declare.activities import activity
from continuum.declare.registry import REGISTRY
from continuum.declare.workflows import workflow
from continuum.errors import CodecError, DeclarationError, DuplicateName
from continuum.model.decisions import Decision
from continuum.model.policies import Retry
from tests.support.first_turn import failure_of, first_turn

if TYPE_CHECKING:
    from fractions import Fraction  # known to type checkers only


@activity
def double(n: int, *, times: int = 1) -> int:
    return n * 2 * times


@activity(
    name="tests.charge",
    retry=Retry(max_attempts=5),
    timeout=30,
    heartbeat_timeout=timedelta(seconds=5),
    queue="payments",
    priority=7,
    idempotency_key=lambda order, amount=1: f"charge:{order}",
)
async def charge(order: str, amount: int = 1) -> str:
    return f"{order}:{amount}"


def turn_of(call: Any) -> Decision:
    """Return the first turn of a workflow that does nothing but this."""

    @workflow
    async def flow() -> None:
        await call()

    return first_turn(flow)


# ------------------------------------------------------------------ calls


def test_outside_a_workflow_a_call_runs_the_function() -> None:
    assert double(4) == 8
    assert asyncio.run(charge("o")) == "o:1"  # type: ignore[arg-type]
    assert double.function(4) == 8


def test_in_a_workflow_a_call_is_an_order_with_the_declared_policy() -> None:
    [order] = turn_of(lambda: charge("o7", amount=3)).orders
    assert (order.activity, order.arguments) == ("tests.charge", '["o7",3]')
    assert order.idempotency_key == "charge:o7"
    policy = order.policy
    assert (policy.retry.max_attempts, policy.timeout, policy.heartbeat_timeout) == (
        5,
        timedelta(seconds=30),
        timedelta(seconds=5),
    )
    assert (policy.queue, policy.priority) == ("payments", 7)
    assert order.policy_text == policy.encode()


def test_the_default_name_is_where_the_function_stands() -> None:
    assert double.name == f"{__name__}.double"
    assert REGISTRY.get_activity(double.name) is double


def test_options_override_for_one_call_and_leave_the_declaration_alone() -> None:
    variant = charge.options(queue="bulk", priority=-1, retry=2, timeout=0.5, idempotency_key=None)
    [order] = turn_of(lambda: variant("o")).orders
    assert (order.policy.queue, order.policy.priority) == ("bulk", -1)
    assert (order.policy.retry.max_attempts, order.policy.timeout) == (2, timedelta(seconds=0.5))
    assert order.policy.heartbeat_timeout == timedelta(seconds=5)
    assert order.idempotency_key is None
    assert order.policy_text == order.policy.encode()
    assert (charge.policy.queue, charge.policy.priority) == ("payments", 7)
    assert variant.options(priority=2).policy.queue == "bulk"


def test_a_key_given_at_the_call_replaces_the_declared_one() -> None:
    [order] = turn_of(lambda: charge.options(idempotency_key="fixed")("o")).orders
    assert order.idempotency_key == "fixed"


def test_the_key_function_sees_the_arguments_of_the_call_in_their_positions() -> None:
    seen: list[Any] = []

    def key(*args: Any, **kwargs: Any) -> str:
        seen.append((args, kwargs))  # continuum: allow[CT201] the test looks at it, the workflow does not
        return "k"

    turn_of(lambda: double.options(idempotency_key=key)(n=1, times=2))
    assert seen == [((1,), {"times": 2})]


@pytest.mark.parametrize(
    ("key", "words"),
    [("", "0 characters"), ("x" * 513, "513 characters"), ("a\0b", "cannot be stored"), ("\ud800", "cannot be stored")],
)
def test_an_unusable_key_is_refused_before_anything_is_ordered(key: str, words: str) -> None:
    decision = turn_of(lambda: double.options(idempotency_key=lambda n, times=1: key)(1))
    assert decision.orders == []
    assert words in failure_of(decision).message
    with pytest.raises(DeclarationError, match=words):
        double.options(idempotency_key=key)


def test_a_key_function_that_cannot_take_the_calls_of_its_activity_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"must take the arguments the activity takes, .*\(n\)"):
        double.options(idempotency_key=lambda n: str(n))  # noqa: PLW0108
    with pytest.raises(DeclarationError, match="must take"):
        double.options(idempotency_key=lambda n, times: f"{n}{times}")


def test_a_key_that_is_no_text_fails_the_run_and_orders_nothing() -> None:
    decision = turn_of(lambda: double.options(idempotency_key=lambda n, times=1: n * times)(1))
    assert decision.orders == []
    assert "must be a text" in failure_of(decision).message


def test_wrong_arguments_raise_in_workflow_code_and_order_nothing() -> None:
    calls = [lambda: double(), lambda: double(1, 2), lambda: double(1, wrong=3)]  # noqa: PLW0108
    for call in calls:
        decision = turn_of(call)
        assert decision.orders == []
        failure = failure_of(decision)
        assert failure.type_name == "TypeError"
        assert double.name in failure.message


def test_arguments_that_cannot_be_recorded_order_nothing_and_are_named() -> None:
    decision = turn_of(lambda: double({"a": [object()]}))
    assert decision.orders == []
    failure = failure_of(decision)
    assert "CodecError" in failure.type_name
    assert "arguments[0]" in failure.message


def test_an_invalid_option_at_the_call_fails_the_run_and_orders_nothing() -> None:
    decision = turn_of(lambda: double.options(retry=0)(1))
    assert decision.orders == []
    assert "retry.max_attempts" in failure_of(decision).message


def test_arguments_and_results_pass_the_codec_by_their_hints() -> None:
    assert double.decode_arguments("[3]") == ((3,), {})
    assert double.decode_arguments('{"args":[3],"kwargs":{"times":2}}') == ((3,), {"times": 2})
    assert double.encode_result(8) == "8"
    with pytest.raises(CodecError) as caught:
        double.encode_result({"a": object()})
    assert caught.value.path.startswith("result")


def test_hints_that_only_type_checkers_know_are_no_hints() -> None:
    @activity
    def half(n: "Fraction", known: "int") -> "Fraction":
        return n / known

    assert half.decode_arguments("[1,2]") == ((1, 2), {})
    assert half.encode_result(3) == "3"


# ------------------------------------------------------------------ declarations


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"retry": Retry.__new__}, "retry"),
        ({"retry": 0}, "max_attempts"),
        ({"retry": True}, "retry"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": timedelta(hours=25)}, "timeout"),
        ({"timeout": "1s"}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": 1e300}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"heartbeat_timeout": -1}, "heartbeat_timeout"),
        ({"queue": ""}, "queue"),
        ({"queue": 3}, "queue"),
        ({"priority": 1001}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"executor": ""}, "executor"),
        ({"transactional": "yes"}, "transactional"),
        ({"idempotency_key": 3}, "idempotency_key"),
        ({"idempotency_key": ""}, "idempotency key"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 5}, "name"),
    ],
)
def test_an_invalid_option_is_refused_at_declaration_and_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(DeclarationError, match=word):

        @activity(**options)
        def refused() -> None: ...


@pytest.mark.parametrize(
    "settings",
    [
        {"max_attempts": 0},
        {"backoff": "cubic"},
        {"base": timedelta(-1)},
        {"jitter": timedelta(-1)},
        {"cap": timedelta(-1)},
        {"max_attempts": 1.5},
    ],
)
def test_an_invalid_retry_is_refused_where_it_is_written(settings: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=f"retry.{next(iter(settings))}"):
        Retry(**settings)


def test_a_horizon_that_the_attempts_can_exceed_is_refused() -> None:
    retry = Retry(max_attempts=3, base=timedelta(seconds=0.5), backoff="constant", horizon=timedelta(seconds=3.1))
    with pytest.raises(DeclarationError, match=r"retry\.horizon"):
        double.options(retry=retry, timeout=1)


def test_an_unknown_option_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"no option 'timeuot'. Did you mean 'timeout'\? Options: .*transactional"):
        activity(timeuot=3)
    with pytest.raises(TypeError, match="no option 'name'") as caught:
        double.options(name="other")  # type: ignore[call-arg]
    assert "transactional" not in str(caught.value)


def test_what_has_no_name_of_its_own_is_refused() -> None:
    class Shop:
        def sell(self) -> None: ...

    def numbers() -> Any:
        yield 1

    async def stream() -> Any:
        yield 1

    for function, words in [
        (lambda: 1, "lambda"),
        (Shop.sell, "is a method"),
        (functools.partial(print), "needs a function"),
        (Shop, "needs a function"),
        (staticmethod(numbers), "@staticmethod above @activity"),
        (classmethod(numbers), "@staticmethod above @activity"),
        (numbers, "generator"),
        (stream, "generator"),
    ]:
        with pytest.raises(DeclarationError, match=words):
            activity(function)


def test_static_methods_and_nested_functions_are_found_by_their_qualified_name() -> None:
    class Shop:
        @staticmethod
        @activity
        def sell(n: int) -> int:
            return n

    assert Shop.sell(3) == 3
    assert Shop().sell.name.endswith("<locals>.Shop.sell")


def test_declaring_the_same_code_again_replaces_it() -> None:
    def declare() -> Any:
        @activity
        def again() -> None: ...

        return again

    first, second = declare(), declare()
    assert first is not second
    assert REGISTRY.get_activity(first.name) is second


def test_two_activities_of_one_name_are_refused_and_both_named() -> None:
    @activity(name="tests.twice")
    def one() -> None: ...

    with pytest.raises(DuplicateName) as caught:

        @activity(name="tests.twice")
        def two() -> None: ...

    assert "one" in str(caught.value)
    assert "two" in str(caught.value)
    assert str(caught.value).count("test_activities.py:") == 2


def test_a_variant_takes_no_place_in_the_registry() -> None:
    double.options(queue="elsewhere")
    assert REGISTRY.get_activity(double.name) is double


# ------------------------------------------------------------------ transactional


def test_a_transactional_activity_needs_a_def_with_a_connection_and_no_key() -> None:
    with pytest.raises(DeclarationError, match="needs a def"):

        @activity(transactional=True)
        async def not_async(connection: Any) -> None: ...

    with pytest.raises(DeclarationError, match="connection"):

        @activity(transactional=True)
        def without() -> None: ...

    with pytest.raises(DeclarationError, match="no idempotency_key"):

        @activity(transactional=True, idempotency_key="k")
        def keyed(connection: Any) -> None: ...


def test_callers_of_a_transactional_activity_do_not_see_the_connection() -> None:
    @activity(transactional=True)
    def book(order: str, *, connection: Any = None) -> str:
        return order

    @activity(transactional=True)
    def book_any(order: str, **extra: Any) -> str:
        return order

    [order] = turn_of(lambda: book("o")).orders
    assert order.arguments == '["o"]'
    assert order.policy.transactional
    assert "connection" in failure_of(turn_of(lambda: book("o", connection=1))).message
    assert turn_of(lambda: book_any("o")).orders
    assert book("o") == "o"


def test_an_executor_that_nobody_provides_is_refused_and_the_error_says_which_there_are() -> None:
    with pytest.raises(DeclarationError, match="write 'celery' or 'local'"):
        activity(name="tests.elsewhere", executor="selery")(lambda_free)
    with pytest.raises(DeclarationError, match="executor='selery'"):
        double.options(executor="selery")
    assert double.options(executor="local").policy.executor == "local"
    assert double.options(executor="celery").policy.executor == "celery"
    assert double.options(executor=None).policy.executor is None


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "x" * 501])
def test_a_name_that_cannot_be_stored_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="name="):
        activity(name=name)(lambda_free)
    with pytest.raises(DeclarationError, match="queue="):
        double.options(queue=name)


def lambda_free() -> None: ...
