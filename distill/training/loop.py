"""The native training loop: batches in, metrics and checkpoints out."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable

import jax
import numpy as np
from etils import epath

from distill.common.atomic import write_json
from distill.common.progress import Progress, Stage, format_duration, to_stderr
from distill.config.run import RunConfig
from distill.config.train import TrainConfig
from distill.data.batches import BatchStream
from distill.data.cache import TokenCache
from distill.errors import UserError
from distill.training import hosts
from distill.training import mesh as meshes
from distill.training.checkpoints import Checkpoints
from distill.training.optimizer import make_schedule
from distill.training.program import Program, make_program
from distill.training.run_folder import NOT_FINITE, MetricsLog
from distill.training.step import TrainState

_ACCURACY = "validation_accuracy"
PROFILE_AFTER, PROFILE_STEPS = 10, 5
TIMED_STEPS = 20  # that an estimate is made from, unless they take more than a second


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
) -> TrainState:
    """Trains to the last step, from the newest checkpoint of `folder` if there is one.

    Args:
      trainer: as from `make_trainer`.
      validate: parameters -> accuracy on the validation rows.
      folder: the run folder.
      progress: takes a line of text each log period.
      profile: traces a few steps into `<folder>/profile`, for TensorBoard or Perfetto.

    Returns:
      The state after TRAIN_STEPS steps, saved in `folder`; with CHECKPOINT = 'best' that
      of the best evaluation.

    Raises:
      UserError: a checkpoint of another size; a loss that is not finite.
    """
    train = trainer.config.train
    has_validation = bool(trainer.cache.rows["validation"])
    keeps_best = train.checkpoint == "best"
    with (
        Checkpoints(folder, train.keep_checkpoints, keeps_best) as checkpoints,
        contextlib.ExitStack() as stack,
    ):
        checkpoints.prune()
        with Stage("making the first parameters"):
            state = jax.block_until_ready(trainer.init())
        start = 0
        if checkpoints.latest_step is not None:
            with Stage("reading the newest checkpoint"):
                state = checkpoints.restore(state)
            start = int(state.step)
            progress(f"resumed at step {start}")
        metrics_log = MetricsLog(folder, start, writes=hosts.is_host0())
        profiler = _Profiler(folder / "profile", start) if profile else None
        window = stack.enter_context(
            MetricAccumulator(trainer, start, progress, metrics_log, folder)
        )
        for step, batch in enumerate(trainer.stream.batches(start, train.train_steps), start + 1):
            placed = meshes.put_batch(batch, trainer.mesh)
            if step == start + 1:
                with Stage("compiling the training step (kept for later runs)") as compiling:
                    state, metrics = jax.block_until_ready(trainer.train_step(state, placed))
                first_steps = FirstSteps(train, step, compiling.seconds, progress)
            else:
                state, metrics = trainer.train_step(state, placed)
                first_steps.after(step, metrics)
            last = step == train.train_steps
            window.add(metrics)
            if step == start + 1:
                window.restart_clock()
            if profiler:
                profiler.after(step, metrics)
            if step % train.log_period == 0 or last:
                window.report(step)
            accuracy = None
            if has_validation and _due(step, train.eval_period, last):
                accuracy = validate(state.params)
                metrics_log.write(step, {_ACCURACY: accuracy})
                progress(f"step {step}: validation accuracy {accuracy:.3f}")
            if step % train.save_period == 0 or last or checkpoints.is_best(accuracy):
                checkpoints.save(state, accuracy)
        metrics_log.close()
        if profiler:
            profiler.close()
        return checkpoints.restore(state, best=True) if keeps_best else state


class FirstSteps:
    """Times the steps after the one that compiled, and says how long the run will take."""

    def __init__(
        self,
        train: TrainConfig,
        first: int,
        compile_seconds: float,
        progress: Callable[[str], None],
    ) -> None:
        """Starts the clock, after the first step.

        Args:
          train: steps of the run.
          first: number of the step that has just been done.
          compile_seconds: that it took.
          progress: takes the line.
        """
        self._train, self._first, self._compile_seconds = train, first, compile_seconds
        self._progress, self._began, self._told = progress, time.monotonic(), False

    def after(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Tells the time once a second, or TIMED_STEPS steps, have passed."""
        if self._told:
            return
        jax.block_until_ready(metrics)
        seconds, steps = time.monotonic() - self._began, step - self._first
        if seconds < 1 and steps < TIMED_STEPS:
            return
        self._told = True
        left = self._train.train_steps - step
        speed = (
            f"{steps / seconds:.3g} steps/s"
            if steps > seconds
            else f"{seconds / steps:.3g} s a step"
        )
        rest = format_duration(left * seconds / steps)
        without = ", evaluations not counted" if self._train.eval_period else ""
        self._progress(
            f"the first step took {format_duration(self._compile_seconds)} with compiling; at "
            f"{speed} the other {left:,} take about {rest}{without}"
        )


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
        self._metrics: list[dict[str, jax.Array]] = []
        self._schedule = make_schedule(trainer.config.optimizer)
        self._mark, self._fetched = (start, time.monotonic()), start
        self._bar = Progress(
            trainer.config.train.train_steps,
            "training",
            "steps",
            initial=start,
            say=None if progress is to_stderr else progress,
            period=math.inf,  # a line per report, and where reports are rare
            count=self._steps_done,
        )

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Keeps a step's metrics without waiting for them."""
        self._metrics.append(metrics)

    def restart_clock(self) -> None:
        """Leaves the first step, which compiles, out of the rate that is shown."""
        self._bar.update(1)
        self._bar.restart_clock()

    def report(self, step: int) -> None:
        """Writes and prints the means since the last report.

        Raises:
          UserError: a loss that is not finite.
        """
        fetched = jax.device_get(self._metrics)
        self._fetched, self._metrics = step, []
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
        self._bar.update(step - self._bar.n)
        self._bar.report()

    def _steps_done(self) -> int:
        """Steps that the devices have finished."""
        return self._fetched + sum(metrics["loss"].is_ready() for metrics in [*self._metrics])

    def __enter__(self) -> MetricAccumulator:
        return self

    def __exit__(self, *exception: object) -> None:
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
