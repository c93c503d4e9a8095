"""Parts of texts that hold counts, and when a count deserves a warning."""

from __future__ import annotations

from collections.abc import Mapping

WARN_FROM = 0.01  # share of rows or tokens; a finding about more of them is a warning
_MOST_SHOWN, _LONGEST = 5, 40  # texts of `with_counts`, and characters of each


def number_of(count: int, noun: str) -> str:
    """ "1 row", "1,200 rows", "2 batches"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's')) else 's'}"


def share(part: int, whole: int, noun: str) -> str:
    """ "3 of 40 rows (7.5%)"."""
    return f"{part:,} of {number_of(whole, noun)} ({part / whole if whole else 0:.1%})"


def have(count: int, singular: str = "has", plural: str = "have") -> str:
    """The verb for a number of things."""
    return singular if count == 1 else plural


def are(count: int) -> str:
    """ "is" or "are"."""
    return have(count, "is", "are")


def with_counts(counts: Mapping[str, int]) -> str:
    """ "'yes' (12), 'no' (3)": the first few texts, with how often each occurs."""
    shown = [f"{text[:_LONGEST]!r} ({count:,})" for text, count in counts.items()]
    return ", ".join(shown[:_MOST_SHOWN]) + (", ..." if len(shown) > _MOST_SHOWN else "")


def shortened(text: str, most: int) -> str:
    """The first `most` characters of a text and, if it has more, their number."""
    if len(text) <= most:
        return text
    return f"{text[:most]} ... ({number_of(len(text) - most, 'more character')})"
