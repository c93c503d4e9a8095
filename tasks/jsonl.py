"""jsonl: a user's own rows, from files of any format of `distill.data.formats`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.budget import check_fraction, hold_out
from distill.data.examples import Example
from distill.data.formats.record_files import files_of, most_rows
from distill.data.mapping.row_mapping import RowMapping, mapping_of_settings
from distill.data.tables import open_table
from distill.errors import NotSet, UserError

# The same rows are held out for every seed of a run.
SPLIT_SEED = 0


def _files(spec: DataSpec) -> tuple[str, ...]:
    """TRAIN_FILE, and TEST_FILE if there is one."""
    train, test = spec.option("train_file", ""), spec.option("test_file", "")
    for macro, path in (("TRAIN_FILE", train), ("TEST_FILE", test)):
        if not isinstance(path, str | os.PathLike):
            raise UserError(f"got {macro} = {path!r}, expected the name of a file")
    fraction = _fraction(spec)
    if test and fraction:
        raise UserError(
            f"got TEST_FILE = {test!r} and TEST_FRACTION = {fraction}, expected only one of them"
        )
    missing = [] if train else ["macro TRAIN_FILE is not set: --gin.TRAIN_FILE=rows.jsonl"]
    if not test and not fraction and spec.label_source == "gold":
        missing.append(
            "macro TEST_FILE is not set: --gin.TEST_FILE=rows.jsonl, or --gin.TEST_FRACTION=0.2 to "
            "hold out rows of TRAIN_FILE; a run with LABEL_SOURCE = 'teacher' needs no test"
        )
    if missing:
        raise NotSet(*missing)
    return (str(train), str(test)) if test else (str(train),)


def _fraction(spec: DataSpec) -> float:
    """The share of TRAIN_FILE's rows that is held out; 0 for none."""
    if not spec.option("test_fraction"):
        return 0.0
    fraction = float(spec.number("test_fraction"))
    check_fraction(fraction)
    return fraction


def _labels(spec: DataSpec) -> tuple[str, ...]:
    labels = spec.option("labels", ())
    if isinstance(labels, str):
        parts = tuple(part.strip() for part in labels.split(",") if part.strip())
        several = f'--gin.LABELS="{parts}" for {len(parts)} labels, ' if len(parts) > 1 else ""
        raise UserError(
            f"got LABELS = {labels!r}, which is one string, expected a tuple of strings: {several}"
            f"({labels!r},) with a comma for a set of one label, () for free text"
        )
    if (
        not isinstance(labels, tuple | list)
        or not all(isinstance(label, str) and label.strip() for label in labels)
        or len(set(labels)) < len(labels)
    ):
        raise UserError(
            f"got LABELS = {labels!r}, expected a tuple of distinct strings that are not blank, "
            "such as ('yes', 'no'), or () for free text"
        )
    return tuple(labels)


def _mapping(spec: DataSpec) -> RowMapping:
    """The mapping of the macros FIELDS and LABEL_NAMES."""
    return mapping_of_settings(spec.option("fields", {}), spec.option("label_names", ()))


def _closed(spec: DataSpec) -> tuple[str, ...]:
    """The closed label set: LABELS, or the names of LABEL_NAMES."""
    labels, names = _labels(spec), _mapping(spec).names
    named = names.names if names else ()
    if labels and named and {*labels} != {*named}:
        raise UserError(
            f"got LABELS = {labels!r}, but LABEL_NAMES has the names {', '.join(named)}; set "
            '--gin.LABELS="()", as LABEL_NAMES gives the set of labels too'
        )
    return labels or named


def _contents(spec: DataSpec) -> tuple[str, ...]:
    """The files whose contents decide the rows."""
    splits = zip(_files(spec), ("train", "test"), strict=False)
    return tuple(str(file) for path, split in splits for file in files_of(path, split))


def load(spec: DataSpec) -> tuple[Sequence[Example], Sequence[Example]]:
    """Rows of TRAIN_FILE and of TEST_FILE; those of JSONL files stay on disk.

    With TEST_FRACTION the test rows are held out of TRAIN_FILE (`budget.hold_out`).
    """
    train, *test = _files(spec)
    labels, mapping = _closed(spec) or None, _mapping(spec)
    rows = open_table(train, "train", labels, mapping)
    if fraction := _fraction(spec):
        return hold_out(rows, fraction, SPLIT_SEED, spec.label_source)
    return rows, open_table(test[0], "test", labels, mapping) if test else []


def check(spec: DataSpec) -> None:
    """Refuses settings that no rows can make good, the missing ones last."""
    _closed(spec)
    _files(spec)


DATASET = datasets.register(
    datasets.Dataset(
        name="jsonl",
        load=load,
        labels=_closed,
        files=_contents,
        check=check,
        most_rows=lambda spec: most_rows(_files(spec)[0]),
    )
)
