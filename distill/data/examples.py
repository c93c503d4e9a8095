"""Example, the one record that flows through the project, and its JSONL files."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from etils import epath

from distill.common.accuracy import matches_exactly
from distill.common.atomic import atomic_file
from distill.common.json_fields import (
    choices_field,
    id_field,
    no_input,
    rationales_field,
    required_text,
    text_field,
)
from distill.common.text_files import json_lines
from distill.errors import UserError, alike, hint, misspelled


class Failure(enum.StrEnum):
    """Why a row lacks its teacher label or its rationale, or why the label is in doubt.

    A member equals its own text, so it can be compared with, and written as, a string.
    """

    NO_COMPLETION = "no_completion"  # the teacher returned nothing
    NO_ANSWER = "no_answer"  # text, but no answer phrase in it
    LABEL_OUTSIDE_SET = "label_outside_set"  # an answer that is none of the choices
    TWO_ANSWERS = "two_answers"  # an answer that names several; the label is the first or none
    LETTER_TEXT_MISMATCH = "letter_text_mismatch"  # "(a)", then the text of choice (b)
    MALFORMED_EQUATION = "malformed_equation"  # an answer that is no arithmetic
    UNBALANCED_PARENTHESES = "unbalanced_parentheses"
    DIVISION_BY_ZERO = "division_by_zero"
    UNSOLVED_EQUATION = "unsolved_equation"  # an x that is left over, or sides that differ
    NO_RATIONALE = "no_rationale"  # an answer without reasoning
    LENIENT_LABEL = "lenient_label"  # a label that the text names outside any form of an answer
    THOUGHT_TOO_LONG = "thought_too_long"  # the longest completion ended before the answer began
    THOUGHT_STOPPED = "thought_stopped"  # a stop ended the completion inside the thoughts
    FILTERED = "filtered"  # the service, or the model, refused to answer


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One row, with or without what people and the teacher said about it.

    Attributes:
      id: given, or `dataset/split/row`; unique in a data set.
      input: what the student reads (without a task prefix).
      label: gold label, or None.
      teacher_label: the teacher's answer, or None.
      rationale: the teacher's reasoning, or None.
      more_rationales: further rationales of the row, which `datasets.load_splits` makes training
        rows of their own; a list in the field `rationale` of a file.
      failure: why the teacher's label or rationale is missing or in doubt; None where
        nothing is or no teacher was asked.
      choices: the closed label set of the row; empty if labels are free text.
      split: the split the row belongs to, e.g. "train".
      extra: what else a file says of the row, by field: carried along, never trained on.
      outside_label: the teacher's answer, if it was taken from the row because it is none of the
        choices; not a field of a file.
    """

    id: str
    input: str
    label: str | None = None
    teacher_label: str | None = None
    rationale: str | None = None
    failure: str | None = None
    choices: tuple[str, ...] = ()
    split: str = ""
    extra: Mapping[str, object] = dataclasses.field(default_factory=dict, hash=False)
    outside_label: str | None = dataclasses.field(default=None, repr=False, compare=False)
    more_rationales: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The fields that are set, ready for JSON (`id` and `input` are always there)."""
        fields: dict[str, object] = {}
        for name in FIELDS:
            value = getattr(self, name)
            if name in ("id", "input") or (value is not None and value not in ((), "")):
                fields[name] = list(value) if name == "choices" else value
        if self.failure is not None:
            fields["failure"] = str(self.failure)
        if self.more_rationales:
            fields["rationale"] = [self.rationale, *self.more_rationales]
        return fields | dict(self.extra)

    @classmethod
    def from_dict(
        cls, fields: Mapping[str, object], where: str = "record", choices_name: str = "`choices`"
    ) -> Example:
        """The example that `to_dict` wrote, or a user's row of the same fields.

        A teacher label or rationale of blanks counts as missing. A teacher label
        outside the row's `choices` becomes the failure `label_outside_set`; a gold
        label outside them is an error.

        Args:
          fields: JSON object of one row; `id` and `input` are required. An id may be a whole
            number, and becomes a text: 7 is "7".
          where: what an error message calls the row, e.g. "train.jsonl:7".
          choices_name: what it calls the row's closed set.

        Raises:
          UserError: a field that is misspelled, missing or of the wrong type.
        """
        extra = {name: value for name, value in fields.items() if name not in FIELDS}
        for name in extra:
            check_name(name, where, "field")
        if "input" not in fields and extra:
            raise no_input(extra, where)
        rationales = rationales_field(fields, where)
        row = cls(
            id=id_field(fields, where),
            input=required_text(fields, "input", where),
            label=text_field(fields, "label", where),
            teacher_label=text_field(fields, "teacher_label", where, blank_is_none=True),
            rationale=rationales[0] if rationales else None,
            more_rationales=rationales[1:],
            failure=_failure(fields, where),
            choices=choices_field(fields, where),
            split=text_field(fields, "split", where, blank_is_none=True) or "",
            extra=extra,
        )
        return _checked(row, where, choices_name)


FIELDS = tuple(
    field.name
    for field in dataclasses.fields(Example)
    if field.name not in ("extra", "outside_label", "more_rationales")
)


def check_name(name: str, where: str, kind: str) -> None:
    """Refuses the name of a field that looks like a misspelled one of ours; others are extra.

    Args:
      name: of a field of a user's row.
      where: what an error message calls the row.
      kind: "field" or "column".

    Raises:
      UserError: names the field that was probably meant.
    """
    meant = None if name in FIELDS else misspelled(name, FIELDS)
    if meant is not None:
        near = ", ".join(dict.fromkeys([meant, *alike(name, FIELDS)]))
        raise UserError(
            f"{where}: unknown {kind} {name!r}; closest: {near}. Rename the {kind}, or remove it"
        )


def read_jsonl(
    path: epath.PathLike, split: str, labels: Sequence[str] | None = None
) -> list[Example]:
    """Reads a JSONL file of examples, one JSON object a line, local or on gs://.

    Blank lines are skipped. A row without an id gets `<file stem>/<split>/<row>`,
    rows counted from 0. A row's own `choices` go before `labels`.

    Args:
      path: the file.
      split: the split its rows belong to; a row that names another one is an error.
      labels: closed label set of the whole file; None for free-text labels.

    Returns:
      The N rows, in file order.

    Raises:
      UserError: a missing or empty file, or a bad row, named by `file:line`.
    """
    path = epath.Path(path)
    examples = assemble(path, json_lines(path), split, labels)
    if not examples:
        raise UserError(f"{path} has no rows; expected one JSON object per line")
    return examples


def assemble(
    path: epath.Path,
    numbered: Iterable[tuple[int, dict[str, object]]],
    split: str,
    labels: Sequence[str] | None,
) -> list[Example]:
    """The examples of a file from its line numbers and fields; see `read_jsonl`.

    Raises:
      UserError: a bad row, named by `file:line`.
    """
    closed = list(labels or ())
    examples: list[Example] = []
    line_of_id: dict[str, int] = {}
    name, stem = os.fspath(path), path.stem
    for number, fields in numbered:
        where = f"{name}:{number}"
        row = row_of(fields, where, f"{stem}/{split}/{len(examples)}", split, closed)
        if row.id in line_of_id:
            raise same_id(where, row.id, line_of_id[row.id])
        line_of_id[row.id] = number
        examples.append(row)
    return examples


def row_of(
    fields: dict[str, object],
    where: str,
    row_id: str,
    split: str,
    labels: Sequence[str],
    labels_name: str = "LABELS",
) -> Example:
    """The example of one row of a file.

    Args:
      fields: JSON object of the row.
      where: what an error message calls the row, e.g. "train.jsonl:7".
      row_id: its id, if it has none of its own.
      split: the split that the file is read as.
      labels: closed label set of the file; () for free-text labels.
      labels_name: the macro or flag that sets it, for error messages.

    Raises:
      UserError: a bad field, or a row of another split.
    """
    fields.setdefault("id", row_id)
    fields.setdefault("split", split)
    choices_name = "`choices`"
    if labels and not fields.get("choices"):
        fields["choices"], choices_name = labels, labels_name
    row = Example.from_dict(fields, where, choices_name)
    if row.split != split:
        raise UserError(
            f"{where}: the row has split {row.split!r}, but is read as {split!r}; give the "
            "right rows, or correct the row's `split`"
        )
    return row


def same_id(where: str, row_id: str, line: int, unit: str = "line") -> UserError:
    """The error for an id that a file uses twice, first in `line`."""
    return UserError(
        f"{where}: duplicate id {row_id!r}, already used in {unit} {line}; ids must be unique "
        "within a file"
    )


def with_rationale(row: Example, number: int) -> Example:
    """The row with one of its rationales; each further one makes a row with an id of its own.

    Args:
      row: the row.
      number: of the rationale, from 0.
    """
    if not number:
        return dataclasses.replace(row, more_rationales=())
    return dataclasses.replace(
        row,
        id=f"{row.id}#{number}",
        rationale=row.more_rationales[number - 1],
        more_rationales=(),
    )


def to_line(row: Example) -> str:
    """The line of a JSONL file that holds the row, in ASCII."""
    return json.dumps(row.to_dict(), ensure_ascii=True) + "\n"


def write_jsonl(path: epath.PathLike, examples: Iterable[Example]) -> None:
    """Writes examples so that a reader sees the old file or the whole new one.

    Args:
      path: the file, local or on gs://; its folder is made if need be.
      examples: the rows, written in their order.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        for row in examples:
            file.write(to_line(row))


def _failure(fields: Mapping[str, object], where: str) -> Failure | None:
    """The typed failure of a row, or None."""
    text = text_field(fields, "failure", where)
    if text is None:
        return None
    if text not in set(Failure):
        raise UserError(f"{where}: unknown `failure` {text!r}; {hint(text, set(Failure))}")
    return Failure(text)


def _checked(row: Example, where: str, choices_name: str) -> Example:
    """The row, its labels compared with its closed set."""
    if not row.choices:
        return row
    if row.label is not None and row.label not in row.choices:
        near = alike(row.label, row.choices)
        raise UserError(
            f"{where}: gold label {row.label!r} is not one of {choices_name} "
            f"({', '.join(row.choices)}){f'; closest: {near[0]}' if near else ''}; correct the "
            f"label or {choices_name}"
        )
    if row.teacher_label is not None and row.teacher_label not in row.choices:
        return dataclasses.replace(
            row,
            teacher_label=None,
            outside_label=row.teacher_label,
            failure=Failure.LABEL_OUTSIDE_SET,
        )
    return row


def teacher_accuracy(
    examples: Sequence[Example], correct: Callable[[str, str], bool] = matches_exactly
) -> float:
    """Share of all N rows whose teacher label is right; a missing one is wrong.

    Args:
      examples: N rows with gold labels.
      correct: whether a teacher label counts as a gold label; to the letter by default.

    Raises:
      UserError: no rows, or a row without a gold label.
    """
    if not examples:
        raise UserError("got no rows to measure the teacher's accuracy on, expected at least 1")
    labeled: list[tuple[str, str]] = []
    for row in examples:
        if row.label is None:
            raise UserError(
                f"row {row.id} has no gold label; the teacher's accuracy needs one for every row"
            )
        if row.teacher_label is not None:
            labeled.append((row.teacher_label, row.label))
    return sum(correct(teacher, gold) for teacher, gold in labeled) / len(examples)
