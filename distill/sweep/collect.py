"""The record of an attempt, from what a run folder holds."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etils import epath

from distill.common.progress import Say
from distill.config.run import RunConfig
from distill.errors import UserError
from distill.results.record import DONE, FAILED, Record, Value
from distill.sweep.folder import RUNS, ResultsFolder
from distill.sweep.plan import Run
from distill.training import provenance, run_folder
from distill.training.records import Results

if TYPE_CHECKING:
    from distill.data.cache import TokenCache
    from distill.data.examples import Example


@dataclasses.dataclass(frozen=True)
class Job:
    """An attempt at a run, ready for a worker process.

    Attributes:
      run, axes, seed, gin_files, overrides: as of `distill.sweep.plan.Run`.
      config_digest: its digest.
      sweep: name of the sweep.
      attempt: 1 for the first.
      out: the results folder.
      is_t5x: whether T5X trains it.
    """

    run: str
    axes: Mapping[str, Value]
    seed: int
    gin_files: tuple[str, ...]
    overrides: tuple[str, ...]
    config_digest: str
    sweep: str
    attempt: int
    out: str
    is_t5x: bool = False

    @property
    def folder(self) -> str:
        """The run folder, relative to `out`."""
        return f"{RUNS}/{self.run}"

    @property
    def log(self) -> str:
        """The log of the run."""
        return f"{self.run_dir}.log"

    @property
    def run_dir(self) -> str:
        """The run folder."""
        return f"{self.out}/{self.folder}"


def next_job(run: Run, sweep: str, folder: ResultsFolder, say: Say) -> Job:
    """The next attempt at a run.

    Args:
      run: of a plan.
      sweep: name of the sweep.
      folder: the results folder, whose records tell the number of the attempt.
      say: takes a line about a damaged record.
    """
    return Job(
        run=run.id,
        axes=dict(run.axes),
        seed=run.seed,
        gin_files=run.gin_files,
        overrides=run.overrides,
        config_digest=run.digest,
        sweep=sweep,
        attempt=len(folder.records(say).get(run.id, ())) + 1,
        out=os.fspath(folder.path),
        is_t5x=run.resolved.engine == "t5x",
    )


def now() -> str:
    """The time, as records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def failed_record(job: Job, config: RunConfig, error: str, started: str, seconds: float) -> Record:
    """The record of an attempt that failed.

    Args:
      job: the attempt.
      config: of its run.
      error: the message.
      started: when it began.
      seconds: that it took.
    """
    return Record(
        **_settings(job, config),
        status=FAILED,
        error=error,
        seconds=round(seconds, 1),
        started=started,
        ended=now(),
        versions=provenance.versions(),
        git_commit=provenance.git_commit(),
    )


def done_record(job: Job, config: RunConfig, results: Results, started: str) -> Record:
    """The record of a finished run.

    Args:
      job: the attempt.
      config: of its run.
      results: of results.json.
      started: when the attempt began.
    """
    folder = epath.Path(job.run_dir)
    described = provenance.read_run(folder)
    cache = _open_cache(config)
    interval = results["interval"]
    return Record(
        **_settings(job, config),
        status=DONE,
        train_rows=described.get("rows", {}).get("train"),
        parameters=results["parameters"],
        accuracy=results["accuracy"],
        interval=None if interval is None else (interval[0], interval[1]),
        n_test=results["n_test"],
        ranked_accuracy=results.get("ranked_accuracy"),
        validation_accuracy=_validation_accuracy(folder, results["checkpoint_step"]),
        checkpoint_step=results["checkpoint_step"],
        teacher_accuracy=_teacher_accuracy(config, cache),
        train_flops=_train_flops(config, cache) if results["engine"] == "native" else None,
        seconds=results["seconds"],
        started=started,
        ended=now(),
        versions=described.get("versions") or provenance.versions(),
        git_commit=described.get("git_commit"),
    )


def _settings(job: Job, config: RunConfig) -> dict[str, Any]:
    """The fields that are known before training."""
    return {
        "run": job.run,
        "sweep": job.sweep,
        "attempt": job.attempt,
        "axes": dict(job.axes),
        "seed": job.seed,
        "gin_files": job.gin_files,
        "overrides": job.overrides,
        "config_digest": job.config_digest,
        "method": config.data.method,
        "dataset": config.data.dataset,
        "labels": config.data.num_labels,
        "label_weight": config.weighting.label_weight,
        "steps": config.train.train_steps,
        "batch_size": config.train.batch_size,
        "host": socket.gethostname(),
        "folder": job.folder,
    }


def _validation_accuracy(folder: epath.Path, step: int) -> float | None:
    """That of a step in metrics.jsonl; None if the step was not evaluated."""
    path, found = folder / run_folder.METRICS, None
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            metrics = json.loads(line)
        except ValueError:
            continue  # a line that a killed process left; training reports it
        if metrics.get("step") == step:
            found = metrics.get("validation_accuracy", found)
    return found


def _open_cache(config: RunConfig) -> TokenCache | None:
    """The tokens of a run, if they are on this machine."""
    from distill.data import cache

    try:
        return cache.open_cache(config.data)
    except UserError:  # the data are elsewhere
        return None


def _teacher_accuracy(config: RunConfig, cache: TokenCache | None) -> float | None:
    """That of the budget's rows with a gold label; None if none of them has a teacher label."""
    from distill.data import datasets
    from distill.data.examples import teacher_accuracy

    if cache is None:
        return None
    rows: dict[str, Example] = {}
    for split in ("train", "validation"):
        for row in cache.rows[split]:
            if row.label is None or row.id.rpartition("#")[0] in rows:
                continue  # not measured; a further rationale (`examples.with_rationale`)
            rows[row.id] = row
    if all(row.teacher_label is None for row in rows.values()):
        return None
    return teacher_accuracy([*rows.values()], datasets.get(config.data.dataset).correct)


def _train_flops(config: RunConfig, cache: TokenCache | None) -> float | None:
    """Operations of all training steps; None if the data are gone."""
    from distill.data.batching.batches import BatchStream
    from distill.engines.training_time import count_flops

    if cache is None:
        return None
    train = config.train
    stream = BatchStream(cache, config.data, config.weighting, train.batch_size, train.seed)
    return count_flops(config, stream)
