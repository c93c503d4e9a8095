"""The tokenised cache: what the native engine reads by random access.

It is made once through the SeqIO tasks and keyed by a digest of settings, data,
vocabulary and format. A folder appears under its final name only when it is
complete, so a killed writer leaves nothing that a reader could mistake for it.

    <cache_dir>/<digest>/
      meta.json                 settings, counts, token statistics
      <split>.jsonl             the rows, in the order of the indices
      <split>.<task>.<side>.*   tokens of all rows (inputs or targets), and offsets
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping

import numpy as np
from etils import epath

from distill.data import datasets
from distill.data.examples import Example, read_jsonl, write_jsonl
from distill.data.spec import DataSpec

FORMAT = 2
SIDES = ("inputs", "targets")


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

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence [N]."""
        return np.diff(self.offsets)


@dataclasses.dataclass(frozen=True)
class TokenCache:
    """Tokens and rows of a DataSpec.

    Attributes:
      meta: what meta.json holds.
      tokens: by (split, task, side); a row without a rationale has no tokens there.
      rows: the examples of each split, aligned with the tokens.
    """

    meta: Mapping[str, object]
    tokens: Mapping[tuple[str, str, str], Ragged]
    rows: Mapping[str, list[Example]]

    def mean_target_tokens(self, task: str) -> float:
        """T_task: mean target length of the task's training rows, EOS included."""
        return self.meta["tasks"][task]["mean_target_tokens"]

    def longest(self, side: str) -> int:
        """Tokens of the longest sequence of any split and task on this side."""
        return max(int(r.lengths.max(initial=1)) for k, r in self.tokens.items() if k[2] == side)


def cache_dir() -> epath.Path:
    """$DISTILL_CACHE_DIR, or ~/.cache/distill."""
    return epath.Path(os.environ.get("DISTILL_CACHE_DIR", "~/.cache/distill")).expanduser()


def load(spec: DataSpec) -> TokenCache:
    """Opens the cache of `spec`; makes it first if it is not there.

    Raises:
      UserError: what the readers, the budget or the vocabulary check complain of.
    """
    contents = datasets.content_digest(spec)
    key = f"{FORMAT}-{spec.digest()}-{contents}"
    folder = cache_dir() / hashlib.sha256(key.encode()).hexdigest()[:20]
    if not (folder / "meta.json").exists():
        _write(folder, spec, contents)
    return _read(folder, spec)


def _read(folder: epath.Path, spec: DataSpec) -> TokenCache:
    meta = json.loads((folder / "meta.json").read_text())
    tokens, rows = {}, {}
    for split in datasets.SPLITS:
        path = folder / f"{split}.jsonl"
        rows[split] = read_jsonl(path, split) if meta["rows"][split] else []
        for task in spec.tasks:
            for side in SIDES:
                name = f"{split}.{task}.{side}"
                with (folder / f"{name}.npz").open("rb") as file, np.load(file) as arrays:
                    tokens[split, task, side] = Ragged(arrays["values"], arrays["offsets"])
    return TokenCache(meta, tokens, rows)


def _write(folder: epath.Path, spec: DataSpec, contents: str) -> None:
    from distill.data import tokenise  # loads tensorflow

    splits, tokens, statistics = tokenise.tokenise(spec)
    scratch = folder.parent / f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}"
    scratch.mkdir(parents=True)
    for (split, task, side), ragged in tokens.items():
        with (scratch / f"{split}.{task}.{side}.npz").open("wb") as file:
            np.savez(file, values=ragged.values, offsets=ragged.offsets)
    for split in datasets.SPLITS:
        if splits[split]:
            rows = [dataclasses.replace(row, split=split) for row in splits[split]]
            write_jsonl(scratch / f"{split}.jsonl", rows)
    meta = {
        "format": FORMAT,
        "data_digest": contents,
        "rows": {split: len(splits[split]) for split in datasets.SPLITS},
        "counts": dataclasses.asdict(splits.counts),
        "tasks": statistics,
    }
    (scratch / "meta.json").write_text(json.dumps(meta, indent=1))
    try:
        scratch.rename(folder)
    except OSError:
        # Another writer of the same digest was faster; its folder is as good.
        if not (folder / "meta.json").exists():
            raise
        scratch.rmtree()
