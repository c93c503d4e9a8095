"""How much of a batch is padding: one sequence a row, length buckets, packed by first fit.

    python benchmarks/padding.py --gin_file=gin/experiments/tickets_step_by_step.gin
    python benchmarks/padding.py --gin_file=gin/experiments/esnli_mini_step_by_step.gin \
        --gin_file=gin/data/cqa.gin --raw_dir DATA --vocabulary_path MODEL

Shares of the encoder's and the decoder's tokens that are padding, over an epoch of training
steps (at most --steps). The layouts:

  one a row         each sequence in a row of INPUT_LENGTH and TARGET_LENGTH
  buckets of pairs  as many pairs in each bucket, by the longer input of a pair; both sequences
                    of a pair are padded to the longest of their bucket, so a batch is of one bucket
  and by task       the same, with label and rationale padded apart: two shapes in each step
  packed            what training runs: first fit, and the same number of rows in all steps
  packed, no spare  first fit, with as many rows as each step needs

Bucket lengths are rounded up to a multiple of 8. Buckets count full batches alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from distill.common import table
from distill.config import resolve
from distill.data import cache as caches
from distill.data.batching.batches import BatchStream
from distill.data.cache import TokenCache
from distill.errors import UserError

SIDES = ("inputs", "targets")
MULTIPLE = 8

Shares = tuple[float, float]  # of the encoder's tokens, of the decoder's


def shares(used: Sequence[float], paid: Sequence[float]) -> Shares:
    """1 - used / paid for both sides."""
    return 1 - used[0] / paid[0], 1 - used[1] / paid[1]


def one_a_row(lengths_NxS: np.ndarray, limits: tuple[int, int]) -> Shares:
    """Padding of sequences [N, side] that have a row each, of the limits' lengths."""
    return shares(lengths_NxS.sum(0), len(lengths_NxS) * np.asarray(limits))


def buckets(lengths_PxKxS: np.ndarray, count: int, by_task: bool) -> Shares:
    """Padding of pairs in `count` buckets of equal size.

    Args:
      lengths_PxKxS: tokens of each pair's sequence of each task on each side; 0 for none.
      count: number of buckets.
      by_task: whether the tasks of a bucket have lengths of their own.
    """
    order = np.argsort(lengths_PxKxS[..., 0].max(axis=1), kind="stable")
    paid = np.zeros(2)
    for indices in np.array_split(order, count):
        bucket_NxKxS = lengths_PxKxS[indices]
        longest_KxS = bucket_NxKxS.max(axis=0)
        if not by_task:
            longest_KxS[:] = longest_KxS.max(axis=0)
        rounded_KxS = -(-longest_KxS // MULTIPLE) * MULTIPLE
        sequences_K = (bucket_NxKxS[..., 1] > 0).sum(axis=0)
        paid += (sequences_K[:, None] * rounded_KxS).sum(axis=0)
    return shares(lengths_PxKxS.sum(axis=(0, 1)), paid)


def packed(stream: BatchStream, steps: int, limits: tuple[int, int]) -> tuple[Shares, Shares]:
    """Padding of the batches that are trained on, and without their rows of padding alone."""
    used, rows, needed = np.zeros(2), 0, 0
    for step in range(steps):
        batch = stream.batch(step)
        segments = batch["encoder_segment_ids"], batch["decoder_segment_ids"]
        used += [np.count_nonzero(side) for side in segments]
        rows += len(segments[0])
        needed += np.count_nonzero(segments[0].any(axis=1))
    return shares(used, rows * np.asarray(limits)), shares(used, needed * np.asarray(limits))


def lengths_of(cache: TokenCache, tasks: Sequence[str]) -> np.ndarray:
    """Tokens of all training rows [P, task, side]; 0 for a sequence that is not there."""
    by_task = [[cache.tokens["train", task, side].lengths for side in SIDES] for task in tasks]
    lengths_PxKxS = np.moveaxis(np.array(by_task), -1, 0)
    return np.where(lengths_PxKxS[..., 1:] > 0, lengths_PxKxS, 0)


def measure(run: object, counts: Sequence[int], most_steps: int) -> dict[str, Shares]:
    """The share of padding on both sides, by layout.

    Args:
      run: a RunConfig.
      counts: numbers of buckets to try.
      most_steps: packed steps that are counted at most; an epoch if that is less.
    """
    cache = caches.load_cache(run.data)
    limits = run.data.input_length, run.data.target_length
    stream = _stream(run, cache)
    lengths_PxKxS = lengths_of(cache, run.data.tasks)
    every = lengths_PxKxS.reshape(-1, 2)
    found = {"one a row": one_a_row(every[every[:, 1] > 0], limits)}
    for count in counts:
        found[f"{count} buckets of pairs"] = buckets(lengths_PxKxS, count, by_task=False)
        found[f"{count} buckets, and by task"] = buckets(lengths_PxKxS, count, by_task=True)
    steps = min(most_steps, max(1, int(stream.steps_per_epoch)))
    found["packed"], found["packed, no spare"] = packed(stream, steps, limits)
    return found


def _stream(run: object, cache: TokenCache) -> BatchStream:
    return BatchStream(cache, run.data, run.weighting, run.train.batch_size, run.train.seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gin_file", action="append", required=True, help="repeatable")
    parser.add_argument("--raw_dir", help="the released data (macro RAW_DIR)")
    parser.add_argument("--vocabulary_path", help="SentencePiece model (VOCABULARY_PATH)")
    parser.add_argument("--buckets", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--steps", type=int, default=1000, help="packed steps at most")
    parser.add_argument("macros", nargs="*", metavar="NAME=value", help="later wins")
    options = parser.parse_args(arguments)
    overrides = [
        f"{name}={value}"
        for name, value in (
            ("RAW_DIR", options.raw_dir),
            ("VOCABULARY_PATH", options.vocabulary_path),
        )
        if value
    ]
    try:
        run = resolve.resolve(options.gin_file, (*overrides, *options.macros)).run
        found = measure(run, options.buckets, options.steps)
        rows_of_batch = _stream(run, caches.load_cache(run.data))._packed_rows
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    rows = [
        (layout, f"{encoder:.1%}", f"{decoder:.1%}") for layout, (encoder, decoder) in found.items()
    ]
    print(table.render_columns(("padding of", "encoder", "decoder"), rows, "<>>"))
    print(f"\npacked rows of a batch: {rows_of_batch}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
