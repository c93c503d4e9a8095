"""The registry of datasets, and the splits that a DataSpec cuts from one.

A dataset is a name, four functions of the DataSpec and rules for its rows; the
files of `tasks/` register them. Everything after `load_splits` is the same for all datasets.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from etils import epath

from distill.common.accuracy import matches_exactly
from distill.common.digests import sha256, sha256_text
from distill.common.phrases import number_of
from distill.common.text_files import check_file
from distill.config.data import DataSpec
from distill.data import budget, controls
from distill.data.examples import Example
from distill.data.mapping.input_forms import PLAIN
from distill.data.row_file import one_rationale_each, take
from distill.data.several import count_rationales
from distill.errors import UserError, check_all, unknown


def _nothing(spec: DataSpec) -> tuple[str, ...]:
    return ()


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What the project has to know of a dataset.

    Attributes:
      name: the value of macro DATASET.
      load: gives all training rows and all test rows, as lists or as rows on disk
        (`distill.data.row_file`).
      labels: the closed label set, empty for open answers.
      words: all words of inputs and targets, for VOCABULARY = 'words'; None takes
        the words of the training rows.
      files: files whose contents decide the rows, for the cache's key.
      correct: whether a prediction counts as the gold label, (prediction, gold) -> bool;
        to the letter by default.
      group: names rows of which none may train while another validates; None where rows
        are independent.
      input_form: how choices become part of an input (`distill.data.mapping.input_forms`).
      eos_mark: the text within inputs that stands for the EOS token; "" where there is none.
      check: refuses settings that no data can make good; reads no file.
      most_rows: how many training rows there are at most; None where only reading them tells.
    """

    name: str
    load: Callable[[DataSpec], tuple[Sequence[Example], Sequence[Example]]]
    labels: Callable[[DataSpec], Sequence[str]] = _nothing
    words: Callable[[DataSpec], Iterable[str]] | None = None
    files: Callable[[DataSpec], Sequence[str]] = _nothing
    correct: Callable[[str, str], bool] = matches_exactly
    group: Callable[[Example], str] | None = None
    eos_mark: Callable[[DataSpec], str] = lambda spec: ""
    check: Callable[[DataSpec], object] = lambda spec: None
    input_form: str = PLAIN
    most_rows: Callable[[DataSpec], int | None] = lambda spec: None


_DATASETS: dict[str, Dataset] = {}


def register(dataset: Dataset) -> Dataset:
    """Makes a dataset known under its name; the last registration wins."""
    _DATASETS[dataset.name] = dataset
    return dataset


def find_dataset(name: str) -> Dataset | None:
    """The dataset of this name, None if it is not registered."""
    return _DATASETS.get(name)


def get(name: str) -> Dataset:
    """The dataset of this name.

    Raises:
      UserError: unknown; lists the closest names.
    """
    if name not in _DATASETS:
        raise unknown("dataset", name, _DATASETS, "macro DATASET")
    return _DATASETS[name]


def check_settings(spec: DataSpec) -> None:
    """Refuses settings of the run's dataset before any file is read.

    Raises:
      UserError: an unknown dataset; a value that no data can make good, naming its macro.
      NotSet: a macro that the dataset needs is not set.
    """
    get(spec.dataset).check(spec)


def check_budget(spec: DataSpec) -> None:
    """Refuses a label budget of more rows than there are, where that is known without reading them.

    Args:
      spec: its files are there.

    Raises:
      UserError: names NUM_LABELS and the number of rows.
    """
    dataset = get(spec.dataset)
    most = dataset.most_rows(spec) if spec.num_labels else None
    if most is not None and spec.num_labels > most:
        place = next(iter(dataset.files(spec)), f"dataset {spec.dataset!r}")
        raise UserError(
            f"got NUM_LABELS = {spec.num_labels}, but {place} has at most "
            f"{number_of(most, 'training row')}; set NUM_LABELS to at most {most}, or to 0 to use "
            "all of them"
        )


@dataclasses.dataclass(frozen=True)
class Splits:
    """Rows of a run: `train` and `validation` make up the label budget.

    Test rows without a gold label are left out; `unscored` says how many. `rationales` [N] is how
    many rationales the row has that a training row is of; None if no row has several.
    """

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    counts: budget.BudgetCounts
    unscored: int = 0
    rationales: np.ndarray | None = dataclasses.field(default=None, compare=False)

    def __getitem__(self, split: str) -> Sequence[Example]:
        """Rows of "train", "validation" or "test"."""
        return getattr(self, split)


SPLITS = ("train", "validation", "test")


def load_splits(spec: DataSpec) -> Splits:
    """Loads a dataset and cuts the run's budget from its training rows.

    Test rows keep their gold labels whatever the label source is; a test row
    without one cannot be scored and is left out. If the method trains on rationales, a training row
    of several becomes as many rows, which count as one label. With the teacher's labels a run may
    do without a test. RATIONALE_SOURCE replaces the rationales of the training rows alone.

    Raises:
      UserError: see the dataset's reader and `budget.split_budget`; a gold label
        outside the closed set; no test row with a gold label in a run on gold labels.
    """
    dataset = get(spec.dataset)
    rows, test = dataset.load(spec)
    labels = tuple(dataset.labels(spec))
    several = False
    for row in itertools.chain(rows, test):
        several |= bool(row.more_rationales)
        allowed = row.choices or labels
        if row.label is not None and allowed and row.label not in allowed:
            raise UserError(
                f"row {row.id}: gold label {row.label!r} is not one of {', '.join(allowed)}"
            )
    given = len(test)
    scored = np.fromiter((row.label is not None for row in test), bool, given)
    if not scored.all():
        test = take(test, np.flatnonzero(scored))
    if not test and spec.label_source == "gold":
        raise UserError(
            f"none of {given} test rows of dataset {spec.dataset!r} has a gold label: accuracy "
            "cannot be measured. Add `label` to the test rows, or train without a test score with "
            "LABEL_SOURCE = 'teacher'"
        )
    train, validation, counts = budget.split_budget(
        rows,
        spec.num_labels,
        spec.validation_fraction,
        spec.data_seed,
        spec.label_source,
        dataset.group,
        spec.label_fraction,
    )
    rationales = None
    if several and spec.about_method.reads_rationales:
        each = count_rationales(train)
        if each.max() > 1:
            train, rationales = one_rationale_each(train, each), np.repeat(each, each)
    mark = dataset.eos_mark(spec)
    train = controls.replace_rationales(
        train, spec.rationale_source, spec.data_seed, mark, rationales
    )
    return Splits(train, validation, test, counts, given - len(test), rationales)


def without_mark(text: str, mark: str) -> str:
    """An input with blanks for its marks: what the vocabulary has to cover."""
    return text.replace(mark, " ") if mark else text


def vocabulary_words(spec: DataSpec) -> list[str]:
    """All words of VOCABULARY = 'words', prefixes included, sorted."""
    dataset = get(spec.dataset)
    if dataset.words is not None:
        words = set(dataset.words(spec))
    else:
        rows, _ = dataset.load(spec)
        mark = dataset.eos_mark(spec)
        texts = (
            text
            for row in rows
            for text in (
                *(without_mark(row.input, mark), row.label, row.teacher_label, row.rationale),
                *row.more_rationales,
            )
        )
        words = {word for text in texts if text for word in text.split()}
    return sorted(words | {*spec.label_prefix.split(), *spec.rationale_prefix.split()})


def file_digests(spec: DataSpec) -> dict[str, str]:
    """Path and hex sha256 of each file behind the rows and the vocabulary; the vocabulary last.

    Raises:
      UserError: files are missing; names all of them.
    """
    paths = [*get(spec.dataset).files(spec)]
    if spec.vocabulary == "sentencepiece":
        paths.append(spec.vocabulary_path)
    check_all(functools.partial(check_file, epath.Path(path)) for path in paths)
    return {str(path): sha256(path) for path in paths}


def content_digest(spec: DataSpec) -> str:
    """One hex digest of the contents of the files behind the rows and the vocabulary."""
    return joined_digest(file_digests(spec))


def joined_digest(digests: Mapping[str, str]) -> str:
    """`content_digest`, of `file_digests`: the same wherever the files lie."""
    return sha256_text(*digests.values())[:16]
