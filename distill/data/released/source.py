"""What the tasks on released data have in common; registers nothing itself."""

from __future__ import annotations

import os
from collections.abc import Callable

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.budget import check_fraction
from distill.data.examples import Example
from distill.data.released import premises, reader
from distill.data.released.completions import NLI_LABELS
from distill.data.released.rows import KINDS
from distill.errors import NotSet, UserError, unknown

# The test premises are the same for every seed of a run.
SPLIT_SEED = 0


def raw_dir(spec: DataSpec) -> str:
    """The folder of the released data.

    Raises:
      NotSet: macro RAW_DIR is not set.
    """
    folder = spec.option("raw_dir", "")
    if not isinstance(folder, str | os.PathLike):
        raise UserError(f"got RAW_DIR = {folder!r}, expected the path of a folder")
    if not folder:
        raise NotSet(
            "macro RAW_DIR is not set: give the folder of the paper's released data with "
            "--raw_dir=... (docs/paper_data.md)"
        )
    return str(folder)


def check(spec: DataSpec) -> None:
    """Refuses a missing RAW_DIR and an unknown RAW_TEACHER before any file is read.

    Raises:
      NotSet: macro RAW_DIR is not set.
      UserError: a value that RAW_DIR or RAW_TEACHER cannot have.
    """
    raw_dir(spec)
    _teachers(spec)


def read_split(spec: DataSpec, name: str, split: str) -> list[Example]:
    """Rows of one released file, with the teachers of macro RAW_TEACHER."""
    return reader.read_released(raw_dir(spec), name, split, _teachers(spec))


def files(spec: DataSpec, *parts: tuple[str, str]) -> list[str]:
    """The files behind pairs of dataset and split."""
    folder = raw_dir(spec)
    return [
        file
        for name, split in parts
        for file in reader.files_of(folder, name, split, _teachers(spec))
    ]


def nli(name: str) -> datasets.Dataset:
    """An inference dataset of one released file, cut so that no premise is on both sides.

    Where RAW_TEST_SPLIT is set, that file is the test and RAW_SPLIT is all for training.
    Inputs are `premise: ... hypothesis: ...`, or with RAW_FORM = 'released' the premise, the
    EOS token and the hypothesis (`premises.released_form`).
    """

    def load(spec: DataSpec) -> tuple[list[Example], list[Example]]:
        form, (train, test) = _form(spec), _splits(spec, name)
        train_rows = read_split(spec, name, train)
        if test:
            test_rows = read_split(spec, name, test)
        else:
            fraction = float(spec.number("test_fraction"))
            train_rows, test_rows = premises.split_by_premise(train_rows, fraction, SPLIT_SEED)
        return [form(row) for row in train_rows], [form(row) for row in test_rows]

    def check_nli(spec: DataSpec) -> None:
        _form(spec)
        if not _splits(spec, name)[1]:
            check_fraction(float(spec.number("test_fraction")))
        check(spec)

    return datasets.Dataset(
        name=name,
        check=check_nli,
        load=load,
        labels=lambda spec: NLI_LABELS,
        files=lambda spec: files(spec, *((name, split) for split in _splits(spec, name) if split)),
        correct=KINDS[name].correct,
        group=premises.premise_of,
        eos_mark=_eos_mark,
    )


def _eos_mark(spec: DataSpec) -> str:
    return premises.EOS_MARK if spec.option("raw_form") == "released" else ""


def _form(spec: DataSpec) -> Callable[[Example], Example]:
    """What makes a row's input that of macro RAW_FORM."""
    forms = {"prefixed": lambda row: row, "released": premises.released_form}
    name = spec.option("raw_form", "prefixed")
    if name not in forms:
        raise unknown("form of the input", str(name), forms, "macro RAW_FORM")
    return forms[name]


def _splits(spec: DataSpec, name: str) -> tuple[str, str]:
    train, test = str(spec.option("raw_split")), str(spec.option("raw_test_split", ""))
    for macro, split in (("RAW_SPLIT", train), ("RAW_TEST_SPLIT", test or train)):
        if split not in KINDS[name].splits:
            raise unknown("split", split, KINDS[name].splits, f"macro {macro}")
    if train == test:
        raise UserError(
            f"RAW_SPLIT and RAW_TEST_SPLIT both name {train!r}: the student would be tested on "
            "its training rows; leave RAW_TEST_SPLIT empty to hold out some premises"
        )
    return train, test


def _teachers(spec: DataSpec) -> tuple[str, ...]:
    return reader.check_teachers(spec.option("raw_teacher", "palm"))
