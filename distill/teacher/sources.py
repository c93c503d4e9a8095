"""Rows to annotate: JSONL or CSV files, the released layout, TFDS datasets, generated tickets."""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath

from distill.common.text_files import json_lines
from distill.data.examples import Example
from distill.data.mapping.row_mapping import RowMapping, mapping_of
from distill.data.released.reader import FIX
from distill.data.released.rows import KINDS
from distill.data.tables import UNMAPPED, open_table, read_table
from distill.errors import unknown
from distill.tfds import rows as tfds_rows

__all__ = ["from_file", "from_released", "from_tfds", "mapping_of"]

_IN_MEMORY = 64_000_000  # bytes of a file


def from_file(
    path: epath.PathLike, split: str, mapping: RowMapping = UNMAPPED
) -> Sequence[Example]:
    """Rows of a file of any format of `distill.data.formats`.

    JSONL files of more than 64 MB stay on disk; to read a smaller one into memory saves
    reading it twice before the first request.

    Args:
      path: the file, or a folder of Parquet or Arrow files.
      split: the split its rows belong to.
      mapping: which of its fields fill a field of a row.

    Raises:
      UserError: see `distill.data.tables.read_table`.
    """
    path = epath.Path(path)
    large = path.is_file() and path.stat().length > _IN_MEMORY
    return (open_table if large else read_table)(path, split, mapping=mapping)


def from_released(raw_dir: epath.PathLike, dataset: str, split: str) -> list[Example]:
    """Rows of the released layout; completions need not be there.

    Raises:
      UserError: an unknown dataset, a missing file or a bad row.
    """
    if dataset not in KINDS:
        raise unknown("dataset", dataset, KINDS, "--dataset")
    path = epath.Path(raw_dir) / dataset / f"{dataset}_{split}.json"
    build = KINDS[dataset].row
    return [
        build(fields, f"{path}:{line}", f"{dataset}/{split}/{row}", split)[0]
        for row, (line, fields) in enumerate(json_lines(path, FIX))
    ]


def from_tfds(
    name: str, split: str, fields: RowMapping, data_dir: str | None = None
) -> list[Example]:
    """Rows of a TFDS dataset, which is downloaded and built if need be.

    Args:
      name: e.g. "esnli:0.1.0" or "anli/r1".
      split: of the dataset, e.g. "train" or "validation[:100]".
      fields: which features fill a field of a row.
      data_dir: where datasets are; None for TFDS's own folder.

    Returns:
      N rows with ids `<name>/<split>/<row>` unless `fields` has an id.

    Raises:
      UserError: no such dataset or split, a feature that it does not have, or one that is no
        text, number or class label.
    """
    return list(tfds_rows.open_tfds(name, split, fields, data_dir, download=True).rows)
