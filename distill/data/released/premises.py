"""Inputs of natural language inference, and a split that keeps each premise on one side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from distill.common.hashing import uniform
from distill.data.budget import check_fraction
from distill.data.examples import Example
from distill.errors import UserError

EOS_MARK = "</s>"  # the EOS token in the inputs of the authors' code
_PREMISE = "premise: "
_HYPOTHESIS = " hypothesis: "


def nli_input(premise: str, hypothesis: str) -> str:
    """What the student reads: `premise: ... hypothesis: ...`."""
    return f"{_PREMISE}{premise}{_HYPOTHESIS}{hypothesis}"


def released_form(row: Example) -> Example:
    """The row with the input of the authors' code: premise, EOS token, hypothesis.

    Source: `tokenizer.eos_token.join([premise, hypothesis])` in run.py of
    google-research/distilling-step-by-step (arXiv 2305.02301).

    Raises:
      UserError: the input is not of `nli_input`.
    """
    premise, separator, hypothesis = row.input.partition(_HYPOTHESIS)
    if not separator or not premise.startswith(_PREMISE):
        raise _of_another_form(row)
    return dataclasses.replace(row, input=f"{premise.removeprefix(_PREMISE)}{EOS_MARK}{hypothesis}")


def split_by_premise(
    examples: Sequence[Example], test_fraction: float = 0.2, seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """Splits rows in two so that no premise is on both sides.

    A premise of e-SNLI stands in about three rows; a split by rows would show test
    premises in training. The side of a premise depends on (seed, premise) alone, so the
    share of test rows is near `test_fraction` and not exactly it.

    Args:
      examples: N rows whose input is of `nli_input`.
      test_fraction: expected share of test premises, between 0 and 1.
      seed: seeds the sides.

    Returns:
      Training and test rows in their order, ids kept, `split` set to "train" or "test".

    Raises:
      UserError: a fraction outside (0, 1), a row of another form, or an empty side.
    """
    check_fraction(test_fraction)
    train: list[Example] = []
    test: list[Example] = []
    for row in examples:
        if uniform("premise", seed, premise_of(row)) < test_fraction:
            test.append(dataclasses.replace(row, split="test"))
        else:
            train.append(dataclasses.replace(row, split="train"))
    if not train or not test:
        raise UserError(
            f"{len(examples)} rows split by premise gave {len(train)} training and {len(test)} "
            "test rows, expected at least one of each; give more rows, or change TEST_FRACTION = "
            f"{test_fraction}"
        )
    return train, test


def premise_of(row: Example) -> str:
    """The premise of a row in either form of the input, case and spacing evened out.

    Raises:
      UserError: the input has another form.
    """
    premise, separator, _ = row.input.partition(EOS_MARK)
    if separator:
        return " ".join(premise.lower().split())
    premise, separator, _ = row.input.partition(_HYPOTHESIS)
    if not separator or not premise.startswith(_PREMISE):
        raise _of_another_form(row)
    return " ".join(premise.removeprefix(_PREMISE).lower().split())


def _of_another_form(row: Example) -> UserError:
    return UserError(
        f"row {row.id}: got input {row.input!r}, expected 'premise: ... hypothesis: ...'"
    )
