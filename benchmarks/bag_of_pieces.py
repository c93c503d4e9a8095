"""What a bag of the student's own pieces reaches on its own rows: what attention has to beat.

    python benchmarks/bag_of_pieces.py --gin_file=gin/experiments/esnli_mini_finetune.gin \
        --raw_dir DATA --vocabulary_path MODEL [SEED=1 ...]

Softmax regression on which pieces of the vocabulary an input holds, on the run's training,
validation and test rows (its SEED decides which are for validation): the whole input's, and the
hypothesis's alone; and the words, in lower case, of the hypothesis. The interval takes test rows
for independent; about three share a premise.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import sys
from collections.abc import Sequence

import numpy as np

from distill.common.accuracy import wilson_interval
from distill.config import resolve
from distill.data import cache as caches
from distill.data.examples import Example
from distill.data.released.completions import NLI_LABELS
from distill.data.vocabularies import make_vocabulary
from distill.errors import UserError, unknown

NLI = ("esnli", "anli1")
MARK = " hypothesis: "
SPLITS = ("train", "validation", "test")
MIN_COUNT = 2  # training rows that a word must stand in
L2 = 1e-3  # on the mean loss of a row; fixed before the test rows were looked at
STEPS = 300


def hypothesis_words(row: Example) -> set[str]:
    """The different words of a row's hypothesis, in lower case."""
    return set(re.findall(r"[a-z']+", row.input.rpartition(MARK)[2].lower()))


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


def accuracies(
    features: dict[str, list[set]], labels: dict[str, list[str]]
) -> dict[str, dict[str, object]]:
    """Accuracy and Wilson interval on validation and test rows of a regression on train's.

    Args:
      features: of each split, what stands in each row.
      labels: of each split, each row's.
    """
    counts = collections.Counter(one for row in features["train"] for one in row)
    kept = sorted(one for one, count in counts.items() if count >= MIN_COUNT)
    column = {one: i for i, one in enumerate(kept)}
    y = {split: np.array([NLI_LABELS.index(label) for label in labels[split]]) for split in SPLITS}
    weights = fit(bag_of(features["train"], column), y["train"])
    found = {}
    for split in [split for split in SPLITS[1:] if labels[split]]:
        correct = int(((bag_of(features[split], column) @ weights).argmax(1) == y[split]).sum())
        found[split] = {
            "accuracy": correct / len(y[split]),
            "interval": wilson_interval(correct, len(y[split])),
            "n": len(y[split]),
        }
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON object for each bag."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--gin_file", action="append", required=True)
    parser.add_argument("--raw_dir", required=True, help="the authors' released data folder")
    parser.add_argument("--vocabulary_path", required=True)
    parser.add_argument("overrides", nargs="*", help="NAME=value")
    options = parser.parse_args(argv)
    overrides = [
        *options.overrides,
        f"RAW_DIR={options.raw_dir!r}",
        f"VOCABULARY_PATH={options.vocabulary_path!r}",
    ]
    try:
        spec = resolve.resolve(options.gin_file, overrides).run.data
        if spec.dataset not in NLI:
            raise unknown("dataset of this benchmark", spec.dataset, NLI, "macro DATASET")
        cache = caches.load_cache(spec)
        labels = {split: [row.label for row in cache.rows[split]] for split in SPLITS}
        pieces = {
            s: [set(ids.tolist()) for ids in cache.tokens[s, "label", "inputs"]] for s in SPLITS
        }
        vocabulary = make_vocabulary(spec.vocabulary, spec.vocabulary_path)
        hypothesis = {
            split: [set(vocabulary.encode(row.input.rpartition(MARK)[2])) for row in rows]
            for split, rows in cache.rows.items()
        }
        words = {split: [hypothesis_words(row) for row in cache.rows[split]] for split in SPLITS}
        bags = {"pieces": pieces, "hypothesis's pieces": hypothesis, "hypothesis's words": words}
        for name, features in bags.items():
            print(json.dumps({"bag": name} | accuracies(features, labels)), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
