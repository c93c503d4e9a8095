"""Accuracy, by exact match unless told otherwise, and how far a measured one can be trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from distill.errors import UserError

_MOST_OTHERS = 20  # answers outside a closed set that are listed
_Z95 = 1.96  # normal quantile of a 95% interval


def exact_match(predictions: Sequence[str], golds: Sequence[str]) -> np.ndarray:
    """Which predictions equal their gold label, blanks at both ends aside.

    Args:
      predictions: N texts.
      golds: N texts.

    Returns:
      Booleans [N].

    Raises:
      ValueError: the two differ in length.
    """
    pairs = zip(predictions, golds, strict=True)
    return np.array([matches_exactly(p, g) for p, g in pairs], dtype=bool)


def matches_exactly(prediction: str, gold: str) -> bool:
    """Whether one prediction equals its gold label, blanks at both ends aside."""
    return prediction.strip() == gold.strip()


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95% interval of true accuracies under which `correct` of `n` is no surprise.

    It solves |p - correct/n| = 1.96 * sqrt(p (1 - p) / n) for p, so that it stays within
    [0, 1] and does not shrink to a point at 0 or n hits. It speaks of the draw of the
    test rows only, not of training seeds.

    Source: E. B. Wilson 1927, "Probable inference, the law of succession, and
    statistical inference", Journal of the American Statistical Association 22.

    Args:
      correct: hits, from 0 to n.
      n: test rows.

    Returns:
      (low, high), 0 <= low <= correct/n <= high <= 1.

    Raises:
      UserError: n is 0, or correct is not within 0 to n.
    """
    if n < 1:
        raise UserError(f"got {n} test rows, expected at least 1 for an interval")
    if not 0 <= correct <= n:
        raise UserError(f"got {correct} correct of {n} test rows, expected between 0 and {n}")
    p, z = correct / n, _Z95
    shrink = 1 / (1 + z * z / n)
    center = (p + z * z / (2 * n)) * shrink
    half = z * shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding may push a bound past p or past 0 and 1 by an ulp.
    return max(0.0, min(p, center - half)), min(1.0, max(p, center + half))


def confusion_matrix(
    golds: Sequence[str], predictions: Sequence[str], classes: Sequence[str]
) -> np.ndarray:
    """How many rows of each class were predicted as what.

    Args:
      golds: N labels, each one of `classes`.
      predictions: N texts; blanks at both ends aside.
      classes: C labels.

    Returns:
      Counts [C, C + 1]: a row a gold class, a column a predicted one, and in the last column
      the predictions that are none of the classes.

    Raises:
      ValueError: unequal lengths, or a gold label that is none of the classes.
    """
    places = {label.strip(): place for place, label in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes) + 1), int)
    for gold, prediction in zip(golds, predictions, strict=True):
        if gold.strip() not in places:
            raise ValueError(f"gold label {gold!r} is not one of the classes")
        counts[places[gold.strip()], places.get(prediction.strip(), len(classes))] += 1
    return counts


class ClassScore(TypedDict):
    """Scores of a class; None where a number is not defined."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


class Confusion(TypedDict):
    """A confusion matrix [C, C + 1] and the names of its classes."""

    classes: list[str]
    counts: list[list[int]]


class ClassReport(TypedDict):
    """What `describe_classes` gives."""

    macro_f1: float
    by_class: dict[str, ClassScore]
    other_answers: dict[str, int]
    confusion: Confusion


def score_classes(counts: np.ndarray) -> list[ClassScore]:
    """Precision, recall, F1, support and predictions of each class of a confusion matrix.

    Args:
      counts: [C, C + 1], of `confusion_matrix`.

    Returns:
      For each class {precision, recall, f1, support, predicted}. Precision is None for a class
      that is never predicted, recall for one without rows, f1 = 2 TP / (2 TP + FP + FN) for one
      with neither.
    """
    scores: list[ClassScore] = []
    for place, row in enumerate(counts):
        hits, support = int(row[place]), int(row.sum())
        predicted = int(counts[:, place].sum())
        both = support + predicted
        scores.append(
            {
                "precision": hits / predicted if predicted else None,
                "recall": hits / support if support else None,
                "f1": 2 * hits / both if both else None,
                "support": support,
                "predicted": predicted,
            }
        )
    return scores


def describe_classes(
    golds: Sequence[str], predictions: Sequence[str], classes: Sequence[str]
) -> ClassReport:
    """Macro-F1, the scores of each class and the confusion matrix, ready for JSON.

    Args:
      golds: N >= 1 labels.
      predictions: N texts.
      classes: the closed set; gold labels outside of it are classes of their own, after it.

    Returns:
      macro_f1 (mean F1 of the classes that have rows or predictions), by_class (label -> see
      `score_classes`), confusion {classes, counts [C][C + 1]}: see `confusion_matrix`, and
      other_answers (prediction that is none of the classes -> how often, the most frequent ones).
    """
    known = [label.strip() for label in classes]
    known += sorted({gold.strip() for gold in golds} - {*known})
    counts = confusion_matrix(golds, predictions, known)
    scores = score_classes(counts)
    others = Counter(text.strip() for text in predictions if text.strip() not in known)
    defined = [score["f1"] for score in scores if score["f1"] is not None]
    return {
        "macro_f1": sum(defined) / len(defined),
        "by_class": dict(zip(known, scores, strict=True)),
        "confusion": {"classes": known, "counts": counts.tolist()},
        "other_answers": dict(others.most_common(_MOST_OTHERS)),
    }
