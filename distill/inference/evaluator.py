"""The student's answers: decoded labels, exact scores of a closed label set, rationales."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from distill.common.accuracy import exact_match, wilson_interval
from distill.common.progress import Progress, Stage
from distill.common.safe_points import safe_point
from distill.config.data import DataSpec
from distill.config.student import T5Config
from distill.data import input_forms
from distill.data.cache import TokenCache
from distill.data.counts.sequence_counts import SequenceCounts
from distill.data.examples import Example
from distill.data.ragged import Ragged
from distill.data.vocabularies import encode_input
from distill.student.beam import LENGTH_PENALTY, beam_search, check_beam
from distill.student.decoding import greedy, score_labels
from distill.training.assets import Assets
from distill.training.mesh import shard_like_params, to_host

_LENGTH_MULTIPLE = 16
_LOGITS_AT_ONCE = 1 << 26  # numbers; what scoring a closed set may hold in memory


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
        (`closed_set_probabilities`); files of predictions do not hold them.
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


def closed_set_probabilities(scores_C: np.ndarray) -> np.ndarray:
    """P(label | input, the answer is in the closed set), float64 [C], which sums to 1.

    Args:
      scores_C: log P(label | input) of each label in nats, as from `score_labels`.
    """
    shifted_C = np.exp(scores_C.astype(np.float64) - scores_C.max())
    return shifted_C / shifted_C.sum()


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
    ) -> None:
        """Prepares the vocabulary.

        Args:
          spec: lengths, prefixes.
          config: the student's.
          assets: vocabulary, closed label set and answer rule.
          batch_size: rows a decoding batch.
          beam: prefixes of a beam search; 1 decodes greedily.
          length_penalty: of the beam search.

        Raises:
          UserError: a beam below 1, a negative penalty.
        """
        check_beam(beam, length_penalty)
        self._spec, self._config, self._batch_size = spec, config, batch_size
        self._beam, self._length_penalty = beam, length_penalty
        self._compiled: set[tuple[int, ...]] = set()  # shapes of batches, and of labels with them
        self.vocabulary = assets.vocabulary()
        self.eos_mark, self._form = assets.eos_mark, assets.input_form
        self.input_counts, self.missing_choices = SequenceCounts(), 0
        self.labels, self._correct = assets.labels, assets.correct(spec.dataset)

    def split(self, params: dict, cache: TokenCache, split: str) -> list[Prediction]:
        """Predictions for all rows of a split, in the rows' order."""
        source = "gold" if split == "test" else self._spec.label_source
        inputs = cache.tokens[split, "label", "inputs"]
        return self.rows(params, cache.rows[split], inputs, source, f"scoring {split}")

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
          rationale: whether to decode the rationale task as well.
          probabilities: whether to give those of the closed set.
        """
        for row in examples:
            self.missing_choices += input_forms.needs_choices(self._form, self.input_of(row))
        inputs = self._inputs(self._spec.label_prefix, examples, self.input_counts)
        predictions = self.rows(params, examples, inputs, "gold", probabilities=probabilities)
        if not rationale:
            return predictions
        texts = [""] * len(examples)
        inputs = self._inputs(self._spec.rationale_prefix, examples)
        for indices, tokens_BxI in self._batches(inputs, "decoding rationales"):
            decoded_BxT, _ = self._decode(params, tokens_BxI)
            for slot, index in enumerate(indices):
                texts[index] = self._text(decoded_BxT[slot]).strip()
        return [
            dataclasses.replace(row, rationale=text)
            for row, text in zip(predictions, texts, strict=True)
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
        predictions: dict[int, Prediction] = {}
        choices = [self._choices(row) for row in examples]
        tokens_of = {
            label: self._encode(label)
            for label in {c for row_choices in choices for c in row_choices}
        }
        count = max(map(len, choices), default=0)
        length = _size(max(map(len, tokens_of.values()), default=1))
        shape_of_labels = (count, length) if count else ()
        for indices, tokens_BxI in self._batches(inputs, description, shape_of_labels):
            decoded_BxT, scores_B = self._decode(params, tokens_BxI)
            if count:
                labels_BxCxT = np.zeros((len(tokens_BxI), count, length), np.int32)
                for slot, index in enumerate(indices):
                    for position, label in enumerate(choices[index]):
                        labels_BxCxT[slot, position, : len(tokens_of[label])] = tokens_of[label]
                label_scores_BxC = self._score_labels(params, tokens_BxI, labels_BxCxT)
            for slot, index in enumerate(indices):
                row_choices = choices[index]
                prediction = self._prediction(
                    examples[index],
                    decoded_BxT[slot],
                    row_choices[label_scores_BxC[slot].argmax()] if row_choices else None,
                    None if scores_B is None else round(float(scores_B[slot]), 6),
                    label_source,
                )
                if probabilities and row_choices:
                    shares_C = closed_set_probabilities(label_scores_BxC[slot, : len(row_choices)])
                    by_label = dict(zip(row_choices, shares_C.tolist(), strict=True))
                    prediction = dataclasses.replace(prediction, probabilities=by_label)
                predictions[index] = prediction
        return [predictions[index] for index in range(len(examples))]

    def input_of(self, row: Example) -> str:
        """What the student reads of a row: its input, with its choices if trained so."""
        return input_forms.complete(self._form, row.input, row.choices, f"row {row.id}")

    def _choices(self, row: Example) -> tuple[str, ...]:
        """The closed set that a row's answer is scored from."""
        if self._spec.method == "single_task":
            return ()  # a label's score is that of the rationale before it as well
        return row.choices or self.labels

    def _decode(self, params: dict, tokens_BxI: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Target tokens [B, T]; of a beam search, their scores [B] as well."""
        length, placed_BxI = self._spec.target_length, shard_like_params(params, tokens_BxI)
        if self._beam == 1:
            return to_host(greedy(params, self._config, placed_BxI, length)), None
        decoded_BxT, scores_B = beam_search(
            params, self._config, placed_BxI, length, self._beam, self._length_penalty
        )
        return to_host(decoded_BxT), to_host(scores_B)

    def _score_labels(
        self, params: dict, tokens_BxI: np.ndarray, labels_BxCxT: np.ndarray
    ) -> np.ndarray:
        """log P(label | input), float32 [B, C], of as many rows at once as their logits fit
        into memory."""
        logits = labels_BxCxT[0].size * self._config.vocab_size
        rows = max(1, _LOGITS_AT_ONCE // logits)
        parts = []
        for start in range(0, len(tokens_BxI), rows):
            chunk = (
                shard_like_params(params, array[start : start + rows])
                for array in (tokens_BxI, labels_BxCxT)
            )
            parts.append(score_labels(params, self._config, *chunk))
        return np.concatenate([to_host(scores_BxC) for scores_BxC in parts])

    def _prediction(
        self,
        row: Example,
        tokens_T: np.ndarray,
        ranked_label: str | None,
        score: float | None,
        label_source: str,
    ) -> Prediction:
        text = self._spec.answer(self._text(tokens_T))
        gold = row.label if label_source == "gold" else row.teacher_label
        correct = None
        if gold is not None and self._correct is not None:
            correct = self._correct(text, gold)
        return Prediction(
            row.id, row.input, gold, text, correct, ranked_label, score, extra=row.extra
        )

    def _text(self, tokens_T: np.ndarray) -> str:
        """The text before EOS."""
        ids = tokens_T.tolist()
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
        prefixes = (spec.label_prefix, spec.rationale_prefix)[: len(spec.tasks)]
        return max(len(self._encode(prefix + text)) for prefix in prefixes)

    def _batches(
        self, inputs: Ragged, description: str, labels: tuple[int, ...] = ()
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices and tokens of batches, the longest rows first; shows how many are done.

        Programs are compiled for each number and length of `labels` that are scored.
        """
        order = np.argsort(-inputs.lengths, kind="stable")
        quick = bool(self._compiled) and len(order) <= self._batch_size
        with Progress(len(order), description, leave=False, delay=1.0, disable=quick) as bar:
            for start in range(0, len(order), self._batch_size):
                safe_point()
                indices = order[start : start + self._batch_size]
                longest = int(inputs.lengths[indices[0]])
                length = -(-longest // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
                # Rows of padding fill the last batch, so that it needs no compilation of its own.
                tokens_BxI = np.zeros((min(self._batch_size, _size(len(order))), length), np.int32)
                for slot, index in enumerate(indices):
                    tokens_BxI[slot, : inputs.lengths[index]] = inputs[index]
                programs = {tokens_BxI.shape, (*tokens_BxI.shape, *labels)}
                with contextlib.ExitStack() as stack:
                    if not programs <= self._compiled:
                        text = f"compiling the program for inputs of {length} tokens"
                        stack.enter_context(Stage(text))
                    yield indices, tokens_BxI
                self._compiled |= programs
                bar.update(len(indices))

    def _encode(self, text: str) -> list[int]:
        return encode_input(self.vocabulary, text, self.eos_mark)


def _size(rows: int) -> int:
    """Rows of a batch that holds `rows`: the next power of two, so that few sizes compile."""
    return 1 << (rows - 1).bit_length() if rows > 1 else 1


def to_prediction_record(prediction: Prediction) -> Mapping[str, object]:
    """A prediction as a JSON object, without fields that do not apply.

    The row's extra fields follow; one that is named like a field of predictions has `row_` before
    its name.
    """
    fields = dataclasses.asdict(prediction)
    extra, _ = fields.pop("extra"), fields.pop("probabilities")
    record = {name: value for name, value in fields.items() if value is not None}
    for name, value in extra.items():
        while name in fields or (name.startswith("row_") and name in record):
            name = f"row_{name}"
        record[name] = value
    return record
