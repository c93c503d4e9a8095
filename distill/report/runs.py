"""Runs as the report reads them: a record, the answers to the test rows, the training metrics."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from distill.common.text_files import json_lines
from distill.errors import UserError
from distill.results.record import Record
from distill.training import assets
from distill.training.answer_rules import find_rule
from distill.training.run_folder import METRICS, PREDICTIONS

_CLOSE = 1e-6  # between an accuracy in a record and that of the predictions


@dataclasses.dataclass(frozen=True, eq=False)
class TestRows:
    """The test rows of one or more runs, in their order.

    Attributes:
      digest: of ids, inputs and gold labels; runs with the same one answered the same rows.
      ids, inputs, golds: of the N rows.
      teacher_labels, rationales: of the teacher, "" for a row without; () if no row has one.
    """

    __test__ = False  # no test of pytest

    digest: str
    ids: tuple[str, ...]
    inputs: tuple[str, ...]
    golds: tuple[str, ...]
    teacher_labels: tuple[str, ...]
    rationales: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TeacherScore:
    """How often the teacher's labels of test rows are correct.

    Attributes:
      correct: rows whose teacher's label counts as the gold label.
      labeled: rows that have one.
      rows: all test rows; each has a gold label.
    """

    correct: int
    labeled: int
    rows: int


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """A student's answers to its test rows.

    Attributes:
      rows: the rows.
      labels: the labels that runs of the report predict, shared by all of them.
      predicted_N: place in `labels` of each answer.
      correct_N: whether it counts as the gold label.
      probability_N: probability of the most probable label; None if the file has none.
      ranked_correct_N: whether that label is the gold label; None as for `probability_N`.
      teacher: of the rows; None if no row has a teacher's label, or it cannot be compared.
    """

    rows: TestRows
    labels: Sequence[str]
    predicted_N: np.ndarray
    correct_N: np.ndarray
    probability_N: np.ndarray | None
    ranked_correct_N: np.ndarray | None
    teacher: TeacherScore | None


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
      record: what the results folder says about it.
      answers: of predictions_test.jsonl; None if it cannot be used, see `problems`.
      metrics: objects of metrics.jsonl.
      problems: what could not be read.
    """

    record: Record
    answers: Answers | None
    metrics: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]


class Reader:
    """Reads run folders; test rows that several runs share are kept once."""

    def __init__(self, folder: epath.PathLike) -> None:
        """Takes the results folder."""
        self._folder = epath.Path(folder)
        self._rows: dict[str, TestRows] = {}
        self._texts: dict[str, str] = {}
        self._labels: list[str] = []
        self._places: dict[str, int] = {}

    def read(self, record: Record) -> Run:
        """The run of a record; what cannot be read is named among its problems."""
        try:
            folder, problems = run_dir(self._folder, record), list[str]()
        except UserError as error:
            return Run(record, None, (), (f"{error}: not read",))
        answers: Answers | None = None
        labels: list[str | None] = []
        metrics: tuple[dict[str, Any], ...] = ()
        if record.accuracy is not None:
            try:
                answers, labels = self._answers(folder / PREDICTIONS)
                _check(answers, record)
            except UserError as error:
                answers = None
                problems.append(f"no comparison of its rows: {error}")
        if answers is not None and any(label is not None for label in labels):
            try:
                score = _score_teacher(folder, record, answers.rows, labels)
                answers = dataclasses.replace(answers, teacher=score)
            except UserError as error:
                problems.append(f"no accuracy of the teacher on its test rows: {error}")
        if (folder / METRICS).exists():
            try:
                metrics = tuple(line for _, line in json_lines(folder / METRICS, unique=False))
            except UserError as error:
                problems.append(f"no training curve: {error}")
        return Run(record, answers, metrics, tuple(problems))

    def _answers(self, path: epath.Path) -> tuple[Answers, list[str | None]]:
        """The answers, and the teacher's label of each row, None for a row without."""
        fields: dict[str, list[str]] = {
            name: [] for name in ("id", "input", "gold", "prediction", "teacher_label")
        }
        rationales, correct, probabilities, ranked_correct = [], [], [], []
        teacher_labels: list[str | None] = []
        digest = hashlib.sha256()
        for number, line in json_lines(path, unique=False):
            where = f"{path}:{number}"
            for name, values in fields.items():
                text = _text(line, name, where, required=name != "teacher_label")
                values.append(text if name == "input" else self._texts.setdefault(text, text))
            has_label = line.get("teacher_label") is not None
            teacher_labels.append(fields["teacher_label"][-1] if has_label else None)
            rationales.append(_text(line, "teacher_rationale", where, required=False))
            if type(line.get("correct")) is not bool:
                raise UserError(f"{where}: got `correct` {line.get('correct')!r}, expected a bool")
            correct.append(line["correct"])
            probabilities.append(_probability(line, where))
            ranked_correct.append(line.get("ranked_label") == line["gold"])
            for name in ("id", "input", "gold"):
                digest.update(f"{len(fields[name][-1])}:{fields[name][-1]}".encode())
        rows = TestRows(
            digest.hexdigest(),
            tuple(fields["id"]),
            tuple(fields["input"]),
            tuple(fields["gold"]),
            _unless_blank(fields["teacher_label"]),
            _unless_blank(rationales),
        )
        rows = self._rows.setdefault(rows.digest, rows)
        known = bool(correct) and None not in probabilities
        answers = Answers(
            rows,
            self._labels,
            np.array([self._place(label) for label in fields["prediction"]], np.int32),
            np.array(correct, bool),
            np.array(probabilities, np.float64) if known else None,
            np.array(ranked_correct, bool) if known else None,
            None,
        )
        return answers, teacher_labels

    def _place(self, label: str) -> int:
        place = self._places.setdefault(label, len(self._labels))
        if place == len(self._labels):
            self._labels.append(label)
        return place


def run_dir(folder: epath.PathLike, record: Record) -> epath.Path:
    """The run folder of a record.

    Args:
      folder: the results folder.
      record: the record.

    Raises:
      UserError: a place outside of the results folder.
    """
    place = os.path.normpath(record.folder)
    if os.path.isabs(place) or place.split(os.sep)[0] == "..":
        raise UserError(f"its folder {record.folder!r} is outside of the results folder")
    return epath.Path(folder) / place


def read_runs(folder: epath.PathLike, records: Iterable[Record]) -> list[Run]:
    """The finished runs of a results folder.

    Args:
      folder: the results folder.
      records: its records; failed ones are left out.
    """
    reader = Reader(folder)
    return [reader.read(record) for record in records if record.is_done]


def _check(answers: Answers, record: Record) -> None:
    """Refuses predictions that are not those of the record's accuracy."""
    count, accuracy = len(answers.correct_N), record.accuracy
    found = float(answers.correct_N.mean()) if count else math.nan
    if count != record.n_test or accuracy is None or not abs(found - accuracy) < _CLOSE:
        raise UserError(
            f"{PREDICTIONS} has {count:,} rows with accuracy {found:.4f}, but its record says "
            f"{record.n_test:,} rows with accuracy {record.accuracy}"
        )


def _score_teacher(
    folder: epath.Path, record: Record, rows: TestRows, labels: Sequence[str | None]
) -> TeacherScore:
    """Compares the teacher's labels with the gold labels as the run's answers were.

    Raises:
      UserError: the answer rule of the run is not known.
    """
    name = assets.read_answer_rule(folder)
    correct = find_rule(name, record.dataset)
    if correct is None:
        raise UserError(
            f"the answer rule {name!r} of its dataset {record.dataset!r} is not registered here"
        )
    pairs = [
        (label, gold) for label, gold in zip(labels, rows.golds, strict=True) if label is not None
    ]
    hits = sum(correct(label, gold) for label, gold in pairs)
    return TeacherScore(hits, len(pairs), len(rows.golds))


def _text(line: dict[str, Any], name: str, where: str, required: bool) -> str:
    value = line.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: got {value!r} for `{name}`, expected a string")
    return value.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written


def _probability(line: dict[str, Any], where: str) -> float | None:
    value = line.get("probability")
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise UserError(f"{where}: got `probability` {value!r}, expected a number from 0 to 1")
    return float(value)


def _unless_blank(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(texts) if any(texts) else ()
