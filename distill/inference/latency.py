"""The time that a student takes to decode the label of one row by itself."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence

from etils import epath

from distill.common.progress import Progress
from distill.data.examples import Example
from distill.inference.evaluator import Evaluator
from distill.inference.load import LoadedRun, load_run


def label_decoder(run: LoadedRun) -> Evaluator:
    """An evaluator that decodes labels and does not score those of a closed set as well.

    Scores cost about as much as a label of a few tokens. `single_task` has none, so times with
    them would not compare methods.
    """
    assets = dataclasses.replace(run.assets, labels=())
    return dataclasses.replace(run, assets=assets).evaluator()


def label_times_ms(
    run: LoadedRun, rows: Sequence[Example], description: str = "timing answers"
) -> list[float]:
    """Milliseconds to decode the label of each row by itself, tokenizing included, compiling not.

    All rows are answered once before they are timed, so that everything is compiled.

    Args:
      run: the student.
      rows: the N rows.
      description: what the progress is called.

    Returns:
      N times.
    """
    evaluator = label_decoder(run)
    different = {row.input: row for row in rows}.values()
    times = []
    total = len(different) + len(rows)
    with Progress(total, description, leave=False, delay=1.0) as bar:
        for row in different:
            evaluator.texts(run.params, [row])
            bar.update()
        for row in rows:
            began = time.perf_counter()
            evaluator.texts(run.params, [row])
            times.append(1000 * (time.perf_counter() - began))
            bar.update()
    return times


def label_latency_ms(run_dir: epath.PathLike, text: str, repeats: int = 50) -> float:
    """Median milliseconds to decode the label of one input, as of `label_times_ms`."""
    row = Example(id="text/0", input=text)
    return statistics.median(label_times_ms(load_run(run_dir), [row] * repeats))
