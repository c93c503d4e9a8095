"""The native training loop: batches in, metrics and checkpoints out."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Collection

import jax
import numpy as np
from etils import epath

from distill.common.atomic import write_json
from distill.common.progress import Progress, to_stderr
from distill.config.run import RunConfig
from distill.data.batches import BatchStream
from distill.data.cache import TokenCache
from distill.errors import Stopped, UserError
from distill.training import hosts
from distill.training import mesh as meshes
from distill.training.checkpoints import Checkpoints
from distill.training.optimizer import make_schedule
from distill.training.program import Program, make_program
from distill.training.run_folder import NOT_FINITE, MetricsLog
from distill.training.signals import StopRequest
from distill.training.step import TrainState

_ACCURACY = "validation_accuracy"
UNREPORTED = "unreported.json"
PROFILE_AFTER, PROFILE_STEPS = 10, 5


@dataclasses.dataclass
class Trainer:
    """What a run needs to train: built once, used by `fit`.

    Attributes:
      config: the run.
      cache: its tokens and rows.
      stream: its batches by step.
      program: its step on its devices.
    """

    config: RunConfig
    cache: TokenCache
    stream: BatchStream
    program: Program

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices."""
        return self.program.mesh

    def train_step(self, state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        """One step: the next state, and metrics."""
        with self.program.context():
            return self.program.train_step(state, batch)

    def init(self) -> TrainState:
        """The state before the first step."""
        return self.program.init()


def make_trainer(config: RunConfig, cache: TokenCache) -> Trainer:
    """Builds mesh, stream and compiled functions of a run.

    Raises:
      UserError: a batch or a mesh that the devices cannot hold.
    """
    if config.train.checkpoint == "best" and not cache.rows["validation"]:
        raise UserError(
            "got CHECKPOINT = 'best', but no row is for validation: raise VALIDATION_FRACTION or "
            "NUM_LABELS, or set CHECKPOINT to 'last'"
        )
    if config.student.dtype == "float64" and not jax.config.jax_enable_x64:
        raise UserError(
            "got DTYPE = 'float64', expected 'float32' or 'bfloat16': jax has float64 only with "
            "the environment variable JAX_ENABLE_X64=1"
        )
    train = config.train
    mesh = meshes.make_mesh(train.model_parallel)
    stream = BatchStream(
        cache,
        config.data,
        config.weighting,
        train.batch_size,
        train.seed,
        row_multiple=mesh.shape["data"] * train.microbatches,
    )
    return Trainer(config, cache, stream, make_program(config, mesh))


def fit(
    trainer: Trainer,
    validate: Callable[[dict], float],
    folder: epath.Path,
    progress: Callable[[str], None],
    profile: bool = False,
    stop: StopRequest | None = None,
) -> TrainState:
    """Trains to the last step, from the newest checkpoint of `folder` if there is one.

    Args:
      trainer: as from `make_trainer`.
      validate: parameters -> accuracy on the validation rows.
      folder: the run folder.
      progress: takes a line of text each log period.
      profile: traces a few steps into `<folder>/profile`, for TensorBoard or Perfetto.
      stop: says at the end of each step whether a signal came; None if no signals are handled.

    Returns:
      The state after TRAIN_STEPS steps, saved in `folder`; with CHECKPOINT = 'best' that
      of the best evaluation.

    Raises:
      UserError: a checkpoint of another size; a loss that is not finite.
      Stopped: a signal came, and the state of that step is saved.
    """
    stop = stop or StopRequest()
    train = trainer.config.train
    has_validation = bool(trainer.cache.rows["validation"])
    keeps_best = train.checkpoint == "best"
    with (
        Checkpoints(folder, train.keep_checkpoints, keeps_best, progress) as checkpoints,
        stop.held(),
    ):
        state = trainer.init()
        start = 0
        if checkpoints.latest_step is not None:
            checkpoints.prune()
            state = checkpoints.restore(state)
            start = int(state.step)
            progress(f"resumed at step {start}")
        metrics_log = MetricsLog(folder, start, progress, writes=hosts.is_host0())
        profiler = _Profiler(folder / "profile", start) if profile else None
        window = MetricAccumulator(trainer, start, progress, metrics_log, folder)
        for step, batch in enumerate(trainer.stream.batches(start, train.train_steps), start + 1):
            state, metrics = trainer.train_step(state, meshes.put_batch(batch, trainer.mesh))
            last = step == train.train_steps
            window.add(metrics)
            if profiler:
                profiler.after(step, metrics)
            if step % train.log_period == 0 or last:
                window.report(step)
            accuracy = None
            if has_validation and _due(step, train.eval_period, last):
                with stop.released():
                    accuracy = validate(state.params)
                metrics_log.write(step, {_ACCURACY: accuracy})
                progress(f"step {step}: validation accuracy {accuracy:.3f}")
            if step % train.save_period == 0 or last or checkpoints.is_best(accuracy):
                checkpoints.save(state, accuracy)
            if stop.ask(step) is not None and not last:
                window.keep(step, checkpoints.all_steps)
                checkpoints.save_now(state, accuracy)
                metrics_log.close()
                raise Stopped(stop.number, f"step {step} is saved")
        window.close()
        metrics_log.close()
        if profiler:
            profiler.close()
        return checkpoints.restore(state, best=True) if keeps_best else state


def _due(step: int, period: int, last: bool) -> bool:
    return bool(period) and (step % period == 0 or last)


class MetricAccumulator:
    """Gathers the metrics of a log period on the devices, and reports their means."""

    def __init__(
        self,
        trainer: Trainer,
        start: int,
        progress: Callable[[str], None],
        metrics_log: MetricsLog,
        folder: epath.Path,
    ) -> None:
        self._trainer, self._log, self._folder = trainer, metrics_log, folder
        self._metrics: list[dict[str, jax.Array]] = _read_unreported(folder).get(str(start), [])
        self._schedule = make_schedule(trainer.config.optimizer)
        self._mark = (start, time.monotonic())
        self._bar = Progress(
            trainer.config.train.train_steps,
            "training",
            "steps",
            initial=start,
            say=None if progress is to_stderr else progress,
            period=math.inf,  # a line per report
        )

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Keeps a step's metrics without waiting for them."""
        self._metrics.append(metrics)

    def report(self, step: int) -> None:
        """Writes and prints the means since the last report.

        Raises:
          UserError: a loss that is not finite.
        """
        fetched = jax.device_get(self._metrics)
        self._metrics = []
        for step_of_metrics, metrics in enumerate(fetched, step - len(fetched) + 1):
            if not np.isfinite(metrics["loss"]):
                self._stop(step_of_metrics, metrics)
        tasks = self._trainer.config.data.tasks
        losses_K = np.mean([m["losses"] for m in fetched], axis=0)
        means = {f"loss_{task}": float(v) for task, v in zip(tasks, losses_K, strict=True)}
        means |= {k: float(np.mean([m[k] for m in fetched])) for k in ("loss", "grad_norm")}
        means["learning_rate"] = float(self._schedule(step - 1))
        before, previous_time = self._mark
        self._mark = (step, time.monotonic())
        speed = (step - before) / max(self._mark[1] - previous_time, 1e-9)
        self._log.write(step, means, {"steps_per_second": speed})
        losses = "".join(f", {task} {means[f'loss_{task}']:.4f}" for task in tasks)
        self._bar.set_postfix_str(f"loss {means['loss']:.4f}{losses}", refresh=False)
        self._bar.update(step - before)
        self._bar.report()

    def keep(self, step: int, steps: Collection[int]) -> None:
        """Stores what is not reported yet: a run that resumes at this step reports it.

        Args:
          step: the step that is going to be saved.
          steps: steps of other checkpoints, whose metrics stay.
        """
        if not hosts.is_host0():
            return
        old = _read_unreported(self._folder)
        kept = {key: old[key] for key in map(str, steps) if key in old}
        kept[str(step)] = jax.device_get(self._metrics)
        content = {
            key: [{name: _to_json(value) for name, value in m.items()} for m in records]
            for key, records in kept.items()
        }
        write_json(self._folder / UNREPORTED, content)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def _stop(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Writes what explains a loss that is not finite, and ends the run."""
        tasks = self._trainer.config.data.tasks
        rows = self._trainer.cache.rows["train"]
        content = {
            "step": step,
            **{f"loss_{t}": str(v) for t, v in zip(tasks, metrics["losses"], strict=True)},
            "grad_norm": str(metrics["grad_norm"]),
            "rows": [rows[index].id for index in self._trainer.stream.rows(step - 1)],
        }
        if hosts.is_host0():
            write_json(self._folder / NOT_FINITE, content)
        raise UserError(
            f"the loss is {metrics['loss']} at step {step}: task losses and the rows of its batch "
            f"are in {self._folder / NOT_FINITE}; lower LEARNING_RATE or CLIP_NORM, then train "
            "again in a new --run_dir"
        )


def _to_json(value: np.ndarray) -> dict[str, object]:
    array = np.asarray(value)
    return {"dtype": array.dtype.name, "value": array.tolist()}


def _read_unreported(folder: epath.Path) -> dict[str, list[dict[str, np.ndarray]]]:
    """Metrics by step that `MetricAccumulator.keep` stored; none if the file is damaged."""
    path = folder / UNREPORTED
    if not path.exists():
        return {}
    try:
        return {
            step: [
                {name: np.asarray(v["value"], v["dtype"]) for name, v in record.items()}
                for record in records
            ]
            for step, records in json.loads(path.read_bytes()).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


class _Profiler:
    """Traces a few steps, once the first ones have compiled."""

    def __init__(self, folder: epath.Path, start: int) -> None:
        self._folder, self._first = str(folder), start + PROFILE_AFTER
        self._tracing = False

    def after(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Starts or stops the trace if this step is the one to do so at."""
        if step == self._first:
            jax.block_until_ready(metrics)
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        elif step == self._first + PROFILE_STEPS:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """Ends the trace, if one was begun."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
