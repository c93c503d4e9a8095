"""What the report plots: accuracy over axes, training, cost and calibration, by setting."""

from __future__ import annotations

import collections
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from distill.report.axes import find_numbers
from distill.report.calibration import reliability_bins, risk_coverage
from distill.report.groups import Cell, Groups, Setting, show
from distill.report.plots import Plot, Series
from distill.report.teachers import find_teachers
from distill.results.record import Value

MOST = 12  # plots of a kind
_POINTS = 200  # of a line
_LOG_FROM = 8  # largest over smallest x from which on the axis is logarithmic


@dataclasses.dataclass(frozen=True)
class Charts:
    """Plots of a kind.

    Attributes:
      plots: at most MOST.
      omitted: how many more there are.
    """

    plots: tuple[Plot, ...]
    omitted: int


def _limited(plots: Iterable[Plot]) -> Charts:
    found = tuple(plots)
    return Charts(found[:MOST], max(0, len(found) - MOST))


def _fair(kinds: Iterable[Iterable[Plot]]) -> Charts:
    """At most MOST plots: as many of each kind, as far as there are, and evenly from its plots."""
    found = [tuple(plots) for plots in kinds]
    turns = sorted((turn, kind) for kind, plots in enumerate(found) for turn in range(len(plots)))
    counts = collections.Counter(kind for _, kind in turns[:MOST])
    chosen = [
        plots[turn * len(plots) // counts[kind]]
        for kind, plots in enumerate(found)
        for turn in range(counts[kind])
    ]
    return Charts(tuple(chosen), len(turns) - len(chosen))


def accuracy(groups: Groups) -> Charts:
    """Accuracy over each axis of numbers, a plot for each setting of the other axes.

    An axis of names, each of which goes with one number of parameters, is drawn over these.
    Settings of which no curve can be drawn stand side by side in one more plot.
    """
    found = [list(_curves(groups, place)) for place in range(len(groups.axes))]
    drawn = {setting for curves in found for _, settings in curves for setting in settings}
    others = _side_by_side(groups, [each for each in groups.settings if each not in drawn])
    return _fair([*([plot for plot, _ in curves] for curves in found), others])


def _curves(groups: Groups, place: int) -> Iterator[tuple[Plot, set[Setting]]]:
    """Plots over an axis, and the settings in each."""
    axis, numbers = groups.axes[place], find_numbers(groups, place)
    if numbers is None:
        return
    by_rest: dict[Setting, list[Cell]] = {}
    for cell in groups.cells:
        if cell.setting[place] in numbers and cell.mean is not None:
            rest = (*cell.setting[:place], *cell.setting[place + 1 :])
            by_rest.setdefault(rest, []).append(cell)
    names = (*groups.axes[:place], *groups.axes[place + 1 :])
    is_size = any(isinstance(value, str) for value in numbers)
    label = f"parameters ({axis})" if is_size else axis
    for rest, cells in by_rest.items():
        if len({cell.setting[place] for cell in cells}) < 2:
            continue
        series = [
            _accuracies(groups, method, [c for c in cells if c.method == method], place, numbers)
            for method in groups.methods
            if any(c.method == method for c in cells)
        ]
        where = ", ".join(f"{n} {show(v)}" for n, v in zip(names, rest, strict=True))
        xs = sorted({x for each in series for x in each.x})
        plot = Plot(
            f"Accuracy by {label}" + (f": {where}" if where else ""),
            label,
            "test accuracy",
            series,
            _teacher(cells),
            log=xs[0] > 0 and xs[-1] / xs[0] >= _LOG_FROM,
            ticks=xs if len(xs) <= 6 else (),
            names=[f"{x / 1e6:,.4g}M" for x in xs] if xs[0] >= 1e6 and len(xs) <= 6 else (),
            limits=_limits(series, _teacher(cells)),
        )
        yield plot, {cell.setting for cell in cells}


def _side_by_side(groups: Groups, settings: Sequence[Setting]) -> Iterator[Plot]:
    """Accuracy of each method in some settings: in the first ones, if many."""
    settings, series = settings[:MOST], []
    shown = {cell.method for setting in settings for cell in groups.cells_of(setting)}
    methods = [method for method in groups.methods if method in shown]
    for place, method in enumerate(methods):
        shift = (place - (len(methods) - 1) / 2) * 0.6 / len(methods)
        cells = [(x, groups.by_place.get((method, s))) for x, s in enumerate(settings)]
        known = [(x + shift, c.mean.mean, c.interval) for x, c in cells if c is not None and c.mean]
        if known:
            lows = [ends[0] if ends else y for _, y, ends in known]
            highs = [ends[1] if ends else y for _, y, ends in known]
            xs, ys = [x for x, _, _ in known], [y for _, y, _ in known]
            series.append(Series(method, groups.methods.index(method), xs, ys, lows, highs))
    if not series:
        return
    if len(settings) == 1:
        title, label = f"Accuracy: {groups.name(settings[0])}", groups.compared
        ticks, names = [each.x[0] for each in series], [each.name for each in series]
    else:
        title, label = "Accuracy by setting", ", ".join(groups.axes)
        ticks = [*map(float, range(len(settings)))]
        names = [", ".join(map(show, setting)) for setting in settings]
    levels = _teacher([cell for s in settings for cell in groups.cells_of(s)])
    limits = _limits(series, levels)
    yield Plot(
        title,
        label,
        "test accuracy",
        series,
        levels,
        style="dots",
        ticks=ticks,
        names=names,
        limits=limits,
    )


def _accuracies(
    groups: Groups,
    method: str,
    cells: Sequence[Cell],
    place: int,
    numbers: dict[Value | None, float],
) -> Series:
    ordered = sorted(cells, key=lambda cell: numbers[cell.setting[place]])
    means = [cell.mean.mean for cell in ordered if cell.mean is not None]
    ends = [cell.interval or (mean, mean) for cell, mean in zip(ordered, means, strict=True)]
    return Series(
        method,
        groups.methods.index(method),
        [numbers[cell.setting[place]] for cell in ordered],
        means,
        [low for low, _ in ends],
        [high for _, high in ends],
    )


def _teacher(cells: Sequence[Cell]) -> list[tuple[str, float]]:
    return [(teacher.name, teacher.accuracy) for teacher in find_teachers(cells)]


def _limits(
    series: Sequence[Series], levels: Sequence[tuple[str, float]]
) -> tuple[float, float] | None:
    """Accuracies from a tenth below the lowest end to a tenth above the highest one."""
    ends = [end for each in series for end in (*each.low, *each.high, *each.y)]
    ends += [height for _, height in levels]
    low, high = min(ends), max(ends)
    margin = max(0.02, (high - low) / 10)
    return max(0.0, low - margin), min(1.02, high + margin)


def training(groups: Groups) -> Charts:
    """Validation accuracy and loss over steps: means over seeds, and their range as a band."""
    return _limited(_training(groups))


def _training(groups: Groups) -> Iterator[Plot]:
    for setting in groups.settings:
        for key, label in (("validation_accuracy", "validation accuracy"), ("loss", "loss")):
            series = [
                line
                for cell in groups.cells_of(setting)
                if (line := _metric(groups, cell, key)) is not None
            ]
            if series:
                title = f"{label[0].upper()}{label[1:]}: {groups.name(setting)}"
                yield Plot(title, "step", label, series, style="band")


def _metric(groups: Groups, cell: Cell, key: str) -> Series | None:
    by_step: dict[float, list[float]] = {}
    for run in cell.runs:
        for line in run.metrics:
            step, value = _number(line.get("step")), _number(line.get(key))
            if step is not None and value is not None:
                by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    steps = steps[:: -(-len(steps) // _POINTS)] if steps else []
    if len(steps) < 2:
        return None
    values = [by_step[step] for step in steps]
    return Series(
        cell.method,
        groups.methods.index(cell.method),
        steps,
        [statistics.fmean(each) for each in values],
        [min(each) for each in values],
        [max(each) for each in values],
    )


def _number(value: object) -> float | None:
    """The value, if it is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def costs(groups: Groups) -> Charts:
    """Accuracy against the operations of training, where records have them."""
    title, label = "Accuracy by training FLOPs", "floating-point operations of training"
    plot = against(groups, title, label, lambda cell: cell.average(lambda r: r.train_flops))
    return Charts((plot,) if plot else (), 0)


def against(
    groups: Groups, title: str, label: str, cost: Callable[[Cell], float | None]
) -> Plot | None:
    """Accuracy against a cost, a point for each method in each setting; None without points.

    Args:
      groups: the runs.
      title: of the plot.
      label: of the cost.
      cost: of a method in a setting, above 0; None where it is not known.
    """
    series = []
    for index, method in enumerate(groups.methods):
        cells = [cell for cell in groups.cells if cell.method == method]
        points = [(cost(cell), cell.mean) for cell in cells]
        known = [(x, mean.mean) for x, mean in points if x and x > 0 and mean is not None]
        if known:
            series.append(Series(method, index, *map(list, zip(*known, strict=True))))
    if not series:
        return None
    ticks = _log_ticks([x for each in series for x in each.x])
    limits = _limits(series, [])
    return Plot(
        title, label, "test accuracy", series, log=True, style="dots", ticks=ticks, limits=limits
    )


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Powers of 10 around the values, with 2 and 5 times them where they are few."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = [step * 10.0**power for power in range(low - 1, high + 2) for step in steps]
    first = max(tick for tick in ticks if tick <= min(values))
    last = min(tick for tick in ticks if tick >= max(values))
    return [tick for tick in ticks if first <= tick <= last]


def pooled(cell: Cell) -> tuple[np.ndarray, np.ndarray] | None:
    """Probabilities of a method's answers, and which are correct, over its seeds; None without."""
    answers = [run.answers for run in cell.runs if run.answers is not None]
    pairs = [
        (each.probability_N, each.ranked_correct_N)
        for each in answers
        if each.probability_N is not None and each.ranked_correct_N is not None
    ]
    if not pairs:
        return None
    return np.concatenate([p for p, _ in pairs]), np.concatenate([c for _, c in pairs])


def calibration(groups: Groups) -> Charts:
    """Reliability, and risk against coverage, for each setting."""
    return _limited(_calibration(groups))


def _calibration(groups: Groups) -> Iterator[Plot]:
    for setting in groups.settings:
        reliability, risks = [], []
        for cell in groups.cells_of(setting):
            if (found := pooled(cell)) is None:
                continue
            index = groups.methods.index(cell.method)
            points = [
                (each.confidence, each.accuracy)
                for each in reliability_bins(*found)
                if each.confidence is not None and each.accuracy is not None
            ]
            xs, ys = map(list, zip(*points, strict=True))
            reliability.append(Series(cell.method, index, xs, ys))
            coverage, risk = risk_coverage(*found)
            chosen = np.unique(np.linspace(0, len(coverage) - 1, _POINTS).astype(int))
            xs, ys = coverage[chosen].tolist(), risk[chosen].tolist()
            risks.append(Series(cell.method, index, xs, ys))
        if reliability:
            name = groups.name(setting)
            yield Plot(
                f"Reliability: {name}",
                "probability of the answer",
                "share that is correct",
                reliability,
                diagonal=True,
                limits=(0.0, 1.02),
            )
            yield Plot(f"Risk: {name}", "coverage", "share that is wrong", risks, style="band")
