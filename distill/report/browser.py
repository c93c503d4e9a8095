"""The predictions that the page holds: one JSON object, within a number of bytes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

import numpy as np

from distill.common.phrases import shortened
from distill.common.terminal import printable
from distill.report.groups import Groups
from distill.report.runs import Answers, TestRows

_LONGEST = 4000  # characters of a text


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions as JSON that may stand within an element `<script>`.

    Attributes:
      text: the JSON.
      rows: number of test rows in it.
      omitted: number of test rows that are left out.
    """

    text: str
    rows: int
    omitted: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Student:
    setting: int
    method: int
    seed: int
    answers: Answers


def make_predictions(groups: Groups, most: int) -> Predictions:
    """The predictions of all runs; rows on which methods disagree go first if not all fit.

    Args:
      groups: the runs.
      most: bytes of the text in UTF-8.
    """
    students = [
        _Student(place, groups.methods.index(cell.method), run.record.seed, run.answers)
        for place, setting in enumerate(groups.settings)
        for cell in groups.cells_of(setting)
        for run in cell.runs
        if run.answers is not None
    ]
    tests = list({each.answers.rows.digest: each.answers.rows for each in students}.values())
    order = _order(tests, students)
    total = len(order)
    while True:
        text = script_json(_content(groups, students, tests, order))
        size = len(text.encode())
        if size <= most or not order:
            return Predictions(text, len(order), total - len(order))
        # All rows are about as long as those before them: a little less than the share that fits.
        order = order[: min(len(order) - 1, int(len(order) * most / size * 0.95))]


def _order(tests: Sequence[TestRows], students: Sequence[_Student]) -> list[tuple[int, int]]:
    """Pairs (test set, row): rows on which methods disagree, then the others."""
    first, rest = [], []
    for place, rows in enumerate(tests):
        disagree_N = np.zeros(len(rows.ids), bool)
        by_seed: dict[tuple[int, int], list[np.ndarray]] = {}
        for each in students:
            if each.answers.rows is rows:
                key = each.setting, each.seed
                by_seed.setdefault(key, []).append(each.answers.predicted_N)
        for found in by_seed.values():
            for other in found[1:]:
                disagree_N |= other != found[0]
        first += [(place, int(row)) for row in np.flatnonzero(disagree_N)]
        rest += [(place, int(row)) for row in np.flatnonzero(~disagree_N)]
    return first + rest


def _content(
    groups: Groups,
    students: Sequence[_Student],
    tests: Sequence[TestRows],
    order: Sequence[tuple[int, int]],
) -> dict[str, object]:
    """What the script of the page reads; rows are in the order of the files."""
    chosen = [sorted(row for place, row in order if place == each) for each in range(len(tests))]
    labels = _Labels()
    shown = []
    for rows, places in zip(tests, chosen, strict=True):
        fields: dict[str, object] = {
            "id": [cut(rows.ids[row]) for row in places],
            "input": [cut(rows.inputs[row]) for row in places],
            "gold": [labels.place(rows.golds[row]) for row in places],
        }
        if rows.teacher_labels:
            fields["teacher"] = [labels.place(rows.teacher_labels[row]) for row in places]
        if rows.rationales:
            fields["rationale"] = [cut(rows.rationales[row]) for row in places]
        shown.append(fields)
    places_of = {rows.digest: place for place, rows in enumerate(tests)}
    runs = []
    for each in students:
        test = places_of[each.answers.rows.digest]
        taken = np.array(chosen[test], int)
        run: dict[str, object] = {
            "setting": each.setting,
            "method": each.method,
            "seed": each.seed,
            "rows": test,
            "labels": list(labels.places(each.answers, taken)),
            "correct": "".join("1" if c else "0" for c in each.answers.correct_N[taken]),
        }
        if each.answers.probability_N is not None:
            percent = np.rint(100 * each.answers.probability_N[taken]).astype(int)
            run["percent"] = percent.tolist()
        runs.append(run)
    return {
        "compared": cut(groups.compared),
        "methods": [cut(method) for method in groups.methods],
        "settings": [cut(groups.name(setting)) for setting in groups.settings],
        "labels": labels.texts,
        "tests": shown,
        "runs": runs,
    }


class _Labels:
    """Numbers for labels, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        place = self._places.setdefault(text, len(self.texts))
        if place == len(self.texts):
            self.texts.append(cut(text))
        return place

    def places(self, answers: Answers, taken: np.ndarray) -> Iterator[int]:
        return (self.place(answers.labels[label]) for label in answers.predicted_N[taken])


def cut(text: str) -> str:
    """A text without control characters and, if it is long, with a note on what is cut off."""
    return shortened(printable(text), _LONGEST)


def script_json(content: object) -> str:
    """JSON that neither ends its element `<script>` nor opens a comment in it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
