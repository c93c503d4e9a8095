"""Loss weights to token weights and mixture rates, and back: pure functions, no tensorflow.

The objective is L = label_weight * L_label + rationale_weight * L_rationale
(arXiv 2305.02301, section 3.2, which writes L_label + lambda * L_rationale). What
L_task means is the normalization:

  per_sequence     mean over rows of the mean over a row's target tokens
  per_token        mean over all target tokens of the task in the corpus
  per_token_batch  mean over the task's target tokens in this batch (what the code that the
                   paper's authors released computes); only with pairs

Two schemes lead to the same objective, both with a constant divisor:

  paired_batches  label and rationale of a row travel together; every target token weighs
                  1/length (per_sequence) or 1/T_task (per_token), and the divisor is the
                  number of rows of the batch
  mixture_rates   sequences are drawn from the tasks at rates that stand for the weights

T_task is the mean target length of the task in tokens, EOS included. docs/weighting.md derives
all of it in one page.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from distill.errors import UserError, check_types, unknown

NORMALIZATIONS = ("per_sequence", "per_token", "per_token_batch")
SCHEMES = ("paired_batches", "mixture_rates")


@dataclasses.dataclass(frozen=True)
class Weighting:
    """The objective that the user asked for.

    Attributes:
      label_weight: weight of the label loss.
      rationale_weight: weight of the rationale loss; LABEL_WEIGHT + RATIONALE_WEIGHT = 1.
      normalization: what a task's loss is the mean of (one of NORMALIZATIONS). See
        docs/weighting.md.
      scheme: how the weights are implemented (one of SCHEMES). gin/engines/t5x.gin sets
        'mixture_rates'.

    Raises:
      UserError: a value outside its range, naming its macro.
    """

    label_weight: float = 1.0
    rationale_weight: float = 0.0
    normalization: str = "per_sequence"
    scheme: str = "paired_batches"

    def __post_init__(self) -> None:
        check_types(self, {"scheme": "WEIGHTING"})
        if self.normalization not in NORMALIZATIONS:
            raise unknown(
                "normalization", self.normalization, NORMALIZATIONS, "macro NORMALIZATION"
            )
        if self.scheme not in SCHEMES:
            raise unknown("weighting", self.scheme, SCHEMES, "macro WEIGHTING")
        for macro in ("label_weight", "rationale_weight"):
            if not 0 <= getattr(self, macro) <= 1:
                raise UserError(
                    f"got {macro.upper()} = {getattr(self, macro)}, expected a number between 0 "
                    "and 1"
                )
        if self.normalization == "per_token_batch" and self.scheme == "mixture_rates":
            raise UserError(
                "NORMALIZATION = 'per_token_batch' does not work with mixture rates: fixed "
                "sampling rates cannot reproduce a per-batch mean. Use 'per_token', or WEIGHTING = "
                "'paired_batches' (native engine)"
            )
        total = self.label_weight + self.rationale_weight
        if abs(total - 1) > 1e-6:
            raise UserError(
                f"got LABEL_WEIGHT + RATIONALE_WEIGHT = {self.label_weight} + "
                f"{self.rationale_weight} = {total:g}, expected 1; set both macros"
            )

    def task_weights(self, tasks: Sequence[str]) -> tuple[float, ...]:
        """The weight of each task's loss, in the order of `tasks`.

        Raises:
          UserError: a method with one task whose label weight is not 1.
        """
        weights = {"label": self.label_weight, "rationale": self.rationale_weight}
        if len(tasks) == 1 and weights[tasks[0]] != 1:
            raise UserError(
                f"got LABEL_WEIGHT = {self.label_weight} for a method with one task, "
                "expected 1 (and RATIONALE_WEIGHT = 0)"
            )
        return tuple(weights[task] for task in tasks)


def weights_from_lambda(rationale_lambda: float) -> tuple[float, float]:
    """LABEL_WEIGHT and RATIONALE_WEIGHT of the paper's L_label + lambda * L_rationale.

    Same direction of the gradient, scaled so that the two sum to 1: the paper's
    lambda = 1 is .5 / .5. (The released code's alpha is the label weight itself.)

    Raises:
      UserError: lambda is negative or not finite.
    """
    if not 0 <= rationale_lambda < math.inf:
        raise UserError(f"got lambda = {rationale_lambda}, expected a number >= 0")
    return 1.0 / (1.0 + rationale_lambda), rationale_lambda / (1.0 + rationale_lambda)


def token_weight(length: int, normalization: str, mean_target_tokens: float) -> float:
    """The within-task weight of each target token of a row.

    Args:
      length: target tokens of the row, EOS included.
      normalization: "per_sequence" or "per_token"; with "per_token_batch" the weight is
        the batch's to say (`batch_token_weight`).
      mean_target_tokens: T_task.

    Returns:
      1/length or 1/T_task; the sum over a batch's tokens over its rows is the
      exact (per_sequence) or unbiased (per_token) estimate of L_task.

    Raises:
      UserError: a target without tokens.
    """
    if length < 1 or not mean_target_tokens > 0:
        raise UserError(
            f"got a target of {length} tokens (T_task = {mean_target_tokens:g}), expected at least "
            "1 (its EOS)"
        )
    return 1.0 / (length if normalization == "per_sequence" else mean_target_tokens)


def batch_token_weight(rows: int, target_tokens: float) -> float:
    """per_token_batch's weight of a target token, to be divided by the rows like the others.

    Args:
      rows: rows of the batch, the constant divisor.
      target_tokens: target tokens of the task in the batch, each times the factor of its row.
    """
    return rows / target_tokens


def mixture_rates(
    weights: Mapping[str, float], normalization: str, mean_target_tokens: Mapping[str, float]
) -> dict[str, float]:
    """The rates at which drawing sequences gives the tasks these loss weights.

    Args:
      weights: loss weight of each task, summing to 1.
      normalization: per_sequence (rate = w) or per_token (rate proportional to w/T).
      mean_target_tokens: T of each task.

    Returns:
      The rate of each task, summing to 1.

    Raises:
      UserError: per_token_batch, which no rates stand for; a T that is not positive.
    """
    _check_means(mean_target_tokens)
    if normalization == "per_sequence":
        return dict(weights)
    if normalization != "per_token":
        raise UserError(
            f"got NORMALIZATION = {normalization!r} with rates, expected 'per_sequence' or "
            "'per_token'"
        )
    return _shares({task: weight / mean_target_tokens[task] for task, weight in weights.items()})


def effective_weights(
    rates: Mapping[str, float], normalization: str, mean_target_tokens: Mapping[str, float]
) -> dict[str, float]:
    """The loss weights that rates amount to: the inverse of `mixture_rates`.

    Args:
      rates: rate of each task, summing to 1.
      normalization: per_sequence, where each sequence counts the same, or per_token, where
        each target token does (T5X's pooled normalizers are of this kind).
      mean_target_tokens: T of each task.

    Returns:
      The weight of each task's loss, summing to 1.
    """
    _check_means(mean_target_tokens)
    if normalization == "per_sequence":
        return dict(rates)
    return _shares({task: rate * mean_target_tokens[task] for task, rate in rates.items()})


def naive_weights(mean_target_tokens: Mapping[str, float]) -> dict[str, float]:
    """What a 1:1 mixture with pooled tokens weighs each task: T / sum of T."""
    equal = {task: 1.0 / len(mean_target_tokens) for task in mean_target_tokens}
    return effective_weights(equal, "per_token", mean_target_tokens)


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    total = sum(values.values())
    return {task: value / total for task, value in values.items()}


def _check_means(mean_target_tokens: Mapping[str, float]) -> None:
    for task, mean in mean_target_tokens.items():
        if not mean > 0:
            raise UserError(
                f"the {task} task has {mean:g} target tokens per row, expected more than 0"
            )
