"""Checks of rows against each other and against a prompt: copies and contradictions."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from distill.common.hashing import digest64
from distill.common.overlap import overlap, plain_text
from distill.common.phrases import have, share
from distill.data.budget import label_of
from distill.data.check.digests import as_numbers, parts, repeats
from distill.data.check.findings import NOTE, PROBLEM, WARNING, Finding
from distill.data.examples import Example

_MANY = 0.1  # share of repeated inputs that is a warning
_SHOWN = 3  # rows of a finding
_CHECKS = ("contradicting_labels", "repeated_inputs", "test_in_training")


def _input_digest(row: Example) -> int:
    """The input without case and runs of spaces, and what the row asks of it."""
    return digest64(" ".join(row.input.casefold().split()), *row.choices)


class DuplicateCheck:
    """Compares inputs by digests, 16 bytes a training row and 8 bytes a test row.

    Rows of a finding are named by a second pass (`wanted`, `show`).
    """

    def __init__(self, label_source: str) -> None:
        """Starts without rows.

        Args:
          label_source: whose labels train.
        """
        self._source = label_source
        self._inputs, self._labels, self._test = array("Q"), array("Q"), array("Q")
        self._wanted: dict[str, set[int]] = {}
        self._rows: dict[str, list[str]] = {}

    def add(self, split: str, row: Example) -> None:
        """Takes a row into account."""
        if split == "test":
            self._test.append(_input_digest(row))
            return
        self._inputs.append(_input_digest(row))
        label = label_of(row, self._source)
        self._labels.append(0 if label is None else digest64(label) | 1)

    def close(self) -> bool:
        """Compares the rows.

        Returns:
          Whether a second pass over them (`show`) is worth it.
        """
        train, labels, test = map(as_numbers, (self._inputs, self._labels, self._test))
        self._repeated = self._contradicting = self._crossing = self._test_repeated = 0
        wanted: dict[str, list[int]] = {name: [] for name in _CHECKS}
        for mine, theirs in zip(parts(train), parts(test), strict=True):
            inputs, place, counts = np.unique(train[mine], return_inverse=True, return_counts=True)
            label = labels[mine]
            labeled = label != 0
            pairs = np.unique(np.stack([place[labeled].astype(np.uint64), label[labeled]]), axis=1)
            different = np.bincount(pairs[0].astype(np.int64), minlength=len(inputs))
            crossing = np.isin(test[theirs], inputs)
            self._repeated += int(counts[counts > 1].sum())
            self._contradicting += int((labeled & (different[place] > 1)).sum())
            self._crossing += int(crossing.sum())
            self._test_repeated += repeats(test[theirs])[0]
            found = (inputs[different > 1], inputs[counts > 1], test[theirs][crossing])
            for name, digests in zip(_CHECKS, found, strict=True):
                wanted[name] += map(int, digests[:_SHOWN])
        self._wanted = {name: {*digests[:_SHOWN]} for name, digests in wanted.items()}
        return any(self._wanted.values())

    def show(self, split: str, row: Example) -> None:
        """Notes the id of a row, in the second pass, if a finding is about it."""
        digest = _input_digest(row)
        for check, digests in self._wanted.items():
            ids = self._rows.setdefault(check, [])
            wanted_split = split == "test" or check != "test_in_training"
            if digest in digests and wanted_split and len(ids) < 2 * _SHOWN:
                ids.append(row.id)

    def findings(self) -> Iterator[Finding]:
        """What was found, after `close`."""
        rows, test = len(self._inputs), len(self._test)
        if count := self._crossing:
            text = f"{share(count, test, 'test row')} {have(count)} the input of a training row: "
            text += "the test score may overstate accuracy on new rows"
            yield self._finding("test_in_training", WARNING, text, count, test)
        if count := self._contradicting:
            text = f"{share(count, rows, 'training row')} {have(count)} an input that also occurs "
            text += "with another label"
            level = WARNING if count > 0.01 * rows else NOTE
            yield self._finding("contradicting_labels", level, text, count, rows)
        if count := self._repeated:
            text = f"{share(count, rows, 'training row')} {have(count)} an input that occurs more "
            text += "than once"
            level = WARNING if count > _MANY * rows else NOTE
            yield self._finding("repeated_inputs", level, text, count, rows)
        if count := self._test_repeated:
            text = f"{share(count, test, 'test row')} {have(count)} an input that occurs more than "
            text += "once in the test"
            yield self._finding("repeated_test_inputs", NOTE, text, count, test)

    def _finding(self, check: str, level: str, text: str, count: int, of: int) -> Finding:
        return Finding(check, level, text, count, of, tuple(self._rows.get(check, ())))


class ExemplarCheck:
    """Looks for rows that are exemplars of the prompt: case, spacing and punctuation aside."""

    def __init__(self, exemplars: Sequence[str]) -> None:
        """Takes the inputs of the exemplars."""
        self._exemplars = [plain_text(text) for text in exemplars]
        self._rows: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._ids: dict[str, list[str]] = {}

    def add(self, split: str, row: Example) -> None:
        """Compares a row with the exemplars."""
        kind = "test" if split == "test" else "training"
        self._rows[kind] += 1
        text = plain_text(row.input)
        if any(overlap(text, each) for each in self._exemplars):
            self._found[kind] += 1
            self._ids.setdefault(kind, []).append(row.id)

    def findings(self) -> Iterator[Finding]:
        """Exemplars among test rows are a problem; among training rows, a note."""
        for kind, count in self._found.items():
            whole = self._rows[kind]
            text = f"{share(count, whole, f'{kind} row')} {have(count, 'is an', 'are')} "
            text += "exemplar of the prompt" if count == 1 else "exemplars of the prompt"
            check = "test_among_exemplars" if kind == "test" else "training_among_exemplars"
            level = PROBLEM if kind == "test" else NOTE
            yield Finding(check, level, text, count, whole, tuple(self._ids[kind][:_SHOWN]))
