"""@pure marks exactly what it decorates."""

import functools

import pytest

from continuum import DeclarationError, pure
from continuum.determinism.pure import is_pure


def test_a_function_is_marked_and_returned_as_it_was() -> None:
    def rate() -> int:
        return 3

    assert not is_pure(rate)
    assert pure(rate) is rate
    assert is_pure(rate)
    assert rate() == 3


def test_methods_and_static_and_class_methods_are_marked() -> None:
    class Rates:
        @pure
        def one(self) -> int:
            return 1

        @pure
        @staticmethod
        def two() -> int:
            return 2

        @pure
        @classmethod
        def three(cls) -> int:
            return 3

        def four(self) -> int:
            return 4

    rates = Rates()
    assert is_pure(rates.one)
    assert is_pure(Rates.one)
    assert is_pure(Rates.two)
    assert is_pure(Rates.three)
    assert not is_pure(rates.four)
    assert not is_pure(Rates)
    assert rates.two() + rates.three() == 5


def test_a_class_is_marked_and_its_subclasses_and_instances_are_not() -> None:
    @pure
    class Money: ...

    class Euro(Money): ...

    assert is_pure(Money)
    assert not is_pure(Euro)
    assert not is_pure(Money())


def test_a_wrapper_around_what_is_pure_is_not() -> None:
    @pure
    def rate() -> int:
        return 3

    @functools.wraps(rate)
    def wrapper() -> int:
        return rate()

    assert not is_pure(wrapper)


@pytest.mark.parametrize("value", [3, "text", None])
def test_what_is_no_function_is_not_pure(value: object) -> None:
    assert not is_pure(value)


@pytest.mark.parametrize("value", [3, "text", None])
def test_what_cannot_be_called_is_refused(value: object) -> None:
    with pytest.raises(DeclarationError, match="@pure needs a function or a class, not"):
        pure(value)


def test_what_takes_no_attributes_is_refused_with_the_way_out() -> None:
    with pytest.raises(DeclarationError, match="write a def around it and mark that"):
        pure(len)
