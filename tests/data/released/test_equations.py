"""Equations have the value of their arithmetic, or a typed reason why they have none."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.examples import Failure
from distill.data.released.equations import EquationError, same_value, value

VALUES = {
    "42": 42,
    "( 84.0 / 2.0 )": 42,
    "2 + 3 * 4": 14,
    "(2 + 3) * 4": 20,
    "10 - 4 - 3": 3,
    "24 / 4 / 2": 3,
    "-3 + 5": 2,
    "2 - -3": 5,
    "1,200 - 3.5": Fraction(2393, 2),
    "1,234,567": 1234567,
    "1 / 3": Fraction(1, 3),
    ".5 * 4": 2,
    "$12 + $ 3": 15,
    "6 \u00d7 7 \u2212 2 \u00f7 1": 40,
    "x = 3 + 4": 7,
    "3 + 4 = x": 7,
    "(7x = 14)": 2,
    "2 * (x + 1) = x + 9": 7,
    "X - 5 = 6": 11,
    "10 - 4 = 6": 6,
    "(5 + x) - x": 5,
}
FAILURES = {
    "": "malformed_equation",
    "some - 8": "malformed_equation",
    "3 +": "malformed_equation",
    "3 4": "malformed_equation",
    "2 ** 9": "malformed_equation",
    "(3)(4)": "malformed_equation",
    "()": "malformed_equation",
    "1,20 + 3": "malformed_equation",
    "max(3, 4)": "malformed_equation",
    "5 = 5 = 5": "malformed_equation",
    "= 6": "malformed_equation",
    "9" * 401: "malformed_equation",
    "(" * 60 + "1" + ")" * 60: "malformed_equation",
    "((3 + 4)": "unbalanced_parentheses",
    "3 + 4)": "unbalanced_parentheses",
    ")3(": "unbalanced_parentheses",
    "6 / (3 - 3)": "division_by_zero",
    "25 + x": "unsolved_equation",
    "x * x = 4": "unsolved_equation",
    "6 / x = 3": "unsolved_equation",
    "x = x": "unsolved_equation",
    "10 - 4 = 7": "unsolved_equation",
}


@pytest.mark.parametrize("text", VALUES)
def test_value(text):
    assert value(text) == VALUES[text]


@pytest.mark.parametrize("text", FAILURES)
def test_failure(text):
    with pytest.raises(EquationError) as caught:
        value(text)
    assert caught.value.failure == FAILURES[text]


def test_answers_are_compared_by_value_and_else_to_the_letter():
    assert same_value("(84 / 2)", "( 84.0 / 2.0 )") and same_value("42", "( 84.0 / 2.0 )")
    assert same_value("0.1 + 0.2", "0.3")
    assert not same_value("(84 / 2", "42") and not same_value("1 / 0", "0")
    assert same_value("8:00", "8:00 ") and not same_value("8:00", "8")


@st.composite
def trees(draw, depth: int = 3) -> tuple[str, Fraction]:
    """A text and its value, every operation in parentheses."""
    if depth == 0 or draw(st.booleans()):
        number = draw(st.integers(1, 99_999))
        return draw(st.sampled_from([f"{number}", f"{number:,}", f"{number}.0"])), Fraction(number)
    (left, a), (right, b) = draw(trees(depth=depth - 1)), draw(trees(depth=depth - 1))
    sign = draw(st.sampled_from("+-*/" if b else "+-*"))
    result = {"+": a + b, "-": a - b, "*": a * b}.get(sign)
    return f"({left} {sign} {right})", a / b if result is None else result


@given(trees())
def test_the_value_is_that_of_the_tree(tree):
    text, expected = tree
    assert value(text) == expected
    assert value(f"x + 1 = {text}") == expected - 1
    assert value(text[1:-1] if text.startswith("(") else text) == expected


@given(st.text(alphabet="0123456789.,+-*/()=x $a", max_size=30))
def test_any_text_has_a_value_or_a_typed_failure(text):
    try:
        assert isinstance(value(text), Fraction)
    except EquationError as error:
        assert error.failure in set(Failure)
