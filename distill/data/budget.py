"""Label budgets: which rows a run with n labels may see.

Rows are ranked by a seeded hash of their id and a budget takes the first n. Whether a
rank trains or validates depends on the rank alone, or, for datasets whose rows come in
groups, on the group alone. So the rows of 250 labels are among those of 500, for training as
for validation, and do not depend on the file's order.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np

from distill.common.hashing import digest64, uniform
from distill.common.phrases import are, number_of, with_counts
from distill.config.data import LABEL_SOURCES
from distill.data.examples import Example, Failure
from distill.data.mapping.unused import unused_fields
from distill.data.row_file import take
from distill.errors import UserError, unknown

# Labels outside the choices: how many different ones are counted, and how many of them are kept
_MOST_DISTINCT, _MOST_NAMED = 10_000, 3


@dataclasses.dataclass(frozen=True, slots=True)
class BudgetCounts:
    """How many rows went where.

    Attributes:
      rows: rows given.
      dropped: rows without a label of the wanted source.
      train: rows chosen for training.
      validation: rows chosen for validation.
      reasons: why the dropped rows have no label, and how many each: the teacher's failure, or
        "no gold label" and "no teacher label".
      outside: the most frequent labels of the teacher that are none of the choices, and how many
        dropped rows had each.
    """

    rows: int
    dropped: int
    train: int
    validation: int
    reasons: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False, hash=False)
    outside: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False, hash=False)


def order(
    examples: Iterable[Example], seed: int, keep: Callable[[Example], bool] = lambda _: True
) -> np.ndarray:
    """Indices [M] of the wanted rows by a seeded 64-bit hash of their ids.

    A shuffle that ignores their old order (but for equal hashes, which some two of a million
    rows have with a chance of 3e-8). Looks at each row once and keeps none.
    """
    indices, keys = array("q"), array("Q")
    for index, row in enumerate(examples):
        if keep(row):
            indices.append(index)
            keys.append(digest64("budget", seed, row.id))
    ranked = np.argsort(np.frombuffer(keys, np.uint64), kind="stable")
    return np.frombuffer(indices, np.int64)[ranked]


def is_validation(rank: int, fraction: float) -> bool:
    """Whether the row of this rank (from 0) is held out.

    Of the first n ranks, floor(n * fraction) are, spread evenly, for each n at once.

    Args:
      rank: place of the row in the seeded order.
      fraction: validation share, in [0, 1), taken as the decimal number it is written as
        (so .29 of 100 rows are 29 and not 28).
    """
    share = Fraction(str(fraction))
    return (rank + 1) * share // 1 > rank * share // 1


def _label_counter(
    label_source: str, reasons: Counter[str], outside: Counter[str]
) -> Callable[[Example], bool]:
    """Whether a row has a label; counts why not, and labels that are none of the choices."""

    def has_label(row: Example) -> bool:
        if label_of(row, label_source) is not None:
            return True
        failure = row.failure if label_source == "teacher" else None
        reasons[str(failure or f"no {label_source} label")] += 1
        label = row.outside_label if label_source == "teacher" else None
        if label is not None and (label in outside or len(outside) < _MOST_DISTINCT):
            outside[label] += 1
        return False

    return has_label


def split_budget(
    examples: Sequence[Example],
    num_labels: int,
    validation_fraction: float,
    seed: int,
    label_source: str,
    group: Callable[[Example], str] | None = None,
    label_fraction: float = 1.0,
) -> tuple[Sequence[Example], Sequence[Example], BudgetCounts]:
    """Chooses `num_labels` rows and holds a part of them out for validation.

    Rows without a label of the source are dropped first, so that each method gets as
    many labels as the budget says; where none is missing, all methods get the same rows.

    Args:
      examples: N rows of the training split.
      num_labels: the budget, training and validation together; 0 takes all rows.
      validation_fraction: share of the budget to validate on, in [0, 1).
      seed: seeds the order.
      label_source: "gold" or "teacher".
      group: names what must not be on both sides, such as the premise of an inference row;
        the share of validation rows is then near the fraction and not exactly it.
      label_fraction: without `num_labels`, the budget as a share of the rows that have a label,
        in (0, 1], rounded down.

    Returns:
      Training rows, validation rows (none if the fraction is 0), and the counts. Rows of a
      `RowFile` stay on disk.

    Raises:
      UserError: more labels than rows that have one, or an empty subset.
    """
    if label_source not in LABEL_SOURCES:
        raise unknown("label source", label_source, LABEL_SOURCES, "macro LABEL_SOURCE")
    if not 0 <= validation_fraction < 1:
        raise UserError(
            f"got VALIDATION_FRACTION = {validation_fraction}, expected a number >= 0 and < 1"
        )
    if num_labels < 0:
        raise UserError(f"got NUM_LABELS = {num_labels}, expected 0 (all rows) or more")
    reasons: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    usable = order(examples, seed, _label_counter(label_source, reasons, outside))
    dropped = len(examples) - len(usable)
    without = _without_label(len(examples), dropped, label_source, reasons, outside)
    chosen = usable[: _size(num_labels, label_fraction, len(usable), without)]
    if group:
        held_out = (
            uniform("validation", seed, group(row)) < validation_fraction
            for row in take(examples, chosen)
        )
    else:
        held_out = (is_validation(rank, validation_fraction) for rank in range(len(chosen)))
    is_held = np.fromiter(held_out, bool, len(chosen))
    train, validation = take(examples, chosen[~is_held]), take(examples, chosen[is_held])
    limit = "NUM_LABELS" if num_labels else "LABEL_FRACTION"
    more = f"raise {limit}" if len(chosen) < len(usable) else "give more rows"
    if not train:
        change = "set LABEL_SOURCE to labels that exist"
        if outside:
            change = "correct LABELS or `choices`"
        elif not len(usable):
            field = "label" if label_source == "gold" else "teacher_label"
            change += unused_fields(examples, f"or map `{field}` in FIELDS")
        raise UserError(
            f"no training rows: {number_of(len(chosen), 'label')}{without}, VALIDATION_FRACTION = "
            f"{validation_fraction}; {more}, or {change}"
        )
    if validation_fraction and not validation:
        raise UserError(
            f"no validation rows: VALIDATION_FRACTION = {validation_fraction} of "
            f"{number_of(len(chosen), 'label')} is less than one row; {more}, or set "
            "VALIDATION_FRACTION to 0"
        )
    sizes = len(examples), dropped, len(train), len(validation)
    counts = BudgetCounts(*sizes, dict(reasons), dict(outside.most_common(_MOST_NAMED)))
    return train, validation, counts


def _without_label(
    rows: int,
    dropped: int,
    label_source: str,
    reasons: Mapping[str, int],
    outside: Counter[str],
) -> str:
    """Why rows have no label, in brackets; "" if all have one."""
    count = reasons.get(Failure.LABEL_OUTSIDE_SET, 0) if outside else 0
    told = []
    if dropped > count or not count:
        told.append(f"{dropped - count} of {rows} have no {label_source} label")
    if count:
        told.append(
            f"{count} of {rows} have a {label_source} label that is not one of LABELS or of the "
            f"row's `choices`: {with_counts(dict(outside.most_common()))}"
        )
    return f" ({'; '.join(told)})" if dropped else ""


def _size(num_labels: int, label_fraction: float, usable: int, without: str) -> int:
    """Rows of the budget, of `usable` rows that have a label."""
    if num_labels > usable:
        raise UserError(
            f"got NUM_LABELS = {num_labels}, but there {are(usable)} only "
            f"{number_of(usable, 'row')}{without}; set NUM_LABELS to at most "
            f"{usable}, or to 0 to use all of them"
        )
    size = num_labels or int(Fraction(str(label_fraction)) * usable)
    if usable and not size:
        least = math.ceil(1e6 / usable) / 1e6
        raise UserError(
            f"LABEL_FRACTION = {label_fraction} of {number_of(usable, 'row')}{without} is less "
            f"than one row; raise LABEL_FRACTION to at least {least:g}, or set NUM_LABELS"
        )
    return size


def hold_out(
    rows: Sequence[Example], fraction: float, seed: int, label_source: str = "gold"
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Holds test rows out of a user's rows; equal inputs lie on one side.

    The side depends on (seed, input) alone, case and spacing evened out, so the share of test
    rows is near `fraction` and not exactly it, and does not depend on the other rows.

    Args:
      rows: N rows.
      fraction: expected share of test inputs, between 0 and 1.
      seed: seeds the sides.
      label_source: of the run, for the error message.

    Returns:
      Training and test rows in their order; those of a `RowFile` stay on disk.

    Raises:
      UserError: a fraction outside (0, 1), an empty side, or no test row with a gold label.
    """
    check_fraction(fraction)
    is_test, labeled, gold = np.zeros(len(rows), bool), 0, 0
    for index, row in enumerate(rows):
        gold += row.label is not None
        if uniform("test", seed, " ".join(row.input.casefold().split())) < fraction:
            is_test[index] = True
            labeled += row.label is not None
    count = int(is_test.sum())
    teacher = "" if label_source == "teacher" else "--gin.LABEL_SOURCE=teacher and "
    fix = (
        f"To train on the teacher's labels without a test, set {teacher}--gin.TEST_FRACTION=0. To "
        "get a test score, add `label` to the rows, or set TEST_FILE to rows that have it"
    )
    if not gold and not 0 < count < len(rows):
        raise UserError(
            f"TEST_FRACTION = {fraction} needs rows with a gold label (the field `label`) for the "
            f"test, but none of the {len(rows):,} rows has one. {fix}"
        )
    if not 0 < count < len(rows):
        raise UserError(
            f"TEST_FRACTION = {fraction} of {len(rows)} rows gave {count} test rows, expected at "
            "least one training row and one test row; give more rows, or a TEST_FILE"
        )
    if not labeled:
        found = f"{gold:,} of all {len(rows):,} rows have one" if gold else "no other row has one"
        raise UserError(
            f"TEST_FRACTION = {fraction} holds out {count} of {len(rows)} rows for the test, but "
            f"none of them has a gold label (the field `label`) to be scored with ({found}). {fix}"
        )
    return take(rows, np.flatnonzero(~is_test)), take(rows, np.flatnonzero(is_test))


def check_fraction(fraction: float) -> None:
    """Refuses a TEST_FRACTION outside (0, 1).

    Raises:
      UserError: names the macro.
    """
    if not 0 < fraction < 1:
        raise UserError(f"got TEST_FRACTION = {fraction}, expected a number > 0 and < 1")


def label_of(row: Example, label_source: str) -> str | None:
    """The label a run trains on: the gold one, or the teacher's."""
    return row.label if label_source == "gold" else row.teacher_label
