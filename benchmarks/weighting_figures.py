"""Draws the figures of docs/weighting.md from the token lengths of real data.

    python benchmarks/weighting_figures.py --raw_dir DATA --vocabulary_path T5.model \
        --out docs/figures

Writes effective_weight.svg (label weight that a mixture's rate amounts to with pooled tokens),
pooled_bias.svg (how far the label weight of pooled batches is off, by batch size),
gradient_variance.svg (of the gradient by rates over that by pairs, by label weight), and
weighting.json with the numbers behind the three.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

import tasks  # noqa: F401  (registers the datasets)
from distill.config.resolve import resolve
from distill.config.weighting import effective_weights, mixture_rates, naive_weights
from distill.data import cache as caches
from distill.errors import UserError
from distill.training import gradient_noise

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, LINE = 640, 360, 64, 140, 16, 48, 14
COLORS = ("#0b6e99", "#d9730d", "#6940a5", "#4d6461")
BATCHES = (8, 16, 32, 64, 128, 256)
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DRAWS = 20_000
DATASETS = ("cqa", "svamp", "esnli", "anli1")
EXPERIMENT = "gin/experiments/esnli_mini_step_by_step.gin"
TASKS = ("label", "rationale")
Lengths = Mapping[str, np.ndarray]  # of the targets of each task, EOS included


def measure(
    dataset: str, options: argparse.Namespace
) -> tuple[Lengths, gradient_noise.Moments | None]:
    """Target lengths of a dataset's training rows, and moments of the mini student's gradient."""
    settings = [f"RAW_DIR={options.raw_dir!r}", f"VOCABULARY_PATH={options.vocabulary_path!r}"]
    run = resolve([EXPERIMENT, f"gin/data/{dataset}.gin"], settings).run
    cache = caches.load_cache(run.data)
    lengths = {task: np.asarray(cache.tokens["train", task, "targets"].lengths) for task in TASKS}
    lengths = {task: values[values > 0] for task, values in lengths.items()}
    if not options.pairs:
        return lengths, None
    arguments = run.data, run.student, "per_token", options.pairs, run.train.seed
    return lengths, gradient_noise.measure(cache, *arguments)


def means_of(lengths: Lengths) -> dict[str, float]:
    """Mean target tokens of each task."""
    return {task: float(values.mean()) for task, values in lengths.items()}


def weights_of(label: float) -> dict[str, float]:
    """Both weights, or rates, from the label's."""
    return dict(zip(TASKS, (label, 1 - label), strict=True))


def variance_ratio(lengths: Lengths, moments: gradient_noise.Moments, label: float) -> float:
    """Variance of the gradient by per_token rates over that by pairs, at equal sequences."""
    weights = weights_of(label)
    rates = mixture_rates(weights, "per_token", means_of(lengths))
    drawn = moments.drawn(list(weights.values()), [rates[task] for task in TASKS], 1)
    return drawn / moments.paired(list(weights.values()), 1)


def pooled_bias(lengths: Lengths, batch: int) -> float:
    """Mean label weight of pooled batches over .5 - 1, drawn at the per_token rates for .5/.5.

    A pooled batch gives each target token the weight 1 over its own token count, so the
    label's weight is its share of the tokens, whose mean over batches is not the ratio of means.
    """
    generator = np.random.Generator(np.random.Philox(key=[0, batch]))
    rates = mixture_rates(weights_of(0.5), "per_token", means_of(lengths))
    is_label = generator.random((DRAWS, batch)) < rates["label"]
    drawn = {task: generator.choice(values, (DRAWS, batch)) for task, values in lengths.items()}
    label = np.where(is_label, drawn["label"], 0).sum(axis=1)
    rationale = np.where(is_label, 0, drawn["rationale"]).sum(axis=1)
    return float((label / (label + rationale)).mean() / 0.5 - 1)


def chart(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    x: tuple[Sequence[float], Callable[[float], float], str],
    y: tuple[Sequence[float], str],
) -> str:
    """A line chart as SVG.

    Args:
      lines: points of each named line.
      x: ticks, scale and title of the horizontal axis.
      y: ticks and title of the vertical axis.
    """
    ticks, scale, x_title = x
    low, high = scale(ticks[0]), scale(ticks[-1])
    bottom, top = y[0][0], y[0][-1]

    def at(px: float, py: float) -> tuple[float, float]:
        across = (scale(px) - low) / (high - low)
        up = (py - bottom) / (top - bottom)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' "
        "font-family='system-ui, sans-serif' font-size='12'>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>",
    ]
    for tick in y[0]:
        _, py = at(ticks[0], tick)
        parts.append(
            f"<path d='M{LEFT} {py:.1f}H{WIDTH - RIGHT}' stroke='#ccc'/>"
            f"<text x='{LEFT - 8}' y='{py + 4:.1f}' text-anchor='end'>{tick:g}</text>"
        )
    for tick in ticks:
        px, _ = at(tick, bottom)
        parts.append(
            f"<text x='{px:.1f}' y='{HEIGHT - BOTTOM + 18}' text-anchor='middle'>{tick:g}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f"<text x='{middle}' y='{HEIGHT - 8}' text-anchor='middle'>{x_title}</text>")
    parts.append(
        f"<text transform='translate(14 {HEIGHT / 2}) rotate(-90)' text-anchor='middle'>"
        f"{y[1]}</text>"
    )
    beside = spread({name: at(*points[-1])[1] for name, points in lines.items()})
    for (name, points), color in zip(lines.items(), COLORS, strict=False):
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(*point) for point in points))
        x_end = at(*points[-1])[0] + 8
        parts.append(
            f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='2'/>"
            f"<text x='{x_end:.1f}' y='{beside[name] + 4:.1f}' fill='{color}'>{name}</text>"
        )
    return "".join([*parts, "</svg>\n"])


def spread(heights: Mapping[str, float]) -> dict[str, float]:
    """Heights of the lines' names, apart by a line of text and below the top."""
    found: dict[str, float] = {}
    for name in sorted(heights, key=heights.get, reverse=True):
        found[name] = min([heights[name], *(height - LINE for height in found.values())])
    below = max(0.0, TOP - min(found.values()))
    return {name: height + below for name, height in found.items()}


def numbers_of(lengths: Lengths, moments: gradient_noise.Moments | None) -> dict[str, object]:
    """What is plotted of a dataset, and the table's numbers."""
    means = means_of(lengths)
    ratios = moments and {w: variance_ratio(lengths, moments, w) for w in WEIGHTS}
    return {
        "mean_target_tokens": means,
        "naive_label_weight": naive_weights(means)["label"],
        "rates_per_token": mixture_rates(weights_of(0.5), "per_token", means),
        "pooled_bias_percent": {b: 100 * pooled_bias(lengths, b) for b in BATCHES},
        "variance_ratio": ratios,
    }


def main() -> int:
    """Writes the figures; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--raw_dir", required=True)
    parser.add_argument("--vocabulary_path", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=64, help="sample for the variance; 0: none")
    parser.add_argument("--datasets", nargs="+", default=DATASETS, choices=DATASETS)
    options = parser.parse_args()
    try:
        found = {name: measure(name, options) for name in options.datasets}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    numbers = {name: numbers_of(*one) for name, one in found.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    shares = [0, 0.2, 0.4, 0.6, 0.8, 1]
    effective = {
        name: [
            (rate, effective_weights(weights_of(rate), "per_token", means_of(lengths))["label"])
            for rate in np.linspace(0, 1, 101)
        ]
        for name, (lengths, _) in found.items()
    }
    title = "rate of the label task in a mixture with pooled tokens"
    figure = chart(effective, (shares, lambda v: v, title), (shares, "effective label weight"))
    (options.out / "effective_weight.svg").write_text(figure)
    bias = {name: list(one["pooled_bias_percent"].items()) for name, one in numbers.items()}
    title = "sequences a batch (per_token rates for .5 / .5)"
    figure = chart(
        bias, (BATCHES, np.log2, title), (ticks(bias, 10), "label weight too high by, %")
    )
    (options.out / "pooled_bias.svg").write_text(figure)
    if options.pairs:
        ratios = {n: list(one["variance_ratio"].items()) for n, one in numbers.items()}
        x = ([0.1, 0.3, 0.5, 0.7, 0.9], lambda v: v, "label weight (per_token)")
        figure = chart(ratios, x, (ticks(ratios, 0.5), "gradient variance, rates / pairs"))
        (options.out / "gradient_variance.svg").write_text(figure)
    (options.out / "weighting.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))
    return 0


def ticks(lines: Mapping[str, Sequence[tuple[float, float]]], step: float) -> list[float]:
    """From 0 in steps to beyond the highest point."""
    highest = max(value for line in lines.values() for _, value in line)
    return [step * i for i in range(int(highest / step) + 2)]


if __name__ == "__main__":
    sys.exit(main())
