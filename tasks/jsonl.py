"""jsonl: a user's own rows, JSONL or, by the file's suffix, CSV (see distill.data.tables)."""

from __future__ import annotations

from collections.abc import Sequence

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.examples import Example
from distill.data.tables import open_table
from distill.errors import UserError


def _files(spec: DataSpec) -> tuple[str, str]:
    paths = spec.option("train_file", ""), spec.option("test_file", "")
    for macro, path in zip(("TRAIN_FILE", "TEST_FILE"), paths, strict=True):
        if not isinstance(path, str):
            raise UserError(f"got {macro} = {path!r}, expected the name of a file")
        if not path:
            raise UserError(f"macro {macro} is not set: --gin.{macro}=rows.jsonl")
    return paths


def _labels(spec: DataSpec) -> tuple[str, ...]:
    labels = spec.option("labels", ())
    if isinstance(labels, str):
        raise UserError(
            f"got LABELS = {labels!r}, which is one text, expected a tuple of texts: "
            f"({labels!r},) with a comma for a set of one label, () for free text"
        )
    sound = isinstance(labels, tuple | list) and all(
        isinstance(label, str) and label.strip() for label in labels
    )
    if not sound or len(set(labels)) < len(labels):
        raise UserError(
            f"got LABELS = {labels!r}, expected a tuple of different texts such as "
            "('yes', 'no'), or () for free text"
        )
    return tuple(labels)


def load(spec: DataSpec) -> tuple[Sequence[Example], Sequence[Example]]:
    """Rows of TRAIN_FILE and of TEST_FILE; those of JSONL files stay on disk."""
    train, test = _files(spec)
    labels = _labels(spec) or None
    return open_table(train, "train", labels), open_table(test, "test", labels)


DATASET = datasets.register(datasets.Dataset(name="jsonl", load=load, labels=_labels, files=_files))
