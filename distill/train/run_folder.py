"""The run folder: its configuration, metrics, predictions and results.

<run_dir>/
  config.gin              every macro, resolved; reading it again gives the same run
  run.json                versions, commit, files and digests, rows, steps per epoch
  metrics.jsonl           a line a log period or evaluation (the same for equal seeds)
  events.out.tfevents.*   the same numbers and the speed, for TensorBoard
  checkpoints/            Orbax: the newest
  best/                   with CHECKPOINT = 'best': that of the highest validation accuracy
  not_finite.json         why a run stopped whose loss became NaN or infinite
  predictions_test.jsonl  id, input, gold, prediction, correct, scored
  results.json            accuracy and what it belongs to
  MODEL_CARD.md           the same for people
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from etils import epath

from distill.config.resolve import build_run
from distill.config.run import RunConfig
from distill.errors import UserError

CONFIG, METRICS, RESULTS = "config.gin", "metrics.jsonl", "results.json"
NOT_FINITE = "not_finite.json"


def check_run(run_dir: epath.PathLike, config_text: str) -> None:
    """Refuses a folder that holds a run of another configuration.

    Raises:
      UserError: names the macros that differ, with both values.
    """
    path = epath.Path(run_dir) / CONFIG
    if not path.exists():
        return
    old, new = (_settings(text) for text in (path.read_text(), config_text))
    changed = [
        f"{name}: {old.get(name, 'unset')} there, {new.get(name, 'unset')} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if changed:
        raise UserError(
            f"{run_dir} holds a run of another configuration ({'; '.join(changed)}); "
            "choose another --run_dir or delete that folder"
        )


def read_config(run_dir: epath.PathLike) -> RunConfig:
    """The configuration that a run folder holds.

    Raises:
      UserError: no run folder; a configuration that this version does not take.
    """
    path = epath.Path(run_dir) / CONFIG
    if not path.exists():
        raise UserError(f"no file {path}: {run_dir} is not a run folder (see distill train)")
    try:
        return build_run(path.read_text())
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def open_run(run_dir: epath.PathLike, config_text: str) -> epath.Path:
    """Makes the folder and stores the configuration; returns the folder.

    Raises:
      UserError: see `check_run`.
    """
    check_run(run_dir, config_text)
    folder = epath.Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, config_text)
    return folder


def _settings(text: str) -> dict[str, str]:
    pairs = (line.partition(" = ") for line in text.splitlines() if " = " in line)
    return {name: value for name, _, value in pairs}


def write_text(path: epath.Path, text: str) -> None:
    """Writes a whole file; a reader sees the old text or the new one."""
    scratch = path.parent / f".{path.name}.tmp"
    scratch.write_text(text)
    scratch.replace(path)


def write_json(path: epath.Path, content: Mapping[str, object]) -> None:
    """Writes one JSON object."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_json_lines(path: epath.Path, records: Iterable[Mapping[str, object]]) -> None:
    """Writes one JSON object a line."""
    write_text(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


class MetricsLog:
    """metrics.jsonl and TensorBoard events, cut back to the step that is resumed."""

    def __init__(self, folder: epath.Path, start_step: int, writes: bool = True) -> None:
        """Opens the log; lines of steps after `start_step` are of a run that was killed.

        Args:
          folder: the run folder.
          start_step: the step that the run goes on from.
          writes: False on all hosts but the first: the log is read, and nothing is written.
        """
        self._path = folder / METRICS
        self.records: list[dict[str, float]] = []  # of the lines that are kept
        kept: list[str] = []
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # the torn last line of a killed run
                if record["step"] <= start_step:
                    kept.append(line + "\n")
                    self.records.append(record)
        self._events = None
        if writes:
            from tensorboardX import SummaryWriter

            write_text(self._path, "".join(kept))
            self._events = SummaryWriter(str(folder), purge_step=start_step + 1)

    def write(
        self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float] | None = None
    ) -> None:
        """Adds a line; `speed` differs from run to run and goes to TensorBoard alone."""
        if self._events is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in {**metrics, **(speed or {})}.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes the events."""
        if self._events is not None:
            self._events.close()
