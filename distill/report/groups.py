"""Runs that differ in their seed alone, as cells of tables: methods by settings."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence

from distill.errors import UserError, hint
from distill.report.runs import Run
from distill.report.statistics import Mean, mean_interval
from distill.results.record import Record, Value

METHOD, BASELINE = "method", "finetune"
# What tells runs apart where their axes do not, first the fields that say most.
_FIELDS = ("dataset", "labels", "parameters", "steps", "batch_size", "label_weight", "sweep")
Setting = tuple[Value | None, ...]  # a value for each of Groups.axes


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run of a sweep file.

    Attributes:
      run: its id, as in records.
      sweep: name of the sweep.
      axes: its values.
      seed: its seed.
    """

    run: str
    sweep: str
    axes: Mapping[str, Value]
    seed: int


@dataclasses.dataclass(frozen=True)
class Cell:
    """The runs of a method in a setting.

    Attributes:
      method: value of the axis that is compared.
      setting: values of the other axes.
      runs: one a seed, in order of the seeds.
    """

    method: str
    setting: Setting
    runs: tuple[Run, ...]

    @functools.cached_property
    def mean(self) -> Mean | None:
        """Mean accuracy over seeds; None if no run has one."""
        found = [run.record.accuracy for run in self.runs]
        accuracies = [each for each in found if each is not None]
        return mean_interval(accuracies) if accuracies else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """What is shown of the mean: the t interval within 0 and 1, or that of a single run."""
        mean = self.mean
        if mean is None:
            return None
        if mean.low is None or mean.high is None:
            return next(run.record.interval for run in self.runs if run.record.accuracy is not None)
        return max(0.0, mean.low), min(1.0, mean.high)

    def average(self, of: Callable[[Record], float | None]) -> float | None:
        """Mean over the runs of something that records may have; None if none has it."""
        found = [value for run in self.runs if (value := of(run.record)) is not None]
        return statistics.fmean(found) if found else None


@dataclasses.dataclass(frozen=True)
class Groups:
    """All cells of a report.

    Attributes:
      compared: name of the axis whose values are compared.
      methods: these values; the first is what the others are compared with.
      axes: names of the other axes that differ between runs.
      constant: axes that are the same in all runs, with their value.
      cells: sorted by setting and method.
      repeated: runs of the same cell and seed as another one, which is taken.
    """

    compared: str
    methods: tuple[str, ...]
    axes: tuple[str, ...]
    constant: Mapping[str, Value | None]
    cells: tuple[Cell, ...]
    repeated: tuple[Record, ...]

    @functools.cached_property
    def settings(self) -> list[Setting]:
        """The settings, in order."""
        return list(dict.fromkeys(cell.setting for cell in self.cells))

    @functools.cached_property
    def by_place(self) -> dict[tuple[str, Setting], Cell]:
        """The cells by method and setting."""
        return {(cell.method, cell.setting): cell for cell in self.cells}

    def cells_of(self, setting: Setting) -> list[Cell]:
        """The cells of a setting, in the order of the methods."""
        places = ((method, setting) for method in self.methods)
        return [self.by_place[place] for place in places if place in self.by_place]

    def name(self, setting: Setting) -> str:
        """A setting in words, e.g. "labels 500, policy hard"; "all runs" without axes."""
        pairs = zip(self.axes, setting, strict=True)
        return ", ".join(f"{axis} {show(value)}" for axis, value in pairs) or "all runs"


def show(value: Value | None) -> str:
    """The value of an axis as text; "-" where a run does not have the axis."""
    if value is None:
        return "-"
    return f"{value:,}" if type(value) is int else str(value)


def value_of(record: Record, name: str) -> Value | None:
    """The value of an axis or, where the run has no such axis, of a field."""
    if name in record.axes:
        return record.axes[name]
    return getattr(record, name) if name in (METHOD, *_FIELDS) else None


def make_groups(
    runs: Sequence[Run],
    compare: str = METHOD,
    baseline: str | None = None,
    planned: Sequence[Planned] = (),
) -> Groups:
    """Puts runs that differ in their seed alone together.

    Axes with which several runs have the same seed are not all that tells them apart. The fields of
    records that do are then axes too.

    Args:
      runs: finished runs.
      compare: axis whose values are compared; `method` is the macro METHOD if no axis has that
        name.
      baseline: the value that others are compared with; None takes finetune or else the first.
      planned: the runs of the sweep files, which give the order of values; others come after them.

    Raises:
      UserError: no run has the axis `compare`, or the value `baseline` in it.
    """
    records = [run.record for run in runs]
    names = list(dict.fromkeys(name for record in records for name in record.axes))
    if compare != METHOD and compare not in names:
        known = hint(compare, [METHOD, *names])
        raise UserError(f"got --compare={compare}, expected an axis of the runs; {known}")
    others = [name for name in names if name != compare]
    for field in (METHOD, *_FIELDS):
        if field not in (compare, *others) and _tells_apart(records, compare, others, field):
            others.append(field)
    varying = [name for name in others if len({value_of(r, name) for r in records}) > 1]
    places: dict[tuple[str, Setting], dict[int, Run]] = {}
    repeated = []
    for run in runs:
        setting = tuple(value_of(run.record, name) for name in varying)
        seeds = places.setdefault((show(value_of(run.record, compare)), setting), {})
        if run.record.seed in seeds:
            repeated.append(run.record)
        else:
            seeds[run.record.seed] = run
    orders = [_order(name, records, planned) for name in (compare, *varying)]
    methods = _methods([method for method, _ in places], orders[0], baseline)
    cells = [
        Cell(method, setting, tuple(seeds[seed] for seed in sorted(seeds)))
        for (method, setting), seeds in places.items()
    ]
    cells.sort(
        key=lambda cell: (
            [order.index(value) for order, value in zip(orders[1:], cell.setting, strict=True)],
            methods.index(cell.method),
        )
    )
    constant = {name: value_of(records[0], name) for name in others if name not in varying}
    return Groups(compare, methods, tuple(varying), constant, tuple(cells), tuple(repeated))


def _tells_apart(
    records: Sequence[Record], compare: str, others: Sequence[str], field: str
) -> bool:
    """Whether a field differs between runs that have the same axes and the same seed."""
    values: dict[tuple[Value | None, ...], set[Value | None]] = {}
    for record in records:
        place = (record.seed, *(value_of(record, name) for name in (compare, *others)))
        values.setdefault(place, set()).add(value_of(record, field))
    return any(len(found) > 1 for found in values.values())


def _order(name: str, records: Sequence[Record], planned: Sequence[Planned]) -> list[Value | None]:
    """The values of an axis: numbers by size, others as in the sweep files or as they come."""
    values = [value_of(record, name) for record in records]
    numbers = [value for value in values if type(value) in (int, float)]
    if len(numbers) == len(values):
        return sorted(dict.fromkeys(numbers))  # type: ignore[type-var]  # all are numbers
    first = [each.axes[name] for each in planned if name in each.axes]
    return [value for value in dict.fromkeys([*first, *values]) if value in {*values}]


def _methods(
    found: Sequence[str], order: Sequence[Value | None], baseline: str | None
) -> tuple[str, ...]:
    """The methods in order, the baseline first."""
    methods = [show(value) for value in order if show(value) in found]
    if baseline is not None and baseline not in methods:
        raise UserError(
            f"got --baseline={baseline}, which is no value of the axis that is compared; "
            f"{hint(baseline, methods)}"
        )
    first = baseline or (BASELINE if BASELINE in methods else None)
    return tuple(sorted(dict.fromkeys(methods), key=lambda method: method != first))
