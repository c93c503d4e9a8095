"""Findings of the checks: what was found, how bad it is, and what to do."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from distill.common.phrases import WARN_FROM

MOST_DISTINCT = 10_000  # texts or characters that a check counts one by one
_LONGEST = 60  # characters of a text that is shown
_SHOWN = 5  # texts of a kind that are shown

PROBLEM, WARNING, NOTE = "problem", "warning", "note"
LEVELS = (PROBLEM, WARNING, NOTE)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
      check: name of the check.
      level: "problem" (training or its score will be wrong), "warning" or "note".
      text: what was found, and what to do, in one line.
      count: rows, texts or labels that it is about.
      of: how many were looked at.
      rows: ids of some of the rows.
    """

    check: str
    level: str
    text: str
    count: int = 0
    of: int = 0
    rows: tuple[str, ...] = ()


def level_of(count: int, whole: int) -> str:
    """A warning if more than WARN_FROM of the whole are concerned, else a note."""
    return WARNING if count > WARN_FROM * whole else NOTE


def shown(text: str) -> str:
    """A text in quotes, cut to what is readable."""
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def listed(counts: Iterable[tuple[str, int]], most: int = _SHOWN) -> str:
    """ "'yes' 12, 'no' 3, ..."."""
    pairs = list(counts)
    texts = [f"{shown(text)} {count:,}" for text, count in pairs[:most]]
    return ", ".join([*texts, *(["..."] if len(pairs) > most else [])])


def add_bounded(counter: Counter[str], text: str) -> bool:
    """Counts a text; one more than MOST_DISTINCT different ones is not counted.

    Returns:
      Whether it was counted.
    """
    if text not in counter and len(counter) >= MOST_DISTINCT:
        return False
    counter[text] += 1
    return True
