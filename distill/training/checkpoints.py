"""Orbax checkpoints of the whole state: save, resume, restore parameters alone."""

from __future__ import annotations

import json
import logging

import jax
import orbax.checkpoint as ocp
from etils import epath

from distill.errors import UserError
from distill.training.step import TrainState

FOLDER, BEST_FOLDER = "checkpoints", "best"
logging.getLogger("absl").setLevel(logging.WARNING)


class Checkpoints:
    """The checkpoints of a run folder; use as a context manager, leaving it waits for writes."""

    def __init__(self, run_dir: epath.PathLike, keep: int = 1, folder: str = FOLDER) -> None:
        """Opens (or starts) `<run_dir>/<folder>`, which keeps the `keep` newest."""
        self._folder = epath.Path(run_dir).resolve() / folder
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(
            self._folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *unused: object) -> None:
        self.wait()
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState) -> None:
        """Writes the state in the background; a crash leaves the older checkpoint."""
        self._manager.save(int(state.step), args=ocp.args.StandardSave(state))

    def wait(self) -> None:
        """Returns when everything is written."""
        self._manager.wait_until_finished()

    def forget_after(self, step: int) -> None:
        """Deletes checkpoints later than `step`: a resumed run writes them again."""
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def restore(self, template: TrainState) -> TrainState:
        """The newest state, with the shapes, types and shardings of `template`.

        Raises:
          UserError: no checkpoint, or one of another size.
        """
        step = self.latest_step
        if step is None:
            raise UserError(f"no checkpoint in {self._folder}: train this run first")
        self._check_shapes(step, template)
        return self._manager.restore(step, args=ocp.args.StandardRestore(template))

    def _check_shapes(self, step: int, template: TrainState) -> None:
        saved = self._manager.item_metadata(step)
        tree = getattr(saved, "tree", saved)
        saved_shapes = _shapes(tree["params"] if isinstance(tree, dict) else tree.params)
        expected_shapes = _shapes(template.params)
        for name in sorted(saved_shapes.keys() | expected_shapes.keys()):
            if saved_shapes.get(name) != expected_shapes.get(name):
                raise UserError(
                    f"checkpoint {self._folder}/{step} is of another size: {name} is "
                    f"{saved_shapes.get(name, 'absent')} there, expected "
                    f"{expected_shapes.get(name, 'absent')}; set the size macros (gin/sizes) and "
                    "SCAN_LAYERS to those of the checkpoint"
                )


class BestCheckpoint:
    """The state of the highest validation accuracy so far; of equals, the latest.

    Use as a context manager, like `Checkpoints`.
    """

    def __init__(self, run_dir: epath.PathLike, start: int, best_accuracy: float) -> None:
        """Opens `<run_dir>/best`.

        Args:
          run_dir: the run folder.
          start: the step that the run goes on from.
          past: the highest validation accuracy up to that step, -1 without one.
        """
        self._checkpoints = Checkpoints(run_dir, folder=BEST_FOLDER)
        self._checkpoints.forget_after(start)
        self._accuracy = best_accuracy

    def __enter__(self) -> BestCheckpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self._checkpoints.__exit__(*error)

    def offer(self, state: TrainState, accuracy: float) -> None:
        """Keeps the state unless an earlier one was better; returns when it is written.

        A run that goes on from a later checkpoint can then count on it.
        """
        if accuracy >= self._accuracy:
            self._accuracy = accuracy
            self._checkpoints.save(state)
            self._checkpoints.wait()

    def restore(self, template: TrainState) -> TrainState:
        """The best state (see `Checkpoints.restore`)."""
        return self._checkpoints.restore(template)


def _shapes(tree: object) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: hasattr(node, "shape")
    )[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }


def read_json(path: epath.PathLike) -> dict[str, object]:
    """A JSON object from a file.

    Raises:
      UserError: the file is missing or does not parse.
    """
    try:
        return json.loads(epath.Path(path).read_text())
    except OSError:
        raise UserError(f"no file {path}: is this a run folder?") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
