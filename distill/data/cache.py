"""The tokenized cache: what the native engine reads by random access.

It is made once through the SeqIO tasks and keyed by a digest of settings, data,
vocabulary and format. meta.json comes last, so a killed writer leaves nothing that a
reader could mistake for a cache. Of large data it leaves the parts that it has tokenized
(`distill.data.token_parts`) for the next writer.

    <cache_dir>/<digest>/
      meta.json                 digests of the data and of the files below, counts, statistics
      words.txt                 the vocabulary, for VOCABULARY = 'words'
      <split>.jsonl             the rows, in the order of the indices, and `.offsets`
      <split>.<task>.<side>     tokens of all rows (inputs or targets), and `.offsets`
      train.rationales          of the row that each training row is of, if their numbers differ

Making it takes memory for some offsets and indices a row, not for rows. Opening it takes
no time: arrays are raw numbers that are mapped into memory (read whole from gs://), and a
row of JSON is read when it is asked for. What is damaged (a size that is not the one that was
written, and once a process a digest) is made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from distill.common.atomic import atomic_directory, is_local
from distill.common.digests import describe_files, find_damage, sha256, sha256_text
from distill.common.disk import disk_errors
from distill.common.paths import is_bucket, nearest_folder
from distill.common.progress import Say, Stage, to_stderr
from distill.common.safe_points import safe_point
from distill.config.data import DataSpec
from distill.data import datasets, token_parts
from distill.data.budget import BudgetCounts
from distill.data.cache_meta import CacheMeta, Counts
from distill.data.check.training import TrainingCheck
from distill.data.checked_rows import CheckedRows, read_rows
from distill.data.counts.survey import RowSurvey
from distill.data.examples import Example
from distill.data.ragged import FEATURES, Ragged, offsets_path
from distill.data.row_file import open_array, open_row_file, write_row_file
from distill.data.several import describe, differ, row_factors
from distill.data.vocabularies import Vocabulary, WordVocabulary, make_vocabulary
from distill.data.vocabulary_size import check_size, check_size_before_rows

FORMAT = 9
_OWN_DIGEST = "digest"  # of the rest of meta.json
_FIX = "check its permissions and free space, or choose another folder with --cache_dir"
_META, _WORDS, _RATIONALES = "meta.json", "words.txt", "train.rationales"
_COMPARED: set[tuple[str, int]] = set()  # caches whose digests this process has compared


@dataclasses.dataclass(frozen=True)
class TokenCache:
    """Tokens and rows of a DataSpec.

    Attributes:
      meta: what meta.json holds.
      tokens: by (split, task, side); a row without a rationale has no tokens there.
      rows: the examples of each split, aligned with the tokens.
      folder: where it is.
      rationales: how many rationales the row has that a training row is of [N]; None if all rows
        have as many.
    """

    folder: epath.Path
    meta: CacheMeta
    tokens: Mapping[tuple[str, str, str], Ragged]
    rows: Mapping[str, Sequence[Example]]
    rationales: np.ndarray | None = None

    @property
    def words(self) -> list[str]:
        """The words of VOCABULARY = 'words', none with another vocabulary."""
        path = self.folder / _WORDS
        return path.read_text().split() if path.exists() else []

    def mean_target_tokens(self, task: str) -> float:
        """T_task: mean target length of the task's training rows, EOS included."""
        return self.meta["tasks"][task]["mean_target_tokens"]

    def row_factors(self, is_drawn_N: np.ndarray) -> np.ndarray | None:
        """`several.row_factors` of the training rows; None if all of them count the same."""
        return None if self.rationales is None else row_factors(self.rationales, is_drawn_N)

    def longest(self, feature: str) -> int:
        """Tokens of the longest sequence of any split and task on this side."""
        return max(int(r.lengths.max(initial=1)) for k, r in self.tokens.items() if k[2] == feature)


def cache_dir() -> epath.Path:
    """$DISTILL_CACHE_DIR, or ~/.cache/distill where that is not set or empty.

    Raises:
      UserError: a file has the name of the folder, or of one above it.
    """
    path = os.environ.get("DISTILL_CACHE_DIR") or "~/.cache/distill"
    if not is_bucket(path):
        nearest_folder(path, f"DISTILL_CACHE_DIR={path}")
    return epath.Path(path).expanduser()


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is known of a run's data before anything heavy is imported.

    Attributes:
      digests: of the files behind the rows, see `datasets.file_digests`.
      rows: the rows, checked; None where the cache has them.
    """

    digests: Mapping[str, str]
    rows: CheckedRows | None = None


def prepare(spec: DataSpec, vocab_size: int) -> Prepared:
    """Reads and checks the rows of `spec`, unless they are in the cache: loads no TensorFlow.

    Args:
      spec: the data.
      vocab_size: of the student that is trained on them.

    Raises:
      UserError: missing files; a VOCAB_SIZE that is too small; see `checked_rows.read_rows`.
    """
    check_size_before_rows(spec, vocab_size)
    with Stage("hashing the data files"):
        digests = datasets.file_digests(spec)
    is_cached = (cache_folder(spec, digests) / _META).exists()
    if is_cached:
        return Prepared(digests)
    rows = read_rows(spec)
    check_size(spec, vocab_size, rows.vocabulary)
    return Prepared(digests, rows)


def load_cache(
    spec: DataSpec,
    digests: Mapping[str, str] | None = None,
    say: Say = to_stderr,
    rows: CheckedRows | None = None,
) -> TokenCache:
    """Opens the cache of `spec`; makes it first if it is not there, or damaged.

    Args:
      spec: the data.
      digests: what `datasets.file_digests` gives, where the caller has it already.
      say: takes a line about a damaged cache.
      rows: what `prepare` read; None reads them where there is no cache.

    Raises:
      UserError: what the readers, the budget or the vocabulary check complain of; a cache folder
        that cannot be written.
    """
    if digests is None:
        with Stage("hashing the data files"):
            digests = datasets.file_digests(spec)
    folder = cache_folder(spec, digests)
    if (folder / _META).exists():
        damage = _damage(folder)
        if damage is not None:
            say(f"the tokenized data in {folder} is damaged ({damage}): rebuilding it")
            _remove(folder)
    if not (folder / _META).exists():
        _write(folder, spec, digests, rows or read_rows(spec))
    return _read(folder, spec)


def open_cache(spec: DataSpec, digests: Mapping[str, str] | None = None) -> TokenCache | None:
    """The cache of `spec`; None if it is not there, or damaged.

    Args:
      spec: the data.
      digests: what `datasets.file_digests` gives, where the caller has it already.

    Raises:
      UserError: files of the data are missing.
    """
    folder = cache_folder(spec, datasets.file_digests(spec) if digests is None else digests)
    if not (folder / _META).exists() or _damage(folder) is not None:
        return None
    return _read(folder, spec)


def cache_folder(spec: DataSpec, digests: Mapping[str, str]) -> epath.Path:
    """The folder that the cache of `spec` has or will have; `digests`: of `file_digests`."""
    key = f"{FORMAT}-{spec.digest()}-{datasets.joined_digest(digests)}"
    return cache_dir() / hashlib.sha256(key.encode()).hexdigest()[:20]


def stored_words(spec: DataSpec) -> list[str]:
    """The words of the cache of `spec`, none if there is no cache yet or a damaged one."""
    folder = cache_folder(spec, datasets.file_digests(spec))
    if not (folder / _META).exists() or _damage(folder) is not None:
        return []
    path = folder / _WORDS
    return path.read_text().split() if path.exists() else []


def vocabulary_of(spec: DataSpec) -> Vocabulary:
    """The vocabulary that `spec` asks for; words are those of the cache if it is there."""
    words: Sequence[str] = ()
    if spec.vocabulary == "words":
        words = stored_words(spec) or datasets.vocabulary_words(spec)
    return make_vocabulary(spec.vocabulary, spec.vocabulary_path, words)


def _damage(folder: epath.Path) -> str | None:
    """What is wrong with a cache; digests are compared once a process, sizes always."""
    try:
        meta = json.loads((folder / _META).read_bytes())
        own = meta.pop(_OWN_DIGEST)
        if own != _digest_of(meta):
            return f"the content of file {_META} has changed"
        if meta["rows"]["train"] > meta["counts"]["train"] and "rationales" not in meta:
            return "an earlier version wrote it, without the number of rationales of each row"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"file {_META} cannot be parsed"
    sizes = find_damage(folder, meta["contents"], contents=False)
    if sizes is not None or not is_local(folder):
        return sizes
    # A cache that is made anew has another time.
    key = os.fspath(folder), os.stat(folder / _META).st_mtime_ns
    if key in _COMPARED:
        return None
    damage = find_damage(folder, meta["contents"])
    if damage is None:
        _COMPARED.add(key)
    return damage


def _remove(folder: epath.Path) -> None:
    """Removes a damaged cache; one that somebody else has just removed is no error."""
    with disk_errors(folder, _FIX):
        if not is_local(folder):  # has no renames
            folder.rmtree(missing_ok=True)
            return
        aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            folder.rename(aside)
        except FileNotFoundError:
            return
        aside.rmtree(missing_ok=True)


def _digest_of(meta: Mapping[str, object]) -> str:
    return sha256_text(json.dumps(meta, sort_keys=True))


def _read(folder: epath.Path, spec: DataSpec) -> TokenCache:
    meta = json.loads((folder / _META).read_text())
    tokens: dict[tuple[str, str, str], Ragged] = {}
    rows: dict[str, Sequence[Example]] = {}
    for split in datasets.SPLITS:
        rows[split] = open_row_file(folder / f"{split}.jsonl")
        for task in spec.tasks:
            for feature in FEATURES:
                path = folder / f"{split}.{task}.{feature}"
                arrays = open_array(path, "<i4"), open_array(offsets_path(path), "<i8")
                tokens[split, task, feature] = Ragged(*arrays)
    is_weighted = differ(meta.get("rationales"))
    rationales = open_array(folder / _RATIONALES, "<i4") if is_weighted else None
    return TokenCache(folder, meta, tokens, rows, rationales)


def _write(
    folder: epath.Path, spec: DataSpec, digests: Mapping[str, str], rows: CheckedRows
) -> None:
    parts = folder.parent / f".{folder.name}.parts"
    with disk_errors(folder, _FIX):
        try:
            with atomic_directory(folder, mark=_META) as scratch:
                _fill(scratch, spec, digests, rows, parts)
        except FileNotFoundError:
            if not (folder / _META).exists():  # another process made it, and removed the parts
                raise
        if is_local(parts):
            shutil.rmtree(parts, ignore_errors=True)


def _fill(
    scratch: epath.Path,
    spec: DataSpec,
    digests: Mapping[str, str],
    rows: CheckedRows,
    parts: epath.Path,
) -> None:
    splits = rows.splits
    row_digests, survey = {}, RowSurvey(spec.label_source)
    dataset = datasets.get(spec.dataset)
    labels = tuple(dataset.labels(spec))
    check = TrainingCheck(spec.label_source, labels, dataset.correct, rows.vocabulary)

    def rows_of(split: str) -> Iterator[Example]:
        for row in splits[split]:
            safe_point()
            survey.add(split, row)
            check.add(split, row)
            yield dataclasses.replace(row, split=split)

    for split in datasets.SPLITS:
        with Stage(f"storing the {split} rows"):
            write_row_file(scratch / f"{split}.jsonl", rows_of(split))
            row_digests[split] = sha256(scratch / f"{split}.jsonl")
    statistics = token_parts.tokenize(spec, rows, scratch, parts)
    several = None if splits.rationales is None else describe(splits.rationales)
    if splits.rationales is not None and differ(several):
        (scratch / _RATIONALES).write_bytes(splits.rationales.astype("<i4").tobytes())
    if isinstance(rows.vocabulary, WordVocabulary):
        (scratch / _WORDS).write_text("\n".join(rows.vocabulary.words))
    meta: CacheMeta = {
        "format": FORMAT,
        "data_digest": datasets.joined_digest(digests),
        "files": dict(digests),
        "rows": {split: len(splits[split]) for split in datasets.SPLITS},
        "row_digests": row_digests,
        "counts": _counts(splits.counts),
        "unscored": splits.unscored,
        "survey": survey.counts(),
        "warnings": check.warnings(),
        "unknown_characters": check.unknown_characters(),
        "tasks": statistics,
        "contents": describe_files(scratch, sorted(path.name for path in scratch.iterdir())),
    }
    if several is not None:
        meta["rationales"] = several
    content = {**meta, _OWN_DIGEST: _digest_of(meta)}
    (scratch / _META).write_text(json.dumps(content, indent=1))


def _counts(counts: BudgetCounts) -> Counts:
    found: Counts = {
        "rows": counts.rows,
        "dropped": counts.dropped,
        "train": counts.train,
        "validation": counts.validation,
        "reasons": dict(counts.reasons),
    }
    if counts.outside:
        found["outside"] = dict(counts.outside)
    return found
