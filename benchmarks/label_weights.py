"""Test accuracy by label weight: what docs/weighting.md says of the two ways to weight.

    distill sweep gin/sweeps/label_weights.toml --out=runs/weights
    python benchmarks/label_weights.py runs/weights --json docs/figures/label_weights.json

Prints a Markdown table of the sweep's records: mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.errors import UserError
from distill.results import store
from distill.results.record import Record

Cell = tuple[int, str, str, float]  # labels, scheme, normalization, label weight


def cells(records: Sequence[Record]) -> dict[Cell, list[Record]]:
    """The records of each cell of the table, by seed.

    Raises:
      UserError: a run that has no accuracy.
    """
    found: dict[Cell, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        if record.accuracy is None:
            raise UserError(f"{record.run} has no accuracy: run the sweep again")
        scheme, normalization = record.axes["scheme"], record.axes["normalization"]
        cell = int(record.labels or 0), str(scheme), str(normalization), record.label_weight
        found.setdefault(cell, []).append(record)
    return found


def table(found: Mapping[Cell, Sequence[Record]]) -> str:
    """Markdown: a line per budget, scheme and normalization, a column per label weight."""
    weights = sorted({weight for *_, weight in found})
    lines = [
        "| labels | scheme | normalization | " + " | ".join(f"{w:g}" for w in weights) + " |",
        "|---" * (3 + len(weights)) + "|",
    ]
    for labels, scheme, normalization in sorted({cell[:3] for cell in found}):
        groups = [found.get((labels, scheme, normalization, weight), ()) for weight in weights]
        texts = [_mean([record.accuracy or 0.0 for record in group]) for group in groups]
        lines.append(f"| {labels} | {scheme} | {normalization} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _mean(accuracies: Sequence[float]) -> str:
    if not accuracies:
        return ""
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    return f"{statistics.fmean(accuracies):.3f} +- {spread:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the results folder of the sweep")
    parser.add_argument("--json", type=Path, help="where to write the accuracies of all runs")
    options = parser.parse_args(argv)
    found = cells(store.read(options.out))
    if options.json:
        keys = ("labels", "scheme", "normalization", "label_weight")
        content = [
            dict(zip(keys, cell, strict=True))
            | {"seeds": [r.seed for r in group], "accuracies": [r.accuracy for r in group]}
            for cell, group in sorted(found.items())
        ]
        options.json.write_text("\n".join(["[", ",\n".join(map(json.dumps, content)), "]\n"]))
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
