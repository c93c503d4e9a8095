"""Checks of rows against each other and against a prompt: copies and contradictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from distill.common.hashing import digest63, digest64
from distill.common.overlap import overlap, plain_text
from distill.common.pair_tables import PairTables
from distill.common.phrases import have, share
from distill.data.budget import label_of
from distill.data.check.findings import NOTE, PROBLEM, WARNING, Finding
from distill.data.examples import Example

_MANY = 0.1  # share of repeated inputs that is a warning
_SHOWN = 3  # rows of a finding
# Keys of training rows with several labels, by key; labels that are NULL do not count.
_CONTRADICTING = "FROM train GROUP BY key HAVING count(DISTINCT value) > 1"
_CROSSING = "FROM test WHERE key IN (SELECT key FROM train)"
# The keys of the rows that each finding names.
_NAMED = {
    "contradicting_labels": f"SELECT key {_CONTRADICTING} ORDER BY key LIMIT {_SHOWN}",
    "repeated_inputs": f"SELECT key FROM train GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT "
    f"{_SHOWN}",
    "test_in_training": f"SELECT key {_CROSSING} ORDER BY key >> 59, value LIMIT {_SHOWN}",
}


def _input_key(row: Example) -> int:
    """A digest of the input without case and runs of spaces, and of what the row asks of it.

    Its last bits stand first. Keys in this order decide which rows a finding names.
    """
    digest = digest64(" ".join(row.input.casefold().split()), *row.choices)
    return digest >> 5 | (digest & 15) << 59


class DuplicateCheck:
    """Compares digests of inputs (`PairTables`).

    Rows of a finding are named by a second pass (`show`).
    """

    def __init__(self, label_source: str) -> None:
        """Starts without rows.

        Args:
          label_source: whose labels train.
        """
        self._source = label_source
        self._inputs = PairTables("train", "test")
        self._train_rows = self._test_rows = 0
        self._wanted: dict[str, set[int]] = {}
        self._rows: dict[str, list[str]] = {}

    def add(self, split: str, row: Example) -> None:
        """Takes a row into account."""
        if split == "test":
            self._inputs.add("test", _input_key(row), self._test_rows)
            self._test_rows += 1
            return
        self._train_rows += 1
        label = label_of(row, self._source)
        self._inputs.add("train", _input_key(row), None if label is None else digest63(label))

    def close(self) -> bool:
        """Compares the rows.

        Returns:
          Whether a second pass over them (`show`) is worth it.
        """
        self._repeated = self._inputs.repeated("train")
        self._test_repeated = self._inputs.repeated("test")
        self._crossing = self._inputs.number(f"SELECT count(*) {_CROSSING}")
        self._contradicting = self._inputs.number(
            f"SELECT sum(n) FROM (SELECT count(value) AS n {_CONTRADICTING})"
        )
        self._wanted = {check: self._inputs.keys(query) for check, query in _NAMED.items()}
        return any(self._wanted.values())

    def show(self, split: str, row: Example) -> None:
        """Notes the id of a row, in the second pass, if a finding is about it."""
        key = _input_key(row)
        for check, keys in self._wanted.items():
            ids = self._rows.setdefault(check, [])
            wanted_split = split == "test" or check != "test_in_training"
            if key in keys and wanted_split and len(ids) < 2 * _SHOWN:
                ids.append(row.id)

    def findings(self) -> Iterator[Finding]:
        """What was found, after `close`."""
        rows, test = self._train_rows, self._test_rows
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
            ids = self._ids.setdefault(kind, [])
            if len(ids) < _SHOWN:
                ids.append(row.id)

    def findings(self) -> Iterator[Finding]:
        """Exemplars among test rows are a problem; among training rows, a note."""
        for kind, count in self._found.items():
            whole = self._rows[kind]
            text = f"{share(count, whole, f'{kind} row')} {have(count, 'is an', 'are')} "
            text += "exemplar of the prompt" if count == 1 else "exemplars of the prompt"
            check = "test_among_exemplars" if kind == "test" else "training_among_exemplars"
            level = PROBLEM if kind == "test" else NOTE
            yield Finding(check, level, text, count, whole, tuple(self._ids[kind]))
