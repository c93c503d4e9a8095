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
from distill.data.released.completions import Completion
from distill.data.released.rows import KINDS
from distill.errors import UserError, unknown

TEACHERS = ("palm", "gpt-neox")
FIX = (
    "Set --raw_dir to the unpacked data folder of google-research/distilling-step-by-step "
    f"(it contains the folders {', '.join(KINDS)})"
)


def read_released(
    raw_dir: epath.PathLike, dataset: str, split: str, teacher: str | Sequence[str] = "palm"
) -> list[Example]:
    """Reads a split with the completions of its teacher, or of several.

    Args:
      raw_dir: the released data folder, local or on gs://.
      dataset: "esnli", "anli1", "cqa", "svamp" or "asdiv".
      split: "train", "test", and for the first two "valid".
      teacher: "palm" (540B) or "gpt-neox" (20B), or several of them.

    Returns:
      N examples in file order, id `<dataset>/<split>/<row>`, input and gold label as
      `distill.data.released.rows` says, and the teacher's label and rationale, or the
      failure that says why one is missing or in doubt. Of several teachers, label and failure
      are those of the first, and the rationales are the different ones of all, in their order.

    Raises:
      UserError: an unknown name, a missing file, a bad row (`file:line`), or a number
        of completions that is not the number of rows.
    """
    teachers = check_teachers(teacher)
    _check(dataset, split)
    rows_file = _rows_file(raw_dir, dataset, split)
    rows = [
        KINDS[dataset].row(fields, f"{rows_file}:{line}", f"{dataset}/{split}/{row}", split)
        for row, (line, fields) in enumerate(json_lines(rows_file, FIX))
    ]
    if not rows:
        raise UserError(f"{rows_file} has no rows; expected one JSON object per line. {FIX}")
    said = [_completions(raw_dir, dataset, split, name) for name in teachers]
    for source, completions in said:
        if len(rows) != len(completions):
            raise UserError(
                f"{rows_file} has {len(rows)} rows, but {source} has {len(completions)} "
                "completions; expected one completion per row. Copy the released files again"
            )
    by_row = zip(*(completions for _, completions in said), strict=True)
    return [
        _annotated(row, [parse(text) for text in texts])
        for (row, parse), texts in zip(rows, by_row, strict=True)
    ]


def check_teachers(value: object) -> tuple[str, ...]:
    """The teachers that RAW_TEACHER names.

    Args:
      value: one of TEACHERS, or a tuple or list of different ones.

    Raises:
      UserError: anything else.
    """
    names = (value,) if isinstance(value, str) and "," not in value else value
    if not isinstance(names, tuple | list) or not names or len({*map(str, names)}) < len(names):
        raise UserError(
            f"got RAW_TEACHER = {value!r}, expected 'palm' or 'gpt-neox', or both: {TEACHERS}"
        )
    for name in names:
        if name not in TEACHERS:
            raise unknown("teacher", str(name), TEACHERS, "macro RAW_TEACHER")
    return tuple(names)


def files_of(
    raw_dir: epath.PathLike, dataset: str, split: str, teacher: str | Sequence[str] = "palm"
) -> list[str]:
    """The files that `read_released` reads: the rows, then each teacher's completions in order.

    Raises:
      UserError: an unknown name, or no part of completions.
    """
    teachers = check_teachers(teacher)
    _check(dataset, split)
    found = [str(_rows_file(raw_dir, dataset, split))]
    for name in teachers:
        if name == "gpt-neox":
            found.append(str(_neox_file(raw_dir, dataset, split)))
        else:
            parts = _parts(epath.Path(raw_dir) / dataset / "llm", split)
            found += [str(parts[number]) for number in sorted(parts)]
    return found


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


def _check(dataset: str, split: str) -> None:
    if dataset not in KINDS:
        raise unknown("dataset", dataset, KINDS, "macro DATASET")
    if split not in KINDS[dataset].splits:
        raise unknown("split", split, KINDS[dataset].splits, f"dataset {dataset}")


def _rows_file(raw_dir: epath.PathLike, dataset: str, split: str) -> epath.Path:
    return epath.Path(raw_dir) / dataset / f"{dataset}_{split}.json"


def _neox_file(raw_dir: epath.PathLike, dataset: str, split: str) -> epath.Path:
    return epath.Path(raw_dir) / "gpt-neox" / dataset / f"{split}.json"


def _completions(
    raw_dir: epath.PathLike, dataset: str, split: str, teacher: str
) -> tuple[str, list[str]]:
    """Where the completions of one teacher are, and their texts."""
    if teacher == "gpt-neox":
        path = _neox_file(raw_dir, dataset, split)
        return str(path), _texts(path)
    folder = epath.Path(raw_dir) / dataset / "llm"
    return f"{folder}/{split}_CoT_*.json", read_completions(folder, split)


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


def _annotated(row: Example, completions: Sequence[Completion]) -> Example:
    """The row with what its completions say, the first teacher's first."""
    said = (completion.rationale for completion in completions)
    rationales = tuple(dict.fromkeys(text for text in said if text is not None))
    return dataclasses.replace(
        row,
        teacher_label=completions[0].label,
        rationale=rationales[0] if rationales else None,
        more_rationales=rationales[1:],
        failure=completions[0].failure,
    )
