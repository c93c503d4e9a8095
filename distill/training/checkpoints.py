"""Orbax checkpoints of the whole state: save, resume, restore parameters alone."""

from __future__ import annotations

import json
import logging
import types
from collections.abc import Mapping

import jax
import orbax.checkpoint as ocp
from etils import epath

from distill.errors import UserError
from distill.training import hosts
from distill.training.step import TrainState

FOLDER = "checkpoints"
logging.getLogger("absl").setLevel(logging.WARNING)
# Orbax warns at each save of a step that was not evaluated.
logging.getLogger("absl").addFilter(lambda record: "tracked_metric" not in str(record.msg))


def _rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """What Orbax sorts checkpoints by: the highest accuracy wins, of equals the latest step."""
    return metrics["accuracy"], metrics["step"]


class Checkpoints:
    """The checkpoints of a run folder; use as a context manager, leaving it waits for writes.

    One folder holds the newest checkpoints and, on request, the one of the highest validation
    accuracy. Orbax writes one checkpoint after the other and deletes older ones only when the
    new one is complete. A killed run therefore resumes from the newest complete checkpoint, and
    every better one that came before it is still there.
    """

    def __init__(
        self, run_dir: epath.PathLike, keep: int | None = None, best: bool = False
    ) -> None:
        """Opens `<run_dir>/checkpoints`.

        Args:
          run_dir: the run folder.
          keep: how many of the newest checkpoints stay; None only reads, and changes nothing.
          best: also keeps the checkpoint of the highest accuracy.
        """
        self._folder = epath.Path(run_dir).resolve() / FOLDER
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
            create=keep is not None,
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(
            self._folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )
        past = -1.0 if self.best_step is None else self._manager.metrics(self.best_step)["accuracy"]
        self._best = hosts.broadcast_from_host0(past) if best else None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *unused: object) -> None:
        self.wait()
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the highest accuracy, of equals the latest; None if none was evaluated."""
        return self._manager.best_step()

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

    def wait(self) -> None:
        """Returns when everything is written."""
        self._manager.wait_until_finished()

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

    def restore(self, template: TrainState, best: bool = False) -> TrainState:
        """A saved state, with the shapes, types and shardings of `template`.

        Args:
          like: arrays, or their shapes.
          best: takes the state of the highest accuracy, not the newest. As long as none was
            evaluated, that is the newest.

        Returns:
          The state.

        Raises:
          UserError: no checkpoint, a damaged one, or one of another size.
        """
        self.wait()
        step = self.best_step if best and self.best_step is not None else self.latest_step
        if step is None:
            raise UserError(f"no checkpoint in {self._folder}: train this run first")
        try:
            self._check_shapes(step, template)
            return self._manager.restore(step, args=ocp.args.StandardRestore(template))
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"checkpoint {self._folder}/{step} does not read ({reason}): copy the run folder "
                "again, or delete this step's folder to use an older one"
            ) from error

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
