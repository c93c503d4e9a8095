"""The progress of a job in rows, as far as --max_rows lets it go."""

from __future__ import annotations

from distill.common.progress import Note, Progress
from distill.teacher.settings import Settings


class JobProgress(Progress):
    """Counts rows that are stored and rows that this run requests.

    With --max_rows the total is the stored rows and at most that many others. A job finds the
    stored rows as it goes through the file, so `skip` raises the total.
    """

    def __init__(self, rows: int, settings: Settings, note: Note) -> None:
        """Starts the clock.

        Args:
          rows: of the job.
          settings: of the job: --max_rows, and the seconds between two lines.
          note: as of `Progress`.
        """
        self._rows, self._stored = rows, 0
        self._most = rows if settings.max_rows is None else settings.max_rows
        super().__init__(
            min(rows, self._most),
            "annotate",
            period=settings.progress_seconds,
            note=note,
            smoothing=0,  # answers come in bursts: the mean rate says more than that of the last
            disable=settings.progress_seconds <= 0,
        )

    def skip(self, n: int = 1) -> None:
        """Counts rows that are stored; see `Progress.skip`."""
        self._stored += n
        self.allow(self._most)
        super().skip(n)

    def allow(self, requested: int) -> None:
        """Raises the total if this run requests more rows than --max_rows: those of earlier runs.

        Args:
          requested: rows.
        """
        self._most = max(self._most, requested)
        self.total = min(self._rows, self._stored + self._most)
