"""Label-only evaluation: accuracy of greedy answers, exact scores of a closed label set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from distill.data import datasets
from distill.data.cache import Ragged, TokenCache
from distill.data.examples import Example
from distill.data.metrics import exact_match, wilson_interval
from distill.data.spec import DataSpec
from distill.student.config import T5Config
from distill.student.decoding import greedy, score_labels

_LENGTH_MULTIPLE = 16


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The student's answer to one row.

    Attributes:
      id, input, gold: of the row (gold by the label source that is evaluated).
      prediction: the greedily decoded label.
      correct: whether it counts as the gold label (to the letter, unless the dataset
        says otherwise); None without a gold label.
      scored: the most probable label of the closed set; None for open answers.
    """

    id: str
    input: str
    gold: str | None
    prediction: str
    correct: bool | None
    scored: str | None


def summarise(predictions: Sequence[Prediction]) -> dict[str, object]:
    """Accuracy, its 95% Wilson interval and n; `scored_accuracy` for a closed set."""
    golds = [str(p.gold) for p in predictions]
    correct = sum(bool(p.correct) for p in predictions)
    result: dict[str, object] = {
        "accuracy": correct / len(predictions),
        "interval": list(wilson_interval(correct, len(predictions))),
        "n": len(predictions),
    }
    if all(p.scored is not None for p in predictions):
        hits = exact_match([str(p.scored) for p in predictions], golds)
        result["scored_accuracy"] = float(hits.mean())
    return result


class Evaluator:
    """Decodes the label task in length-sorted batches of one size."""

    def __init__(self, spec: DataSpec, config: T5Config, batch_size: int) -> None:
        """Prepares the vocabulary (loads tensorflow) and the closed label set.

        Args:
          spec: lengths, prefixes, vocabulary.
          config: the student's.
          batch_size: rows a decoding batch.
        """
        from distill.data.tokenise import vocabulary  # loads tensorflow

        self._spec, self._config, self._batch_size = spec, config, batch_size
        self.vocabulary = vocabulary(spec)
        dataset = datasets.get(spec.dataset)
        self.labels, self._correct = tuple(dataset.labels(spec)), dataset.correct
        if spec.method == "single_task":
            self.labels = ()  # a label's score is that of the rationale before it as well
        self._label_tokens = _pad([self._encode(label) for label in self.labels] or [[1]])

    def split(self, params: dict, cache: TokenCache, split: str) -> list[Prediction]:
        """Predictions for all rows of a split, in the rows' order."""
        source = "gold" if split == "test" else self._spec.label_source
        return self.rows(params, cache.rows[split], cache.tokens[split, "label", "inputs"], source)

    def texts(self, params: dict, examples: Sequence[Example]) -> list[Prediction]:
        """Predictions for new rows, which are tokenised here."""
        tokens = [self._encode(self._spec.label_prefix + row.input) for row in examples]
        limit = self._spec.input_length
        cut = [t if len(t) <= limit else [*t[: limit - 1], t[-1]] for t in tokens]
        return self.rows(params, examples, Ragged.of(cut), "gold")

    def rows(
        self, params: dict, examples: Sequence[Example], inputs: Ragged, label_source: str
    ) -> list[Prediction]:
        """Predictions for rows whose inputs are tokens already."""
        found: dict[int, Prediction] = {}
        for indices, tokens_BxI in self._batches(inputs):
            decoded_BxT = np.asarray(
                greedy(params, self._config, tokens_BxI, self._spec.target_length)
            )
            best_B = None
            if self.labels:
                scores_BxC = score_labels(params, self._config, tokens_BxI, self._label_tokens)
                best_B = np.asarray(scores_BxC).argmax(axis=1)
            for slot, index in enumerate(indices):
                scored = self.labels[best_B[slot]] if best_B is not None else None
                found[index] = self._prediction(
                    examples[index], decoded_BxT[slot], scored, label_source
                )
        return [found[index] for index in range(len(examples))]

    def _prediction(
        self, row: Example, tokens_T: np.ndarray, scored: str | None, label_source: str
    ) -> Prediction:
        ids = tokens_T.tolist()
        text = self.vocabulary.decode(ids[: ids.index(1)] if 1 in ids else ids)
        text = self._spec.answer(text)
        gold = row.label if label_source == "gold" else row.teacher_label
        correct = None if gold is None else self._correct(text, gold)
        return Prediction(row.id, row.input, gold, text, correct, scored)

    def _batches(self, inputs: Ragged) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.argsort(-inputs.lengths, kind="stable")
        for start in range(0, len(order), self._batch_size):
            indices = order[start : start + self._batch_size]
            longest = int(inputs.lengths[indices[0]])
            length = -(-longest // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
            # Rows of padding fill the last batch, so that it needs no compilation of its own.
            tokens_BxI = np.zeros((min(self._batch_size, _size(len(order))), length), np.int32)
            for slot, index in enumerate(indices):
                tokens_BxI[slot, : inputs.lengths[index]] = inputs[index]
            yield indices, tokens_BxI

    def _encode(self, text: str) -> list[int]:
        return [*self.vocabulary.encode(text), 1]


def _size(rows: int) -> int:
    """Rows of a batch that holds `rows`: the next power of two, so that few sizes compile."""
    return 1 << (rows - 1).bit_length() if rows > 1 else 1


def _pad(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    padded = np.zeros((len(sequences), max(map(len, sequences))), np.int32)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    return padded


def to_record(prediction: Prediction) -> Mapping[str, object]:
    """A prediction as a JSON object, without fields that do not apply."""
    fields = dataclasses.asdict(prediction)
    return {name: value for name, value in fields.items() if value is not None}
