"""Trained runs of either engine: loaded from their folder alone, and scored."""

from __future__ import annotations

import collections
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NotRequired

import jax
from etils import epath

from distill.common.accuracy import ClassScore, Confusion, describe_classes
from distill.common.devices import check_devices
from distill.common.progress import Say, Stage, to_stderr
from distill.config.data import DataSpec
from distill.config.run import RunConfig
from distill.convert import t5x_files
from distill.data import cache as caches
from distill.data import datasets
from distill.data.counts.data_line import input_lines
from distill.data.examples import Example
from distill.data.vocabularies import padded_size
from distill.errors import UserError
from distill.inference import t5x_run
from distill.inference.evaluator import Evaluator, Prediction, Scores, summarize_predictions
from distill.inference.inputs import RowSource, check_labeled
from distill.student.beam import LENGTH_PENALTY
from distill.student.params import init_params
from distill.training import assets as run_assets
from distill.training import provenance, run_folder
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
        """An evaluator of this student (see `make_evaluator`)."""
        return make_evaluator(self.config, self.assets, beam, length_penalty, answer)


def share_compilations() -> None:
    """Keeps compiled programs in the cache folder: a second start does not compile again."""
    jax.config.update("jax_compilation_cache_dir", str(caches.cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


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
    size = evaluator.vocabulary.vocab_size
    if config.student.vocab_size < size:
        raise UserError(
            f"got VOCAB_SIZE = {config.student.vocab_size}, but the vocabulary "
            f"(VOCABULARY = {config.data.vocabulary!r}) has {size} ids: set VOCAB_SIZE = "
            f"{padded_size(size)}"
        )
    return evaluator


def load_run(run_dir: epath.PathLike, say: Say = to_stderr) -> LoadedRun:
    """A run from its folder; nothing outside of it is read, and nothing in it is executed.

    The parameters are those of the newest checkpoint, or with CHECKPOINT = 'best' the best so
    far. In a run of the t5x engine they are T5X's.

    Args:
      run_dir: the run folder.
      say: takes the line that the run is not finished, or that it was only converted.

    Raises:
      UserError: no run folder, no checkpoint, or one of another size.
    """
    check_devices()
    share_compilations()
    config, assets = run_folder.read_config(run_dir), run_assets.read(run_dir)
    with Stage(f"loading the student of {run_dir}"):
        params, step = _read_params(epath.Path(run_dir), config)
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


def _read_params(run_dir: epath.Path, config: RunConfig) -> tuple[dict, int | None]:
    """The parameters, and the step that they are of."""
    if (run_dir / t5x_run.MODEL_DIR).exists():
        return t5x_run.load_params(run_dir, config), t5x_run.chosen_step(run_dir, config)
    shapes = jax.eval_shape(lambda: init_params(config.student, jax.random.key(0)))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes
    )
    saved = SavedCheckpoints(run_dir)
    params = saved.restore_params(template, config.train.checkpoint == "best")
    return params, saved.restored_step


class Evaluation(Scores):
    """What `evaluate` and `evaluate_file` give; the scores of classes are those of closed sets."""

    split: NotRequired[str]
    input: NotRequired[str]
    without_label: NotRequired[int]
    macro_f1: NotRequired[float]
    by_class: NotRequired[dict[str, ClassScore]]
    confusion: NotRequired[Confusion]
    other_answers: NotRequired[dict[str, int]]


def evaluate(
    run_dir: epath.PathLike, split: str, answer: str = "decode"
) -> tuple[Evaluation, list[Prediction]]:
    """Scores a trained run on "validation" or "test" of its own data, which are read again.

    `answer` is one of `evaluator.ANSWERS`.

    Raises:
      UserError: see `load_run`; data that are not there or have changed since training; a split
        without rows.
    """
    digests = _digests(run_dir, run_folder.read_config(run_dir).data)
    return score_split(load_run(run_dir), split, digests, answer)


def score_split(
    run: LoadedRun,
    split: str,
    digests: Mapping[str, str] | None = None,
    answer: str = "decode",
) -> tuple[Evaluation, list[Prediction]]:
    """As `evaluate`, of a run that is loaded; `digests` are those of its data, if known."""
    if digests is None:
        digests = _digests(run.folder, run.config.data)
    provenance.check_files(run.folder, digests)
    cache = caches.load_cache(run.config.data, digests)
    provenance.check_rows(run.folder, cache.meta)
    if not cache.rows[split]:
        other = {"test": "validation", "validation": "test"}[split]
        count = len(cache.rows[other])
        hint = f", or score its {count:,} {other} rows with --split={other}" if count else ""
        raise UserError(
            f"split {split!r} of {run.folder} has no rows with labels: give some with --input=FILE"
            f"{hint}"
        )
    predictions = run.evaluator(answer=answer).split(run.params, cache, split)
    scores: Evaluation = {"split": split, **summarize_predictions(predictions)}
    return _with_classes(scores, run, cache.rows[split], predictions), predictions


def _digests(run_dir: epath.PathLike, spec: DataSpec) -> dict[str, str]:
    """Digests of the files that a run was trained on."""
    try:
        with Stage("hashing the data files"):
            return datasets.file_digests(spec)
    except UserError as error:
        raise UserError(
            f"{error}. Scoring a split needs the files that {run_dir} was trained on: restore "
            "them. To score other rows with a `label`, use `distill evaluate --input=FILE`, which "
            "needs only the run folder"
        ) from error


def evaluate_file(
    run_dir: epath.PathLike,
    source: RowSource,
    path: str,
    progress: Callable[[str], None] = to_stderr,
    answer: str = "decode",
) -> Evaluation:
    """Scores a trained run on the rows of a JSONL or CSV file that have a gold label.

    Args:
      run_dir: the run folder.
      source: the rows, from `inputs.labeled_of_file`.
      path: the file.
      progress: takes lines: what became of the rows.
      answer: one of `evaluator.ANSWERS`.

    Returns:
      {input, accuracy, interval, n, without_label}, and for a closed set ranked_accuracy and
      `accuracy.describe_classes`.

    Raises:
      UserError: see `load_run`; an answer rule that is not known here.
    """
    return score_rows(
        load_run(run_dir, progress), list(source.rows), path, progress, source, answer
    )[0]


def _labels_outside(
    rows: Sequence[Example], labels: Sequence[str], correct: Callable[[str, str], bool]
) -> dict[str, int]:
    """Gold labels that no answer of a closed set can match, with their counts.

    Args:
      rows: all with a label.
      labels: the student's closed set, which a row's own choices replace; () for free text.
      correct: (answer, gold label) -> whether it counts as correct.
    """
    outside: collections.Counter[str] = collections.Counter()
    for row in rows:
        closed = row.choices or labels
        if closed and row.label is not None and not any(correct(c, row.label) for c in closed):
            outside[row.label] += 1
    return dict(outside.most_common())


def score_rows(
    run: LoadedRun,
    rows: Sequence[Example],
    name: str,
    progress: Callable[[str], None] = to_stderr,
    source: RowSource | None = None,
    answer: str = "decode",
) -> tuple[Evaluation, list[Prediction]]:
    """Scores a trained run on those of some rows that have a gold label.

    Args:
      run: the run.
      rows: the rows.
      name: of their file, or what else they are called.
      progress: as of `evaluate_file`.
      source: where the rows are from, if they are from a file.
      answer: one of `evaluator.ANSWERS`.

    Returns:
      What `evaluate_file` does, and the answers to the rows with a label.

    Raises:
      UserError: see `evaluate_file`.
    """
    correct = run.assets.correct(run.config.data.dataset)
    if correct is None:
        raise UserError(
            f"the answers of {run.folder} are compared by {run.assets.rule}, which is not "
            "registered: give the --gin_file whose import registers its dataset"
        )
    check_labeled(rows, name)
    labeled = [row for row in rows if row.label is not None]
    evaluator, without_label = run.evaluator(answer=answer), len(rows) - len(labeled)
    predictions = evaluator.texts(run.params, labeled)
    for line in input_lines(
        run.config.data,
        evaluator.input_counts,
        without_label,
        evaluator.missing_choices,
        source.name if source else "",
        len(source.blank_lines) if source else 0,
        labels_outside=_labels_outside(labeled, run.assets.labels, correct),
    ):
        progress(line)
    scores: Evaluation = {"input": name, **summarize_predictions(predictions)}
    scores = _with_classes(scores, run, labeled, predictions)
    scores["without_label"] = without_label
    return scores, predictions


def _with_classes(
    scores: Evaluation,
    run: LoadedRun,
    rows: Sequence[Example],
    predictions: Sequence[Prediction],
) -> Evaluation:
    """The scores, with `accuracy.describe_classes` where the labels are a closed set."""
    classes = run.assets.labels or rows[0].choices
    if not run.assets.labels and any(row.choices != classes for row in rows):
        return scores
    if not classes:
        return scores
    golds = [str(p.gold) for p in predictions]
    return {**scores, **describe_classes(golds, [p.prediction for p in predictions], classes)}


def label_latency_ms(run_dir: epath.PathLike, text: str, repeats: int = 50) -> float:
    """Median milliseconds to label one input, tokenizing included, compilation not."""
    run = load_run(run_dir)
    evaluator = run.evaluator()
    row = [Example(id="text/0", input=text)]
    evaluator.texts(run.params, row)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        evaluator.texts(run.params, row)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)
