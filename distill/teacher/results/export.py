"""Annotated rows in the layout of the released data, for programs that read that."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from etils import epath

from distill.common.atomic import write_text
from distill.data.examples import Example
from distill.data.released.completions import NLI_LABELS
from distill.data.released.rows import KINDS
from distill.errors import UserError, unknown
from distill.teacher.prompts import _LISTED

_PART = 5000  # completions in a file, like the released ones


def write_released(
    folder: epath.PathLike, dataset: str, split: str, rows: Sequence[tuple[Example, str]]
) -> list[str]:
    """Writes `<dataset>_<split>.json` and `llm/<split>_CoT_<k>.json`.

    `distill.data.released.reader.read_released` gives the rows back, with ids by position.

    Args:
      folder: the raw_dir that is written to.
      dataset: of `released_rows.KINDS`.
      split: one that the dataset has.
      rows: examples with gold labels, and their raw completions. A completion that the reader of
        the released data would read in another way is written in the form of these data.

    Returns:
      The files.

    Raises:
      UserError: an unknown name, or a row that the layout cannot hold.
    """
    check_released(dataset, split, [row for row, _ in rows])
    lines = [json.dumps(_fields(dataset, row)) + "\n" for row, _ in rows]
    rows_file, *replaced = released_files(folder, dataset, split)
    base = rows_file.parent
    (base / "llm").mkdir(parents=True, exist_ok=True)
    files = [rows_file]
    write_text(rows_file, "".join(lines))
    for old in replaced:
        old.unlink()
    texts = [_completion(dataset, row, text) for row, text in rows]
    for number, start in enumerate(range(0, max(1, len(texts)), _PART)):
        files.append(base / "llm" / f"{split}_CoT_{number}.json")
        write_text(files[-1], json.dumps(texts[start : start + _PART]))
    return [str(file) for file in files]


def released_files(folder: epath.PathLike, dataset: str, split: str) -> list[epath.Path]:
    """The file of rows that `write_released` writes, and the completions that it replaces."""
    base = epath.Path(folder) / dataset
    parts = (base / "llm").glob(f"{split}_CoT_*.json") if (base / "llm").is_dir() else ()
    return [base / f"{dataset}_{split}.json", *sorted(parts)]


def check_released(dataset: str, split: str, rows: Iterable[Example]) -> None:
    """Makes sure that the layout can hold these rows; see `write_released`."""
    if dataset not in KINDS:
        raise unknown("dataset", dataset, KINDS, "--released_dir")
    if split not in KINDS[dataset].splits:
        raise unknown("split", split, KINDS[dataset].splits, f"dataset {dataset}")
    for row in rows:
        _fields(dataset, row)


def _completion(dataset: str, row: Example, text: str) -> str:
    """The completion, or one in the released form that says the same of the row."""
    fields = _fields(dataset, row)
    _, parse = KINDS[dataset].row(fields, row.id, row.id, row.split)
    wanted = (row.teacher_label, row.rationale)
    said = parse(text)
    if row.teacher_label is None or (said.label, said.rationale) == wanted:
        return text
    answer = f"The answer is {row.teacher_label}."
    if dataset in ("esnli", "anli1"):
        answer = f"\nAnswer: {row.teacher_label}"
    elif "choices" in fields and row.teacher_label in fields["choices"]:
        letter = chr(ord("a") + fields["choices"].index(row.teacher_label))
        answer = f"So the answer is ({letter}) {row.teacher_label}."
    return f"{row.rationale or ''} {answer}".strip()


def _fields(dataset: str, row: Example) -> dict[str, Any]:
    """The JSON object of a row."""
    if row.label is None:
        raise UserError(f"row {row.id} has no gold label; the released layout needs one")
    if dataset in ("esnli", "anli1"):
        premise, separator, hypothesis = row.input.partition(" hypothesis: ")
        if not separator or not premise.startswith("premise: ") or row.label not in NLI_LABELS:
            raise UserError(
                f"row {row.id}: got {row.input!r} with label {row.label!r}, expected 'premise: ... "
                f"hypothesis: ...' and one of {', '.join(NLI_LABELS)}"
            )
        premise = premise.removeprefix("premise: ")
        return {
            "premise": premise,
            "hypothesis": hypothesis,
            "label": NLI_LABELS.index(row.label),
        }
    if dataset == "cqa":
        question = row.input.partition("\nAnswer Choices:")[0]
        choices = [text for _, text in _LISTED.findall(row.input)] or list(row.choices)
        return {"id": row.id, "question": question, "choices": choices, "answer": row.label}
    return {"input": row.input, "label": row.label}
