"""Orbax checkpoints that are read: to resume, and to answer with the parameters alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from distill.common.atomic import absolute, is_local
from distill.common.paths import check_bucket_package
from distill.common.progress import Say, to_stderr
from distill.errors import MOST, UserError
from distill.training import hosts, provenance
from distill.training.intact import DIGESTS, find_checkpoint_damage, has_digests
from distill.training.quiet import quiet_checkpoint_errors
from distill.training.run_folder import RESULTS
from distill.training.shapes import check_same_shapes

if TYPE_CHECKING:
    from distill.training.step import TrainState  # imports optax, which readers do not need

FOLDER = "checkpoints"
_STATE, _METRICS = "default", "metrics/metrics"  # within a checkpoint, as Orbax names them
_DIGITS = 10  # of a step
# What Orbax and TensorStore raise for files of another content
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError)
quiet_checkpoint_errors()

Params = dict[str, Any]  # a tree of arrays, or of their shapes
Saved = TypeVar("Saved")


class _Unreadable(Exception):
    """Why the files of a checkpoint do not read."""


class SavedCheckpoints:
    """The checkpoints of a run folder, read only.

    A checkpoint whose files are not those that were written is never used: the newest intact one
    takes its place, and `say` gets a line about it. A local checkpoint without digests is damaged
    if an earlier one has them. Otherwise its run may be copied from a bucket: it is used, with a
    line.
    """

    def __init__(self, run_dir: epath.PathLike, say: Say = to_stderr) -> None:
        """Names the folder.

        Args:
          run_dir: the run folder.
          say: takes the lines.

        Raises:
          UserError: on gs:// without the package that Orbax needs there.
        """
        check_bucket_package(run_dir)
        self._run_dir = absolute(run_dir)
        self._folder = self._run_dir / FOLDER
        self._say = say
        self.restored_step: int | None = None  # of what was restored last

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

        return self.first_intact(template.params, read, best)

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

        return self.first_intact(template, read, best)

    def first_intact(
        self, params: Params, read: Callable[[epath.Path], Saved], best: bool = False
    ) -> Saved:
        """What a function makes of the newest, or best, intact checkpoint.

        Args:
          params: the parameters of the run, or their shapes.
          read: takes the folder of the saved state. Where it raises an error of Orbax, the
            checkpoint is not intact.
          best: as of `restore`.

        Raises:
          UserError: see `restore`.
        """
        steps = self._steps()
        damaged: dict[int, str] = {}
        if not steps:
            results = self._run_dir / RESULTS
            if results.exists():
                raise UserError(
                    f"no checkpoint in {self._folder}, although the run is finished: copy the run "
                    f"folder again with its checkpoints, or delete {results} and train it again"
                )
            raise UserError(
                f"no checkpoint in {self._folder}: train this run first; if it is being trained, "
                "the first one comes at step SAVE_PERIOD"
            )
        while steps:
            step = self._best_of(steps) if best else None
            step = max(steps) if step is None else step
            reason = self._damage(step)
            if reason is None:
                try:
                    result = self._read(step, params, read)
                    self._leave_out(damaged, step)
                    self._say_if_unchecked(step)
                    self.restored_step = step
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
            reason = self._find_damage(step)
        if hosts.broadcast_from_host0(reason is not None):
            return reason or "see the first host"
        return None

    def _find_damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint's files, as one host sees them; None if nothing is."""
        reason = find_checkpoint_damage(self._folder / str(step))
        if reason is None and self._is_unchecked(step):
            earlier = (self._folder / str(other) for other in self._steps() if other < step)
            if provenance.has_digests(self._run_dir) or any(map(has_digests, earlier)):
                return f"file {DIGESTS} is missing"
        return reason

    def _is_unchecked(self, step: int) -> bool:
        return is_local(self._folder) and not has_digests(self._folder / str(step))

    def _say_if_unchecked(self, step: int) -> None:
        if hosts.is_host0() and self._is_unchecked(step):
            self._say(
                f"warning: checkpoint {step} has no {DIGESTS}: its files are used without being "
                "compared with what was written"
            )

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
            f"{self._folder.parent} and train again"
        )
