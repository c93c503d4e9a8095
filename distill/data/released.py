"""Reads the data that the authors of Distilling step-by-step released.

    <raw_dir>/<dataset>/<dataset>_<split>.json          one JSON object a line
    <raw_dir>/<dataset>/llm/<split>_CoT_<k>.json        lists of raw PaLM completions, in row order

Source: the data folder of google-research/distilling-step-by-step (Hsieh et al. 2023,
arXiv 2305.02301). The data keep their own licences and are not part of this project.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence

from etils import epath

from distill.data.completions import NLI_LABELS, parse_nli
from distill.data.examples import Example, json_lines, read_bytes
from distill.data.hashing import uniform
from distill.data.metrics import teacher_accuracy
from distill.errors import UserError, closest, unknown

NLI_DATASETS = ("esnli", "anli1")
NLI_SPLITS = ("train", "valid", "test")
_PREMISE = "premise: "
_HYPOTHESIS = " hypothesis: "
_FIX = (
    "Set --raw_dir to the unpacked data folder of google-research/distilling-step-by-step "
    "(it holds the folders esnli and anli1)"
)


def read_nli(raw_dir: epath.PathLike, dataset: str, split: str) -> list[Example]:
    """Reads a natural language inference split with its PaLM completions.

    Args:
      raw_dir: the released data folder, local or on gs://.
      dataset: "esnli" or "anli1".
      split: "train", "valid" or "test".

    Returns:
      N examples in file order, id `<dataset>/<split>/<row>`, input
      `premise: ... hypothesis: ...`, gold label in words, and the teacher's label and
      rationale, or the failure that says why one is missing.

    Raises:
      UserError: an unknown name, a missing file, a bad row (`file:line`), or a number
        of completions that is not the number of rows.
    """
    if dataset not in NLI_DATASETS:
        raise unknown("dataset", dataset, NLI_DATASETS, "macro DATASET")
    if split not in NLI_SPLITS:
        raise unknown("split", split, NLI_SPLITS, f"dataset {dataset}")
    folder = epath.Path(raw_dir) / dataset
    rows_file = folder / f"{dataset}_{split}.json"
    rows = [
        _nli_row(fields, f"{rows_file}:{line}", f"{dataset}/{split}/{row}", split)
        for row, (line, fields) in enumerate(json_lines(rows_file, _FIX))
    ]
    if not rows:
        raise UserError(f"{rows_file} has no rows; expected one JSON object a line. {_FIX}")
    completions = read_completions(folder / "llm", split)
    if len(rows) != len(completions):
        raise UserError(
            f"{rows_file} has {len(rows)} rows, but the files {folder / 'llm'}/{split}_CoT_*.json "
            f"have {len(completions)} completions; expected one for each row. Copy the released "
            "files again"
        )
    return [_annotated(row, text) for row, text in zip(rows, completions, strict=True)]


def files_of(raw_dir: epath.PathLike, dataset: str, split: str) -> list[str]:
    """The files that `read_nli` reads: the rows, then the parts of completions in order."""
    folder = epath.Path(raw_dir) / dataset
    parts = _parts(folder / "llm", split)
    return [str(folder / f"{dataset}_{split}.json"), *(str(parts[n]) for n in sorted(parts))]


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
        path = parts.get(number, folder / f"{split}_CoT_{number}.json")
        content = read_bytes(path, _FIX)
        try:
            part = json.loads(content.decode("utf-8"))
        except ValueError as error:  # bad UTF-8 or bad JSON
            raise UserError(f"{path}: not JSON ({error}); copy the released file again") from error
        if not isinstance(part, list) or not all(isinstance(text, str) for text in part):
            raise UserError(f"{path}: expected a JSON list of texts; copy the released file again")
        texts += part
    return texts


def split_by_premise(
    examples: Sequence[Example], test_fraction: float = 0.2, seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """Splits rows in two so that no premise is on both sides.

    A premise of e-SNLI stands in about three rows; a split by rows would show test
    premises in training. The side of a premise depends on (seed, premise) alone, so the
    share of test rows is near `test_fraction` and not exactly it.

    Args:
      examples: N rows of `read_nli`.
      test_fraction: expected share of test premises, between 0 and 1.
      seed: seeds the sides.

    Returns:
      Training and test rows in their order, ids kept, `split` set to "train" or "test".

    Raises:
      UserError: a fraction outside (0, 1), a row that is not of `read_nli`, or an empty
        side.
    """
    if not 0 < test_fraction < 1:
        raise UserError(f"got test_fraction = {test_fraction}, expected more than 0, less than 1")
    train: list[Example] = []
    test: list[Example] = []
    for row in examples:
        if uniform("premise", seed, premise_of(row)) < test_fraction:
            test.append(dataclasses.replace(row, split="test"))
        else:
            train.append(dataclasses.replace(row, split="train"))
    if not train or not test:
        raise UserError(
            f"{len(examples)} rows split by premise gave {len(train)} training and {len(test)} "
            f"test rows, expected some of both; give more rows, or another test_fraction than "
            f"{test_fraction}"
        )
    return train, test


def premise_of(row: Example) -> str:
    """The premise of a row of `read_nli`, case and spacing evened out.

    Raises:
      UserError: the input has another form.
    """
    premise, found, _ = row.input.partition(_HYPOTHESIS)
    if not found or not premise.startswith(_PREMISE):
        raise UserError(
            f"row {row.id}: got input {row.input!r}, expected 'premise: ... hypothesis: ...'"
        )
    return " ".join(premise.removeprefix(_PREMISE).lower().split())


def summary(examples: Sequence[Example]) -> dict[str, object]:
    """What is in a split.

    Returns:
      rows; completions: rows for which the teacher wrote anything; parsed: rows with a
      teacher label; teacher_accuracy_all: share of the rows with a gold label (parsed or
      not) in which the teacher's is the same, None where there is no gold label;
      failures: number of rows by typed failure.
    """
    gold = [row for row in examples if row.label is not None]
    failures = collections.Counter(str(row.failure) for row in examples if row.failure)
    asked = [row for row in examples if row.teacher_label or row.rationale or row.failure]
    return {
        "rows": len(examples),
        "completions": len(asked) - failures["no_completion"],
        "parsed": sum(row.teacher_label is not None for row in examples),
        "teacher_accuracy_all": teacher_accuracy(gold) if gold else None,
        "failures": dict(sorted((+failures).items())),
    }


def _parts(folder: epath.Path, split: str) -> dict[int, epath.Path]:
    """Number of each completion file of a split -> its path.

    Raises:
      UserError: there is none.
    """
    name = re.compile(rf"{re.escape(split)}_CoT_(\d+)\.json")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    parts = {int(m.group(1)): folder / m.string for m in map(name.fullmatch, names) if m}
    if not parts:
        hint = (
            f"closest there: {', '.join(closest(f'{split}_CoT_0.json', names))}. " if names else ""
        )
        raise UserError(f"no file {folder / f'{split}_CoT_0.json'}; {hint}{_FIX}")
    return parts


def _nli_row(fields: Mapping[str, object], where: str, row_id: str, split: str) -> Example:
    """An example without teacher fields from a released row."""
    texts = {}
    for name in ("premise", "hypothesis"):
        value = fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: got {value!r} for `{name}`, expected a text")
        texts[name] = " ".join(value.split())
    label = fields.get("label")
    if type(label) is not int or not 0 <= label < len(NLI_LABELS):
        codes = ", ".join(f"{code} {name}" for code, name in enumerate(NLI_LABELS))
        raise UserError(f"{where}: got label {label!r}, expected one of {codes}")
    return Example(
        id=row_id,
        input=f"{_PREMISE}{texts['premise']}{_HYPOTHESIS}{texts['hypothesis']}",
        label=NLI_LABELS[label],
        choices=NLI_LABELS,
        split=split,
    )


def _annotated(row: Example, text: str) -> Example:
    """The row with what its completion says."""
    said = parse_nli(text)
    return dataclasses.replace(
        row, teacher_label=said.label, rationale=said.rationale, failure=said.failure
    )
