"""Checks of the texts against the vocabulary and the lengths of a run."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator

from distill.common.phrases import WARN_FROM, have, share
from distill.data.budget import label_of
from distill.data.check.findings import (
    NOTE,
    PROBLEM,
    WARNING,
    Finding,
    add_bounded,
    level_of,
    listed,
)
from distill.data.counts.data_line import BYTES_FIX, fitting
from distill.data.examples import Example
from distill.data.vocabularies import ByteVocabulary, PieceVocabulary, Vocabulary, encode_input

FIELDS = ("input", "label", "rationale")
_SPACES = re.compile(r"[\n\r\t\v\f]|\s\s|^\s|\s$")
_META = "\u2581"  # a space within a piece


@dataclasses.dataclass
class FieldTokens:
    """Counts of the texts of a field.

    Attributes:
      texts: how many there are.
      tokens: of all of them, EOS included.
      unknown: tokens that stand for what the vocabulary does not have.
      with_unknown: texts that have such a token.
      characters: what the unknown tokens stand for, with their numbers.
      lengths: texts by number of tokens.
      spaced: texts with line breaks, tabs or runs of spaces.
      lost: texts that cannot be written with the vocabulary as they are.
    """

    texts: int = 0
    tokens: int = 0
    unknown: int = 0
    with_unknown: int = 0
    characters: Counter[str] = dataclasses.field(default_factory=Counter)
    lengths: Counter[int] = dataclasses.field(default_factory=Counter)
    spaced: int = 0
    lost: int = 0
    rows: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def over(self, limit: int) -> int:
        """Texts of more tokens than the limit."""
        return sum(count for length, count in self.lengths.items() if length > limit)

    def percentile(self, fraction: float) -> int:
        """The number of tokens that this share of the texts does not exceed."""
        seen = 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if seen >= fraction * self.texts:
                return length
        return 0

    def note(self, check: str, row_id: str) -> None:
        """Keeps the ids of the first rows of a check."""
        ids = self.rows.setdefault(check, [])
        if len(ids) < 3 and row_id not in ids:
            ids.append(row_id)


class TokenCheck:
    """Encodes inputs, labels and rationales; memory grows with distinct lengths and characters."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        label_source: str,
        limits: dict[str, int],
        same: Callable[[str, str], bool],
        prefix: str = "",
        mark: str = "",
    ) -> None:
        """Starts without rows.

        Args:
          vocabulary: that of the run.
          label_source: whose labels train.
          limits: INPUT_LENGTH and TARGET_LENGTH, as far as they are known.
          same: whether an answer counts as a label.
          prefix: what stands before each input; the longest of the tasks.
          mark: what stands for EOS within inputs.
        """
        self._vocabulary, self._source, self._limits = vocabulary, label_source, limits
        self._same, self._prefix, self._mark = same, prefix, mark
        self.fields = {name: FieldTokens() for name in FIELDS}
        self._folds = vocabulary.decode(vocabulary.encode("a\n b")) != "a\n b"

    def add(self, split: str, row: Example) -> None:
        """Counts the texts of a row; of a test row, input and gold label."""
        ids = encode_input(self._vocabulary, self._prefix + row.input, self._mark)
        self._count("input", row, row.input, ids)
        label = label_of(row, "gold" if split == "test" else self._source)
        texts = [("label", label)]
        if split != "test":
            texts += [("rationale", text) for text in (row.rationale, *row.more_rationales)]
        for name, text in texts:
            if text is not None:
                ids = [*self._vocabulary.encode(text), self._vocabulary.eos_id]
                self._count(name, row, text, ids)

    def _count(self, name: str, row: Example, text: str, ids: list[int]) -> None:
        counts = self.fields[name]
        counts.texts += 1
        counts.tokens += len(ids)
        counts.lengths[len(ids)] += 1
        limit = self._limits.get("INPUT_LENGTH" if name == "input" else "TARGET_LENGTH")
        if limit and len(ids) > limit:
            counts.note("cut", row.id)
        unknown = ids.count(self._vocabulary.unk_id)
        if unknown:
            counts.unknown += unknown
            counts.with_unknown += 1
            counts.note("unknown", row.id)
            for piece in self._unknown_pieces(text):
                add_bounded(counts.characters, piece)
        if self._folds and _SPACES.search(text):
            counts.spaced += 1
            counts.note("spaces", row.id)
        if name == "label" and not unknown and not self._is_kept(text, ids):
            counts.lost += 1
            counts.note("lost", row.id)

    def _is_kept(self, label: str, ids: list[int]) -> bool:
        """Whether an answer of these ids counts as the label."""
        return self._same(self._vocabulary.decode(ids).strip(), label)

    def _unknown_pieces(self, text: str) -> Iterator[str]:
        """The characters (or words) behind the unknown tokens of a text."""
        vocabulary = self._vocabulary
        if not isinstance(vocabulary, PieceVocabulary):
            yield from (word for word in text.split() if vocabulary.uncovered(word))
            return
        pieces = vocabulary.processor.EncodeAsPieces(text)
        for piece, id_ in zip(pieces, vocabulary.encode(text), strict=True):
            if id_ == vocabulary.unk_id:
                yield from (character for character in piece if character != _META)

    def findings(self) -> Iterator[Finding]:
        """What was found."""
        for name, counts in self.fields.items():
            if counts.texts:
                yield from self._unknown(name, counts)
        for name, counts in self.fields.items():
            if counts.texts:
                yield from self._spaces(name, counts)
        for name, counts in self.fields.items():
            if counts.texts:
                yield self._lengths(name, counts)

    def _unknown(self, name: str, counts: FieldTokens) -> Iterator[Finding]:
        if isinstance(self._vocabulary, ByteVocabulary) or not counts.unknown:
            return
        many = counts.unknown > WARN_FROM * counts.tokens
        many |= counts.with_unknown > WARN_FROM * counts.texts
        text = f"{share(counts.with_unknown, counts.texts, name)} "
        text += f"{have(counts.with_unknown)} characters that the vocabulary does not have "
        text += f"({counts.unknown / counts.tokens:.2%} of the tokens): "
        text += f"{listed(counts.characters.most_common(), 8)}"
        if name == "label":
            text += "; such a label is never decoded right"
        level = WARNING if many else NOTE
        yield self._finding(
            f"unknown_in_{name}",
            level,
            f"{text}; {BYTES_FIX}" if many else text,
            counts.with_unknown,
            counts,
            "unknown",
        )

    def _spaces(self, name: str, counts: FieldTokens) -> Iterator[Finding]:
        if counts.spaced and name != "label":
            text = f"{share(counts.spaced, counts.texts, name)} {have(counts.spaced)} line breaks, "
            text += "tabs or runs of spaces, each of which the vocabulary reads as one space"
            yield self._finding(f"spaces_in_{name}", NOTE, text, counts.spaced, counts, "spaces")
        if counts.lost:
            text = f"{share(counts.lost, counts.texts, 'label')} {have(counts.lost)} spaces or "
            text += "characters that the vocabulary changes, so that an answer never equals "
            text += f"{have(counts.lost, 'it', 'them')}; write the labels in plain characters"
            yield self._finding("changed_labels", PROBLEM, text, counts.lost, counts, "lost")

    def _lengths(self, name: str, counts: FieldTokens) -> Finding:
        macro = "INPUT_LENGTH" if name == "input" else "TARGET_LENGTH"
        longest, usual = max(counts.lengths), counts.percentile(0.95)
        limit = self._limits.get(macro)
        text = f"95% of the {name}s have at most {usual:,} tokens, the longest has {longest:,}"
        if limit is None:
            return self._finding(f"{name}_lengths", NOTE, text, 0, counts, "cut")
        cut = counts.over(limit)
        if not cut:
            text = f"no {name} is longer than {macro} = {limit}; {text}"
            return self._finding(f"{name}_lengths", NOTE, text, 0, counts, "cut")
        text = f"{share(cut, counts.texts, name)} {have(cut, 'is', 'are')} longer than {macro} = "
        text += f"{limit} and {have(cut, 'is', 'are')} cut; 95% have at most {usual:,} tokens, and "
        text += fitting(macro, longest)
        level = PROBLEM if name == "label" else level_of(cut, counts.texts)
        return self._finding(f"{name}_lengths", level, text, cut, counts, "cut")

    def _finding(
        self, check: str, level: str, text: str, count: int, counts: FieldTokens, rows: str
    ) -> Finding:
        ids = tuple(counts.rows.get(rows, ()))
        return Finding(check, level, text, count, counts.texts, ids)
