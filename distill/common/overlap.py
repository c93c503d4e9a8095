"""Whether two inputs are the same text, or one contains the other."""

from __future__ import annotations

import re

_LONG_ENOUGH = 20  # characters of a text that may count as contained in another


def plain_text(text: str) -> str:
    """The words of a text, by which texts are compared: without case and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def overlap(one: str, other: str) -> bool:
    """Whether two texts of `plain_text` are the same, or one contains the other."""
    return one == other or _within(one, other) or _within(other, one)


def _within(short: str, long: str) -> bool:
    return len(short) >= _LONG_ENOUGH and short in long
