"""How far the hypothesis alone goes on e-SNLI: a bag of words and softmax regression.

    python benchmarks/hypothesis_only.py --raw_dir DATA

A student that read the premise should beat this number. Trained on the gold labels of
the e-SNLI validation rows, 80% of the premises for training and 20% for the test.
The interval takes test rows for independent; about three share a premise.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import sys
from collections.abc import Sequence

import numpy as np

from distill.data.completions import NLI_LABELS
from distill.data.examples import Example
from distill.data.metrics import wilson_interval
from distill.data.premises import split_by_premise
from distill.data.released import read
from distill.errors import UserError

MIN_COUNT = 2  # training rows that a word must stand in
L2 = 1e-3  # on the mean loss of a row; fixed before the test rows were looked at
STEPS = 300
TEST_FRACTION = 0.2  # of the premises


def hypothesis_words(row: Example) -> set[str]:
    """The different words of a row's hypothesis, in lower case."""
    return set(re.findall(r"[a-z']+", row.input.rpartition(" hypothesis: ")[2].lower()))


def bag_of(rows: Sequence[set], column: dict) -> np.ndarray:
    """Which words each row has, and a last column of ones: [N, words + 1] float32."""
    x_NxW = np.zeros((len(rows), len(column) + 1), np.float32)
    x_NxW[:, -1] = 1
    for i, words in enumerate(rows):
        x_NxW[i, [column[word] for word in words if word in column]] = 1
    return x_NxW


def fit(x_NxW: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    """Softmax regression by Nesterov's accelerated gradient: weights [words + 1, 3]."""
    target_NxC = np.eye(len(NLI_LABELS), dtype=np.float32)[y_N]
    w_WxC = np.zeros((x_NxW.shape[1], len(NLI_LABELS)), np.float32)
    previous_WxC = w_WxC
    # The loss curves by at most half the mean squared length of a row, plus L2.
    rate = 1 / (0.5 * float((x_NxW**2).sum(1).mean()) + L2)
    for step in range(STEPS):
        ahead_WxC = w_WxC + step / (step + 3) * (w_WxC - previous_WxC)
        logits_NxC = x_NxW @ ahead_WxC
        p_NxC = np.exp(logits_NxC - logits_NxC.max(1, keepdims=True))
        p_NxC /= p_NxC.sum(1, keepdims=True)
        gradient_WxC = x_NxW.T @ (p_NxC - target_NxC) / len(y_N) + L2 * ahead_WxC
        previous_WxC, w_WxC = w_WxC, ahead_WxC - rate * gradient_WxC
    return w_WxC


def measure(raw_dir: str, seed: int) -> dict[str, object]:
    """Accuracy on the test premises of one split by premise."""
    train, test = split_by_premise(read(raw_dir, "esnli", "valid"), TEST_FRACTION, seed)
    train_words, test_words = ([hypothesis_words(row) for row in rows] for rows in (train, test))
    counts = collections.Counter(word for row in train_words for word in row)
    words = sorted(word for word, count in counts.items() if count >= MIN_COUNT)
    column = {word: i for i, word in enumerate(words)}
    y_train, y_test = (
        np.array([NLI_LABELS.index(row.label) for row in rows]) for rows in (train, test)
    )
    weights = fit(bag_of(train_words, column), y_train)
    predicted = (bag_of(test_words, column) @ weights).argmax(1)
    correct = int((predicted == y_test).sum())
    majority = np.bincount(y_train).argmax()
    return {
        "split": "test",
        "seed": seed,
        "accuracy": correct / len(test),
        "interval": wilson_interval(correct, len(test)),
        "n": len(test),
        "majority": float((y_test == majority).mean()),
        "n_train": len(train),
        "words": len(words),
    }


def main() -> int:
    """Prints one JSON object for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw_dir", required=True, help="the authors' released data folder")
    parser.add_argument("--seeds", type=int, default=3, help="how many splits by premise")
    arguments = parser.parse_args()
    try:
        for seed in range(arguments.seeds):
            print(json.dumps(measure(arguments.raw_dir, seed)), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
