"""A process that tokenizes parts of a cache, started by `distill.data.token_parts`.

It reads one line of JSON from stdin, and ends when stdin does: then its parent is gone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from typing import Any

from etils import epath

from distill.common.atomic import atomic_directory
from distill.common.progress import lines_to
from distill.config.data import DataSpec
from distill.data import datasets, token_parts, tokenization
from distill.data.budget import BudgetCounts
from distill.data.datasets import Dataset, Splits
from distill.data.row_file import open_row_file
from distill.data.vocabularies import make_vocabulary
from distill.errors import UserError


def main() -> int:
    """Writes the parts; 0 when all are there, BAD_INPUT after a message for the user."""
    job: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    spec = DataSpec(**job["spec"])
    mark = job["eos_mark"]
    datasets.register(Dataset(spec.dataset, lambda spec: ([], []), eos_mark=lambda spec: mark))
    try:
        vocabulary = make_vocabulary(spec.vocabulary, spec.vocabulary_path, job["words"])
        with lines_to(lambda line: None):
            for split, start, stop in job["parts"]:
                rows = open_row_file(epath.Path(job["rows"]) / f"{split}.jsonl")[start:stop]
                train, validation, test = (
                    rows if name == split else () for name in datasets.SPLITS
                )
                splits = Splits(train, validation, test, BudgetCounts(0, 0, 0, 0))
                folder = epath.Path(job["folder"]) / token_parts.name_of((split, start, stop))
                with atomic_directory(folder, mark=token_parts.COUNTS) as scratch:
                    counts = tokenization.write_tokens(spec, splits, vocabulary, scratch, [split])
                    _describe(scratch, counts)
    except UserError as error:
        print(error, flush=True)
        return token_parts.BAD_INPUT
    return 0


def _describe(folder: epath.Path, counts: token_parts.Counts) -> None:
    """Writes COUNTS."""
    sides = {
        task: {side: dataclasses.asdict(each) for side, each in by_side.items()}
        for task, by_side in counts.items()
    }
    files = {path.name: {"bytes": path.stat().length, "sha256": ""} for path in folder.iterdir()}
    (folder / token_parts.COUNTS).write_text(json.dumps({"counts": sides, "files": files}))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # Python would abort: the thread holds the lock of stdin
