"""The native engine: train and evaluate with the project's own trainer (see also `predictor`)."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import jax
from etils import epath

from distill.config.resolve import Resolved
from distill.config.run import RunConfig
from distill.data import cache as caches
from distill.data.examples import Example
from distill.engines import results, t5x_run
from distill.errors import UserError
from distill.student.beam import LENGTH_PENALTY
from distill.student.params import param_count
from distill.train import hosts, provenance, run_folder
from distill.train.checkpoints import BEST_FOLDER, FOLDER, Checkpoints, read_json
from distill.train.evaluate import Evaluator, Prediction, summarise
from distill.train.loop import fit, make_trainer
from distill.train.optimizer import make_optimizer
from distill.train.step import init_state


def share_compilations() -> None:
    """Keeps compiled programs in the cache folder: a second start does not compile again."""
    jax.config.update("jax_compilation_cache_dir", str(caches.cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def to_stderr(line: str) -> None:
    """Shows a line of progress."""
    print(line, file=sys.stderr, flush=True)


def train(
    resolved: Resolved,
    run_dir: epath.PathLike,
    progress: Callable[[str], None] = to_stderr,
    profile: bool = False,
) -> dict[str, object]:
    """Trains a run, or goes on with it, and scores one checkpoint on the test split.

    On several hosts all call it (`distill.train.hosts`), and the first writes.

    Args:
      resolved: a checked configuration.
      run_dir: the run folder, local or gs://.
      progress: takes lines of text.
      profile: traces a few steps into `<run_dir>/profile`.

    Returns:
      The results, as stored in results.json; those of a finished run are read again.

    Raises:
      UserError: bad input of any kind, naming it.
    """
    config = resolved.run
    folder = epath.Path(run_dir)
    with hosts.together("opening the run folder"):
        run_folder.check_run(folder, resolved.text)
    if hosts.first_says((folder / run_folder.RESULTS).exists()):
        progress(f"{folder} is finished: its results are read, nothing is trained")
        return read_json(folder / run_folder.RESULTS)
    began = time.monotonic()
    share_compilations()
    hosts.check_connected()
    progress = hosts.only_first(progress)
    with hosts.together("preparing the run"):
        cache = caches.load(config.data)
        evaluator = make_evaluator(config)
        trainer = make_trainer(config, cache)
    described = provenance.describe_run(config, cache, trainer.stream.steps_per_epoch)
    _open(folder, resolved.text, described)
    progress(
        f"{config.data.method} on {config.data.dataset}: {trainer.stream.num_rows} training rows, "
        f"{len(cache.rows['validation'])} for validation, "
        f"{param_count(config.student):,} parameters, {hosts.describe()}"
    )
    state = fit(trainer, evaluator, folder, progress, profile)
    predictions = evaluator.split(state.params, cache, "test")
    seconds = time.monotonic() - began
    found = results.score(config, "native", predictions, int(state.step), seconds)
    if hosts.is_first():
        results.write(folder, described, found, predictions)
    results.say(found, progress)
    return found


def _open(folder: epath.Path, text: str, described: dict[str, object]) -> None:
    """Makes the run folder, once all that can refuse the input has been asked."""
    hosts.check_same({
        "the configuration": text,
        "the data or the vocabulary": f"{described['data_digest']} {described['rows']}",
        "the version of a package": str(described["versions"]),
    })  # fmt: skip
    with hosts.together("making the run folder"):
        if hosts.is_first():
            run_folder.open_run(folder, text)
            provenance.write_run(folder, described)
    hosts.check_shared(folder, run_folder.CONFIG)


def make_evaluator(
    config: RunConfig, beam: int = 1, length_penalty: float = LENGTH_PENALTY
) -> Evaluator:
    """An evaluator; checks that the network has a logit for every id of the vocabulary.

    Args:
      config: the run.
      beam: prefixes of a beam search; 1 decodes greedily.
      length_penalty: of the beam search.

    Raises:
      UserError: VOCAB_SIZE is too small; see also `Evaluator`.
    """
    from distill.data.vocabularies import padded_size  # loads tensorflow

    batch_size = config.train.eval_batch_size
    evaluator = Evaluator(config.data, config.student, batch_size, beam, length_penalty)
    size = evaluator.vocabulary.vocab_size
    if config.student.vocab_size < size:
        raise UserError(
            f"got VOCAB_SIZE = {config.student.vocab_size}, but the vocabulary "
            f"(VOCABULARY = {config.data.vocabulary!r}) has {size} ids: set VOCAB_SIZE = "
            f"{padded_size(size)}"
        )
    return evaluator


def load_run(run_dir: epath.PathLike) -> tuple[RunConfig, dict]:
    """The configuration of a run folder and the parameters of its chosen checkpoint.

    That is the newest, or with CHECKPOINT = 'best' the best so far. Of a run of the t5x engine it
    is T5X's checkpoint.

    Raises:
      UserError: no run folder, no checkpoint, or one of another size.
    """
    share_compilations()
    config = run_folder.read_config(run_dir)
    if (epath.Path(run_dir) / t5x_run.MODEL_DIR).exists():
        return config, t5x_run.load_params(run_dir, config)
    optimizer = make_optimizer(config.optimizer)
    shapes = jax.eval_shape(lambda: init_state(config.student, optimizer, config.train.seed))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes
    )
    chosen = BEST_FOLDER if config.train.checkpoint == "best" else FOLDER
    with Checkpoints(run_dir, folder=chosen) as checkpoints:
        return config, checkpoints.restore(like).params


def evaluate(run_dir: epath.PathLike, split: str) -> tuple[dict[str, object], list[Prediction]]:
    """Scores a trained run on "validation" or "test".

    Raises:
      UserError: see `load_run`; a split without rows.
    """
    config, params = load_run(run_dir)
    cache = caches.load(config.data)
    if not cache.rows[split]:
        raise UserError(f"split {split!r} of {run_dir} has no rows")
    predictions = make_evaluator(config).split(params, cache, split)
    return {"split": split, **summarise(predictions)}, predictions


def label_latency_ms(run_dir: epath.PathLike, text: str, repeats: int = 50) -> float:
    """Median milliseconds to label one input, tokenising included, compilation not."""
    config, params = load_run(run_dir)
    evaluator = make_evaluator(config)
    row = [Example(id="text/0", input=text)]
    evaluator.texts(params, row)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        evaluator.texts(params, row)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)
