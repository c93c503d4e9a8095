"""Progress of long work: a live bar on a terminal, a line now and then elsewhere.

Work that can be counted has a `Progress`, other work a `Stage`. Both speak from a thread of
their own when nothing has been said for PERIOD seconds, so that no command is mute for long.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TextIO

from tqdm import tqdm
from tqdm.std import EMA  # type: ignore[attr-defined]  # types-tqdm lacks it

from distill.common.native_output import without_notes
from distill.common.terminal import printable

PERIOD = 4.0  # seconds of silence after which the innermost work speaks
_LIVE_PERIOD = 1.0  # seconds between two drawings on a terminal
_UNCUT = 10_000  # columns; without them tqdm cuts lines at the width of a terminal

Say = Callable[[str], None]
Note = Callable[[], str]

_sink: contextvars.ContextVar[Say | None] = contextvars.ContextVar("sink", default=None)


def to_stderr(line: str) -> None:
    """Prints a line on stderr, control characters escaped; a live bar stays below it."""
    tqdm.write(printable(line), file=sys.stderr)
    sys.stderr.flush()
    _Heartbeat.note_line()


def tell(line: str) -> None:
    """Sends a line to where `lines_to` sends what is shown, else to stderr."""
    (_sink.get() or to_stderr)(line)


@contextlib.contextmanager
def lines_to(say: Say) -> Iterator[None]:
    """Sends what stages and bars show within it to `say`, unless they name another place."""
    token = _sink.set(None if say is to_stderr else say)
    try:
        yield
    finally:
        _sink.reset(token)


def format_duration(seconds: float) -> str:
    """A time for people: "8 s", "27 min", "1 h 12 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def format_elapsed(seconds: float) -> str:
    """A time that goes on, to the second: "8 s", "2 min 4 s", "1 h 2 min 4 s"."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 2:
        return f"{int(seconds)} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"


class _Heartbeat:
    """Calls `show` now and then from a daemon thread, until it is stopped.

    It cannot stop or delay the work: what `show` raises ends the thread alone, and `stop` waits
    at most a second for it. Of several, the one that was started last speaks.
    """

    _running: ClassVar[list[_Heartbeat]] = []
    _last_line: ClassVar[float] = time.monotonic()

    def __init__(
        self, show: Callable[[], None], period: float, live: bool, first: float | None = None
    ) -> None:
        self._show = weakref.WeakMethod(show)  # a bar that is forgotten ends, and this with it
        self._first, self._period, self._live = first, period, live
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def note_line(cls) -> None:
        """Notes that a line was written just now."""
        _Heartbeat._last_line = time.monotonic()

    def start(self) -> None:
        """Starts the thread; without one the work continues unseen."""
        self._running.append(self)
        thread = threading.Thread(target=self._run, name="progress", daemon=True)
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def stop(self) -> None:
        """Stops it; nothing is shown afterwards."""
        self._stopped.set()
        with contextlib.suppress(ValueError):
            self._running.remove(self)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        started = self._first is None
        wait = max(1.0, self._until_due()) if self._first is None else self._first
        while not self._stopped.wait(max(wait, 0.1)):
            show = self._show()
            if show is None:
                return
            inner = next(iter(self._running[-1:]), self) is not self
            if not inner and (self._live or not started or self._until_due() <= 0):
                try:
                    show()
                except Exception:  # a closed stream; the work continues
                    return
                started = True
            del show
            wait = self._period if self._live else self._until_due()

    def _until_due(self) -> float:
        """Seconds until nothing has been said for a period."""
        return self._period - (time.monotonic() - self._last_line)


class Stage:
    """Long work that cannot be counted: says what is under way, and for how long.

        with Stage("compiling the training step"):
            ...

    Elsewhere than on a terminal it is a line after `delay` seconds, and again whenever nothing has
    been said for PERIOD seconds; on a terminal the line is redrawn, and removed at the end.
    """

    def __init__(self, text: str, say: Say | None = None, delay: float = 1.0) -> None:
        """Prepares the line.

        Args:
          text: what is done.
          say: takes lines; None is that of `lines_to`, else stderr.
          delay: seconds that work may take without being mentioned.
        """
        self._text, self._say = text, say or _sink.get()
        self._began = time.monotonic()
        self._live = self._say is None and _can_draw(sys.stderr)
        self._bar: tqdm | None = None
        period = _LIVE_PERIOD if self._live else PERIOD
        self._beat = _Heartbeat(self._show, period, self._live, delay)

    def __enter__(self) -> Stage:
        self._began = time.monotonic()
        self._beat.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._beat.stop()
        if self._bar is not None:
            self._bar.close()

    @property
    def seconds(self) -> float:
        """Time since its start."""
        return time.monotonic() - self._began

    def _show(self) -> None:
        line = f"{self._text} ... {format_elapsed(self.seconds)}"
        if self._live:
            if self._bar is None:
                self._bar = tqdm(
                    bar_format="{desc}", file=sys.stderr, leave=False, dynamic_ncols=True
                )
            self._bar.set_description_str(line)
            return
        (self._say or to_stderr)(line)
        _Heartbeat.note_line()


@contextlib.contextmanager
def loading_tensorflow() -> Iterator[None]:
    """A stage around imports that load TensorFlow, which takes seconds the first time.

    Notes that TensorFlow writes then are left out.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with without_notes(), Stage("loading TensorFlow"):
        yield
        if "tensorflow" in sys.modules:  # it would look for devices later, and write about them
            sys.modules["tensorflow"].config.list_physical_devices()


class Progress(tqdm):
    """A tqdm bar that also works without a terminal.

    On a terminal it is tqdm's bar. Elsewhere, and wherever `say` is given, each report is a line
    of its own (amount, rate, time left), at most every `period` seconds. Where no update comes for
    PERIOD seconds the last state, or that of `count`, is shown again, with the time since the start
    where nothing else has changed.

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
        count: Callable[[], int] | None = None,
        **settings: Any,
    ) -> None:
        """Starts the clock.

        Args:
          total: amount of work; None if it shows only at the end.
          description: what is done; comes first in the line.
          unit: what is counted.
          initial: work that was done before, by a run that is resumed.
          say: takes lines instead of `stream`; None is that of `lines_to`, if there is one.
          period: seconds between two lines; 0 shows every update, inf none.
          stream: where to write; None is stderr.
          note: called for each report; its text comes after the rate, such as losses or costs.
          count: asked for the amount that is done, where updates are rare.
          **settings: of tqdm; `disable=True` shows nothing, `smoothing=0` gives the mean rate.
        """
        if say is None and stream is None:
            say = _sink.get()
        stream = sys.stderr if stream is None else stream
        self._say, self._period, self._note, self._count = say, period, note, count
        self._live = say is None and _can_draw(stream)
        beat = _LIVE_PERIOD if self._live else PERIOD
        self._beat = _Heartbeat(self.report, beat, self._live)
        self._shown = ""  # the last line
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
            **{"leave": self._live, **settings},
        )
        self._time = time.monotonic  # tqdm's own clock is the machine's, which may go back
        self.last_print_t = self.start_t = time.monotonic()
        self._due = time.monotonic() + period
        if not self.disable:
            self._beat.start()

    def close(self) -> None:
        """Ends the bar and its thread."""
        self._beat.stop()
        super().close()

    def skip(self, n: int = 1) -> None:
        """Counts work that was done before: it is shown as done, the rate is without it."""
        self.n += n
        if not self.disable:
            self.initial += n
            self.last_print_n += n

    def restart_clock(self) -> None:
        """Leaves the time and work so far out of the rate."""
        if not self.disable:
            self.initial = self.last_print_n = self.n
            self._ema_dn, self._ema_dt = EMA(self.smoothing), EMA(self.smoothing)
            self.start_t = self.last_print_t = self._time()

    def display(  # type: ignore[override]  # types-tqdm says None; tqdm returns whether it drew
        self, msg: str | None = None, pos: int | None = None
    ) -> bool:
        """Draws the bar, or writes the line once it is due; True if something was drawn."""
        if self._live:
            self._take_note()
            return super().display(msg, pos)  # type: ignore[return-value]  # as above
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
        if self._count is not None:
            self.n = max(self.n, self._count())
        if self._live:
            self.refresh()
            return
        _Heartbeat.note_line()
        self._take_note()
        line, elapsed = str(self), format_elapsed(self.format_dict["elapsed"])
        if self.n == self.initial:  # nothing is done yet, so there is no rate
            line = f"{line.partition('  ')[0]} ... {elapsed}"
        elif line == self._shown:
            line = f"{line}  {elapsed} so far"
        else:
            self._shown = line
        if self._say is not None:
            self._say(line)
        else:
            self.fp.write(f"{line}\n")
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
