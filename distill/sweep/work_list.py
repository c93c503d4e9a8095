"""The runs of a sweep as commands, for other machines; and shards of a sweep."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import TypedDict

from etils import epath

from distill.errors import UserError
from distill.sweep.folder import RUNS
from distill.sweep.plan import Run


class Item(TypedDict):
    """A line of the work list."""

    run: str
    axes: dict[str, object]
    seed: int
    steps: int
    run_dir: str
    gin_files: list[str]
    overrides: list[str]
    command: list[str]


def items(runs: Sequence[Run], out: epath.PathLike) -> list[Item]:
    """What `distill train` is to do for each run.

    Args:
      runs: of the plan.
      out: the results folder, local or in a bucket.
    """
    listed: list[Item] = []
    for run in runs:
        run_dir = f"{os.fspath(out).rstrip('/')}/{RUNS}/{run.id}"
        command = ["distill", "train", *(f"--gin_file={name}" for name in run.gin_files)]
        command += [f"--gin.{text}" for text in run.overrides]
        listed.append(
            {
                "run": run.id,
                "axes": dict(run.axes),
                "seed": run.seed,
                "steps": run.resolved.run.train.train_steps,
                "run_dir": run_dir,
                "gin_files": list(run.gin_files),
                "overrides": list(run.overrides),
                "command": [*command, f"--run_dir={run_dir}"],
            }
        )
    return listed


def as_shell(item: Item) -> str:
    """The command of an item, quoted for a shell."""
    return shlex.join(item["command"])


def parse_shard(text: str) -> tuple[int, int]:
    """I and N of `--shard=I/N`.

    Raises:
      UserError: another form, or I is not from 1 to N.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not int(match[2]):
        raise UserError(f"got --shard={text!r}, expected I/N, e.g. --shard=1/4")
    index, count = int(match[1]), int(match[2])
    if not 1 <= index <= count:
        raise UserError(f"got --shard={text!r}, expected a number from 1 to {count} before the /")
    return index, count


def take_shard(runs: Sequence[Run], index: int, count: int) -> list[Run]:
    """Every `count`th run, from the `index`th on, counted from 1; all shards make up the plan."""
    return list(runs[index - 1 :: count])
