"""The tokens of a cache, for large data in parts that worker processes write.

    <folder>/<split>-<start>-<stop>/       a part: a range of rows of a split
      <split>.<task>.<side>, `.offsets`    its tokens
      counts.json                          counts of each task and side, sizes of the files

The ranges depend on the number of rows alone, and a part appears whole. So the joined files are the
same bytes for any number of workers, and a build that was killed keeps its parts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from distill.common import machine
from distill.common.atomic import is_local
from distill.common.digests import find_damage
from distill.common.progress import Progress, loading_tensorflow
from distill.common.safe_points import safe_point
from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.cache_meta import TaskTokens
from distill.data.checked_rows import CheckedRows
from distill.data.counts.sequence_counts import SequenceCounts
from distill.data.ragged import FEATURES, offsets_path
from distill.data.row_file import open_array
from distill.data.several import describe, differ
from distill.data.vocabularies import WordVocabulary
from distill.errors import UserError

PART_ROWS = 50_000
WORKERS = "DISTILL_CACHE_WORKERS"
COUNTS = "counts.json"
BAD_INPUT = 2  # exit code of a worker that printed a message
_MOST_WORKERS = 16
_POLL = 0.2  # seconds

Counts = Mapping[str, Mapping[str, SequenceCounts]]  # by task and side


def worker_count() -> int:
    """$DISTILL_CACHE_WORKERS, or one worker per core of this process, at most 16.

    Raises:
      UserError: the variable is no number from 1.
    """
    text = os.environ.get(WORKERS, "")
    if text:
        if not text.isdecimal() or not 0 < float(text) < 1e6:
            raise UserError(f"got --cache_workers={text}, expected a whole number from 1")
        return int(text)
    return min(_MOST_WORKERS, machine.cores())


def tokenize(
    spec: DataSpec, checked: CheckedRows, folder: epath.Path, parts_folder: epath.Path
) -> dict[str, TaskTokens]:
    """Writes tokens of every split and task, cut to the spec's lengths with EOS kept.

    Args:
      spec: the settings.
      checked: its rows and its vocabulary.
      folder: has the stored rows, `<split>.jsonl`; takes the files of
        `distill.data.ragged.RaggedWriter`, `<split>.<task>.<side>`, aligned with them.
      parts_folder: keeps parts of data of more than PART_ROWS rows; the caller removes it.

    Returns:
      Statistics of each task: of its training rows (rows, mean and maximum target length as
      trained), and of all its sequences before they were cut (`inputs` and `targets`, as
      `SequenceCounts`).

    Raises:
      UserError: a worker that failed or died.
    """
    counts: Counts
    rows = {split: len(checked.splits[split]) for split in datasets.SPLITS}
    if sum(rows.values()) <= PART_ROWS or not is_local(folder):
        with loading_tensorflow():
            from distill.data import tokenization
        counts = tokenization.write_tokens(spec, checked.splits, checked.vocabulary, folder)
    else:
        counts = _in_parts(spec, checked, rows, folder, parts_folder)
    rationales_N = checked.splits.rationales
    statistics = {
        task: _statistics(folder, task, counts[task], rationales_N) for task in spec.tasks
    }
    statistics["label"]["labels_not_covered"] = checked.uncovered_labels
    return statistics


def _in_parts(
    spec: DataSpec,
    checked: CheckedRows,
    rows: Mapping[str, int],
    folder: epath.Path,
    parts_folder: epath.Path,
) -> Counts:
    """Has workers write the parts that are not there, and joins all."""
    parts = [
        (split, start, min(start + PART_ROWS, rows[split]))
        for split in datasets.SPLITS
        for start in range(0, rows[split], PART_ROWS)
    ]
    parts_folder.mkdir(parents=True, exist_ok=True)
    missing = [part for part in parts if not _is_whole(parts_folder / name_of(part))]
    words = checked.vocabulary.words if isinstance(checked.vocabulary, WordVocabulary) else []
    job = {
        # Workers know no dataset, only its mark.
        "spec": dataclasses.asdict(spec) | {"dataset_options": {}},
        "eos_mark": datasets.get(spec.dataset).eos_mark(spec),
        "words": list(words),
        "rows": os.fspath(folder),
        "folder": os.fspath(parts_folder),
    }
    _run_workers(job, missing, sum(rows.values()), min(worker_count(), len(missing)))
    for split in datasets.SPLITS:
        folders = [parts_folder / name_of(part) for part in parts if part[0] == split]
        for task in spec.tasks:
            for side in FEATURES:
                _join(folder / f"{split}.{task}.{side}", folders)
    found = [json.loads((parts_folder / name_of(part) / COUNTS).read_text()) for part in parts]
    return {
        task: {
            side: SequenceCounts.total(
                SequenceCounts(**each["counts"][task][side]) for each in found
            )
            for side in FEATURES
        }
        for task in spec.tasks
    }


def name_of(part: Sequence[str | int]) -> str:
    """Name of the folder of a part (split, start, stop)."""
    split, start, stop = part
    return f"{split}-{start}-{stop}"


def _is_whole(part: epath.Path) -> bool:
    try:
        return find_damage(part, json.loads((part / COUNTS).read_text())["files"], False) is None
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(part, ignore_errors=True)
        return False


def _join(path: epath.Path, folders: Sequence[epath.Path]) -> None:
    """Appends the files of this name in all folders, and shifts their offsets."""
    ends = [np.zeros(1, "<i8")]
    with path.open("wb") as file:
        for folder in folders:
            safe_point()
            with (folder / path.name).open("rb") as part:
                shutil.copyfileobj(part, file, 1 << 22)
            offsets = open_array(offsets_path(folder / path.name), "<i8")
            ends.append(offsets[1:] + ends[-1][-1])
    with offsets_path(path).open("wb") as file:
        for each in ends:
            file.write(each.astype("<i8").tobytes())


def _statistics(
    folder: epath.Path,
    task: str,
    counts: Mapping[str, SequenceCounts],
    rationales_N: np.ndarray | None,
) -> TaskTokens:
    offsets = open_array(offsets_path(folder / f"train.{task}.targets"), "<i8")
    lengths = np.diff(offsets)
    has_target = lengths > 0
    lengths = lengths[has_target]
    mean = float(lengths.mean())
    if rationales_N is not None and differ(describe(rationales_N)):
        mean = float(np.average(lengths, weights=1.0 / rationales_N[has_target]))
    return {
        "rows": len(lengths),
        "mean_target_tokens": mean,
        "max_target_tokens": int(lengths.max()),
        "inputs": dataclasses.asdict(counts["inputs"]),
        "targets": dataclasses.asdict(counts["targets"]),
    }


def _run_workers(
    job: Mapping[str, object], parts: Sequence[tuple[str, int, int]], total: int, count: int
) -> None:
    """Runs workers until all parts are there; worker i writes the parts i, i + count, ...

    A worker ends with this process: it reads the end of its stdin.
    """
    if not parts:
        return
    folder = pathlib.Path(str(job["folder"]))
    done = total - sum(stop - start for _, start, stop in parts)

    def written() -> int:
        there = [part for part in parts if (folder / name_of(part)).exists()]
        return done + sum(stop - start for _, start, stop in there)

    text = f"tokenizing with {count} worker{'s' * (count > 1)}"
    with (
        tempfile.TemporaryDirectory() as logs,
        Progress(total, text, initial=done, count=written) as bar,
    ):
        with _started(job, parts, count, pathlib.Path(logs)) as workers:
            while any(worker.poll() is None for worker in workers):
                safe_point()
                bar.update(written() - bar.n)
                _check(workers, pathlib.Path(logs))
                time.sleep(_POLL)
            _check(workers, pathlib.Path(logs))
        bar.update(written() - bar.n)


@contextlib.contextmanager
def _started(
    job: Mapping[str, object], parts: Sequence[object], count: int, logs: pathlib.Path
) -> Iterator[list[subprocess.Popen]]:
    paths = [str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",  # tokenizing needs none, and training needs all
        "JAX_PLATFORMS": "cpu",
    }
    workers: list[subprocess.Popen] = []
    try:
        for index in range(count):
            log = (logs / str(index)).open("wb")
            with log:
                worker = subprocess.Popen(
                    [sys.executable, "-m", "distill.data.token_worker"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=environment,
                )
            workers.append(worker)
            assert worker.stdin is not None
            line = json.dumps({**job, "parts": parts[index::count]})
            worker.stdin.write(line.encode() + b"\n")
            worker.stdin.flush()
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            if worker.stdin is not None:
                with contextlib.suppress(OSError):
                    worker.stdin.close()


def _check(workers: Sequence[subprocess.Popen], logs: pathlib.Path) -> None:
    """Raises UserError for a worker that failed."""
    for index, worker in enumerate(workers):
        if not worker.poll():
            continue
        lines = (logs / str(index)).read_text(errors="replace").strip().splitlines() or [""]
        if worker.returncode == BAD_INPUT:
            raise UserError(lines[-1])
        reason = f"signal {-worker.returncode}" if worker.returncode < 0 else lines[-1]
        raise UserError(
            f"a process that tokenizes rows ended with {reason}; finished parts are kept: repeat "
            f"the command, with --cache_workers=1 if the memory of {len(workers)} processes was "
            "not enough"
        )
