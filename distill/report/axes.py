"""What the values of an axis are: numbers, sizes of the student, or amounts of data."""

from __future__ import annotations

import math

from distill.report.groups import Groups
from distill.results.record import Record, Value

_AMOUNTS = ("NUM_LABELS", "LABEL_FRACTION", "WITH_ASDIV")  # macros that say how much data there is


def find_numbers(groups: Groups, place: int) -> dict[Value | None, float] | None:
    """The number of each value of an axis: the value itself, or the student's parameters.

    Args:
      groups: the cells.
      place: of the axis in `groups.axes`.

    Returns:
      None if fewer than two values have a number of their own, or one has none.
    """
    values = {cell.setting[place] for cell in groups.cells}
    numbers = {value: float(value) for value in values if type(value) in (int, float)}  # type: ignore[arg-type]
    if len(numbers) == len(values):
        return dict(numbers) if len(numbers) > 1 else None
    return find_sizes(groups, place)


def find_sizes(groups: Groups, place: int) -> dict[Value | None, float] | None:
    """The parameters of the student for each value of an axis; as `find_numbers`."""
    sizes: dict[Value | None, set[int]] = {}
    for cell in groups.cells:
        known = (r.record.parameters for r in cell.runs)
        sizes.setdefault(cell.setting[place], set()).update(n for n in known if n is not None)
    single = {value: float(min(found)) for value, found in sizes.items() if len(found) == 1}
    return single if len(single) == len(sizes) == len({*single.values()}) > 1 else None


def find_amounts(groups: Groups, place: int) -> dict[Value | None, float] | None:
    """The order of the values of an axis that says how much data there is.

    NUM_LABELS = 0 takes all rows, and is the largest one.

    Args:
      groups: the cells.
      place: of the axis in `groups.axes`.

    Returns:
      None if the axis is none of NUM_LABELS, LABEL_FRACTION and WITH_ASDIV, or has one value.
    """
    name, found = groups.axes[place], dict[Value | None, float]()
    for cell in groups.cells:
        value = cell.setting[place]
        if type(value) not in (int, float) or not isinstance(value, int | float):
            return None
        for run in cell.runs:
            if (macro := _macro(run.record, name, value)) is None:
                return None
            found[value] = math.inf if macro == _AMOUNTS[0] and value == 0 else float(value)
    return found if len(found) > 1 else None


def _macro(record: Record, axis: str, value: float) -> str | None:
    """The macro of an amount of data that has the value of an axis."""
    for macro in _AMOUNTS:
        if f"{macro}={value!r}" in record.overrides:
            return macro
    return _AMOUNTS[0] if axis == "labels" and record.labels == value else None
