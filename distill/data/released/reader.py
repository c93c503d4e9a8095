"""Reads the data that the authors of Distilling step-by-step released.

    <raw_dir>/<dataset>/<dataset>_<split>.json          one JSON object a line
    <raw_dir>/<dataset>/llm/<split>_CoT_<k>.json        lists of raw PaLM completions, in row order
    <raw_dir>/gpt-neox/<dataset>/<split>.json           a list of raw GPT-NeoX completions

Source: the data folder and data_utils.py of google-research/distilling-step-by-step
(Hsieh et al. 2023, arXiv 2305.02301). The data keep their own licenses and are not part
of this project.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import TypedDict

from etils import epath

from distill.common.accuracy import matches_exactly
from distill.common.text_files import check_file, json_lines, parse_json, read_bytes
from distill.data.examples import Example, teacher_accuracy
from distill.data.released.rows import KINDS, Parser
from distill.errors import UserError, unknown

TEACHERS = ("palm", "gpt-neox")
FIX = (
    "Set --raw_dir to the unpacked data folder of google-research/distilling-step-by-step "
    f"(it contains the folders {', '.join(KINDS)})"
)


def read_released(
    raw_dir: epath.PathLike, dataset: str, split: str, teacher: str = "palm"
) -> list[Example]:
    """Reads a split with the completions of its teacher.

    Args:
      raw_dir: the released data folder, local or on gs://.
      dataset: "esnli", "anli1", "cqa", "svamp" or "asdiv".
      split: "train", "test", and for the first two "valid".
      teacher: "palm" (540B) or "gpt-neox" (20B).

    Returns:
      N examples in file order, id `<dataset>/<split>/<row>`, input and gold label as
      `distill.data.released.rows` says, and the teacher's label and rationale, or the
      failure that says why one is missing or in doubt.

    Raises:
      UserError: an unknown name, a missing file, a bad row (`file:line`), or a number
        of completions that is not the number of rows.
    """
    _check(dataset, split, teacher)
    rows_file = _rows_file(raw_dir, dataset, split)
    rows = [
        KINDS[dataset].row(fields, f"{rows_file}:{line}", f"{dataset}/{split}/{row}", split)
        for row, (line, fields) in enumerate(json_lines(rows_file, FIX))
    ]
    if not rows:
        raise UserError(f"{rows_file} has no rows; expected one JSON object per line. {FIX}")
    if teacher == "palm":
        folder = epath.Path(raw_dir) / dataset / "llm"
        completions, source = read_completions(folder, split), f"{folder}/{split}_CoT_*.json"
    else:
        source = _neox_file(raw_dir, dataset, split)
        completions = _texts(source)
    if len(rows) != len(completions):
        raise UserError(
            f"{rows_file} has {len(rows)} rows, but {source} has {len(completions)} completions; "
            "expected one completion per row. Copy the released files again"
        )
    pairs = zip(rows, completions, strict=True)
    return [_annotated(row, parse, text) for (row, parse), text in pairs]


def files_of(raw_dir: epath.PathLike, dataset: str, split: str, teacher: str = "palm") -> list[str]:
    """The files that `read_released` reads: the rows, then the parts of completions in order.

    Raises:
      UserError: an unknown name, or no part of completions.
    """
    _check(dataset, split, teacher)
    rows_file = str(_rows_file(raw_dir, dataset, split))
    if teacher == "gpt-neox":
        return [rows_file, str(_neox_file(raw_dir, dataset, split))]
    parts = _parts(epath.Path(raw_dir) / dataset / "llm", split)
    return [rows_file, *(str(parts[number]) for number in sorted(parts))]


def read_completions(folder: epath.Path, split: str) -> list[str]:
    """The raw completions of a split, its parts joined in the order of their numbers.

    Args:
      folder: the `llm` folder of a dataset.
      split: the split.

    Raises:
      UserError: a missing part, or one that is not a JSON list of texts.
    """
    parts = _parts(folder, split)
    texts: list[str] = []
    for number in range(max(parts, default=0) + 1):
        texts += _texts(parts.get(number, folder / f"{split}_CoT_{number}.json"))
    return texts


class Summary(TypedDict):
    """What is in a split: see `summary`."""

    rows: int
    completions: int
    parsed: int
    teacher_accuracy_all: float | None
    failures: dict[str, int]


def summary(
    examples: Sequence[Example], correct: Callable[[str, str], bool] = matches_exactly
) -> Summary:
    """What is in a split.

    Args:
      examples: the rows.
      correct: whether a teacher label counts as a gold label; that of the dataset is
        `released_rows.KINDS[dataset].correct`.

    Returns:
      rows; completions: rows for which the teacher wrote anything; parsed: rows with a
      teacher label; teacher_accuracy_all: share of the rows with a gold label (parsed or
      not) in which the teacher's is correct, None where there is no gold label;
      failures: number of rows by typed failure (a row with a label may have one too:
      `no_rationale`, `two_answers`).
    """
    gold = [row for row in examples if row.label is not None]
    failures = collections.Counter(str(row.failure) for row in examples if row.failure)
    asked = [row for row in examples if row.teacher_label or row.rationale or row.failure]
    return {
        "rows": len(examples),
        "completions": len(asked) - failures["no_completion"],
        "parsed": sum(row.teacher_label is not None for row in examples),
        "teacher_accuracy_all": teacher_accuracy(gold, correct) if gold else None,
        "failures": dict(sorted((+failures).items())),
    }


def _check(dataset: str, split: str, teacher: str) -> None:
    if dataset not in KINDS:
        raise unknown("dataset", dataset, KINDS, "macro DATASET")
    if split not in KINDS[dataset].splits:
        raise unknown("split", split, KINDS[dataset].splits, f"dataset {dataset}")
    if teacher not in TEACHERS:
        raise unknown("teacher", teacher, TEACHERS, "macro RAW_TEACHER")


def _rows_file(raw_dir: epath.PathLike, dataset: str, split: str) -> epath.Path:
    return epath.Path(raw_dir) / dataset / f"{dataset}_{split}.json"


def _neox_file(raw_dir: epath.PathLike, dataset: str, split: str) -> epath.Path:
    return epath.Path(raw_dir) / "gpt-neox" / dataset / f"{split}.json"


def _texts(path: epath.Path) -> list[str]:
    """A file of completions.

    Raises:
      UserError: it is missing, or not a JSON list of texts.
    """
    content = read_bytes(path, FIX)
    try:
        texts = parse_json(content)
    except ValueError as error:  # bad UTF-8 or bad JSON
        raise UserError(f"{path}: not JSON ({error}); copy the released file again") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{path}: expected a JSON list of strings; copy the released file again")
    return texts


def _parts(folder: epath.Path, split: str) -> dict[int, epath.Path]:
    """Number of each completion file of a split -> its path.

    Raises:
      UserError: there is none.
    """
    name = re.compile(rf"{re.escape(split)}_CoT_(\d+)\.json")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    parts = {int(m.group(1)): folder / m.string for m in map(name.fullmatch, names) if m}
    if not parts:
        check_file(folder / f"{split}_CoT_0.json", FIX)  # raises: it would be a part
    return parts


def _annotated(row: Example, parse: Parser, text: str) -> Example:
    """The row with what its completion says."""
    completion = parse(text)
    return dataclasses.replace(
        row,
        teacher_label=completion.label,
        rationale=completion.rationale,
        failure=completion.failure,
    )
