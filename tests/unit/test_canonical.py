"""Canonical JSON and decimals."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.domain.canonical import MAX_DEPTH, NotCanonical, canonical_json, null_path, sha256_of, shortest_decimal

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("written", "shortest"),
    [
        ("0.20", "0.2"),
        ("0.2", "0.2"),
        ("1.0", "1"),
        ("1.", "1"),
        ("1", "1"),
        ("0", "0"),
        ("0.000000", "0"),
        ("-0.0", "0"),
        ("-0.50", "-0.5"),
        ("10", "10"),
        ("100.010", "100.01"),
        ("007.5", "7.5"),
        ("1e3", "1e3"),
        ("", ""),
        ("half", "half"),
    ],
)
def test_a_decimal_has_one_shortest_form(written: str, shortest: str) -> None:
    assert shortest_decimal(written) == shortest


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000, places=6))
def test_the_shortest_form_is_the_same_number_and_stays_as_it_is(number: Decimal) -> None:
    short = shortest_decimal(f"{number:f}")
    assert Decimal(short) == number
    assert shortest_decimal(short) == short


def test_the_order_of_keys_and_the_spelling_of_numbers_do_not_matter() -> None:
    assert canonical_json({"b": 1.0, "a": [1e2]}) == b'{"a":[100],"b":1}'
    assert sha256_of({"a": 1, "b": 2}) == sha256_of({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [2**53 + 1, float("inf"), float("nan"), "\ud800", {1: 2}, object()])
def test_what_has_no_exact_form_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical_json({"value": value})


def test_a_null_is_found_by_its_path() -> None:
    assert null_path({"a": [{"b": 1}, {"c": None}]}, "x") == "x.a[1].c"
    assert null_path({"a": [False, 0, "", {}, []]}, "x") is None


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 100_000])
def test_what_is_nested_too_deep_has_no_form(levels: int) -> None:
    value: object = 1
    for level in range(levels):
        if level == MAX_DEPTH:
            assert canonical_json(value)
        value = [value] if level % 2 else {"a": value}
    with pytest.raises(NotCanonical, match="deeper than"):
        canonical_json(value)
