"""The tokenised cache: what the native engine reads by random access.

It is made once through the SeqIO tasks and keyed by a digest of settings, data,
vocabulary and format. meta.json comes last, so a killed writer leaves nothing that a
reader could mistake for a cache.

    <cache_dir>/<digest>/
      meta.json                 digests of the files, counts, token statistics
      words.txt                 the vocabulary, for VOCABULARY = 'words'
      <split>.jsonl             the rows, in the order of the indices, and `.offsets`
      <split>.<task>.<side>     tokens of all rows (inputs or targets), and `.offsets`

Making it takes memory for some offsets and indices a row, not for rows. Opening it takes
no time: arrays are raw numbers that are mapped into memory (read whole from gs://), and a
row of JSON is read when it is asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

import numpy as np
from etils import epath

from distill.common.digests import sha256
from distill.data import datasets
from distill.data.examples import Example
from distill.data.publish import publishing
from distill.data.row_file import open_array, open_rows, write_rows
from distill.data.spec import DataSpec

FORMAT = 6
SIDES = ("inputs", "targets")
_META, _WORDS = "meta.json", "words.txt"


@dataclasses.dataclass(frozen=True)
class Ragged:
    """N sequences of int32 tokens: `values` end to end, `offsets` [N + 1]."""

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, sequences: Iterable[np.ndarray]) -> Ragged:
        """Joins sequences."""
        arrays = [np.asarray(sequence, np.int32) for sequence in sequences]
        offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, np.int32), *arrays]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence [N]."""
        return np.diff(self.offsets)


class RaggedWriter:
    """Writes sequences into growing files, `<name>` and `<name>.offsets`.

    Use as a context manager; the offsets are written at its end.
    """

    def __init__(self, folder: epath.Path, name: str) -> None:
        """Opens the files for N sequences that come in order."""
        self._path = folder / name
        self.offsets = array("q", [0])

    def __enter__(self) -> RaggedWriter:
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        offsets = np.array(self.offsets, "<i8")
        _offsets_of(self._path).write_bytes(offsets.tobytes())

    def add(self, tokens: np.ndarray) -> None:
        """The next sequence [T]."""
        self._file.write(np.asarray(tokens, "<i4").tobytes())
        self.offsets.append(self.offsets[-1] + len(tokens))

    def skip_to(self, index: int) -> None:
        """Sequences before the one of this index that are not there are empty.

        Raises:
          ValueError: that one was written already.
        """
        if index < len(self.offsets) - 1:
            raise ValueError(f"sequence {index} comes after {len(self.offsets) - 2}")
        for _ in range(index - len(self.offsets) + 1):
            self.offsets.append(self.offsets[-1])


def _offsets_of(path: epath.Path) -> epath.Path:
    return path.parent / f"{path.name}.offsets"


@dataclasses.dataclass(frozen=True)
class TokenCache:
    """Tokens and rows of a DataSpec.

    Attributes:
      meta: what meta.json holds.
      tokens: by (split, task, side); a row without a rationale has no tokens there.
      rows: the examples of each split, aligned with the tokens.
      folder: where it is.
    """

    folder: epath.Path
    meta: Mapping[str, object]
    tokens: Mapping[tuple[str, str, str], Ragged]
    rows: Mapping[str, Sequence[Example]]

    @property
    def words(self) -> list[str]:
        """The words of VOCABULARY = 'words', none with another vocabulary."""
        path = self.folder / _WORDS
        return path.read_text().split() if path.exists() else []

    def mean_target_tokens(self, task: str) -> float:
        """T_task: mean target length of the task's training rows, EOS included."""
        return self.meta["tasks"][task]["mean_target_tokens"]

    def longest(self, side: str) -> int:
        """Tokens of the longest sequence of any split and task on this side."""
        return max(int(r.lengths.max(initial=1)) for k, r in self.tokens.items() if k[2] == side)


def cache_dir() -> epath.Path:
    """$DISTILL_CACHE_DIR, or ~/.cache/distill."""
    return epath.Path(os.environ.get("DISTILL_CACHE_DIR", "~/.cache/distill")).expanduser()


def load(spec: DataSpec, digests: Mapping[str, str] | None = None) -> TokenCache:
    """Opens the cache of `spec`; makes it first if it is not there.

    Args:
      spec: the data.
      digests: what `datasets.file_digests` gives, where the caller has it already.

    Raises:
      UserError: what the readers, the budget or the vocabulary check complain of.
    """
    if digests is None:
        digests = datasets.file_digests(spec)
    folder = _folder(spec, digests)
    if not (folder / _META).exists():
        _write(folder, spec, digests)
    return _read(folder, spec)


def stored_words(spec: DataSpec) -> list[str]:
    """The words of the cache of `spec`, none if there is no cache yet."""
    path = _folder(spec, datasets.file_digests(spec)) / _WORDS
    return path.read_text().split() if path.exists() else []


def _folder(spec: DataSpec, digests: Mapping[str, str]) -> epath.Path:
    key = f"{FORMAT}-{spec.digest()}-{datasets.joined_digest(digests)}"
    return cache_dir() / hashlib.sha256(key.encode()).hexdigest()[:20]


def _read(folder: epath.Path, spec: DataSpec) -> TokenCache:
    meta = json.loads((folder / _META).read_text())
    tokens, rows = {}, {}
    for split in datasets.SPLITS:
        rows[split] = open_rows(folder / f"{split}.jsonl")
        for task in spec.tasks:
            for side in SIDES:
                path = folder / f"{split}.{task}.{side}"
                arrays = open_array(path, "<i4"), open_array(_offsets_of(path), "<i8")
                tokens[split, task, side] = Ragged(*arrays)
    return TokenCache(folder, meta, tokens, rows)


def _write(folder: epath.Path, spec: DataSpec, digests: Mapping[str, str]) -> None:
    from distill.data import tokenise  # loads tensorflow

    with publishing(folder, mark=_META) as scratch:
        _fill(scratch, spec, digests, tokenise)


def _fill(
    scratch: epath.Path, spec: DataSpec, digests: Mapping[str, str], tokenise: ModuleType
) -> None:
    splits, words, statistics = tokenise.tokenise(spec, scratch)
    row_digests = {}
    for split in datasets.SPLITS:
        rows = (dataclasses.replace(row, split=split) for row in splits[split])
        write_rows(scratch / f"{split}.jsonl", rows)
        row_digests[split] = sha256(scratch / f"{split}.jsonl")
    if spec.vocabulary == "words":
        (scratch / _WORDS).write_text("\n".join(words.words))
    meta = {
        "format": FORMAT,
        "data_digest": datasets.joined_digest(digests),
        "files": dict(digests),
        "rows": {split: len(splits[split]) for split in datasets.SPLITS},
        "row_digests": row_digests,
        "counts": dataclasses.asdict(splits.counts),
        "tasks": statistics,
    }
    (scratch / _META).write_text(json.dumps(meta, indent=1))
