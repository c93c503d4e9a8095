"""Orbax checkpoints of the whole state: save, resume, restore parameters alone."""

from __future__ import annotations

import contextlib
import json
import math
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from distill.common.atomic import absolute, is_local
from distill.common.progress import Say, to_stderr
from distill.errors import MOST, UserError
from distill.training import hosts
from distill.training.intact import SealedPath, find_checkpoint_damage
from distill.training.quiet import quiet_checkpoint_errors
from distill.training.shapes import check_same_shapes

if TYPE_CHECKING:
    from distill.training.step import TrainState  # imports optax, which readers do not need

FOLDER, DAMAGED = "checkpoints", "damaged_checkpoints"
_STATE, _METRICS = "default", "metrics/metrics"  # within a checkpoint, as Orbax names them
_DIGITS = 10  # of a step
# What Orbax and TensorStore raise for files of another content
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError)
quiet_checkpoint_errors()

Params = dict[str, Any]  # a tree of arrays, or of their shapes
Saved = TypeVar("Saved")


class _Unreadable(Exception):
    """Why the files of a checkpoint do not read."""


def _rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """What Orbax sorts checkpoints by: the highest accuracy wins, of equals the latest step."""
    return metrics["accuracy"], metrics["step"]


class SavedCheckpoints:
    """The checkpoints of a run folder, read only.

    A checkpoint whose files are not those that were written is never used: the newest intact one
    takes its place, and `say` gets a line about it.
    """

    def __init__(self, run_dir: epath.PathLike, say: Say = to_stderr) -> None:
        """Names the folder.

        Args:
          run_dir: the run folder.
          say: takes the lines.
        """
        self._run_dir = absolute(run_dir)
        self._folder = self._run_dir / FOLDER
        self._say = say

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return max(self._steps(), default=None)

    @property
    def best_step(self) -> int | None:
        """Step of the highest accuracy, of equals the latest; None if none was evaluated."""
        return self._best_of(self._steps())

    def restore(self, template: TrainState, best: bool = False) -> TrainState:
        """A saved state, with the shapes, types and shardings of `template`.

        Args:
          template: arrays, or their shapes.
          best: takes the state of the highest accuracy, not the newest. As long as none was
            evaluated, that is the newest.

        Returns:
          The state.

        Raises:
          UserError: no checkpoint, none that is intact, or one of another size.
        """

        def read(path: epath.Path) -> TrainState:
            with ocp.StandardCheckpointer() as checkpointer:
                state: TrainState = checkpointer.restore(path, template)
                return state

        return self._restore(template.params, read, best)

    def restore_params(self, template: Params, best: bool = False) -> Params:
        """The parameters of a saved state; the optimizer's state, twice their size, is not read.

        Args:
          template: shapes, types and shardings of the parameters.
          best: as of `restore`.

        Returns:
          The parameters.

        Raises:
          UserError: see `restore`.
        """
        arguments = jax.tree.map(
            lambda leaf: ocp.ArrayRestoreArgs(sharding=leaf.sharding, dtype=leaf.dtype), template
        )

        def read(path: epath.Path) -> Params:
            wanted = ocp.args.PyTreeRestore(
                {"params": template}, restore_args={"params": arguments}, partial_restore=True
            )
            with ocp.PyTreeCheckpointer() as checkpointer:
                params: Params = checkpointer.restore(path, args=wanted)["params"]
                return params

        return self._restore(template, read, best)

    def _restore(self, params: Params, read: Callable[[epath.Path], Saved], best: bool) -> Saved:
        """What `read` makes of the newest, or best, intact checkpoint of these shapes."""
        steps = self._steps()
        damaged: dict[int, str] = {}
        if not steps:
            raise UserError(f"no checkpoint in {self._folder}: train this run first")
        while steps:
            step = self._best_of(steps) if best else None
            step = max(steps) if step is None else step
            reason = self._damage(step)
            if reason is None:
                try:
                    result = self._read(step, params, read)
                    self._leave_out(damaged, step)
                    return result
                except _Unreadable as error:
                    reason = str(error)
            damaged[step] = reason
            steps.remove(step)
        raise self._none_intact(damaged)

    def _steps(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        if not is_local(self._folder):  # a bucket's folder has its name before it is complete
            return sorted(ocp.utils.checkpoint_steps(self._folder))
        names = [path.name for path in self._folder.iterdir() if path.is_dir()]
        names = [name for name in names if name.isascii() and name.isdigit()]
        for name in names:
            if len(name) > _DIGITS or str(int(name)) != name or int(name) > MOST:
                raise UserError(
                    f"{self._folder / name} is not a valid checkpoint step (at most {MOST:,}): "
                    "delete it"
                )
        return sorted(map(int, names))

    def _accuracy(self, step: int) -> float | None:
        """The accuracy of a checkpoint; None if it was not evaluated, NaN if it is not readable."""
        path = self._folder / str(step) / _METRICS
        if not path.exists():
            return None
        try:
            return float(json.loads(path.read_bytes())["accuracy"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return math.nan

    def _best_of(self, steps: list[int]) -> int | None:
        accuracies = {step: self._accuracy(step) for step in steps}
        scored = [s for s, a in accuracies.items() if a is not None and not math.isnan(a)]
        return max(scored, key=lambda step: (accuracies[step], step), default=None)

    def _damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint; the first host looks at the files, for all."""
        reason = None
        if hosts.is_host0():
            reason = find_checkpoint_damage(self._folder / str(step))
        if hosts.broadcast_from_host0(reason is not None):
            return reason or "see the first host"
        return None

    def _read(self, step: int, params: Params, read: Callable[[epath.Path], Saved]) -> Saved:
        """What `read` makes of a checkpoint of these shapes; raises _Unreadable."""
        path = self._folder / str(step) / _STATE
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                saved = checkpointer.metadata(path).item_metadata
                check_same_shapes(saved, params, f"{self._folder}/{step}")
            return read(path)
        except _UNREADABLE as error:
            if isinstance(error, PermissionError):
                raise UserError(f"{error.filename or path} cannot be read: {error.strerror}") from (
                    error
                )
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise _Unreadable(f"it cannot be read: {lines[0][:200]}") from error

    def _leave_out(self, damaged: Mapping[int, str], step: int) -> None:
        """Says which checkpoints are damaged, now that `step` has been read instead."""
        for other, reason in damaged.items():
            self._say(f"checkpoint {other} is damaged ({reason}): using {step}")

    def _none_intact(self, damaged: Mapping[int, str]) -> UserError:
        found = "; ".join(
            f"checkpoint {self._folder / str(step)} is damaged ({reason})"
            for step, reason in damaged.items()
        )
        return UserError(
            f"{found}, and there is no other checkpoint: copy the run folder again, or delete "
            f"{self._folder} to train from the start"
        )


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
        step = int(state.step)
        metrics = None if accuracy is None else {"accuracy": accuracy, "step": step}
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)
        if self.is_best(accuracy):
            self._best = accuracy

    def save_now(self, state: TrainState, accuracy: float | None = None) -> None:
        """Saves the state if that has not been done, and returns when everything is written."""
        if int(state.step) not in self.all_steps:
            self.save(state, accuracy)
        self.wait()

    @property
    def all_steps(self) -> list[int]:
        """Steps of all checkpoints, one that is being written too."""
        return list(self._manager.all_steps())

    def wait(self) -> None:
        """Returns when everything is written."""
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
            reason = find_checkpoint_damage(self._folder / str(step))
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
