"""A teacher for the `tickets` dataset that is right as often as it is told to be."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from distill.common.hashing import digest64, uniform
from distill.data.examples import Example
from distill.errors import UserError
from distill.tickets import generator


def annotate(examples: Sequence[Example], policy: str, accuracy: float, seed: int) -> list[Example]:
    """Adds a teacher label and a rationale to each ticket of the embedded dataset.

    With probability `accuracy` the teacher reads the ticket rightly. Otherwise it
    misreads as few of the three slots as change the label, the misreading drawn
    uniformly, and says so in its rationale: a wrong label always comes with the
    rationale that leads to it. What it says about a row depends on the seed and the
    row's id, not on the other rows or their order.

    Args:
      examples: N tickets.
      policy: name of the returns policy, "natural" or "hard".
      accuracy: probability of a right label, in [0, 1].
      seed: seeds the teacher's mistakes.

    Returns:
      The N rows in their order, their other fields as they were.

    Raises:
      UserError: an accuracy outside [0, 1], an unknown policy, or a row that is not a
        ticket of the embedded dataset.
    """
    if not 0 <= accuracy <= 1:
        raise UserError(f"got TEACHER_ACCURACY = {accuracy}, expected a number between 0 and 1")
    labels = generator.policy(policy)
    annotated = []
    for row in examples:
        read = generator.parse_ticket(row.input)
        if uniform("teacher is right", seed, row.id) >= accuracy:
            readings = misreadings(policy, read)
            read = readings[digest64("misreading", seed, row.id) % len(readings)]
        annotated.append(
            dataclasses.replace(
                row, teacher_label=labels[read], rationale=generator.rationale(read), failure=None
            )
        )
    return annotated


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
