"""What the Python API gives: predictions, results of training, scores (docs/api.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.inference import evaluator


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A student's answer to one row.

    Attributes:
      id: of the row; `row/<index>` if it has none.
      input: of the row.
      label: the decoded label; open answers and rare mistakes are outside of a closed set.
      probabilities: P(label | input, the answer is in the closed set) by label, in the set's
        order; they sum to 1. None for open answers and for METHOD = 'single_task'.
      rationale: the decoded rationale; None unless it was asked for.
      score: of the label by the beam search; None for greedy decoding.
      gold: the row's own `label`, or None.
      correct: whether the decoded label counts as the gold one; None without a gold label.
      extra: the row's other fields.
    """

    id: str
    input: str
    label: str
    probabilities: Mapping[str, float] | None = None
    rationale: str | None = None
    score: float | None = None
    gold: str | None = None
    correct: bool | None = None
    extra: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
      run_dir: the run folder; `load` takes it.
      accuracy: on the test rows, from 0 to 1; None if the run has no test rows.
      interval: the 95% Wilson interval of the accuracy; None without test rows.
      ranked_accuracy: accuracy of the most probable label; None without a closed set.
      n_test: number of test rows.
      checkpoint_step: training step of the checkpoint that was scored.
      seconds: the time that the last start of the run took.
      results: the content of results.json.
    """

    run_dir: str
    accuracy: float | None
    interval: tuple[float, float] | None
    ranked_accuracy: float | None
    n_test: int
    checkpoint_step: int
    seconds: float
    results: Mapping[str, object] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a student scores on labeled rows.

    Attributes:
      accuracy: share of the rows whose decoded label is correct.
      interval: the 95% Wilson interval of the accuracy.
      n: number of scored rows.
      ranked_accuracy: accuracy of the most probable label; None without a closed set.
      macro_f1: mean F1 of the classes; None without a closed set.
      by_class: precision, recall, f1 and support of each class; None without a closed set.
      confusion: {classes, counts}; a row of counts per gold label, a column per prediction, the
        last column for answers outside of the set. None without a closed set.
      without_label: number of rows that were not scored, because they have no gold label.
      predictions: the answers to the scored rows, in their order, without probabilities.
    """

    accuracy: float
    interval: tuple[float, float]
    n: int
    ranked_accuracy: float | None
    macro_f1: float | None
    by_class: Mapping[str, Mapping[str, float | int | None]] | None
    confusion: Mapping[str, Any] | None
    without_label: int
    predictions: Sequence[Prediction] = dataclasses.field(repr=False)


def to_prediction(found: evaluator.Prediction) -> Prediction:
    """The public form of an answer."""
    return Prediction(
        id=found.id,
        input=found.input,
        label=found.prediction,
        probabilities=found.probabilities,
        rationale=found.rationale,
        score=found.score,
        gold=found.gold,
        correct=found.correct,
        extra=found.extra,
    )


def to_result(run_dir: str, results: Mapping[str, Any]) -> TrainResult:
    """The public form of results.json."""
    interval = results["interval"]
    return TrainResult(
        run_dir=run_dir,
        accuracy=results["accuracy"],
        interval=None if interval is None else tuple(interval),
        ranked_accuracy=results.get("ranked_accuracy"),
        n_test=results["n_test"],
        checkpoint_step=results["checkpoint_step"],
        seconds=results["seconds"],
        results=results,
    )


def to_evaluation(
    scores: Mapping[str, Any], predictions: Sequence[evaluator.Prediction]
) -> Evaluation:
    """The public form of the scores, with the answers to the scored rows."""
    return Evaluation(
        accuracy=scores["accuracy"],
        interval=tuple(scores["interval"]),
        n=scores["n"],
        ranked_accuracy=scores.get("ranked_accuracy"),
        macro_f1=scores.get("macro_f1"),
        by_class=scores.get("by_class"),
        confusion=scores.get("confusion"),
        without_label=scores.get("without_label", 0),
        predictions=[to_prediction(prediction) for prediction in predictions],
    )
