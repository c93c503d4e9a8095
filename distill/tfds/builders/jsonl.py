"""`distill_jsonl`: a user's own rows, from JSONL or CSV files named by split."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow_datasets as tfds
from etils import epath

from distill.common.digests import sha256_files
from distill.data.examples import Example
from distill.data.released import licenses
from distill.data.row_file import one_rationale_each
from distill.data.several import count_rationales
from distill.data.tables import read_table
from distill.errors import UserError, alike
from distill.tfds.builders import citations
from distill.tfds.builders.records import RecordBuilder, Rows

SPLITS = ("train", "validation", "test")
SUFFIXES = (".jsonl", ".csv")


class DistillJsonl(RecordBuilder):
    """Builds the splits whose file is there: `train.jsonl` or `train.csv`, and so on.

    The configuration is a name of the user's choice, so that several sets of rows have
    their place in one folder: `DistillJsonl(config=tfds.core.BuilderConfig(name="mine"))`.
    """

    BUILDER_CONFIGS = [  # noqa: RUF012  TFDS's own way to name configurations
        tfds.core.BuilderConfig(name="default", description="Rows without a name of their own.")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    manual_dir holds your rows, one file per split: train.jsonl, validation.jsonl, test.jsonl
    (those that you have), or .csv. The fields are input, and as you have them id, label,
    teacher_label, rationale, failure, choices (docs/data.md).
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self._make_info(
            description=f"Rows of a user, {self.builder_config.name}.",
            citation=citations.PAPER,
            homepage="https://arxiv.org/abs/2305.02301",
            license=licenses.UNKNOWN,
        )

    def source_digest(self, folder: epath.Path | None) -> str:
        """Digest of the files of all splits that are there."""
        return sha256_files(folder, list(_files(folder).values()))

    def source_rows(self, folder: epath.Path | None) -> dict[str, Rows]:
        """The splits that are there.

        Raises:
          UserError: none, or two files for one split.
        """
        files = _files(folder).items()
        return {split: functools.partial(_read, path, split) for split, path in files}


def _read(path: epath.Path, split: str) -> Sequence[Example]:
    """The rows of a split; a training row with several rationales becomes as many rows.

    Raises:
      UserError: training rows of which some have more rationales: records have no weights.
    """
    rows = read_table(path, split)
    if split != "train":
        return rows
    each = count_rationales(rows)
    most = int(each.max())
    if each.min() < most:
        where = f"{path}: row {rows[int(each.argmax())].id}"
        raise UserError(
            f"{where} has {most} rationales, but row {rows[int(each.argmin())].id} has fewer: "
            "built data have no weights, so that a row would count once for each of its "
            f"rationales. Give every row {most}, or train on the file itself (DATASET = 'jsonl', "
            "--engine=native)"
        )
    return one_rationale_each(rows, each)


def _files(folder: epath.Path) -> dict[str, epath.Path]:
    files: dict[str, epath.Path] = {}
    for split in SPLITS:
        candidates = [p for suffix in SUFFIXES if (p := folder / f"{split}{suffix}").exists()]
        if len(candidates) > 1:
            raise UserError(
                f"both {candidates[0]} and {candidates[1]} exist; keep only one of them"
            )
        if candidates:
            files[split] = candidates[0]
    if not files:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        near = alike("train.jsonl", names)
        hint = f" (closest there: {', '.join(near)})" if near else ""
        raise UserError(
            f"no rows in {folder}{hint}: expected train.jsonl, validation.jsonl or test.jsonl (or "
            ".csv); rename your files, or set --raw_dir"
        )
    return files
