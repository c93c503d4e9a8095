"""The native training loop: batches in, metrics and checkpoints out."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import jax
from etils import epath

from distill.common.progress import Stage, format_duration
from distill.config.train import TrainConfig
from distill.errors import Stopped, stopped_by
from distill.student.network import Params
from distill.training import hosts
from distill.training import mesh as meshes
from distill.training import profile as profiles
from distill.training.accumulator import MetricAccumulator
from distill.training.checkpoints import Checkpoints
from distill.training.profile import NoProfile, Profile
from distill.training.run_folder import MetricsLog
from distill.training.signals import StopRequest
from distill.training.step import TrainState
from distill.training.step_watch import StepWatch
from distill.training.trainer import Trainer

_ACCURACY = "validation_accuracy"
AHEAD = 4  # steps that are started before they are waited for; jax alone allows 32 on CPUs
TIMED_STEPS = 20  # that an estimate is made from, unless they take more than a second


def fit(
    trainer: Trainer,
    validate: Callable[[Params], float],
    folder: epath.Path,
    progress: Callable[[str], None],
    profile: Profile | None = None,
    stop: StopRequest | None = None,
    start: Callable[[TrainState], TrainState] | None = None,
    step_timeout: float = 0,
) -> TrainState:
    """Trains to the last step, from the newest checkpoint of `folder` if there is one.

    Args:
      trainer: as from `make_trainer`.
      validate: parameters -> accuracy on the validation rows.
      folder: the run folder.
      progress: takes a line of text each log period.
      profile: measures where the time goes, and traces a few steps; None measures nothing.
      stop: says at the end of each step whether a signal came; None if no signals are handled.
      start: initial state -> the state that a new run begins with, saved before its first step.
      step_timeout: seconds without a finished step after which the process ends; 0 for no limit.

    Returns:
      The last state, or that of the best evaluation with CHECKPOINT = 'best'; saved in `folder`.

    Raises:
      UserError: a checkpoint of another size; a loss that is not finite.
      Stopped: a signal came, and the state of that step is saved.
    """
    stop, train, clock = stop or StopRequest(), trainer.config.train, profile or NoProfile()
    keeps_best = train.checkpoint == "best"
    with (
        Checkpoints(folder, train.keep_checkpoints, keeps_best, progress) as checkpoints,
        stop.held(),
        contextlib.ExitStack() as stack,
    ):
        state: TrainState = _first_state(trainer, checkpoints, progress, start)
        begin = int(state.step)
        enter = stack.enter_context
        metrics_log = enter(MetricsLog(folder, begin, progress, writes=hosts.is_host0()))
        window = enter(MetricAccumulator(trainer, begin, progress, metrics_log, folder))
        watch = enter(StepWatch(step_timeout, window.steps_done))
        steps = _Steps(trainer, progress, clock, watch)
        evaluation = _Evaluation(trainer, validate, stop, steps, metrics_log, progress, clock)
        if window.was_stopped:
            evaluation.catch_up(begin, state, checkpoints)
        clock.lap(profiles.PREPARING)
        for step, batch in _placed_batches(trainer, begin, clock):
            state, metrics = steps.take(step, state, batch)
            last = step == train.train_steps
            if step == begin + 1:
                window.restart_clock()
            window.add(metrics)
            clock.after(step, batch, metrics)
            if step % train.log_period == 0 or last:
                clock.settle(metrics)
                window.report(step)
                checkpoints.check()
                clock.lap(profiles.METRICS)
            accuracy, signal_number = evaluation.at(step, state.params, metrics)
            is_saved = step % train.save_period == 0 or last or checkpoints.is_best(accuracy)
            if is_saved and signal_number is None:
                clock.settle(metrics)
                with watch.paused():
                    metrics_log.flush()
                    checkpoints.save(state, accuracy)
                clock.lap(profiles.CHECKPOINTS)
            signal_number = signal_number or (None if last else stop.ask())
            if signal_number is not None:
                window.keep(step, checkpoints.all_steps)
                with watch.paused():
                    metrics_log.flush()
                    checkpoints.save_now(state, accuracy)
                raise stopped_by(signal_number, step)
            clock.lap(profiles.OTHER)
        metrics_log.close()
        with watch.paused():
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


def _placed_batches(
    trainer: Trainer, begin: int, clock: Profile
) -> Iterator[tuple[int, dict[str, jax.Array]]]:
    """Number and batch, on the devices, of each step after `begin`."""
    batches = trainer.stream.batches(begin, trainer.config.train.train_steps)
    for step, batch in enumerate(batches, begin + 1):
        clock.lap(profiles.INPUT)
        placed = meshes.put_batch(batch, trainer.mesh)
        clock.lap(profiles.PLACING)
        yield step, placed


class _Steps:
    """Takes steps; those that compile are announced, and waited for."""

    def __init__(
        self,
        trainer: Trainer,
        progress: Callable[[str], None],
        clock: Profile,
        watch: StepWatch,
    ) -> None:
        """Takes what `fit` works with."""
        self._trainer, self._watch = trainer, watch
        self._progress, self._clock = progress, clock
        self._first_steps: FirstSteps | None = None  # once the first step is taken
        self._under_way: collections.deque[dict[str, jax.Array]] = collections.deque()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within it does not count as time of steps."""
        first = self._first_steps.paused() if self._first_steps else contextlib.nullcontext()
        with first, self._watch.paused():
            yield

    def take(
        self, step: int, state: TrainState, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Starts a step; returns the next state and metrics, which may not be computed yet.

        Args:
          step: its number.
          state: what it begins with, which is given away.
          batch: on the devices.
        """
        if not self._trainer.is_compiled_for(batch) or self._first_steps is None:
            with self._watch.paused():
                state, metrics, seconds = _compile_and_step(self._trainer, state, batch)
            if self._first_steps is None:
                train = self._trainer.config.train
                self._first_steps = FirstSteps(train, step, seconds, self._progress)
            else:
                self._first_steps.leave_out(seconds)
            self._clock.lap(profiles.COMPILATION)
        else:
            state, metrics = self._trainer.train_step(state, batch)
            self._clock.lap(profiles.DISPATCH)
            self._first_steps.after(step, metrics)
            self._wait_for_earlier(metrics)
            self._clock.lap(profiles.DEVICE)
        return state, metrics

    def _wait_for_earlier(self, metrics: dict[str, jax.Array]) -> None:
        """Waits for all steps but the last AHEAD, so that a signal soon has a state to save."""
        self._under_way.append(metrics)
        if len(self._under_way) > AHEAD:
            jax.block_until_ready(self._under_way.popleft())


def _compile_and_step(
    trainer: Trainer, state: TrainState, batch: Mapping[str, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array], float]:
    """A step that compiles: the next state, metrics, and how many seconds it took."""
    with Stage("compiling the training step (cached for later runs)") as compiling:
        state, metrics = jax.block_until_ready(trainer.train_step(state, batch))
    return state, metrics, compiling.seconds


class _Evaluation:
    """Accuracy on the validation rows, every EVAL_PERIOD steps and after the last."""

    def __init__(
        self,
        trainer: Trainer,
        validate: Callable[[Params], float],
        stop: StopRequest,
        steps: _Steps,
        metrics_log: MetricsLog,
        progress: Callable[[str], None],
        clock: Profile,
    ) -> None:
        """Takes what `fit` works with."""
        self._train, self._rows = trainer.config.train, trainer.cache.rows["validation"]
        self._validate, self._stop, self._steps = validate, stop, steps
        self._log, self._progress, self._clock = metrics_log, progress, clock

    def _is_due(self, step: int) -> bool:
        """Whether the state of a step is evaluated."""
        period, last = self._train.eval_period, self._train.train_steps
        return bool(period and self._rows) and (step % period == 0 or step == last) and step > 0

    def at(
        self, step: int, params: Params, metrics: dict[str, jax.Array]
    ) -> tuple[float | None, int | None]:
        """Evaluates the state of a step if that is due.

        Args:
          step: its number.
          params: after the step.
          metrics: of the step, waited for where time is measured.

        Returns:
          The accuracy, written and printed, or None; the signal that interrupted the evaluation, or
          None. The run that resumes at an interrupted step evaluates it first, see `catch_up`.
        """
        if not self._is_due(step):
            return None, None
        self._clock.settle(metrics)
        try:
            accuracy = self._of(params)
        except Stopped as stopped:
            return None, stopped.number
        self._report(step, accuracy)
        self._clock.lap(profiles.EVALUATION)
        return accuracy, None

    def catch_up(self, step: int, state: TrainState, checkpoints: Checkpoints) -> None:
        """Evaluates the state that a run resumes with, if a signal has kept the run from it.

        The log comes last: whether it has the accuracy says whether the checkpoint has it.
        """
        if self._is_due(step) and not self._log.resumes_with(_ACCURACY):
            accuracy = self._of(state.params)
            checkpoints.replace(state, accuracy)
            self._report(step, accuracy)

    def _of(self, params: Params) -> float:
        with self._stop.released(), self._steps.paused():
            return self._validate(params)

    def _report(self, step: int, accuracy: float) -> None:
        self._log.write(step, {_ACCURACY: accuracy})
        self._progress(f"step {step}: validation accuracy {accuracy:.3f}")


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
