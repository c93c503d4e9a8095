"""Trained runs of either engine, loaded from their folder alone."""

from __future__ import annotations

import dataclasses

import jax
from etils import epath

from distill.common.devices import check_devices
from distill.common.progress import Say, Stage, to_stderr
from distill.config.run import RunConfig
from distill.convert import t5x_files
from distill.data.vocabulary_size import check_size
from distill.errors import UserError
from distill.inference import t5x_run
from distill.inference.compilations import share_compilations
from distill.inference.evaluator import Evaluator
from distill.student.beam import LENGTH_PENALTY
from distill.student.params import init_params
from distill.training import assets as run_assets
from distill.training import mesh as meshes
from distill.training import run_folder
from distill.training.assets import Assets
from distill.training.saved_checkpoints import SavedCheckpoints


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A trained student.

    Attributes:
      folder: the run folder.
      config: the run.
      params: of the chosen checkpoint.
      assets: vocabulary, labels, answer rule.
      step: of the checkpoint that the parameters are from.
    """

    folder: epath.Path
    config: RunConfig
    params: dict
    assets: Assets
    step: int | None = None

    def evaluator(
        self, beam: int = 1, length_penalty: float = LENGTH_PENALTY, answer: str = "decode"
    ) -> Evaluator:
        """An evaluator of this student (see `make_evaluator`); its batches fill all devices."""
        rows = self.config.train.eval_batch_size * meshes.data_parallel(self.params)
        train = dataclasses.replace(self.config.train, eval_batch_size=rows)
        config = dataclasses.replace(self.config, train=train)
        return make_evaluator(config, self.assets, beam, length_penalty, answer)


def make_evaluator(
    config: RunConfig,
    assets: Assets,
    beam: int = 1,
    length_penalty: float = LENGTH_PENALTY,
    answer: str = "decode",
) -> Evaluator:
    """An evaluator; checks that the network has a logit for every id of the vocabulary.

    Args:
      config: the run.
      assets: vocabulary, labels and answer rule.
      beam: prefixes of a beam search; 1 decodes greedily.
      length_penalty: of the beam search.
      answer: one of `evaluator.ANSWERS`.

    Raises:
      UserError: VOCAB_SIZE is too small; see also `Evaluator`.
    """
    batch_size = config.train.eval_batch_size
    evaluator = Evaluator(
        config.data, config.student, assets, batch_size, beam, length_penalty, answer
    )
    check_size(config.data, config.student.vocab_size, evaluator.vocabulary)
    return evaluator


def load_run(
    run_dir: epath.PathLike, say: Say = to_stderr, model_parallel: int | None = None
) -> LoadedRun:
    """A run from its folder; nothing outside of it is read, and nothing in it is executed.

    The parameters are those of the newest checkpoint, or with CHECKPOINT = 'best' the best so
    far. In a run of the t5x engine they are T5X's.

    Args:
      run_dir: the run folder.
      say: takes the line that the run is not finished, or that it was only converted.
      model_parallel: devices that split the student; all devices of this process decode then. None
        decodes on the first device alone.

    Raises:
      UserError: no run folder, no checkpoint, or one of another size; devices that cannot split
        the student so.
    """
    check_devices()
    share_compilations(say)
    config, assets = run_folder.read_config(run_dir), run_assets.read(run_dir)
    with Stage(f"loading the student of {run_dir}"):
        params, step = _read_params(epath.Path(run_dir), config, model_parallel)
    _tell_unfinished(epath.Path(run_dir), step, config.train.train_steps, say)
    return LoadedRun(epath.Path(run_dir), config, params, assets, step)


def _tell_unfinished(run_dir: epath.Path, step: int | None, steps: int, say: Say) -> None:
    """Says which checkpoint answers, if the run has more steps to train or was never started."""
    model_dir = run_dir / t5x_run.MODEL_DIR
    if model_dir.exists():
        newest = max(t5x_files.steps(model_dir), default=None)
    else:
        newest = SavedCheckpoints(run_dir).latest_step
    is_finished = (run_dir / run_folder.RESULTS).exists() or newest is None or newest >= steps
    if step is None or is_finished:
        return
    if (run_dir / run_folder.RUN).exists():
        say(f"{run_dir} is not finished: using the checkpoint of step {step:,} of {steps:,}")
    else:  # `train` writes that file before its first step
        say(f"{run_dir} is a converted checkpoint (step {step:,}) that was not trained further")


def _read_params(
    run_dir: epath.Path, config: RunConfig, model_parallel: int | None
) -> tuple[dict, int | None]:
    """The parameters, and the step that they are of; for `model_parallel`, see `load_run`."""
    shapes = jax.eval_shape(lambda: init_params(config.student, jax.random.key(0)))
    if model_parallel is None or (model_parallel == len(jax.local_devices()) == 1):
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda _: device, shapes)
    else:
        shardings = _local_shardings(config, model_parallel)
    if (run_dir / t5x_run.MODEL_DIR).exists():
        params = t5x_run.load_params(run_dir, config)
        params = jax.device_put(params, shardings)
        return params, t5x_run.chosen_step(run_dir, config)
    template = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )
    saved = SavedCheckpoints(run_dir)
    params = saved.restore_params(template, config.train.checkpoint == "best")
    return params, saved.restored_step


def _local_shardings(config: RunConfig, model_parallel: int) -> dict:
    """Where the parameters lie on the devices of this process."""
    devices = jax.local_devices()
    if len(devices) % model_parallel:
        raise UserError(
            f"got --model_parallel={model_parallel}, expected a divisor of the {len(devices)} "
            "devices of this process"
        )
    mesh = meshes.make_mesh(model_parallel, devices)
    try:
        return meshes.param_shardings(config.student, mesh)
    except UserError as error:
        text = str(error).replace("MODEL_PARALLEL = ", "--model_parallel=")
        raise UserError(text) from error
