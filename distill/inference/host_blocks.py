"""Rows of an evaluation, split over hosts in blocks of a fixed size.

One host answers the same blocks, so the number of hosts changes no answer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

from distill.data.counts.sequence_counts import SequenceCounts
from distill.inference.evaluator import Evaluator, Prediction
from distill.training import hosts

BLOCK_ROWS = 4096


def answer_on_hosts(
    evaluator: Evaluator,
    rows: int,
    answer: Callable[[slice], Sequence[Prediction]],
    block_rows: int = BLOCK_ROWS,
) -> list[Prediction]:
    """Predictions for all rows, on all hosts; block i is answered by host i mod P.

    Args:
      evaluator: answers; its counts of inputs are those of all hosts afterwards.
      rows: how many there are.
      answer: predictions of the rows of a slice.
      block_rows: rows of each block.

    Raises:
      UserError: another host failed.
    """
    blocks = [slice(start, min(start + block_rows, rows)) for start in range(0, rows, block_rows)]
    index, count = hosts.index_and_count()
    answered: dict[int, Sequence[Prediction]] = {}
    with hosts.barrier("answering the rows"):
        for number in range(index, len(blocks), count):
            answered[number] = answer(blocks[number])
    if count > 1:
        answered = _gather(answered, evaluator)
    return [each for number in range(len(blocks)) for each in answered[number]]


def _gather(
    answered: dict[int, Sequence[Prediction]], evaluator: Evaluator
) -> dict[int, Sequence[Prediction]]:
    """The blocks of all hosts; adds up what their evaluators have counted."""
    own = {
        "blocks": {n: [*map(dataclasses.asdict, block)] for n, block in answered.items()},
        "counts": dataclasses.asdict(evaluator.input_counts),
        "missing_choices": evaluator.missing_choices,
    }
    everywhere = [json.loads(text) for text in hosts.gather_bytes(json.dumps(own).encode())]
    evaluator.input_counts = SequenceCounts.total(
        SequenceCounts(**each["counts"]) for each in everywhere
    )
    evaluator.missing_choices = sum(each["missing_choices"] for each in everywhere)
    return {
        int(number): [Prediction(**fields) for fields in block]
        for each in everywhere
        for number, block in each["blocks"].items()
    }
