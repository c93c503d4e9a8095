"""How an exported student's answers compare with the student's own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from distill.common.phrases import number_of
from distill.common.progress import Progress
from distill.common.text_files import json_lines
from distill.config.student import T5Config
from distill.data.examples import Example
from distill.data.vocabularies import encode_input
from distill.errors import UserError
from distill.inference import inputs as row_sources
from distill.inference.load import LoadedRun
from distill.student.losses import token_nll
from distill.student.network import Params, apply_student
from distill.training import run_folder

_SCORED_ROWS = 256  # at most; all labels of a row are scored
_BATCH = 32


class Answerer(Protocol):
    """An exported student, which reads and writes ids."""

    def answers(self, inputs: Sequence[Sequence[int]], length: int) -> list[list[int]]:
        """Greedy answers of at most `length` tokens, without EOS."""

    def scores(
        self, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> list[float]:
        """Log-probability in nats of each target (without its EOS, which counts), EOS included."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
      rows: number of rows that were answered.
      same: how many of them got the student's label.
      scored: number of labels whose log-probabilities were compared.
      largest_error: largest difference of such a log-probability, in nats.
    """

    rows: int
    same: int
    scored: int
    largest_error: float

    def __str__(self) -> str:
        share = self.same / self.rows
        return (
            f"Same label as the student for {self.same:,} of {number_of(self.rows, 'row')} "
            f"({share:.4f}); largest difference of a label's log-probability "
            f"{self.largest_error:.2g} nats ({self.scored:,} labels)."
        )


def rows_to_compare(run_dir: epath.PathLike, path: str | None) -> list[Example]:
    """Rows of a file, or without one the test rows that the run folder has.

    Args:
      run_dir: the run folder.
      path: a file as of `distill predict --input`; None takes predictions_test.jsonl of the run.

    Returns:
      The rows; none if there is no such file in the run folder.

    Raises:
      UserError: a bad file, or one without rows.
    """
    if path is not None:
        rows = list(row_sources.of_file(path).rows)
        if not rows:
            raise UserError(f"{path} has no rows to compare the answers on")
        return rows
    file = epath.Path(run_dir) / run_folder.PREDICTIONS
    if not file.exists():
        return []
    rows = []
    for number, record in json_lines(file):
        fields: dict[str, object] = {
            name: record[name] for name in ("id", "input") if name in record
        }
        rows.append(Example.from_dict(fields, f"{file}:{number}"))
    return rows


def compare(run: LoadedRun, exported: Answerer, rows: Sequence[Example]) -> Comparison:
    """Lets both answer the same rows.

    Args:
      run: the student.
      exported: what was made of it.
      rows: one or more.
    """
    spec, evaluator = run.config.data, run.evaluator()
    own = [prediction.prediction for prediction in evaluator.texts(run.params, rows)]
    tokens = evaluator.label_inputs(rows)
    inputs = [tokens[index].tolist() for index in range(len(rows))]
    same = 0
    with Progress(len(rows), "comparing answers", leave=False, delay=1.0) as bar:
        for start in range(0, len(rows), _BATCH):
            answers = exported.answers(inputs[start : start + _BATCH], spec.target_length)
            for answer, expected in zip(answers, own[start:], strict=False):
                same += spec.answer(evaluator.vocabulary.decode(answer)) == expected
            bar.update(len(answers))
    pairs = [
        (inputs[index], encode_input(evaluator.vocabulary, label))
        for index, row in enumerate(rows[:_SCORED_ROWS])
        for label in (row.choices or run.assets.labels or (own[index],))
        if label
    ]
    error = 0.0
    for start in range(0, len(pairs), _BATCH):
        chunk = pairs[start : start + _BATCH]
        theirs = exported.scores([ids for ids, _ in chunk], [ids[:-1] for _, ids in chunk])
        error = max(error, float(np.abs(np.array(theirs) - _own_scores(run, chunk)).max()))
    return Comparison(len(rows), same, len(pairs), error)


def _own_scores(run: LoadedRun, pairs: Sequence[tuple[list[int], list[int]]]) -> np.ndarray:
    """The student's log-probability of each target after its input, [N]."""
    inputs_BxI = _padded([ids for ids, _ in pairs])
    targets_BxT = _padded([ids for _, ids in pairs])
    scores_B = target_scores(run.params, run.config.student, inputs_BxI, targets_BxT)
    return np.asarray(scores_B)[: len(pairs)]


@functools.partial(jax.jit, static_argnames="config")
def target_scores(
    params: Params, config: T5Config, inputs_BxI: jax.Array, targets_BxT: jax.Array
) -> jax.Array:
    """Log-probability in nats of a target for each input, float32 [B].

    Args:
      params: parameters of the student.
      config: its sizes (static).
      inputs_BxI: int inputs, padded with 0.
      targets_BxT: int targets, EOS included, padded with 0.
    """
    batch = {
        "encoder_input_tokens": inputs_BxI,
        "decoder_input_tokens": jnp.pad(targets_BxT[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets_BxT,
    }
    logits_BxTxV = apply_student(config, params, batch, deterministic=True)
    nll_BxT = token_nll(logits_BxTxV, targets_BxT)
    return -jnp.sum(jnp.where(targets_BxT > 0, nll_BxT, 0.0), axis=-1)


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """int32 [_BATCH, L], L a multiple of 16, so that few shapes are compiled."""
    length = -(-max(map(len, rows)) // 16) * 16
    padded = np.zeros((_BATCH, length), np.int32)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded
