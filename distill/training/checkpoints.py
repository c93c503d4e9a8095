"""Orbax checkpoints of the whole state, as a run writes them."""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING

import orbax.checkpoint as ocp
from etils import epath

from distill.common.atomic import is_local
from distill.common.progress import Say, Stage, to_stderr
from distill.common.safe_points import safe_point
from distill.training import hosts
from distill.training.intact import SealedPath
from distill.training.quiet import quiet_checkpoint_errors
from distill.training.saved_checkpoints import SavedCheckpoints

if TYPE_CHECKING:
    from distill.training.step import TrainState  # imports optax, which readers do not need

DAMAGED = "damaged_checkpoints"
_METRICS = "metrics/metrics"  # within a checkpoint, as Orbax names them
quiet_checkpoint_errors()


def _rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """What Orbax sorts checkpoints by: the highest accuracy wins, of equals the latest step."""
    return metrics["accuracy"], metrics["step"]


class Checkpoints(SavedCheckpoints):
    """The checkpoints of a run that trains; use as a context manager, leaving it waits for writes.

    One folder holds the newest checkpoints and, on request, the one of the highest validation
    accuracy. Orbax writes one checkpoint after the other and deletes older ones only when the
    new one is complete. A killed run therefore resumes from the newest complete checkpoint, and
    every better one that came before it is still there.
    """

    def __init__(
        self, run_dir: epath.PathLike, keep: int, best: bool = False, say: Say = to_stderr
    ) -> None:
        """Opens `<run_dir>/checkpoints`; a damaged one moves to `<run_dir>/damaged_checkpoints`.

        Args:
          run_dir: the run folder.
          keep: how many of the newest checkpoints stay.
          best: also keeps the checkpoint of the highest accuracy.
          say: takes lines about damaged checkpoints.

        Raises:
          UserError: there are checkpoints, and none is intact.
        """
        super().__init__(run_dir, say)
        with hosts.barrier("checking the checkpoints"):
            if hosts.is_host0() and is_local(self._folder):
                self._set_damaged_aside(keep, best)
        policies = ocp.checkpoint_managers
        kept = [policies.LatestN(keep)]
        if best:
            kept.append(
                policies.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)
            )
        self._policy = policies.AnyPreservationPolicy(kept)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            best_fn=_rank,  # without it Orbax writes no metrics
            create=True,
            enable_async_checkpointing=True,
            # Else threads of Orbax wait for the folders, which for lack of room may never come: the
            # process would not end.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            temporary_path_class=SealedPath if is_local(self._folder) else None,
        )
        self._manager = ocp.CheckpointManager(
            self._folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )
        step = self.best_step
        past = None if step is None else self._accuracy(step)
        past = -1.0 if past is None else past
        self._best = hosts.broadcast_from_host0(past) if best else None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A failed write must not hide the error that ends the run.
        with contextlib.suppress(Exception) if error is not None else contextlib.nullcontext():
            self.wait()
            self._manager.close()

    def is_best(self, accuracy: float | None) -> bool:
        """Whether a state has to be saved because of its accuracy.

        Args:
          accuracy: its validation accuracy; None if it was not evaluated.

        Returns:
          True if the best checkpoint is kept, and no saved one has a higher accuracy.
        """
        return self._best is not None and accuracy is not None and accuracy >= self._best

    def save(self, state: TrainState, accuracy: float | None = None) -> None:
        """Writes the state in the background; a crash leaves the older checkpoints.

        Args:
          state: what to write.
          accuracy: its validation accuracy; None if it was not evaluated.
        """
        safe_point()  # another process may have the lock of the folder by now
        step = int(state.step)
        metrics = None if accuracy is None else {"accuracy": accuracy, "step": step}
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)
        if self.is_best(accuracy):
            self._best = accuracy

    def check(self) -> None:
        """Raises the error of a checkpoint that could not be written in the background."""
        self._manager.check_for_errors()

    def save_now(self, state: TrainState, accuracy: float | None = None) -> None:
        """Saves the state if that has not been done, and returns when everything is written."""
        if int(state.step) not in self.all_steps:
            self.save(state, accuracy)
        self.wait()

    def replace(self, state: TrainState, accuracy: float) -> None:
        """Saves a state again, now that it is evaluated; returns when everything is written.

        A process that is killed meanwhile leaves the older checkpoints alone.

        Args:
          state: that of the newest checkpoint.
          accuracy: its validation accuracy.
        """
        self.wait()
        self._manager.delete(int(state.step))
        self.save(state, accuracy)
        self.wait()

    @property
    def all_steps(self) -> list[int]:
        """Steps of all checkpoints, one that is being written too."""
        return list(self._manager.all_steps())

    def wait(self) -> None:
        """Returns when everything is written."""
        with Stage("writing the checkpoint"):
            self._manager.wait_until_finished()

    def restore(self, template: TrainState, best: bool = False) -> TrainState:
        """As `SavedCheckpoints.restore`, once everything is written."""
        self.wait()
        return super().restore(template, best)

    def _leave_out(self, damaged: Mapping[int, str], step: int) -> None:
        """Moves them away: Orbax would take their steps for saved."""
        if not damaged:
            return
        with hosts.barrier("setting damaged checkpoints aside"):
            if hosts.is_host0() and is_local(self._folder):
                for other, reason in damaged.items():
                    self._move_aside(other, reason, f"using {step}")
        self._manager.reload()

    def prune(self) -> None:
        """Deletes what a killed run left: older checkpoints, and one that is half written.

        Orbax's own `cleanup_tmp_directories` works in a thread that `close` does not wait for.
        """
        if hosts.is_host0():
            for path in self._folder.iterdir():
                if ocp.utils.is_tmp_checkpoint(path):
                    path.rmtree()
        infos = [
            types.SimpleNamespace(step=step, metrics=self._manager.metrics(step))
            for step in self._manager.all_steps()
        ]
        context = ocp.checkpoint_managers.PreservationContext()
        kept = self._policy.should_preserve(infos, context=context)
        for info, stays in zip(infos, kept, strict=True):
            if not stays:
                self._manager.delete(info.step)

    def _set_damaged_aside(self, keep: int, best: bool) -> None:
        """Moves damaged checkpoints away: Orbax would count them as the newest or the best."""
        damaged = {}
        for step in self._steps():
            reason = self._find_damage(step)
            if reason is None and math.isnan(self._accuracy(step) or 0.0):
                reason = f"file {_METRICS} cannot be parsed"
            if reason is not None:
                damaged[step] = reason
        intact = [step for step in self._steps() if step not in damaged]
        if damaged and not intact:
            raise self._none_intact(damaged)
        for step, reason in damaged.items():
            path = self._folder / str(step)
            if self._is_superseded(step, intact, keep, best):
                path.rmtree()  # a run was killed while it deleted this one
                continue
            is_newest = step > max(intact)
            instead = f"using {max(intact)}" if is_newest else "using the best of the others"
            self._move_aside(step, reason, instead)

    def _move_aside(self, step: int, reason: str, instead: str) -> None:
        aside = self._run_dir / DAMAGED / str(step)
        aside.parent.mkdir(exist_ok=True)
        if aside.exists():
            aside.rmtree()
        (self._folder / str(step)).rename(aside)
        self._say(f"checkpoint {step} is damaged ({reason}): moved to {aside}, {instead}")

    def _is_superseded(self, step: int, intact: list[int], keep: int, best: bool) -> bool:
        """Whether a checkpoint would be deleted if it were intact."""
        if sum(other > step for other in intact) < keep:
            return False
        accuracy, winner = self._accuracy(step), self._best_of(intact)
        if not best:
            return True
        if accuracy is None or math.isnan(accuracy) or winner is None:
            return False
        return (self._accuracy(winner), winner) > (accuracy, step)
