"""Accuracy on `tickets` by label weight, weighting scheme, normalization and label budget.

    python benchmarks/label_weights.py --out runs/weights --json docs/figures/label_weights.json

Trains `tickets_step_by_step` with each label weight of WEIGHTS, both schemes, both normalizations
and 250 and 500 labels, 5 seeds each: 200 runs. A stopped sweep resumes; finished runs are read.
Prints a Markdown table: mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.sweep.demo import Row, run_all
from distill.sweep.results import Group, group

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.8)
SCHEMES = ("paired_batches", "mixture_rates")
NORMALIZATIONS = ("per_sequence", "per_token")
LABELS = (250, 500)
SEEDS = (21, 22, 23, 24, 25)
Cell = tuple[int, str, str, float]  # labels, scheme, normalization, label weight


def rows(
    labels: Sequence[int], weights: Sequence[float], settings: Sequence[str] = ()
) -> dict[Row, Cell]:
    """The runs of the table, and the cell that each belongs to.

    Args:
      labels: label budgets.
      weights: label weights.
      settings: `NAME=value` texts for all runs.
    """
    found = {}
    for cell in itertools.product(labels, SCHEMES, NORMALIZATIONS, weights):
        number, scheme, normalization, weight = cell
        overrides = (
            f"NUM_LABELS={number}",
            f"WEIGHTING={scheme}",
            f"NORMALIZATION={normalization}",
            f"LABEL_WEIGHT={weight}",
            f"RATIONALE_WEIGHT={round(1 - weight, 6)}",
            *settings,
        )
        found[Row("step_by_step", "tickets_step_by_step", overrides)] = cell
    return found


def table(groups: Mapping[Cell, Group]) -> str:
    """Markdown: a line per budget, scheme and normalization, a column per label weight."""
    weights = sorted({weight for *_, weight in groups})
    lines = [
        "| labels | scheme | normalization | " + " | ".join(f"{w:g}" for w in weights) + " |",
        "|---" * (3 + len(weights)) + "|",
    ]
    for labels, scheme, normalization in sorted({cell[:3] for cell in groups}):
        found = [groups.get((labels, scheme, normalization, weight)) for weight in weights]
        cells = ["" if g is None else f"{g.mean:.3f} +- {g.spread:.3f}" for g in found]
        lines.append(f"| {labels} | {scheme} | {normalization} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing and prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--json", type=Path, help="where to write the accuracies of all runs")
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS)
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("settings", nargs="*", metavar="NAME=value", help="macros of all runs")
    options = parser.parse_args(argv)
    cells = rows(options.labels, options.weights, options.settings)
    results: dict[Cell, list[dict]] = {}
    for row, result in run_all(list(cells), options.seeds, options.out):
        results.setdefault(cells[row], []).append(result)
    groups = {
        cell: group("step_by_step", sorted(found, key=lambda r: r["seed"]))
        for cell, found in results.items()
    }
    if options.json:
        keys = ("labels", "scheme", "normalization", "label_weight")
        content = [
            dict(zip(keys, cell, strict=True)) | {"seeds": g.seeds, "accuracies": g.accuracies}
            for cell, g in sorted(groups.items())
        ]
        options.json.write_text("\n".join(["[", ",\n".join(map(json.dumps, content)), "]\n"]))
    print(f"\n{table(groups)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
