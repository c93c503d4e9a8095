"""Tables of single methods: calibration and confusion of labels."""

from __future__ import annotations

import numpy as np

from distill.common.phrases import number_of
from distill.report.blocks import Block, Entry, Table, Text
from distill.report.calibration import (
    area_under_risk,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
)
from distill.report.charts import pooled
from distill.report.groups import Cell, Groups, show

_CLASSES = 20  # of a confusion matrix
_MATRICES = 24


def calibration_table(groups: Groups) -> Table | None:
    """Calibration of each method in each setting; None if no run has probabilities."""
    rows: list[list[str | Entry]] = []
    for cell in groups.cells:
        if (found := pooled(cell)) is None:
            continue
        probabilities_N, correct_N = found
        ece = expected_calibration_error(reliability_bins(probabilities_N, correct_N))
        rows.append(
            [
                *([show(value) for value in cell.setting] or ["all runs"]),
                cell.method,
                f"{correct_N.mean():.3f}",
                f"{probabilities_N.mean():.3f}",
                f"{ece:.3f}",
                f"{area_under_risk(*risk_coverage(probabilities_N, correct_N)):.4f}",
                f"{len(correct_N):,}",
            ]
        )
    if not rows:
        return None
    header = [*(groups.axes or ["runs"]), groups.compared, "accuracy of the most probable label"]
    header += ["mean probability", "ECE", "area under risk", "answers"]
    headings = max(1, len(groups.axes)) + 1
    return Table("Calibration on the test rows", header, rows, headings, folded=len(rows) > 30)


def confusion_tables(groups: Groups) -> list[Block]:
    """A confusion matrix for each method and setting with few classes, seeds pooled."""
    tables = [table for cell in groups.cells if (table := _confusion(groups, cell)) is not None]
    if not tables:
        return []
    blocks: list[Block] = [
        Text("Test rows by gold label (rows) and prediction (columns); seeds are pooled."),
        *tables[:_MATRICES],
    ]
    if len(tables) > _MATRICES:
        more = number_of(len(tables) - _MATRICES, "more table")
        blocks.append(Text(f"{more} left out.", "note"))
    return blocks


def _confusion(groups: Groups, cell: Cell) -> Table | None:
    answers = [run.answers for run in cell.runs if run.answers is not None]
    classes = sorted({gold.strip() for each in answers for gold in each.rows.golds})
    if not answers or not 2 <= len(classes) <= _CLASSES:
        return None
    places = {label: place for place, label in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes) + 1), int)
    for each in answers:
        columns = np.array([places.get(label.strip(), len(classes)) for label in each.labels])
        rows = np.array([places[gold.strip()] for gold in each.rows.golds])
        np.add.at(counts, (rows, columns[each.predicted_N]), 1)
    others = bool(counts[:, -1].any())
    rows_of_table: list[list[str | Entry]] = [
        [
            label,
            *(
                Entry(f"{count:,}", strong=place == column)
                for column, count in enumerate(counts[place, : None if others else -1])
            ),
        ]
        for place, label in enumerate(classes)
    ]
    header = ["gold label", *classes, *(["another answer"] if others else [])]
    where = f": {groups.name(cell.setting)}" if groups.axes else ""
    return Table(f"Confusion of {cell.method}{where}", header, rows_of_table, folded=True)
