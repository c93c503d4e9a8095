"""What a finished run of either engine leaves: predictions, the model card, results.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from etils import epath

from distill.common.atomic import write_json, write_json_lines
from distill.common.phrases import number_of
from distill.config.run import RunConfig
from distill.data.examples import Example
from distill.errors import UserError
from distill.inference.evaluator import Prediction, summarize_predictions
from distill.inference.predictions import to_prediction_record
from distill.student.params import param_count
from distill.training import provenance, run_folder
from distill.training.records import Results, RunDescription, RunFacts


def describe_run_results(config: RunConfig, engine: str) -> RunFacts:
    """What a result belongs to: the keys of results.json that are known before training."""
    return {
        "engine": engine,
        "method": config.data.method,
        "dataset": config.data.dataset,
        "dataset_options": dict(config.data.dataset_options),
        "labels": config.data.num_labels,
        "label_source": config.data.label_source,
        "label_weight": config.weighting.label_weight,
        "normalization": config.weighting.normalization,
        "seed": config.train.seed,
        "steps": config.train.train_steps,
        "parameters": param_count(config.student),
    }


def score(
    config: RunConfig, engine: str, predictions: Sequence[Prediction], step: int, seconds: float
) -> Results:
    """The results of a run, from its answers to the test rows; accuracy None without any.

    Args:
      config: the run.
      engine: "native" or "t5x".
      predictions: of all test rows.
      step: of the checkpoint that answered.
      seconds: that the run took.
    """
    scores = summarize_predictions(predictions) if predictions else None
    return {
        **describe_run_results(config, engine),
        "accuracy": scores["accuracy"] if scores else None,
        "interval": scores["interval"] if scores else None,
        "ranked_accuracy": scores.get("ranked_accuracy") if scores else None,
        "n_test": scores["n"] if scores else 0,
        "checkpoint_step": step,
        "seconds": round(seconds, 1),
    }


def write_results(
    folder: epath.Path,
    described: RunDescription,
    results: Results,
    predictions: Sequence[Prediction],
    rows: Sequence[Example],
) -> None:
    """Writes the files of a finished run; results.json, which says that it is finished, last.

    Args:
      folder: the run folder.
      described: of run.json.
      results: of `score`.
      predictions: of all test rows.
      rows: the test rows.
    """
    records = (to_prediction_record(*pair) for pair in zip(predictions, rows, strict=True))
    write_json_lines(folder / run_folder.PREDICTIONS, records)
    provenance.write_card(folder, described, results)
    write_json(folder / run_folder.RESULTS, results)


def check_results(results: dict[str, Any], where: str) -> Results:
    """The content of results.json, if it has what every run's has.

    Raises:
      UserError: it has not.
    """
    numbers = ("n_test", "checkpoint_step", "steps", "seed")
    sound = all(isinstance(results.get(name), int | float) for name in numbers)
    if results.get("n_test") == 0:  # trained without a scored test set
        sound &= results.get("accuracy", 0) is None and results.get("interval", 0) is None
    else:
        interval = results.get("interval")
        sound &= isinstance(results.get("accuracy"), int | float)
        sound &= isinstance(interval, list) and [type(x) for x in interval] == [float, float]
    if not sound:
        raise UserError(f"{where} does not contain the results of a run")
    found: Any = dict(results)
    return cast(Results, found)  # what is read of it was checked


def check_predictions(folder: epath.Path, n_test: int) -> None:
    """Refuses a file of predictions that is missing or has not a line for each test row.

    Raises:
      UserError: the file is missing, or has another number of lines.
    """
    path = folder / run_folder.PREDICTIONS
    if not path.exists():
        raise UserError(f"{path} is missing")
    lines = path.read_bytes().count(b"\n")
    if lines != n_test:
        raise UserError(f"{path} has {number_of(lines, 'line')}, expected {n_test:,}")


def say(results: Results, progress: Callable[[str], None]) -> None:
    """Shows the accuracy."""
    if results["accuracy"] is None or results["interval"] is None:
        progress("not scored: there are no test rows with gold labels")
        return
    low, high = results["interval"]
    progress(
        f"test accuracy {results['accuracy']:.3f} [{low:.3f}, {high:.3f}] on "
        f"{results['n_test']:,} test {'row' if results['n_test'] == 1 else 'rows'}"
    )
