"""The value of an arithmetic equation that a person, a teacher or a student wrote.

A recursive descent over

    equation := sum ['=' sum]
    sum      := product {('+' | '-') product}
    product  := factor {('*' | '/') factor}
    factor   := {'+' | '-'} (number ['x'] | 'x' | '(' equation ')')

Numbers are exact fractions, so `84 / 2` and `42.0` are the same. Terms are linear in
one unknown `x`, written `a * x + b`; an equality is solved for it.
"""

from __future__ import annotations

import re
from fractions import Fraction

from distill.data.examples import Failure

_MAX_CHARACTERS = 400
_MAX_DEPTH = 40
_TOKEN = re.compile(
    r"\s*(?:\$\s*)?((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+|[xX](?![A-Za-z])|[-+*/()=])"
)
# Signs that T5's vocabulary lacks.
_SAME_SIGN = str.maketrans({"\u00d7": "*", "\u00f7": "/", "\u2212": "-"})

Linear = tuple[Fraction, Fraction]  # (a, b) of a * x + b


class EquationError(ValueError):
    """A text without an arithmetic value.

    Attributes:
      failure: why: malformed_equation, unbalanced_parentheses, division_by_zero or
        unsolved_equation.
    """

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(f"{failure}: {text!r}")
        self.failure = failure


def value(text: str) -> Fraction:
    """The number that an equation comes to.

    `(84 / 2)`, `1,200 - 3.5` and `2 x = 14` have values. So has `10 - 4 = 6`, whose
    sides agree. A dollar sign before a number is passed over.

    Args:
      text: one equation, nothing else.

    Raises:
      EquationError: anything else, with its typed failure: words, powers, two numbers
        side by side or more than 400 characters are `malformed_equation`; an `x` that
        cannot be solved for, or sides that differ, are `unsolved_equation`.
    """
    walker = _Walker(text)
    a, b = walker.equation()
    if walker.next is not None:
        raise EquationError(Failure.MALFORMED_EQUATION, text)
    if a:
        raise EquationError(Failure.UNSOLVED_EQUATION, text)
    return b


def same_value(prediction: str, gold: str) -> bool:
    """Whether two answers are the same number, or the same text.

    The text alone counts where the gold answer is no equation (a time of day, say).
    """
    if prediction.strip() == gold.strip():
        return True
    try:
        return value(prediction) == value(gold)
    except EquationError:
        return False


def to_ascii(text: str) -> str:
    """The text with the signs of multiplication, division and subtraction in ASCII."""
    return text.translate(_SAME_SIGN)


class _Walker:
    """Walks the tokens of one equation from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._at = 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def equation(self) -> Linear:
        left = self._sum()
        if self.next != "=":
            return left
        self._take()
        right = self._sum()
        a, b = left[0] - right[0], left[1] - right[1]
        if a:
            return Fraction(0), -b / a
        if b or left[0]:  # sides that differ, or an x that may be anything
            raise EquationError(Failure.UNSOLVED_EQUATION, self._text)
        return left

    def _sum(self) -> Linear:
        total = self._product()
        while self.next in ("+", "-"):
            sign = -1 if self._take() == "-" else 1
            a, b = self._product()
            total = total[0] + sign * a, total[1] + sign * b
        return total

    def _product(self) -> Linear:
        total = self._factor()
        while self.next in ("*", "/"):
            divides = self._take() == "/"
            total = self._divide(total, self._factor()) if divides else self._times(total)
        return total

    def _times(self, left: Linear) -> Linear:
        right = self._factor()
        if left[0] and right[0]:  # x * x
            raise EquationError(Failure.UNSOLVED_EQUATION, self._text)
        return left[0] * right[1] + right[0] * left[1], left[1] * right[1]

    def _divide(self, left: Linear, right: Linear) -> Linear:
        if right[0]:  # something / x
            raise EquationError(Failure.UNSOLVED_EQUATION, self._text)
        if not right[1]:
            raise EquationError(Failure.DIVISION_BY_ZERO, self._text)
        return left[0] / right[1], left[1] / right[1]

    def _factor(self) -> Linear:
        sign = 1
        while self.next in ("+", "-"):
            sign = -sign if self._take() == "-" else sign
        token = self._take()
        if token == "(":
            a, b = self.equation()
            if self._take() != ")":
                raise EquationError(Failure.MALFORMED_EQUATION, self._text)
        elif token == "x":
            a, b = Fraction(1), Fraction(0)
        elif token[0].isdigit() or token[0] == ".":
            a, b = Fraction(0), Fraction(token)
            if self.next == "x":
                self._take()
                a, b = b, a
        else:
            raise EquationError(Failure.MALFORMED_EQUATION, self._text)
        return sign * a, sign * b

    def _take(self) -> str:
        if self.next is None:
            raise EquationError(Failure.MALFORMED_EQUATION, self._text)
        self._at += 1
        return self._tokens[self._at - 1]

    @staticmethod
    def _split(text: str) -> list[str]:
        """Tokens without thousands commas; parentheses are found balanced here."""
        plain = to_ascii(text).strip()
        if not plain or len(plain) > _MAX_CHARACTERS:
            raise EquationError(Failure.MALFORMED_EQUATION, text)
        tokens: list[str] = []
        position = depth = 0
        while position < len(plain):
            match = _TOKEN.match(plain, position)
            if not match:
                raise EquationError(Failure.MALFORMED_EQUATION, text)
            token, position = match.group(1).replace(",", "").lower(), match.end()
            tokens.append(token)
            depth += {"(": 1, ")": -1}.get(token, 0)
            if depth < 0:
                raise EquationError(Failure.UNBALANCED_PARENTHESES, text)
            if depth > _MAX_DEPTH:
                raise EquationError(Failure.MALFORMED_EQUATION, text)
        if depth:
            raise EquationError(Failure.UNBALANCED_PARENTHESES, text)
        return tokens
