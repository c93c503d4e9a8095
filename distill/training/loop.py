"""The native training loop: batches in, metrics and checkpoints out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import jax
from etils import epath

from distill.common.progress import Stage, format_duration
from distill.config.train import TrainConfig
from distill.errors import Stopped
from distill.student.network import Params
from distill.training import hosts
from distill.training import mesh as meshes
from distill.training.accumulator import MetricAccumulator
from distill.training.checkpoints import Checkpoints
from distill.training.run_folder import MetricsLog
from distill.training.signals import StopRequest
from distill.training.step import TrainState
from distill.training.trainer import Trainer

_ACCURACY = "validation_accuracy"
PROFILE_AFTER, PROFILE_STEPS = 10, 5
TIMED_STEPS = 20  # that an estimate is made from, unless they take more than a second


def fit(
    trainer: Trainer,
    validate: Callable[[Params], float],
    folder: epath.Path,
    progress: Callable[[str], None],
    profile: bool = False,
    stop: StopRequest | None = None,
    start: Callable[[TrainState], TrainState] | None = None,
) -> TrainState:
    """Trains to the last step, from the newest checkpoint of `folder` if there is one.

    Args:
      trainer: as from `make_trainer`.
      validate: parameters -> accuracy on the validation rows.
      folder: the run folder.
      progress: takes a line of text each log period.
      profile: traces a few steps into `<folder>/profile`, for TensorBoard or Perfetto.
      stop: says at the end of each step whether a signal came; None if no signals are handled.
      start: initial state -> the state that a new run begins with, saved before its first step.

    Returns:
      The last state, or that of the best evaluation with CHECKPOINT = 'best'; saved in `folder`.

    Raises:
      UserError: a checkpoint of another size; a loss that is not finite.
      Stopped: a signal came, and the state of that step is saved.
    """
    stop, train = stop or StopRequest(), trainer.config.train
    has_validation, keeps_best = bool(trainer.cache.rows["validation"]), train.checkpoint == "best"
    with (
        Checkpoints(folder, train.keep_checkpoints, keeps_best, progress) as checkpoints,
        stop.held(),
        contextlib.ExitStack() as stack,
    ):
        state: TrainState = _first_state(trainer, checkpoints, progress, start)
        begin = int(state.step)
        metrics_log = stack.enter_context(
            MetricsLog(folder, begin, progress, writes=hosts.is_host0())
        )
        profiler = _Profiler(folder / "profile", begin) if profile else None
        window = stack.enter_context(
            MetricAccumulator(trainer, begin, progress, metrics_log, folder)
        )
        for step, batch in enumerate(trainer.stream.batches(begin, train.train_steps), begin + 1):
            placed = meshes.put_batch(batch, trainer.mesh)
            if not trainer.is_compiled_for(placed) or step == begin + 1:
                state, metrics, seconds = _compile_and_step(trainer, state, placed)
                if step == begin + 1:
                    first_steps = FirstSteps(train, step, seconds, progress)
                    window.restart_clock()
                else:
                    first_steps.leave_out(seconds)
            else:
                state, metrics = trainer.train_step(state, placed)
                first_steps.after(step, metrics)
            last = step == train.train_steps
            window.add(metrics)
            if profiler:
                profiler.after(step, metrics)
            if step % train.log_period == 0 or last:
                window.report(step)
            accuracy = None
            if has_validation and _due(step, train.eval_period, last):
                with stop.released(), first_steps.paused():
                    accuracy = validate(state.params)
                metrics_log.write(step, {_ACCURACY: accuracy})
                progress(f"step {step}: validation accuracy {accuracy:.3f}")
            if step % train.save_period == 0 or last or checkpoints.is_best(accuracy):
                checkpoints.save(state, accuracy)
            signal_number = stop.ask(step)
            if signal_number is not None and not last:
                window.keep(step, checkpoints.all_steps)
                checkpoints.save_now(state, accuracy)
                metrics_log.close()
                raise Stopped(signal_number, step)
        metrics_log.close()
        if profiler:
            profiler.close()
        return checkpoints.restore(state, best=True) if keeps_best else state


def _first_state(
    trainer: Trainer,
    checkpoints: Checkpoints,
    progress: Callable[[str], None],
    start: Callable[[TrainState], TrainState] | None,
) -> TrainState:
    """The state that training begins with: of the newest checkpoint, else new.

    What a killed run left is deleted once a checkpoint has been read, not before. What `start`
    has read is saved at once: a run that resumes does not read it again.
    """
    with Stage("initializing the parameters"):
        state: TrainState = jax.block_until_ready(trainer.init())
    if checkpoints.latest_step is not None:
        with Stage("reading the newest checkpoint"):
            state = checkpoints.restore(state)
        progress(f"resumed at step {int(state.step)}")
    elif start is not None:
        action = "reading the checkpoint to start from"
        with Stage(action), hosts.barrier(action):
            state = jax.block_until_ready(start(state))
        checkpoints.save_now(state)
    checkpoints.prune()
    return state


def _compile_and_step(
    trainer: Trainer, state: TrainState, batch: Mapping[str, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array], float]:
    """A step that compiles: the next state, metrics, and how many seconds it took."""
    with Stage("compiling the training step (cached for later runs)") as compiling:
        state, metrics = jax.block_until_ready(trainer.train_step(state, batch))
    return state, metrics, compiling.seconds


class FirstSteps:
    """Times the steps after those that compiled, and says how long the run will take."""

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

    def leave_out(self, seconds: float) -> None:
        """A later step compiled too: it does not count."""
        self._began, self._first = self._began + seconds, self._first + 1

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within it, such as an evaluation, does not count as time of the steps."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

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
            f"{steps / seconds:.3g} steps/s" if steps > seconds else f"{seconds / steps:.3g} s/step"
        )
        rest = format_duration(left * seconds / steps)
        without = ", not counting evaluations" if self._train.eval_period else ""
        self._progress(
            f"the first step took {format_duration(self._compile_seconds)} including compilation; "
            f"at {speed} the remaining {left:,} steps take about {rest}{without}"
        )


def _due(step: int, period: int, last: bool) -> bool:
    return bool(period) and (step % period == 0 or last)


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
