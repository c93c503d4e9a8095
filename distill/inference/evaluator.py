"""The student's answers: decoded labels, exact scores of a closed label set, rationales."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from distill.common.accuracy import exact_match, wilson_interval
from distill.config.data import DataSpec
from distill.config.student import T5Config
from distill.data.cache import TokenCache
from distill.data.counts.sequence_counts import SequenceCounts
from distill.data.examples import Example
from distill.data.mapping import input_forms
from distill.data.ragged import Ragged
from distill.data.vocabularies import encode_input
from distill.errors import UserError
from distill.inference.closed_set import ClosedSets, Ranking, closed_set_probabilities
from distill.inference.greedy_batch import LABEL_TOKENS, decode_greedily
from distill.inference.rationales import decode_after_labels
from distill.inference.row_batches import RowBatches
from distill.student.beam import LENGTH_PENALTY, beam_search, check_beam
from distill.training.assets import Assets
from distill.training.mesh import shard_like_params, to_host

# Tokens of an answer, and its score by `beam_search`.
Decoded = tuple[Sequence[int], float | None]
ANSWERS = ("decode", "rank")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The student's answer to one row.

    Attributes:
      id, input, gold: of the row (gold by the label source that is evaluated).
      prediction: the decoded label.
      correct: whether it counts as the gold label (to the letter, unless the dataset
        says otherwise); None without a gold label, or where the dataset's rule is not known.
      ranked_label: the most probable label of the closed set, the row's own or the dataset's;
        None for open answers.
      score: of the decoded label, by `beam_search`; None for greedy answers.
      rationale: the decoded rationale, where it was asked for.
      probabilities: of each label of the closed set, where they were asked for
        (`closed_set_probabilities`); `predictions_test.jsonl` holds the highest.
      extra: of the row: its fields that are not ours.
    """

    id: str
    input: str
    gold: str | None
    prediction: str
    correct: bool | None
    ranked_label: str | None
    score: float | None = None
    rationale: str | None = None
    extra: Mapping[str, object] = dataclasses.field(default_factory=dict, hash=False)
    probabilities: Mapping[str, float] | None = dataclasses.field(default=None, hash=False)


class Scores(TypedDict):
    """What `summarize_predictions` gives."""

    accuracy: float
    interval: list[float]
    n: int
    ranked_accuracy: NotRequired[float]


def summarize_predictions(predictions: Sequence[Prediction]) -> Scores:
    """Accuracy, its 95% Wilson interval and n; `ranked_accuracy` for a closed set."""
    golds = [str(p.gold) for p in predictions]
    correct = sum(bool(p.correct) for p in predictions)
    result: Scores = {
        "accuracy": correct / len(predictions),
        "interval": list(wilson_interval(correct, len(predictions))),
        "n": len(predictions),
    }
    if all(p.ranked_label is not None for p in predictions):
        hits = exact_match([str(p.ranked_label) for p in predictions], golds)
        result["ranked_accuracy"] = float(hits.mean())
    return result


class Evaluator:
    """Decodes in length-sorted batches of one size."""

    def __init__(
        self,
        spec: DataSpec,
        config: T5Config,
        assets: Assets,
        batch_size: int,
        beam: int = 1,
        length_penalty: float = LENGTH_PENALTY,
        answer: str = "decode",
    ) -> None:
        """Prepares the vocabulary.

        Args:
          spec: lengths, prefixes.
          config: the student's.
          assets: vocabulary, closed label set and answer rule.
          batch_size: rows a decoding batch.
          beam: prefixes of a beam search; 1 decodes greedily.
          length_penalty: of the beam search.
          answer: "decode", or "rank" to answer with the most probable label of the row's closed
            set, where it has one.

        Raises:
          UserError: a beam below 1, a negative penalty.
        """
        check_beam(beam, length_penalty)
        self._answer = answer
        self._spec, self._config = spec, config
        self._beam, self._length_penalty = beam, length_penalty
        self._batches = RowBatches(batch_size)
        self.vocabulary = assets.vocabulary()
        self.eos_mark, self._form = assets.eos_mark, assets.input_form
        self.input_counts, self.missing_choices = SequenceCounts(), 0
        self.labels, self._correct = assets.labels, assets.correct(spec.dataset)

    def split(
        self,
        params: dict,
        cache: TokenCache,
        split: str,
        chosen: slice = slice(None),
        probabilities: bool = False,
    ) -> list[Prediction]:
        """Predictions for the rows of a split, or some of them, in the rows' order.

        `probabilities` is as of `texts`.
        """
        source = "gold" if split == "test" else self._spec.label_source
        inputs, rows = cache.tokens[split, "label", "inputs"], cache.rows[split][chosen]
        if chosen != slice(None):
            inputs = Ragged.of(inputs[i] for i in range(*chosen.indices(len(inputs))))
        return self.rows(
            params, rows, inputs, source, f"scoring {split}", probabilities=probabilities
        )

    def texts(
        self,
        params: dict,
        examples: Sequence[Example],
        rationale: bool = False,
        probabilities: bool = False,
    ) -> list[Prediction]:
        """Predictions for new rows, which are tokenized here.

        `input_counts` and `missing_choices` (rows without the choices that the student's inputs
        list) count the rows of all calls.

        Args:
          params: parameters of the student.
          examples: the rows.
          rationale: whether to decode rationales as well; those of a student that writes them
            after the label continue the label that is predicted, greedily.
          probabilities: whether to give those of the closed set.
        """
        for row in examples:
            self.missing_choices += input_forms.needs_choices(self._form, self.input_of(row))
        inputs = self._inputs(self._spec.label_prefix, examples, self.input_counts)
        predictions = self.rows(params, examples, inputs, "gold", probabilities=probabilities)
        if not rationale:
            return predictions
        if self._spec.is_joined:
            labels = [self._encode(row.prediction) for row in predictions]
            settings = self._config, self._batches, inputs, labels, self._spec.target_length
            decoded = decode_after_labels(params, *settings)
        else:
            decoded = [[] for _ in examples]
            inputs = self._inputs(self._spec.rationale_prefix, examples)
            counts = len(examples), self._spec.target_length
            found = self._decoded(params, inputs, "decoding rationales", *counts)
            for indices, (decoded_BxT, _) in found:
                for slot, index in enumerate(indices):
                    decoded[index] = decoded_BxT[slot].tolist()
        return [
            dataclasses.replace(row, rationale=self._text(tokens).strip())
            for row, tokens in zip(predictions, decoded, strict=True)
        ]

    def rows(
        self,
        params: dict,
        examples: Sequence[Example],
        inputs: Ragged,
        label_source: str,
        description: str = "decoding labels",
        probabilities: bool = False,
    ) -> list[Prediction]:
        """Predictions for rows whose inputs are tokens already.

        Args:
          params: parameters of the student.
          examples: the rows.
          inputs: their tokens.
          label_source: "gold" or "teacher", of the label that is to be met.
          description: what the progress is called.
          probabilities: whether to give those of the closed set.
        """
        choices = [self._choices(row) for row in examples]
        if self._answer == "rank":
            self._check_closed(examples, choices)
        rankings: dict[int, Ranking] = {}
        decoded: dict[int, Decoded] = {}
        if any(choices):
            length = self._spec.target_length
            sets = ClosedSets(self._config, self._encode, choices, length)
            decodes = self._answer == "decode" and self._beam == 1

            def rank(indices: np.ndarray, tokens_BxI: np.ndarray) -> list[Ranking]:
                return sets(params, tokens_BxI, [choices[index] for index in indices], decodes)

            for indices, ranked in self._batches(inputs, description, rank, sets.shape):
                rankings |= zip(indices.tolist(), ranked, strict=True)
            description = "decoding labels (second pass)"
        for index, ranking in rankings.items():
            if self._answer == "rank" and choices[index]:
                decoded[index] = (), None
            elif self._beam == 1 and ranking.decoded is not None:
                decoded[index] = ranking.decoded, None
        others = [index for index in range(len(examples)) if index not in decoded]
        left = Ragged.of(inputs[index] for index in others)
        positions = self._spec.target_length if self._spec.is_joined else LABEL_TOKENS
        found = self._decoded(params, left, description, len(examples), positions)
        for indices, (tokens_BxT, scores_B) in found:
            for slot, index in enumerate(indices):
                score = None if scores_B is None else round(float(scores_B[slot]), 6)
                decoded[others[index]] = tokens_BxT[slot].tolist(), score
        answers = (
            (row, decoded[index], choices[index], rankings.get(index))
            for index, row in enumerate(examples)
        )
        return [self._prediction(*each, label_source, probabilities) for each in answers]

    def label_inputs(self, examples: Sequence[Example]) -> Ragged:
        """Tokens of the rows' inputs of the label task, as the student reads them."""
        return self._inputs(self._spec.label_prefix, examples)

    def input_of(self, row: Example) -> str:
        """What the student reads of a row: its input, with its choices if trained so."""
        return input_forms.complete(self._form, row.input, row.choices, f"row {row.id}")

    def _check_closed(self, rows: Sequence[Example], choices: Sequence[Sequence[str]]) -> None:
        if self._spec.method == "single_task":
            raise UserError(
                "--answer=rank does not work with METHOD = 'single_task', whose students write a "
                "rationale before the label: omit it"
            )
        for row, labels in zip(rows, choices, strict=True):
            if not labels:
                raise UserError(
                    f"--answer=rank: row {row.id} has no closed set of labels, since it has no "
                    "`choices` and the student was trained without LABELS: omit --answer"
                )

    def _choices(self, row: Example) -> tuple[str, ...]:
        """The closed set that a row's answer is scored from."""
        if self._spec.method == "single_task":
            return ()  # a label's score is that of the rationale before it as well
        return row.choices or self.labels

    def _decoded(
        self, params: dict, inputs: Ragged, description: str, rows: int, positions: int
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray | None]]]:
        """Of each batch indices, target tokens [B, T], and a beam search's scores [B].

        `rows` are answered altogether, in these batches and otherwise; `positions` are those that
        a row is expected to have.
        """
        length = self._spec.target_length

        def decode(_: np.ndarray, tokens_BxI: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            if self._beam == 1:
                counts = length, rows, positions
                return decode_greedily(params, self._config, tokens_BxI, *counts), None
            settings = length, self._beam, self._length_penalty
            placed_BxI = shard_like_params(params, tokens_BxI)
            found_BxT, scores_B = beam_search(params, self._config, placed_BxI, *settings)
            return to_host(found_BxT), to_host(scores_B)

        return self._batches(inputs, description, decode, rows=rows)

    def _prediction(
        self,
        row: Example,
        decoded: Decoded,
        choices: Sequence[str],
        ranking: Ranking | None,
        label_source: str,
        probabilities: bool,
    ) -> Prediction:
        tokens, score = decoded
        ranked_label, by_label = None, None
        if ranking is not None and choices:
            ranked_label = choices[int(ranking.scores_C.argmax())]
            if probabilities:
                shares_C = closed_set_probabilities(ranking.scores_C)
                by_label = dict(zip(choices, shares_C.tolist(), strict=True))
        if self._answer == "rank" and ranked_label is not None:
            text = ranked_label
        else:
            text = self._spec.answer(self._text(tokens))
        gold = row.label if label_source == "gold" else row.teacher_label
        correct = None
        if gold is not None and self._correct is not None:
            correct = self._correct(text, gold)
        return Prediction(
            row.id,
            row.input,
            gold,
            text,
            correct,
            ranked_label,
            score,
            extra=row.extra,
            probabilities=by_label,
        )

    def _text(self, ids: Sequence[int]) -> str:
        """The text before EOS."""
        return self.vocabulary.decode(ids[: ids.index(1)] if 1 in ids else ids)

    def _inputs(
        self, prefix: str, examples: Sequence[Example], counts: SequenceCounts | None = None
    ) -> Ragged:
        """Tokens of the rows' inputs after a task's prefix, cut with EOS kept; counts them."""
        tokens: list[Sequence[int] | np.ndarray] = [
            self._encode(prefix + self.input_of(row)) for row in examples
        ]
        limit = self._spec.input_length
        if counts is not None:
            for row, ids in zip(examples, tokens, strict=True):
                if counts.add(ids, limit, self.vocabulary.unk_id):
                    counts.longest = max(counts.longest, self._longest_input(row))
        return Ragged.of([t if len(t) <= limit else [*t[: limit - 1], t[-1]] for t in tokens])

    def _longest_input(self, row: Example) -> int:
        """Tokens of the row's longest input, whose prefix is that of any task of the student."""
        spec, text = self._spec, self.input_of(row)
        return max(len(self._encode(spec.prefix(task) + text)) for task in spec.tasks)

    def _encode(self, text: str) -> list[int]:
        return encode_input(self.vocabulary, text, self.eos_mark)
