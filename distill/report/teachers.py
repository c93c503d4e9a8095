"""The teacher's accuracy: on test rows that have its labels, otherwise on the training rows."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

from distill.report.groups import Cell
from distill.report.runs import TeacherScore

EXPLAINED = (
    "The teacher's accuracy is that of its labels on the test rows, as the paper's few-shot "
    "teacher, where test rows have a gold label and a teacher's label; each such row counts. "
    "Otherwise it is that on the training and validation rows, where a missing label is wrong. "
    "The table of results says which of the two."
)


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A teacher's accuracy.

    Attributes:
      accuracy: from 0 to 1.
      labeled: test rows with a gold label and a teacher's label; 0 if the accuracy is that on the
        training rows.
      rows: test rows in all.
      methods: that have this teacher; () for all.
    """

    accuracy: float
    labeled: int = 0
    rows: int = 0
    methods: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """In a legend, e.g. "teacher 0.810 (test rows)"."""
        if not self.labeled:
            where = "training rows"
        elif self.labeled == self.rows:
            where = "test rows"
        else:
            where = f"{self.labeled:,} of {self.rows:,} test rows"
        of = f" of {', '.join(self.methods)}" if self.methods else ""
        return f"teacher {self.accuracy:.3f} ({where}){of}"

    @property
    def where(self) -> str:
        """The rows that it is measured on."""
        if not self.labeled:
            return "on training rows"
        return f"on {self.labeled:,} of {self.rows:,} test rows"


def find_teachers(cells: Sequence[Cell]) -> list[Teacher]:
    """The accuracies of the teachers of some cells; more than one where methods have others.

    Test rows that several runs share count once. Training rows give the mean over cells.
    """
    scores = _scores(cells)
    if len({digest for digest, _ in scores}) == len(scores):
        if (found := _pooled(scores)) is not None:
            return [found]
        means = [cell.average(lambda record: record.teacher_accuracy) for cell in cells]
        known = [each for each in means if each is not None]
        return [Teacher(statistics.fmean(known))] if known else []
    methods: dict[Teacher, list[str]] = {}
    for method in dict.fromkeys(cell.method for cell in cells):
        found = _pooled(_scores([cell for cell in cells if cell.method == method]))
        if found is not None:
            methods.setdefault(found, []).append(method)
    if len(methods) == 1:
        return [*methods]
    return [dataclasses.replace(t, methods=tuple(names)) for t, names in methods.items()]


def _scores(cells: Sequence[Cell]) -> set[tuple[str, TeacherScore]]:
    """Test rows, and how a teacher answers them."""
    answers = (run.answers for cell in cells for run in cell.runs)
    return {(a.rows.digest, a.teacher) for a in answers if a is not None and a.teacher is not None}


def _pooled(scores: Iterable[tuple[str, TeacherScore]]) -> Teacher | None:
    found = [score for _, score in scores]
    labeled = sum(score.labeled for score in found)
    correct, rows = sum(score.correct for score in found), sum(score.rows for score in found)
    return Teacher(correct / labeled, labeled, rows) if labeled else None
