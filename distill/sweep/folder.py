"""The results folder of sweeps.

<out>/
  records.jsonl       a record of each attempt at a run that has ended (distill.results)
  sweep.toml          copy of the sweep file; further sweeps of the folder: sweeps/<name>.toml
  runs/<run id>/      run folders, as of `distill train`
  runs/<run id>.log   what each run printed; a process holds this file while it works on the run
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from etils import epath

from distill.common.atomic import is_local, write_text
from distill.common.disk import check_writable
from distill.common.progress import Say
from distill.common.text_files import parse_toml
from distill.errors import UserError
from distill.results import store
from distill.results.record import Record
from distill.sweep.file import Sweep
from distill.sweep.plan import Run

COPY, COPIES, RUNS = "sweep.toml", "sweeps", "runs"


class ResultsFolder:
    """Paths and records of a results folder."""

    def __init__(self, out: epath.PathLike) -> None:
        """Names the folder.

        Args:
          out: the folder, which need not be there.

        Raises:
          UserError: a file has that name.
        """
        self.path = epath.Path(out).expanduser()
        if is_local(self.path) and self.path.exists() and not self.path.is_dir():
            raise UserError(f"got --out={self.path}, which is a file; expected a folder")
        self._stamp: tuple[int, int] | None = None
        self._records: dict[str, list[Record]] = {}
        self._finished: dict[str, Record] = {}  # by digest of the configuration

    def open(self, sweep: Sweep, say: Say) -> None:
        """Makes the folder, and copies the sweep file to it.

        Args:
          sweep: of the file.
          say: takes a line if an earlier copy is replaced.

        Raises:
          UserError: a folder in a bucket; one that cannot be written, or holds something else.
        """
        if not is_local(self.path):
            raise UserError(
                f"got --out={self.path}, expected a local folder: a sweep appends its records, "
                "which buckets cannot do. With --list, run folders may be in a bucket, and with "
                "--collect their results come to a local folder"
            )
        self.check()
        check_writable(self.path, f"--out={self.path}")
        (self.path / RUNS).mkdir(parents=True, exist_ok=True)
        copy, text = self._copy_path(sweep.name), sweep.text
        if "name" not in parse_toml(text):  # the copy has another name than the file
            text = f'name = "{sweep.name}"\n{text}'
        if copy.exists() and copy.read_text() != text:
            say(f"{sweep.path} has changed since the sweep was started: replacing {copy}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_text(copy, text)

    def check(self) -> None:
        """Reads what a local folder holds.

        Raises:
          UserError: it holds something else than results of sweeps.
        """
        names = sorted(p.name for p in self.path.iterdir()) if self.path.exists() else []
        known = {COPY, COPIES, RUNS, store.RECORDS}
        visible = [name for name in names if not name.startswith(".")]
        if visible and not known & set(visible):
            raise UserError(
                f"--out={self.path} is not empty (it contains {visible[0]}) and has no results of "
                "a sweep: choose another folder"
            )

    def _copy_path(self, name: str) -> epath.Path:
        """Where the copy of a sweep file goes: the first sweep of a folder has the short name."""
        first = self.path / COPY
        if not first.exists():
            return first
        with contextlib.suppress(ValueError):
            content = parse_toml(first.read_text())
            if content.get("name") == name:
                return first
        return self.path / COPIES / f"{name}.toml"

    @property
    def records_path(self) -> epath.Path:
        """The file of records."""
        return self.path / store.RECORDS

    def run_dir(self, run: str) -> epath.Path:
        """The run folder of a run."""
        return self.path / RUNS / run

    def log(self, run: str) -> epath.Path:
        """The log of a run."""
        return self.path / RUNS / f"{run}.log"

    def records(self, say: Say) -> dict[str, list[Record]]:
        """All records by run, oldest first; the file is read again if it has changed.

        Args:
          say: takes a line about a line that was cut off.
        """
        try:
            status = os.stat(self.records_path)
        except FileNotFoundError:
            self._stamp, self._records, self._finished = None, {}, {}
            return self._records
        stamp = status.st_size, status.st_mtime_ns
        if stamp != self._stamp:
            self._records = store.by_run(self.path, say)
            newest = (each[-1] for each in self._records.values())
            self._finished = {each.config_digest: each for each in newest if each.is_done}
            self._stamp = stamp
        return self._records

    def newest(self, runs: Iterable[Run], say: Say) -> dict[str, Record]:
        """The last record of each run that has one, by id.

        A run without a finished record takes that of a run with the same configuration, which
        another sweep of the folder may have trained (`Run.as_recorded`).
        """
        records = self.records(say)
        found = {}
        for run in runs:
            last = records[run.id][-1] if run.id in records else None
            if (last is None or not last.is_done) and (twin := self._finished.get(run.digest)):
                last = run.as_recorded(twin)
            if last is not None:
                found[run.id] = last
        return found

    def saved_step(self, run: str) -> int | None:
        """The newest checkpoint of a run that has begun; None without one."""
        folder = self.run_dir(run) / "checkpoints"
        if not folder.is_dir():
            return None
        return max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=None)
