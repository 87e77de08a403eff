"""A name is refused where it is used, for what is stored later could never be committed."""

from typing import Any

import pytest

from continuum.model.names import MAX_NAME, check_effect_name, flaw_of, is_storable

ODD = ["a\0b", "\ud800", "x" * 501]


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_stored_is_a_value_error_that_shows_little_of_it(name: str) -> None:
    with pytest.raises(ValueError, match="the name of the change") as refused:
        check_effect_name(name, "the name of the change")
    assert len(str(refused.value)) < 300
    str(refused.value).encode()


@pytest.mark.parametrize("name", ["", None, 7, b"go"])
def test_what_is_no_text_is_a_type_error(name: Any) -> None:
    with pytest.raises(TypeError, match="the name"):
        check_effect_name(name, "the name")


def test_names_may_be_in_any_language_and_as_long_as_their_kind_allows() -> None:
    assert check_effect_name("ü" * 500, "the name") == "ü" * 500
    assert flaw_of("ü" * MAX_NAME) is None
    assert flaw_of("ü" * (MAX_NAME + 1)) is not None
    assert is_storable("\U0001f600")
