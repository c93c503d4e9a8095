"""Records as a text table."""

from __future__ import annotations

from collections.abc import Sequence

from distill.common.phrases import number_of
from distill.common.table import render_columns
from distill.results.query import value_of
from distill.results.record import Record

_DEFAULT = ("seed", "status", "accuracy", "interval", "n_test", "steps", "seconds")
_FRACTIONS = ("accuracy", "ranked_accuracy", "validation_accuracy", "teacher_accuracy")
_RIGHT = frozenset({*_FRACTIONS, "n_test", "steps", "seconds", "seed", "labels", "train_rows"})
_SHOWN = 200  # characters of an error


def default_columns(records: Sequence[Record]) -> list[str]:
    """What a table shows unless it is told: sweep (if there are several), axes, and results."""
    axes = dict.fromkeys(name for record in records for name in record.axes)
    several = len({record.sweep for record in records}) > 1
    return [*(["sweep"] if several else []), *axes, *(n for n in _DEFAULT if n not in axes)]


def render(records: Sequence[Record], columns: Sequence[str] = ()) -> str:
    """A row a record; below them, the messages of runs that failed.

    Args:
      records: in the order of the rows.
      columns: names of axes and fields; () takes `default_columns`.
    """
    names = list(columns or default_columns(records))
    rows = [[cell(record, name) for name in names] for record in records]
    is_number = [
        name in _RIGHT
        or all(isinstance(value_of(record, name), int | float | None) for record in records)
        for name in names
    ]
    align = "".join(">" if right else "<" for right in is_number)
    lines = [render_columns(names, rows, align, rule=True)]
    lines += [
        f"{record.run} failed (attempt {record.attempt}): {_shortened(record.error or '')}"
        for record in records
        if not record.is_done
    ]
    return "\n".join(lines)


def count(records: Sequence[Record]) -> str:
    """How many runs there are: "3 runs: 2 done, 1 failed"."""
    done = sum(record.is_done for record in records)
    failed = f", {len(records) - done} failed" if done < len(records) else ""
    return f"{number_of(len(records), 'run')}: {done:,} done{failed}"


def cell(record: Record, name: str) -> str:
    """What a table shows of a record."""
    value = value_of(record, name)
    if value is None:
        return ""
    if name in record.axes:
        return f"{value:,}" if type(value) is int else str(value)
    if name in _FRACTIONS:
        return f"{value:.3f}"
    if name == "interval":
        return f"[{value[0]:.3f}, {value[1]:.3f}]"
    if name == "seconds":
        return f"{value:,.1f}"
    if name == "train_flops":
        return f"{value:.3g}"
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if type(value) is int and name not in ("seed", "format"):
        return f"{value:,}"
    return str(value)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ..."
