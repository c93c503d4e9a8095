"""The run folder: everything that its student needs, and what it was made of.

<run_dir>/
  config.gin              every macro, as data (distill.config.stored)
  student.json            label set, answer rule, digest of the vocabulary (distill.training.assets)
  vocabulary/             words.txt or sentencepiece.model
  run.json                versions, commit, files and digests, rows, steps per epoch
  metrics.jsonl           a line per log period or evaluation (the same for equal seeds)
  events.out.tfevents.*   the same numbers and the speed, for TensorBoard
  checkpoints/            Orbax: the newest; with CHECKPOINT = 'best' also the one of the highest
                          validation accuracy
  unreported.json         metrics since the last log period, where a signal stopped the run
  lock                    who writes (distill.training.run_lock); empty when nobody does
  damaged_checkpoints/    checkpoints whose files have changed, set aside
  not_finite.json         why a run stopped whose loss became NaN or infinite
  predictions_test.jsonl  id, input, gold, prediction, correct, ranked_label
  results.json            accuracy and what it belongs to
  MODEL_CARD.md           the same for people

Nothing in a run folder is executed, and nothing outside of it is needed to answer new rows: see
SECURITY.md. Paths in it are absolute, or names within it.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping

from etils import epath

from distill.common.atomic import is_local, write_text
from distill.common.progress import Say
from distill.config import fields, stored
from distill.config.run import RunConfig
from distill.errors import UserError
from distill.training.events import EventWriter

CONFIG, METRICS, RESULTS = "config.gin", "metrics.jsonl", "results.json"
NOT_FINITE = "not_finite.json"
PREDICTIONS = "predictions_test.jsonl"
RESUMES = "once that is put right, the same command goes on with the run"


def check_run(run_dir: epath.PathLike, config_text: str) -> None:
    """Refuses a folder that holds a run of another configuration, or a symbolic link.

    Where the data lie may differ: their digests are compared (`provenance.check_same_data`). A
    macro that one of the two does not have counts as its default.

    Raises:
      UserError: names the macros that differ, with both values; a file of that name.
    """
    folder = epath.Path(run_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--run_dir={run_dir} is a file, expected a folder or a new name")
    check_links(run_dir)
    path = epath.Path(run_dir) / CONFIG
    if not path.exists():
        return
    old = _comparable(stored.load_stored(path.read_bytes(), str(path)))
    new = _comparable(stored.load_stored(config_text.encode(), "this configuration"))
    defaults = fields.defaults()
    changed = []
    for name in sorted(old.keys() | new.keys()):
        before, now = (values.get(name, defaults.get(name)) for values in (old, new))
        if before != now:
            changed.append(f"{name}: {before!r} in the folder, {now!r} now")
    if changed:
        raise UserError(
            f"{run_dir} holds a run of another configuration ({'; '.join(changed)}); choose "
            f"another folder, such as --run_dir={_free_name(run_dir)}, or delete that one"
        )


def _free_name(run_dir: epath.PathLike) -> str:
    """A folder beside `run_dir` that does not exist."""
    name = os.fspath(run_dir).rstrip("/")
    return next(free for n in itertools.count(2) if not epath.Path(free := f"{name}-{n}").exists())


def check_links(run_dir: epath.PathLike) -> None:
    """Refuses to write into a folder that holds a symbolic link: a run writes only inside it.

    The run folder itself may be reached through a link.

    Raises:
      UserError: names the link.
    """
    if not is_local(run_dir):
        return
    for folder, names, files in os.walk(os.fspath(run_dir)):
        for name in (*names, *files):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                raise UserError(
                    f"{path} is a symbolic link to {os.readlink(path)}: a run writes only inside "
                    "its own folder; put the file itself there, or choose another --run_dir"
                )


def read_config(run_dir: epath.PathLike) -> RunConfig:
    """The configuration that a run folder holds.

    Raises:
      UserError: no run folder; a configuration that this version does not take.
    """
    path = epath.Path(run_dir) / CONFIG
    if not path.exists():
        raise UserError(f"no file {path}: {run_dir} is not a run folder (see distill train)")
    values = stored.load_stored(path.read_bytes(), str(path))
    try:
        return fields.build_run(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def open_run(run_dir: epath.PathLike, config_text: str) -> epath.Path:
    """Makes the folder and stores the configuration; returns the folder.

    A run that is resumed keeps the configuration that it began with.

    Raises:
      UserError: see `check_run`.
    """
    check_run(run_dir, config_text)
    folder = epath.Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CONFIG).exists():
        write_text(folder / CONFIG, config_text)
    return folder


def _comparable(values: Mapping[str, object]) -> dict[str, object]:
    """The macros without the paths of data and vocabulary."""
    values = {name: value for name, value in values.items() if name != "VOCABULARY_PATH"}
    options = values.get("DATASET_OPTIONS")
    if isinstance(options, dict):
        values["DATASET_OPTIONS"] = {
            key: value
            for key, value in options.items()
            if value and not fields.is_path(key.upper())  # one that is absent is empty
        }
    return values


class MetricsLog:
    """metrics.jsonl and TensorBoard events, cut back to the step that is resumed."""

    def __init__(self, folder: epath.Path, start_step: int, say: Say, writes: bool = True) -> None:
        """Opens the log; lines of steps after `start_step` are of a run that was killed.

        Args:
          folder: the run folder.
          start_step: the step that the run resumes at.
          say: takes a line about each damaged line, which is left out.
          writes: False on all hosts but the first: the log is read, and nothing is written.
        """
        self._path = folder / METRICS
        lines = self._path.read_bytes().split(b"\n") if self._path.exists() else [b""]
        *whole, _ = lines  # after the last newline: the torn line of a killed run
        kept: list[str] = []
        for number, line in enumerate(whole, start=1):
            step = _step_of(line)
            if step is None:
                say(f"{self._path}:{number} is damaged: the line is left out")
            elif step <= start_step:
                kept.append(line.decode() + "\n")
        self._events = None
        if writes:
            write_text(self._path, "".join(kept))
            self._events = EventWriter(folder, start_step + 1)

    def write(
        self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float] | None = None
    ) -> None:
        """Adds a line; `speed` differs from run to run and goes to TensorBoard alone."""
        if self._events is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._events.write(step, {**metrics, **(speed or {})})

    def close(self) -> None:
        """Flushes the events."""
        if self._events is not None:
            self._events.close()


def _step_of(line: bytes) -> int | None:
    """The step of a line of metrics.jsonl; None if it is not one."""
    try:
        step = json.loads(line.decode("utf-8"))["step"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    return step if isinstance(step, int) else None
