"""Progress of long work: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

from distill.common.terminal import printable

_UNCUT = 10_000  # columns; without them tqdm cuts lines at the width of a terminal

Say = Callable[[str], None]
Note = Callable[[], str]


def to_stderr(line: str) -> None:
    """Prints a line on stderr, control characters escaped; a live bar stays below it."""
    tqdm.write(printable(line), file=sys.stderr)
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
        note: Note | None = None,
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
          note: called for each report; its text comes after the rate, such as losses or costs.
          **settings: of tqdm; `disable=True` shows nothing, `smoothing=0` gives the mean rate.
        """
        stream = sys.stderr if stream is None else stream
        self._say, self._period, self._note = say, period, note
        self._live = say is None and _can_draw(stream)
        self._due = float("inf")  # tqdm displays itself once while it is made
        super().__init__(
            total=total,
            desc=printable(description, keep="") or None,
            unit=f" {unit}",
            initial=initial,
            file=stream,
            mininterval=0.1 if self._live else 0.0,
            miniters=1,
            dynamic_ncols=self._live,
            ncols=None if self._live else _UNCUT,
            bar_format=None if self._live else _line_format(total, bool(description)),
            leave=self._live,
            **settings,
        )
        self._time = time.monotonic  # tqdm's own clock is the machine's, which may go back
        self.last_print_t = self.start_t = time.monotonic()
        self._due = time.monotonic() + period

    def skip(self, n: int = 1) -> None:
        """Counts work that was done before: it is shown as done, the rate is without it."""
        self.n += n
        if not self.disable:
            self.initial += n
            self.last_print_n += n

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draws the bar, or writes the line once it is due; True if something was drawn."""
        if self._live:
            self._take_note()
            return super().display(msg, pos)
        if msg is None and time.monotonic() >= self._due:
            self.report()
        return False

    def clear(self, nolock: bool = False) -> None:
        """Removes the bar from a terminal; lines stay."""
        if self._live:
            super().clear(nolock)

    def report(self) -> None:
        """Shows the state now, whether or not it is due."""
        if self.disable:
            return
        self._due = time.monotonic() + self._period
        if self._live:
            self.refresh()
            return
        self._take_note()
        if self._say is not None:
            self._say(str(self))
        else:
            self.fp.write(f"{self}\n")
            self.fp.flush()

    def _take_note(self) -> None:
        if self._note is not None:
            self.postfix = printable(self._note(), keep="")


def _can_draw(stream: TextIO) -> bool:
    """Whether the stream is a terminal; tqdm draws nothing on one that is 0 columns wide."""
    if not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):  # no file, or no size
        return True


def _line_format(total: int | None, described: bool) -> str:
    head = "{desc}: " if described else ""
    if total is None:
        return head + "{n_fmt}{unit}  {rate_noinv_fmt}{postfix}"
    return head + "{n_fmt}/{total_fmt}{unit}  {rate_noinv_fmt}{postfix}  ETA {remaining}"
