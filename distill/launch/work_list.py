"""Work lists: the runs of a sweep in a bucket, each of which `distill launch` gives a slice.

`distill sweep FILE --list --json --out=gs://BUCKET/FOLDER` writes such a list. Beside a list
NAME.jsonl, the folder NAME.launches has a state file for each run.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from distill.common.digests import sha256_text
from distill.common.text_files import json_lines
from distill.errors import UserError
from distill.launch.command import Command, Result
from distill.launch.state import SUFFIX

RUNS, RESULTS = "runs", "results.json"  # as of a results folder and of a run folder
_RUN = re.compile(r"[A-Za-z0-9_=+][A-Za-z0-9_.=+-]{0,199}")
_READABLE = 31  # characters of a run's id in the name of its launch, which has at most 40
_EXPECTED = "expected a line of `distill sweep FILE --list --json --out=gs://BUCKET/FOLDER`"


@dataclasses.dataclass(frozen=True)
class Item:
    """A line of a work list.

    Attributes:
      run: id of the run.
      run_dir: its run folder, ROOT/runs/RUN in a bucket.
      gin_files: as of --gin_file, in order.
      overrides: `NAME=value` texts.
    """

    run: str
    run_dir: str
    gin_files: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def root(self) -> str:
        """The results folder in the bucket."""
        return self.run_dir.removesuffix(f"/{RUNS}/{self.run}")

    @property
    def name(self) -> str:
        """The name of its launch: of its id, and of a digest of its run folder."""
        text = re.sub(r"[^a-z0-9]+", "-", self.run.lower()).strip("-")
        if not text[:1].isalpha():
            text = f"run-{text}".rstrip("-")
        return f"{text[:_READABLE].rstrip('-')}-{sha256_text(self.run_dir)[:8]}"

    @property
    def command(self) -> list[str]:
        """What trains the run, as the list has it."""
        train = [f"--gin_file={name}" for name in self.gin_files]
        train += [f"--gin.{text}" for text in self.overrides]
        return ["distill", "train", *train, f"--run_dir={self.run_dir}"]


def read(path: str) -> list[Item]:
    """The runs of a work list, all in one results folder.

    Raises:
      UserError: no such file; an empty one; a line that is not JSON, has another form, has a run
        again, or has a run folder that is not in the bucket of the first; names file and line.
    """
    items: dict[str, tuple[int, Item]] = {}
    for number, content in json_lines(epath.Path(path), f"To write it, {_HOW}"):
        where = f"{path}:{number}"
        item = _item(content, where)
        first = next(iter(items.values()), (number, item))[1]
        if item.run in items:
            raise UserError(
                f"{where}: the run {item.run} is in line {items[item.run][0]} too: remove one of "
                "the lines"
            )
        if item.root != first.root:
            raise UserError(
                f"{where}: got the results folder {item.root}, expected that of the lines before, "
                f"{first.root}: use one list for each folder"
            )
        items[item.run] = (number, item)
    if not items:
        raise UserError(f"{path} has no runs: `distill sweep` lists those that are not finished")
    return [item for _, item in items.values()]


_HOW = "use `distill sweep FILE --list --json --out=gs://BUCKET/FOLDER > work.jsonl`"


def _item(content: Mapping[str, Any], where: str) -> Item:
    """The item of a line.

    Raises:
      UserError: the line has another form.
    """
    for name, kind in (("run", str), ("run_dir", str), ("gin_files", list), ("overrides", list)):
        value = content.get(name)
        texts = value if isinstance(value, list) else [value]
        if not isinstance(value, kind) or not all(isinstance(text, str) for text in texts):
            what = "a list of texts" if kind is list else "a text"
            raise UserError(f"{where}: got `{name}` {value!r}, expected {what}; {_EXPECTED}")
    item = Item(
        content["run"],
        content["run_dir"],
        tuple(content["gin_files"]),
        tuple(content["overrides"]),
    )
    if not _RUN.fullmatch(item.run):
        raise UserError(f"{where}: got `run` {item.run!r}, expected the id of a run; {_EXPECTED}")
    if not item.run_dir.startswith("gs://"):
        raise UserError(
            f"{where}: got `run_dir` {item.run_dir!r}, which the hosts of a slice do not see: make "
            "the list with --out=gs://BUCKET/FOLDER"
        )
    if not re.fullmatch(rf"gs://[^/*?\[]+(/[^/*?\[]+)*/{RUNS}/{re.escape(item.run)}", item.run_dir):
        raise UserError(
            f"{where}: got `run_dir` {item.run_dir!r}, expected gs://BUCKET/FOLDER/{RUNS}/"
            f"{item.run}, without *, ? and ["
        )
    if content.get("command") != item.command:
        raise UserError(
            f"{where}: `command` is not that of `gin_files`, `overrides` and `run_dir`: make the "
            "list again instead of editing it"
        )
    return item


def states_folder(path: str) -> str:
    """The folder of the state files and logs of a list."""
    return f"{path.removesuffix('.jsonl')}.launches"


def state_path(path: str, item: Item) -> str:
    """The path of the state file for one run of a work list."""
    return f"{states_folder(path)}/{item.run}{SUFFIX}"


def log_path(path: str, item: Item) -> str:
    """Where the end of the log of a run that failed goes."""
    return f"{states_folder(path)}/{item.run}.log"


def ask_finished(items: Sequence[Item]) -> Command:
    """Lists the results in the bucket."""
    argv = ("gcloud", "storage", "ls", f"{items[0].root}/{RUNS}/*/{RESULTS}")
    return Command(argv, "list the finished runs", tolerates=("not_found",), timeout=120)


def parse_finished(items: Sequence[Item], result: Result) -> frozenset[str]:
    """The runs whose results are in the bucket, from the answer of `ask_finished`."""
    listed = {line.strip() for line in result.stdout.splitlines()}
    return frozenset(item.run for item in items if f"{item.run_dir}/{RESULTS}" in listed)
