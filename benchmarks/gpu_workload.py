"""The rows, sizes and counts that native and PyTorch are measured on (gpu_train.py).

    PYTHONPATH=. python3 benchmarks/gpu_workload.py --size base --batch 64

Prints the token counts of the workload. The rows are random tokens with the lengths of CQA's
rows: nothing is read but gin/sizes, and neither TensorFlow, SeqIO nor gin is imported.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from distill.config.data import DataSpec
from distill.config.optimizer import OptimizerConfig
from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.config.train import TrainConfig
from distill.config.weighting import Weighting
from distill.data.cache import TokenCache
from distill.data.examples import Example
from distill.data.ragged import Ragged
from distill.preflight.count import Shapes, useful_flops

SIZES = pathlib.Path(__file__).resolve().parents[1] / "gin" / "sizes"
VOCAB_SIZE = 32128
TASKS = ("label", "rationale")
PREFIX = 4  # tokens before an input that say which task is asked for
# Shortest, median and longest, EOS included; 99% of CQA's inputs have at most 77 tokens.
INPUT_TOKENS = (20, 44, 80)
TARGET_TOKENS = {"label": (2, 3, 5), "rationale": (15, 30, 60)}
BATCHES = 64  # distinct batches, as many as the stream looks at to choose its number of rows
MAX_NEW_TOKENS = 8
# The students are random. Padding and EOS get a logit of 0, which is never the largest of 32,128:
# so that every row is decoded to MAX_NEW_TOKENS tokens on both sides.
ENDS = np.array([0, 1])


def student(size: str, dtype: str, remat: str = "none", scan_layers: bool = False) -> T5Config:
    """The T5 v1.1 of a file of gin/sizes, whose macros are read as data."""
    macros = {}
    for line in (SIZES / f"{size}.gin").read_text().splitlines():
        name, is_macro, value = line.partition(" = ")
        if is_macro and not line.startswith("#"):
            macros[name.lower()] = ast.literal_eval(value)
    return T5Config(
        vocab_size=VOCAB_SIZE, dtype=dtype, remat=remat, scan_layers=scan_layers, **macros
    )


def layout(text: str) -> tuple[int, int]:
    """INPUT_LENGTH and TARGET_LENGTH of `320x112`, for argparse.

    Raises:
      argparse.ArgumentTypeError: no two numbers, or rows too short for the longest sequence.
    """
    least = INPUT_TOKENS[-1], TARGET_TOKENS["rationale"][-1]
    lengths = [int(part) for part in text.split("x") if part.isdecimal()]
    if len(lengths) != 2 or lengths[0] < least[0] or lengths[1] < least[1]:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected INPUT_LENGTHxTARGET_LENGTH of at least {least[0]}x{least[1]}"
        )
    return lengths[0], lengths[1]


def sizes() -> list[str]:
    """Names of the files of gin/sizes."""
    return sorted(path.stem for path in SIZES.glob("*.gin"))


def run_config(config: T5Config, batch: int, input_length: int, target_length: int) -> RunConfig:
    """A run of `step_by_step` with AdamW, as gin would build it."""
    return RunConfig(
        data=DataSpec(
            "synthetic",
            "step_by_step",
            vocabulary="bytes",
            input_length=input_length,
            target_length=target_length,
        ),
        weighting=Weighting(0.5, 0.5),
        student=config,
        optimizer=OptimizerConfig(learning_rate=1e-4, total_steps=100_000),
        train=TrainConfig(train_steps=100_000, batch_size=batch),
    )


def synthetic_rows(count: int, seed: int = 0, scale: float = 1.0) -> TokenCache:
    """Pairs of random tokens with lengths like CQA's, in the form that training reads.

    Args:
      count: training rows (pairs of sequences).
      seed: of lengths and tokens.
      scale: of all lengths.
    """
    rng = np.random.default_rng(seed)
    inputs = _lengths(rng, count, *(scale * length for length in INPUT_TOKENS))
    bodies = [rng.integers(100, VOCAB_SIZE - 200, length - PREFIX - 1) for length in inputs]
    tokens, statistics_of = {}, {}
    for number, task in enumerate(TASKS):
        prefix = np.arange(10 * number + 2, 10 * number + 2 + PREFIX)
        targets = _lengths(rng, count, *(scale * length for length in TARGET_TOKENS[task]))
        answers = [rng.integers(100, VOCAB_SIZE - 200, length - 1) for length in targets]
        tokens["train", task, "inputs"] = Ragged.of([[*prefix, *body, 1] for body in bodies])
        tokens["train", task, "targets"] = Ragged.of([[*answer, 1] for answer in answers])
        statistics_of[task] = {"mean_target_tokens": float(np.mean(targets))}
    rows = [Example(id=str(i), input="", label="") for i in range(count)]
    return TokenCache(
        epath.Path("synthetic"),
        {"tasks": statistics_of},
        tokens,
        {"train": rows, "validation": [], "test": []},
    )


def _lengths(
    rng: np.random.Generator, count: int, low: float, median: float, high: float
) -> np.ndarray:
    """Log-normal lengths around a median, clipped."""
    drawn = median * np.exp(rng.normal(0.0, 0.35, count))
    return np.clip(np.rint(drawn), low, high).astype(int)


def step_counts(cache: TokenCache, config: T5Config, steps: Sequence[Sequence]) -> dict:
    """Means over steps of what a step must compute: tokens and products of unpadded sequences.

    Args:
      cache: the rows.
      config: the student's sizes.
      steps: (task, row) of the sequences of each step, as `BatchStream.sequences` gives them.
    """
    inputs = {task: cache.tokens["train", task, "inputs"].lengths for task in TASKS}
    targets = {task: cache.tokens["train", task, "targets"].lengths for task in TASKS}
    shapes = [
        Shapes(1, int(inputs[TASKS[task]][row]), int(targets[TASKS[task]][row]))
        for step in steps
        for task, row in step
    ]
    return {
        "encoder_tokens": sum(shape.inputs for shape in shapes) / len(steps),
        "decoder_tokens": sum(shape.targets for shape in shapes) / len(steps),
        "useful_flops": sum(useful_flops(config, shape) for shape in shapes) / len(steps),
    }


def inference_batches(cache: TokenCache, rows: int, batch: int) -> list[np.ndarray]:
    """Label inputs in batches of similar length, padded to a multiple of 16, as in evaluation."""
    inputs = cache.tokens["train", "label", "inputs"]
    order = np.argsort(-inputs.lengths[:rows], kind="stable")
    batches = []
    for start in range(0, rows - batch + 1, batch):
        indices = order[start : start + batch]
        length = -(-int(inputs.lengths[indices[0]]) // 16) * 16
        tokens_BxI = np.zeros((batch, length), np.int32)
        for slot, index in enumerate(indices):
            tokens_BxI[slot, : inputs.lengths[index]] = inputs[index]
        batches.append(tokens_BxI)
    return batches


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one repetition: of all repetitions the median, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        """Summarizes repetitions."""
        return cls(statistics.median(seconds), min(seconds), max(seconds))


def time_groups(
    run: Callable[[int], object], wait: Callable[[object], object], steps: int, group: int
) -> Times:
    """Times steps in groups, with one wait for the device a group.

    A wait after every step would keep the host from preparing the next one meanwhile, which no
    training loop does.

    Args:
      run: starts step i and returns what to wait for.
      wait: waits for that.
      steps: how many; the last group takes the rest.
      group: steps between two waits.

    Returns:
      Seconds a step.
    """
    seconds = []
    for first in range(0, steps, group):
        count = min(group, steps - first)
        start = time.perf_counter()
        for step in range(first, first + count):
            result = run(step)
        wait(result)
        seconds.append((time.perf_counter() - start) / count)
    return Times.of(seconds)


def time_decoding(
    decode: Callable[[], Sequence[np.ndarray]], rows: int, passes: int
) -> dict[str, object]:
    """Times the decoding of all rows.

    Args:
      decode: answers all rows, and returns their tokens [B, T] by batch, 0 for padding.
      rows: how many there are.
      passes: how often they are decoded after the first time, which compiles.

    Returns:
      pass_seconds (of all rows), first_pass_seconds, rows, tokens_per_row.
    """
    start = time.perf_counter()
    decoded = decode()
    first = time.perf_counter() - start
    times = time_groups(lambda _: decode(), lambda _: None, passes, 1)
    return {
        "pass_seconds": dataclasses.asdict(times),
        "first_pass_seconds": first,
        "rows": rows,
        "tokens_per_row": sum(int(np.count_nonzero(batch)) for batch in decoded) / rows,
    }


def peak_host_bytes() -> int:
    """The process's largest resident memory so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def worker_parser(doc: str) -> argparse.ArgumentParser:
    """The flags that gpu_native.py and gpu_torch.py share.

    Args:
      doc: the script's docstring.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, description=doc.splitlines()[0])
    parser.add_argument("--size", default="base", choices=sizes(), help="a file of gin/sizes")
    parser.add_argument("--batch", type=int, default=64, help="pairs a step, rows a decoded batch")
    parser.add_argument("--dtype", default="bfloat16", help="what activations are computed in")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--warmup", type=int, default=10, help="steps before the clock starts")
    parser.add_argument("--steps", type=int, default=100, help="timed steps")
    parser.add_argument("--group", type=int, default=5, help="steps between two waits")
    parser.add_argument("--infer-rows", type=int, default=0, help="inputs to decode, 0 for none")
    parser.add_argument("--passes", type=int, default=5, help="timed passes over them")
    parser.add_argument("--matmul", type=int, default=8192, help="size of the bound's matrices")
    parser.add_argument("--out", required=True, help="the JSON file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the counts of the workload; returns the exit code."""
    from distill.data.batching.batches import BatchStream

    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base", choices=sizes(), help="a file of gin/sizes")
    parser.add_argument("--batch", type=int, default=64, help="pairs a step")
    options = parser.parse_args(argv)
    cache = synthetic_rows(BATCHES * options.batch)
    config = run_config(student(options.size, "bfloat16"), options.batch, 320, 112)
    stream = BatchStream(cache, config.data, config.weighting, options.batch, 0)
    steps = [stream.sequences(step) for step in range(BATCHES)]
    print(json.dumps(step_counts(cache, config.student, steps), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
