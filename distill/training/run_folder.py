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

import contextlib
import difflib
import itertools
import json
import os
import stat
import time
from collections.abc import Mapping

from etils import epath

from distill.common.atomic import is_local, write_text
from distill.common.progress import Say
from distill.common.safe_points import safe_point
from distill.common.text_files import first_names
from distill.config import fields, stored
from distill.config.run import RunConfig
from distill.errors import UserError
from distill.training.events import EventWriter

CONFIG, METRICS, RESULTS = "config.gin", "metrics.jsonl", "results.json"
STUDENT, RUN, CARD = "student.json", "run.json", "MODEL_CARD.md"
NOT_FINITE = "not_finite.json"
PREDICTIONS = "predictions_test.jsonl"
# One of these is in every run folder, of either engine and however early it was stopped.
_MARKS = (CONFIG, STUDENT, RUN, "lock", "checkpoints", "t5x")
_FILES = (CONFIG, METRICS, RESULTS, STUDENT, RUN, CARD, NOT_FINITE, PREDICTIONS)
_RENAMED = {"INITIAL_CHECKPOINT_PATH": "CONTINUE_FROM"}  # in folders of before
_BUCKET_SECONDS = 10.0  # between two writes of metrics.jsonl as a whole
RESUMES = (
    "once that is fixed, the same command resumes the run, from its last checkpoint if there is one"
)


def check_run(run_dir: epath.PathLike, config_text: str) -> None:
    """Refuses a folder that holds a run of another configuration, other files, or a link.

    Where the data lie may differ: their digests are compared (`provenance.check_files`). A
    macro that one of the two does not have counts as its default.

    Raises:
      UserError: names the macros that differ, with both values; a file of that name.
    """
    folder = epath.Path(run_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--run_dir={run_dir} is a file, expected a folder or a new name")
    _check_foreign(folder)
    check_entries(run_dir, writes=True)
    path = folder / CONFIG
    if not path.exists():
        for name in (STUDENT, RUN):
            if (folder / name).exists():
                raise UserError(
                    f"{path} does not exist, but {folder / name} does: the run's configuration is "
                    "lost; copy the folder again, or choose another --run_dir"
                )
        return
    old = comparable_macros(stored.load_stored(path.read_bytes(), str(path)))
    new = comparable_macros(stored.load_stored(config_text.encode(), "this configuration"))
    defaults = fields.defaults()
    changed = []
    for name in sorted(old.keys() | new.keys()):
        before, now = (values.get(name, defaults.get(name)) for values in (old, new))
        if before != now:
            here, there = (
                "not set" if value is fields.REQUIRED else repr(value) for value in (before, now)
            )
            changed.append(f"{name}: {here} in the folder, {there} now")
    if changed:
        raise UserError(
            f"{run_dir} contains a run with another configuration ({'; '.join(changed)}); choose "
            f"another folder, such as --run_dir={_free_name(run_dir)}, or delete this one"
        )


def _check_foreign(folder: epath.Path) -> None:
    """Refuses a folder with files of which none is a run's; hidden ones do not count.

    Raises:
      UserError: names the folder.
    """
    names = {each.name for each in folder.iterdir()} if folder.exists() else set()
    visible = sorted(name for name in names if not name.startswith("."))
    if visible and not names & {*_MARKS}:
        raise UserError(
            f"{folder} is not empty (it contains {visible[0]}) and is not a run folder: choose "
            f"another --run_dir, such as {folder / 'run'}"
        )


def _free_name(run_dir: epath.PathLike) -> str:
    """A folder beside `run_dir` that does not exist."""
    name = os.fspath(run_dir).rstrip("/")
    return next(free for n in itertools.count(2) if not epath.Path(free := f"{name}-{n}").exists())


def check_entries(run_dir: epath.PathLike, writes: bool) -> None:
    """Refuses a folder whose entries are not the plain files and folders that a run makes.

    A link could lead a writer out of the folder, and a pipe could stop a reader for ever. The run
    folder itself may be reached through a link, and a reader follows symbolic links to files.

    Args:
      run_dir: the run folder; one in a bucket has no such entries.
      writes: whether links, symbolic and hard ones, are refused too.

    Raises:
      UserError: names the entry.
    """
    if not is_local(run_dir):
        return
    root = os.fspath(run_dir)
    fix = "put the file itself there, or choose another --run_dir"
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(folder, name)
            if writes and os.path.islink(path):
                raise UserError(
                    f"{path} is a symbolic link to {os.readlink(path)}: a run writes only inside "
                    f"its own folder; {fix}"
                )
            if not os.path.exists(path):
                continue  # a link to nowhere, or another process has deleted it
            entry = os.stat(path)
            if not stat.S_ISREG(entry.st_mode) and not stat.S_ISDIR(entry.st_mode):
                raise UserError(f"{path} is a pipe or a device, expected a regular file; {fix}")
            if writes and stat.S_ISREG(entry.st_mode) and entry.st_nlink > 1:
                raise UserError(
                    f"{path} is a hard link, so its content also has another name: a run writes "
                    f"only inside its own folder; {fix}"
                )
    for name in _FILES:
        if os.path.isdir(os.path.join(root, name)):
            raise UserError(f"{os.path.join(root, name)} is a folder, expected a file")


def check_kept_best(folder: epath.PathLike, config: RunConfig, purpose: str) -> None:
    """Refuses --best of a run that kept no best checkpoint.

    Args:
      folder: the run folder.
      config: its configuration.
      purpose: what the newest checkpoint is taken for without --best, e.g. "export".

    Raises:
      UserError: CHECKPOINT is not 'best'.
    """
    if config.train.checkpoint != "best":
        raise UserError(
            f"{epath.Path(folder) / CONFIG} has CHECKPOINT = {config.train.checkpoint!r}, so no "
            f"best checkpoint was kept: omit --best to {purpose} the newest"
        )


def read_config(run_dir: epath.PathLike) -> RunConfig:
    """The configuration that a run folder holds.

    Raises:
      UserError: no run folder; a configuration that this version does not take.
    """
    check_entries(run_dir, writes=False)
    path = epath.Path(run_dir) / CONFIG
    if not path.exists():
        if epath.Path(run_dir).is_file():
            raise UserError(f"{run_dir} is a file, expected the folder of a run (--run_dir)")
        hint = _near_runs(epath.Path(run_dir)) or "see distill train"
        raise UserError(f"{run_dir} is not a run folder: {path} does not exist ({hint})")
    values = stored.load_stored(path.read_bytes(), str(path))
    try:
        return fields.build_run(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _near_runs(folder: epath.Path) -> str:
    """Run folders in the folder, or with a name like its name; "" if there are none."""
    if not is_local(folder):
        return ""
    inside, parent = folder.is_dir(), folder if folder.is_dir() else folder.parent
    try:
        names = [
            name
            for name in first_names(parent)
            if os.path.exists(os.path.join(parent, name, CONFIG))
        ]
    except OSError:
        return ""
    near = sorted(names)[:3] if inside else difflib.get_close_matches(folder.name, names)
    where = "it contains the runs" if inside else "closest:"
    return f"{where} {', '.join(str(parent / name) for name in near)}" if near else ""


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


def comparable_macros(values: Mapping[str, object]) -> dict[str, object]:
    """The macros of a configuration without the paths of data and vocabulary.

    What is left decides what a run is: the contents behind the paths are compared on their own.

    Args:
      values: as `stored.load_stored` gives them.
    """
    values = {name: value for name, value in values.items() if name != "VOCABULARY_PATH"}
    for before, now in _RENAMED.items():
        if before in values:
            values.setdefault(now, values.pop(before) or "")
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
        self._resumed: dict[str, object] = {}  # what is written of the step that is resumed
        for number, line in enumerate(whole, start=1):
            step = _step_of(line)
            if step is None:
                say(f"{self._path}:{number} is damaged: dropping the line")
            elif step <= start_step:
                kept.append(line.decode() + "\n")
                self._resumed |= json.loads(line) if step == start_step else {}
        self._events = None
        self._lines, self._is_behind, self._written = kept, False, time.monotonic()
        if writes:
            write_text(self._path, "".join(kept))
            self._events = EventWriter(folder, start_step + 1)

    def resumes_with(self, name: str) -> bool:
        """Whether a metric of the step that the run resumes at is in the log."""
        return name in self._resumed

    def write(
        self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float] | None = None
    ) -> None:
        """Adds a line; `speed` differs from run to run and goes to TensorBoard alone."""
        if self._events is None:
            return
        line = json.dumps({"step": step, **metrics}) + "\n"
        if is_local(self._path):
            with self._path.open("a") as file:
                file.write(line)
        else:
            self._lines.append(line)
            self._is_behind = True
            if time.monotonic() - self._written > _BUCKET_SECONDS:
                self.flush()
        self._events.write(step, {**metrics, **(speed or {})})

    def flush(self) -> None:
        """Writes what waits; to be called before a checkpoint, from which lines are kept.

        A bucket has no appends: there metrics.jsonl is written again, as a whole.
        """
        if self._is_behind:
            write_text(self._path, "".join(self._lines))
            self._is_behind, self._written = False, time.monotonic()

    def close(self) -> None:
        """Flushes the events and closes their file."""
        self.flush()
        events, self._events = self._events, None
        if events is not None:
            events.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A failed write must not hide the error that ends the run. If that is the loss of the lock,
        # the file is another process's by now.
        with contextlib.suppress(Exception) if error is not None else contextlib.nullcontext():
            safe_point()
            self.close()


def _step_of(line: bytes) -> int | None:
    """The step of a line of metrics.jsonl; None if it is not one."""
    try:
        step = json.loads(line.decode("utf-8"))["step"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    return step if isinstance(step, int) else None
