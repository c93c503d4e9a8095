"""What is in a folder of released data: rows, completions, teacher accuracy, token lengths."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NotRequired, TypedDict

import numpy as np
from etils import epath

from distill.common.table import render_columns
from distill.data.examples import Example
from distill.data.released import reader
from distill.data.released.rows import KINDS
from distill.data.vocabularies import Vocabulary, make_vocabulary
from distill.errors import UserError, unknown


class TokenLengths(TypedDict):
    """Token lengths of a field."""

    mean: float
    p99: float
    max: int


class SplitSummary(reader.Summary):
    """What is in a split, and whose it is."""

    dataset: str
    split: str
    teacher: str
    tokens: NotRequired[dict[str, TokenLengths]]


def summarize_released(
    raw_dir: epath.PathLike,
    vocabulary_path: str = "",
    teacher: str = "palm",
    dataset: str | None = None,
) -> Iterator[SplitSummary]:
    """One record for each split whose file of rows is there, in the order of the paper's names.

    Args:
      raw_dir: the released data folder.
      vocabulary_path: T5's SentencePiece model; without one no tokens are counted.
      teacher: whose completions, "palm" or "gpt-neox".
      dataset: the only one to look for; None looks for all.

    Yields:
      dataset, split, teacher, what `released.summary` says of it, and with a vocabulary
      `tokens`: mean, 99th percentile and maximum of inputs, labels and rationales, without
      prefix, with EOS.

    Raises:
      UserError: a file that is bad or missing beside its rows; no split at all; an unknown
        dataset or teacher.
    """
    if dataset is not None and dataset not in KINDS:
        raise unknown("dataset", dataset, KINDS, "--dataset")
    if teacher not in reader.TEACHERS:
        raise unknown("teacher", teacher, reader.TEACHERS, "--teacher")
    num_splits = 0
    vocabulary = None
    if vocabulary_path:
        vocabulary = make_vocabulary("sentencepiece", vocabulary_path)
    for name, kind in KINDS.items():
        for split in kind.splits if dataset in (None, name) else ():
            if not (epath.Path(raw_dir) / name / f"{name}_{split}.json").exists():
                continue
            num_splits += 1
            rows = reader.read_released(raw_dir, name, split, teacher)
            record: SplitSummary = {
                "dataset": name,
                "split": split,
                "teacher": teacher,
                **reader.summary(rows, kind.correct),
            }
            if vocabulary is not None:
                record["tokens"] = token_lengths(rows, vocabulary)
            yield record
    if not num_splits:
        suffix, name = (f" of {dataset}", dataset) if dataset else ("", "esnli")
        place = f"{raw_dir}" if epath.Path(raw_dir).is_dir() else f"{raw_dir}, which is no folder"
        raise UserError(
            f"no released data{suffix} in {place}: expected e.g. "
            f"{raw_dir}/{name}/{name}_{KINDS[name].splits[0]}.json; set --raw_dir to the unpacked "
            "data folder of google-research/distilling-step-by-step"
        )


def token_lengths(rows: Sequence[Example], vocabulary: Vocabulary) -> dict[str, TokenLengths]:
    """Mean, 99th percentile and maximum of the tokens of each field, EOS included."""
    by_field: dict[str, TokenLengths] = {}
    for field in ("input", "label", "rationale"):
        texts = [text for row in rows if (text := getattr(row, field)) is not None]
        lengths_N = np.array([len(vocabulary.encode(text)) + 1 for text in texts] or [0])
        by_field[field] = {
            "mean": float(lengths_N.mean()),
            "p99": float(np.percentile(lengths_N, 99)),
            "max": int(lengths_N.max()),
        }
    return by_field


def summary_table(records: Iterable[SplitSummary]) -> str:
    """The records as aligned text, with a line for each failure below its split."""
    records = list(records)
    lengths = "tokens of input, label, rationale (mean/p99)"
    header = ("dataset", "split", "rows", "completions", "parsed", "teacher", lengths)
    head, *lines = render_columns(header, list(map(_cells, records)), "<<>>>>").splitlines()
    with_failures = (
        [line, *(f"    {count:,} {name}" for name, count in record["failures"].items())]
        for line, record in zip(lines, records, strict=True)
    )
    return "\n".join([head, *itertools.chain.from_iterable(with_failures)])


def _cells(record: SplitSummary) -> tuple[str, ...]:
    accuracy = record["teacher_accuracy_all"]
    lengths = record["tokens"].values() if "tokens" in record else ()
    tokens = "  ".join(f"{length['mean']:.1f}/{length['p99']:.0f}" for length in lengths)
    return (
        record["dataset"],
        record["split"],
        f"{record['rows']:,}",
        f"{record['completions']:,}",
        f"{record['parsed'] / record['rows']:.2%}",
        "-" if accuracy is None else f"{accuracy:.1%}",
        tokens or "give --vocabulary_path",
    )
