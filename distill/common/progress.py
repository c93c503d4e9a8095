"""Progress of long work: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Prints a line on stderr; a live bar stays below it."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


class Progress(tqdm):
    """A tqdm bar that also works without a terminal.

    On a terminal it is tqdm's bar. Elsewhere, and wherever `say` is given, each report is a line
    of its own (amount, rate, time left), at most every `period` seconds.

        with Progress(total=1866, description="scoring test", unit="rows") as bar:
            bar.update(128)
    """

    def __init__(
        self,
        total: int | None,
        description: str = "",
        unit: str = "rows",
        initial: int = 0,
        say: Say | None = None,
        period: float = 5.0,
        stream: TextIO | None = None,
        **settings: object,
    ) -> None:
        """Starts the clock.

        Args:
          total: amount of work; None if it shows only at the end.
          description: what is done; comes first in the line.
          unit: what is counted.
          initial: work that was done before, by a run that is resumed.
          say: takes lines instead of `stream`.
          period: seconds between two lines; 0 shows every update.
          stream: where to write; None is stderr.
          **settings: of tqdm.
        """
        stream = sys.stderr if stream is None else stream
        self._say, self._period = say, period
        self._live = say is None and stream.isatty()
        self._due = float("inf")  # tqdm displays itself once while it is made
        super().__init__(
            total=total,
            desc=description or None,
            unit=f" {unit}",
            initial=initial,
            file=stream,
            mininterval=0.1 if self._live else 0.0,
            miniters=1,
            dynamic_ncols=self._live,
            bar_format=None if self._live else _line_format(total, bool(description)),
            leave=self._live,
            **settings,
        )
        self._due = time.monotonic() + period

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draws the bar, or writes the line once it is due."""
        if self._live:
            super().display(msg, pos)
        elif time.monotonic() >= self._due:
            self.report()

    def report(self) -> None:
        """Shows the state now, whether or not it is due."""
        self._due = time.monotonic() + self._period
        if self._live:
            self.refresh()
        elif self._say is not None:
            self._say(str(self))
        else:
            self.fp.write(f"{self}\n")
            self.fp.flush()

    def close(self) -> None:
        """Leaves the finished bar on a terminal; writes nothing elsewhere."""
        if not self._live:
            self.disable = True
        super().close()


def _line_format(total: int | None, described: bool) -> str:
    head = "{desc}: " if described else ""
    if total is None:
        return head + "{n_fmt}{unit}  {rate_fmt}{postfix}"
    return head + "{n_fmt}/{total_fmt}{unit}  {rate_fmt}{postfix}  ETA {remaining}"
