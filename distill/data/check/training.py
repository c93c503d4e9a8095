"""The checks of rows that `distill train` makes while it stores them: one line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distill.common.phrases import have
from distill.data.budget import label_of
from distill.data.check.findings import NOTE, listed
from distill.data.check.labels import LabelCheck
from distill.data.check.rationales import RationaleCheck
from distill.data.examples import Example
from distill.data.vocabularies import PieceVocabulary, Vocabulary

# What `distill.data.counts.data_line` does not tell already
_TOLD = frozenset(
    (
        *("class_balance", "rare_classes", "test_only_classes", "labels_alike"),
        *("teacher_accuracy", "one_rationale", "rationale_is_label", "rationale_is_input"),
    )
)
_MOST_CHARACTERS = 8


class TrainingCheck:
    """Looks at the rows of a run; memory as of `LabelCheck` and `RationaleCheck`."""

    def __init__(
        self,
        label_source: str,
        labels: Sequence[str],
        same: Callable[[str, str], bool],
        vocabulary: Vocabulary,
    ) -> None:
        """Starts without rows.

        Args:
          label_source: whose labels train.
          labels: the closed label set; () if there is none.
          same: whether an answer counts as a label.
          vocabulary: of inputs and targets.
        """
        self._source, self._same, self._vocabulary = label_source, same, vocabulary
        self._labels = LabelCheck(label_source, labels, same)
        self._rationales = RationaleCheck(label_source, labels, all_repeats=False)
        self._characters: dict[str, set[str]] = {"input": set(), "label": set(), "rationale": set()}

    def add(self, split: str, row: Example) -> None:
        """Takes a row of "train", "validation" or "test" into account."""
        self._labels.add(split, row)
        self._rationales.add(split, row)
        if isinstance(self._vocabulary, PieceVocabulary):
            label = label_of(row, "gold" if split == "test" else self._source)
            texts = {"input": row.input, "label": label, "rationale": row.rationale}
            for name, text in texts.items():
                self._characters[name].update(text or "")

    def warnings(self) -> list[str]:
        """A line for each finding that is no note."""
        found = [*self._labels.findings(), *self._rationales.findings()]
        lines = [f.text for f in found if f.check in _TOLD and f.level != NOTE]
        changed = [
            (label, count) for label, count in self._labels.train.items() if self._changes(label)
        ]
        if changed:
            lines.append(
                f"the vocabulary changes {len(changed):,} {have(len(changed), 'label', 'labels')} "
                f"(spaces or characters), so that no answer equals "
                f"{have(len(changed), 'it', 'them')}: {listed(changed)}; write the labels in plain "
                "characters"
            )
        return lines

    def _changes(self, label: str) -> bool:
        vocabulary = self._vocabulary
        ids = vocabulary.encode(label)
        if vocabulary.unk_id in ids:
            return False  # told as a label that the vocabulary does not cover
        return not self._same(vocabulary.decode(ids).strip(), label)

    def unknown_characters(self) -> dict[str, list[str]]:
        """Some of the characters of each field that the vocabulary does not have."""
        vocabulary = self._vocabulary
        unknown = {
            name: [c for c in sorted(characters) if vocabulary.uncovered(c) is not None]
            for name, characters in self._characters.items()
        }
        return {name: found[:_MOST_CHARACTERS] for name, found in unknown.items() if found}
