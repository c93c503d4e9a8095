"""Paired tests of methods in each setting, corrected for the number of comparisons."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from distill.report.groups import Cell, Groups, Setting
from distill.report.statistics import (
    Difference,
    best_of_all,
    crossed_bootstrap,
    crossed_test,
    holm,
    mcnemar_exact,
    nested_bootstrap,
    nested_test,
)

LEVEL = 0.05  # of significance, after the correction


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A method against another one on the same test rows.

    Attributes:
      setting: of both.
      first, second: the methods; differences are second minus first.
      seeds: that both have, with predictions of the same test rows.
      rows: test rows of each seed, or of all seeds if they share them.
      shared: whether all seeds answer the same test rows.
      test: over seeds and rows; None with a single seed.
      bootstrap: percentile interval of the difference; None as for `test`.
      mcnemar: p-value of each seed, whose students it compares.
      adjusted: p-value of `test` after the correction of the report; None as for `test`.
      note: why there is no test, or why it leaves seeds out; "" if it has all of them.
    """

    setting: Setting
    first: str
    second: str
    seeds: tuple[int, ...]
    rows: int
    shared: bool
    test: Difference | None
    bootstrap: tuple[float, float] | None
    mcnemar: tuple[float, ...]
    adjusted: float | None
    note: str

    @property
    def mark(self) -> int:
        """1 if the second method is significantly better, -1 if it is worse, else 0."""
        if self.test is None or self.adjusted is None or self.adjusted >= LEVEL:
            return 0
        return 1 if self.test.mean > 0 else -1


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """All comparisons of a report.

    Attributes:
      against_first: of the first method with each other one, by setting and method.
      best: the method of a setting that is significantly better than every other one.
      number: of p-values that the correction takes into account.
    """

    against_first: dict[tuple[Setting, str], Comparison]
    best: dict[Setting, str]
    number: int

    def mark(self, setting: Setting, method: str) -> int:
        """`Comparison.mark` of a method; 0 for the first one."""
        found = self.against_first.get((setting, method))
        return found.mark if found else 0


def compare_all(groups: Groups) -> Comparisons:
    """Compares each method with the first one, and the highest with all others, in each setting.

    Args:
      groups: the cells.
    """
    found: dict[tuple[Setting, str], Comparison] = {}
    highest: dict[Setting, tuple[str, float]] = {}
    for setting in groups.settings:
        cells = groups.cells_of(setting)
        first = groups.methods[0]
        if cells[0].method == first:
            for cell in cells[1:]:
                found[setting, cell.method] = compare(cells[0], cell)
        if (claim := _best_of(cells, found)) is not None:
            highest[setting] = claim
    tests = [(place, each.test.p) for place, each in found.items() if each.test is not None]
    # Where the first method has one rival, the comparison of the two is that of the best, too.
    rivals = collections.Counter(setting for setting, _ in found)
    claims = [(setting, p) for setting, (_, p) in highest.items() if rivals[setting] != 1]
    adjusted = holm([p for _, p in (*tests, *claims)])
    of_best: dict[Setting, float] = {}
    for (place, _), corrected in zip(tests, adjusted[: len(tests)], strict=True):
        found[place] = dataclasses.replace(found[place], adjusted=corrected)
        if rivals[place[0]] == 1:
            of_best[place[0]] = corrected
    for (setting, _), corrected in zip(claims, adjusted[len(tests) :], strict=True):
        of_best[setting] = corrected
    best = {s: method for s, (method, _) in highest.items() if of_best[s] < LEVEL}
    return Comparisons(found, best, len(adjusted))


def _best_of(
    cells: Sequence[Cell], found: dict[tuple[Setting, str], Comparison]
) -> tuple[str, float] | None:
    """The method with the highest mean, and the p-value of its being better than all others.

    None if there is no other, if means are equal, or if one of the comparisons cannot be made.
    """
    if len(cells) < 2 or any(cell.mean is None for cell in cells):
        return None
    means = [cell.mean.mean for cell in cells if cell.mean is not None]
    top = cells[int(np.argmax(means))]
    if means.count(max(means)) > 1:
        return None
    p_values = []
    for cell in cells:
        if cell is top:
            continue
        first, second = (top, cell) if top is cells[0] else (cell, top)
        known = found.get((top.setting, second.method)) if first is cells[0] else None
        made = known or compare(first, second)
        if made.test is None:
            return None
        if (made.test.mean > 0) != (second is top):  # on the seeds that both have, it is not higher
            return None
        p_values.append(made.test.p)
    return top.method, best_of_all(p_values)


def compare(first: Cell, second: Cell) -> Comparison:
    """Compares two methods on the seeds that both have.

    Args:
      first, second: cells of the same setting.

    Returns:
      The comparison, without `adjusted`.
    """
    ours = {run.record.seed: run.answers for run in first.runs}
    theirs = {run.record.seed: run.answers for run in second.runs}
    common = [seed for seed in ours if seed in theirs]
    seeds, differences, digests, p_values, note = [], [], [], [], ""
    for seed in common:
        one, other = ours[seed], theirs[seed]
        if one is None or other is None:
            note = note or f"seed {seed}: predictions are missing"
        elif one.rows is not other.rows:
            note = note or f"seed {seed}: the test rows are not the same"
        else:
            seeds.append(seed)
            digests.append(one.rows.digest)
            differences.append(other.correct_N.astype(np.int8) - one.correct_N.astype(np.int8))
            counts = int((differences[-1] < 0).sum()), int((differences[-1] > 0).sum())
            p_values.append(mcnemar_exact(*counts))
    if not common:
        note = "no seed in common"
    shared = len({*digests}) == 1
    test, bootstrap = None, None
    if len(seeds) >= 2:
        if shared and len(differences[0]) >= 2:
            test = crossed_test(np.stack(differences))
            bootstrap = crossed_bootstrap(np.stack(differences))
        else:
            test, bootstrap = nested_test(differences), nested_bootstrap(differences)
    elif not note:
        note = "one seed in common: McNemar's test compares two students, not two methods"
    rows = sum(map(len, differences[: 1 if shared else None]))
    return Comparison(
        first.setting,
        first.method,
        second.method,
        tuple(seeds),
        rows,
        shared,
        test,
        bootstrap,
        tuple(p_values),
        None,
        note,
    )
