"""The least data and the least size with which a method first beats the teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from distill.report.axes import find_amounts, find_sizes
from distill.report.blocks import Entry, Section, Table, Text
from distill.report.groups import Cell, Groups, Setting, show
from distill.report.teachers import Teacher, find_teachers
from distill.results.record import Value

_SIZE = "size"  # an axis of this name has sizes, even if their parameters are not known
_TEXT = (
    "The smallest {what} with which the mean test accuracy over seeds is above the teacher's. "
    "No test of significance is made. Other values whose mean is not above it, and values "
    "without a result, are named."
)


@dataclasses.dataclass(frozen=True)
class _Axes:
    """The axes of data and of sizes, each None if there is none, and the others.

    Attributes:
      amount, size: places in `Groups.axes`.
      amounts, sizes: their values, from the smallest; (None,) without such an axis.
      rest: places of the other axes.
    """

    amount: int | None
    size: int | None
    amounts: tuple[Value | None, ...]
    sizes: tuple[Value | None, ...]
    rest: tuple[int, ...]

    def key(self, setting: Setting) -> tuple[Setting, Value | None, Value | None]:
        """The values of the other axes, the size and the amount of data of a setting."""
        rest = tuple(setting[place] for place in self.rest)
        size = None if self.size is None else setting[self.size]
        return rest, size, None if self.amount is None else setting[self.amount]


def section(groups: Groups) -> Section | None:
    """The table; None without a teacher, or without an axis of sizes or of amounts of data."""
    axes = _find_axes(groups)
    if axes.amount is None and axes.size is None:
        return None
    cells: dict[Setting, dict[tuple[str, Value | None, Value | None], Cell]] = {}
    for cell in groups.cells:
        rest, size, amount = axes.key(cell.setting)
        cells.setdefault(rest, {})[cell.method, size, amount] = cell
    rows = [
        [*map(show, rest), method, *row]
        for rest, found in cells.items()
        for method in groups.methods
        if (row := _row(axes, found, method)) is not None
    ]
    if not rows:
        return None
    what = f"size of the student ({groups.axes[axes.size]})" if axes.size is not None else ""
    columns = [f"smallest {groups.axes[axes.size]}"] if axes.size is not None else []
    if axes.amount is not None:
        name = groups.axes[axes.amount]
        what = f"amount of data ({name})"
        columns = [f"smallest {name}"]
        if axes.size is not None:
            columns = [f"smallest {name}, {groups.axes[axes.size]} {show(s)}" for s in axes.sizes]
    names = [groups.axes[place] for place in axes.rest]
    header = [*names, groups.compared, "teacher", *columns]
    table = Table("First beats the teacher", header, rows, headings=len(names) + 1)
    return Section("beating", "Beating the teacher", [Text(_TEXT.format(what=what)), table])


def _find_axes(groups: Groups) -> _Axes:
    places = range(len(groups.axes))
    found = {place: values for place in places if (values := find_amounts(groups, place))}
    amount = next(iter(found), None)
    amounts = (None,) if amount is None else _sorted(found[amount])
    size, sizes = None, tuple[Value | None, ...]((None,))
    for place in places:
        if place in found or size is not None:
            continue
        if (parameters := find_sizes(groups, place)) is not None:
            size, sizes = place, _sorted(parameters)
        elif groups.axes[place] == _SIZE:
            size = place
            sizes = tuple(dict.fromkeys(setting[place] for setting in groups.settings))
    rest = tuple(place for place in places if place not in (amount, size))
    return _Axes(amount, size, amounts, sizes, rest)


def _sorted(values: Mapping[Value | None, float]) -> tuple[Value | None, ...]:
    return tuple(sorted(values, key=lambda value: values[value]))


def _row(
    axes: _Axes,
    cells: Mapping[tuple[str, Value | None, Value | None], Cell],
    method: str,
) -> list[str | Entry] | None:
    """The teacher, and what beats it first; None if the method or its teacher is not known."""
    teachers = find_teachers([*cells.values()])
    teacher = next((t for t in teachers if not t.methods or method in t.methods), None)
    own = {(s, a): cell for (name, s, a), cell in cells.items() if name == method}
    if teacher is None or not own:
        return None
    shown = Entry(f"{teacher.accuracy:.3f}", [teacher.where])
    if axes.amount is None:
        return [shown, _first(own, [(size, None) for size in axes.sizes], teacher, 0)]
    places = ([(size, amount) for amount in axes.amounts] for size in axes.sizes)
    return [shown, *(_first(own, each, teacher, 1) for each in places)]


def _first(
    cells: Mapping[tuple[Value | None, Value | None], Cell],
    places: list[tuple[Value | None, Value | None]],
    teacher: Teacher,
    shown: int,
) -> Entry:
    """The first of some sizes and amounts, from the smallest, whose mean is above the teacher's.

    Args:
      cells: of a method, by size and amount.
      places: the sizes and amounts.
      teacher: its accuracy.
      shown: which of the two is named: 0 for the size, 1 for the amount.
    """
    means = {place: cells[place].mean for place in places if place in cells and cells[place].mean}
    missing = [show(place[shown]) for place in places if place not in means]
    details = [f"no result: {', '.join(missing)}"] if missing else []
    if not means:
        return Entry("not run", details)
    above = [place for place, mean in means.items() if mean and mean.mean > teacher.accuracy]
    if not above:
        return Entry("never", details)
    first = above[0]
    later = [*means][[*means].index(first) + 1 :]
    below = [show(place[shown]) for place in later if place not in above]
    if below:
        details.insert(0, f"not above it: {', '.join(below)}")
    mean = means[first]
    assert mean is not None
    return Entry(show(first[shown]), [f"accuracy {mean.mean:.3f}", *details])
