"""Teachers for the `tickets` dataset that are right as often as they are told to be."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from distill.common.hashing import digest64, uniform
from distill.data.examples import Example
from distill.errors import UserError
from distill.tickets import generator


def annotate(
    examples: Sequence[Example], policy: str, accuracy: float | Sequence[float], seed: int
) -> list[Example]:
    """Adds a teacher label and a rationale to each ticket of the embedded dataset.

    With probability `accuracy` the teacher reads the ticket rightly. Otherwise it
    misreads as few of the three slots as change the label, the misreading drawn
    uniformly, and says so in its rationale: a wrong label always comes with the
    rationale that leads to it. What it says about a row depends on the seed and the
    row's id, not on the other rows or their order.

    Several teachers err independently of each other. The label is that of the first, and the
    rationales are the different ones of all: one where they read the ticket the same way.

    Args:
      examples: N tickets.
      policy: name of the returns policy, "natural" or "hard".
      accuracy: probability of a right label, in [0, 1]; of several teachers, that of each.
      seed: seeds the teachers' mistakes.

    Returns:
      The N rows in their order, their other fields as they were.

    Raises:
      UserError: an accuracy outside [0, 1], an unknown policy, or a row that is not a
        ticket of the embedded dataset.
    """
    accuracies = tuple(accuracy) if isinstance(accuracy, Sequence) else (accuracy,)
    for each in accuracies:
        if not 0 <= each <= 1:
            raise UserError(f"got TEACHER_ACCURACY = {each}, expected a number between 0 and 1")
    labels = generator.policy(policy)
    annotated = []
    for row in examples:
        read = [
            _reading(row, policy, each, (seed, row.id, *([number] if number else [])))
            for number, each in enumerate(accuracies)
        ]
        rationales = tuple(dict.fromkeys(map(generator.rationale, read)))
        annotated.append(
            dataclasses.replace(
                row,
                teacher_label=labels[read[0]],
                rationale=rationales[0],
                more_rationales=rationales[1:],
                failure=None,
            )
        )
    return annotated


def _reading(
    row: Example, policy: str, accuracy: float, key: tuple[object, ...]
) -> generator.Classes:
    """What a teacher takes a ticket for; `key` seeds its mistakes."""
    truth = generator.parse_ticket(row.input)
    if uniform("teacher is right", *key) < accuracy:
        return truth
    readings = misreadings(policy, truth)
    return readings[digest64("misreading", *key) % len(readings)]


@functools.cache
def misreadings(policy: str, classes: generator.Classes) -> tuple[generator.Classes, ...]:
    """The closest cells with another label: fewest slots that differ from `classes`."""
    labels = generator.policy(policy)
    distances = {
        cell: sum(a != b for a, b in zip(cell, classes, strict=True))
        for cell in generator.CELLS
        if labels[cell] != labels[classes]
    }
    nearest = min(distances.values())
    return tuple(cell for cell, distance in distances.items() if distance == nearest)
