"""Scores of trained runs: on the rows of their own data, or on those of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NotRequired

from etils import epath

from distill.common.accuracy import ClassScore, Confusion, describe_classes
from distill.common.progress import Stage, to_stderr
from distill.config.data import DataSpec
from distill.data import cache as caches
from distill.data import datasets
from distill.data.counts.data_line import input_lines
from distill.data.examples import Example
from distill.data.mapping.input_forms import PLAIN
from distill.errors import UserError
from distill.inference.closed_set import labels_outside
from distill.inference.evaluator import Prediction, Scores, summarize_predictions
from distill.inference.host_blocks import answer_on_hosts
from distill.inference.inputs import RowSource, check_labeled
from distill.inference.load import LoadedRun, load_run
from distill.training import hosts, provenance, run_folder


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
    run_dir: epath.PathLike,
    split: str,
    answer: str = "decode",
    model_parallel: int | None = None,
) -> tuple[Evaluation, list[Prediction]]:
    """Scores a trained run on "validation" or "test" of its own data, which are read again.

    `answer` is one of `evaluator.ANSWERS`; for `model_parallel`, see `load_run`.

    Raises:
      UserError: see `load_run`; data that are not there or have changed since training; a split
        without rows.
    """
    with hosts.barrier("reading the data of the run"):
        digests = _digests(run_dir, run_folder.read_config(run_dir).data)
    run = load_run(run_dir, model_parallel=model_parallel)
    return score_split(run, split, digests, answer)


def score_split(
    run: LoadedRun,
    split: str,
    digests: Mapping[str, str] | None = None,
    answer: str = "decode",
) -> tuple[Evaluation, list[Prediction]]:
    """As `evaluate`, of a run that is loaded; `digests` are those of its data, if known."""
    if digests is None:
        digests = _digests(run.folder, run.config.data)
    with hosts.barrier("tokenizing the data of the run"):
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
    if split == "validation" and run.config.data.label_source == "teacher":
        hosts.host0_only(to_stderr)(
            "the labels of the validation rows are the teacher's (LABEL_SOURCE = 'teacher'): the "
            "accuracy is the share of rows on which the student agrees with it"
        )
    _check_same(run, answer, f"{split} {cache.meta['row_digests']}")
    evaluator = run.evaluator(answer=answer)
    predictions = answer_on_hosts(
        evaluator,
        len(cache.rows[split]),
        lambda block: evaluator.split(run.params, cache, split, block),
    )
    scores: Evaluation = {"split": split, **summarize_predictions(predictions)}
    return _with_classes(scores, run, cache.rows[split], predictions), predictions


def _check_same(run: LoadedRun, answer: str, rows: str) -> None:
    """Refuses hosts that are about to score different things."""
    configuration = (run.folder / run_folder.CONFIG).read_text()
    hosts.check_same_on_hosts(
        {
            "the run": f"{configuration} {run.step}",
            "--answer": answer,
            "the rows or the split": rows,
        }
    )


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
    model_parallel: int | None = None,
) -> Evaluation:
    """Scores a trained run on the rows of a JSONL or CSV file that have a gold label.

    Args:
      run_dir: the run folder.
      source: the rows, from `inputs.labeled_of_file`.
      path: the file.
      progress: takes lines: what became of the rows.
      answer: one of `evaluator.ANSWERS`.
      model_parallel: see `load_run`.

    Returns:
      {input, accuracy, interval, n, without_label}, and for a closed set ranked_accuracy and
      `accuracy.describe_classes`.

    Raises:
      UserError: see `load_run`; an answer rule that is not known here.
    """
    run = load_run(run_dir, progress, model_parallel)
    return score_rows(run, list(source.rows), path, progress, source, answer)[0]


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
    _check_same(run, answer, f"{len(rows)} {source.described if source else ''}")
    evaluator, without_label = run.evaluator(answer=answer), len(rows) - len(labeled)
    predictions = answer_on_hosts(
        evaluator, len(labeled), lambda block: evaluator.texts(run.params, labeled[block])
    )
    for line in input_lines(
        run.config.data,
        evaluator.input_counts,
        without_label,
        evaluator.missing_choices,
        source.name if source else "",
        len(source.blank_lines) if source else 0,
        labels_outside=labels_outside(
            labeled, run.assets.labels, correct, answer == "rank" or run.assets.input_form != PLAIN
        ),
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
