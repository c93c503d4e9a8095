"""The one progress display: lines without a terminal, a bar on one."""

from __future__ import annotations

import gc
import io
import os
import re
import threading
import time

import pytest

from distill.common import progress
from distill.common.progress import (
    Progress,
    Stage,
    format_duration,
    format_elapsed,
    lines_to,
    to_stderr,
)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_report_is_a_line():
    stream = io.StringIO()
    with Progress(4, "scoring", "rows", period=0, stream=stream, note=lambda: "loss 2") as bar:
        for _ in range(4):
            bar.update()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"scoring: 4/4 rows +[\d.]+ rows/s, loss 2  ETA 00:00", lines[-1])


def test_lines_come_at_most_once_a_period_and_on_demand():
    lines: list[str] = []
    bar = Progress(None, unit="files", say=lines.append, period=60)
    bar.update(3)
    assert not lines
    bar.report()
    bar.close()
    assert len(lines) == 1 and lines[0].startswith("3 files  ")


@pytest.mark.parametrize("smoothing", [0, 0.3])
def test_skipped_work_is_done_and_not_part_of_the_rate(smoothing):
    lines: list[str] = []
    bar = Progress(100, say=lines.append, period=0, smoothing=smoothing)
    bar.start_t -= 10
    bar.last_print_t -= 10
    bar.skip(90)
    bar.update(5)
    (line,) = lines
    assert line.startswith("95/100 rows ")
    assert 0.4 < float(re.search(r"([\d.]+) rows/s", line)[1]) < 0.51
    assert line.endswith("ETA 00:10") or line.endswith("ETA 00:09")


def test_on_a_terminal_it_is_a_bar_with_the_note():
    stream = _Terminal()
    bar = Progress(2, "asking", stream=stream, note=lambda: "$0.01")
    bar.update(2)
    bar.report()
    bar.close()
    assert "asking: 100%|" in stream.getvalue() and ", $0.01]" in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_a_terminal_without_a_width_gets_lines():
    outer, inner = os.openpty()  # 0 columns until somebody sets the size
    with os.fdopen(inner, "w") as stream, Progress(2, "asking", period=0, stream=stream) as bar:
        bar.update(2)
    shown = os.read(outer, 1000)
    assert shown.startswith(b"asking: 2/2 rows ") and shown.endswith(b"ETA 00:00\r\n")
    os.close(outer)


def test_disabled_it_is_silent():
    stream = io.StringIO()
    bar = Progress(5, stream=stream, period=0, disable=True)
    bar.skip(2)
    bar.update()
    bar.report()
    bar.close()
    assert stream.getvalue() == ""


def test_a_message_stands_between_the_lines(capsys):
    bar = Progress(2, period=60)
    bar.report()
    to_stderr("a message")
    bar.report()
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["0/2", "a", "0/2"]


@pytest.fixture
def quick(monkeypatch):
    """Half a second of silence is long."""
    monkeypatch.setattr(progress, "PERIOD", 0.5)


def test_a_stage_speaks_while_it_lasts_and_not_afterwards(quick):
    lines: list[str] = []
    with Stage("compiling", lines.append, delay=0.1):
        time.sleep(1.0)
    said = len(lines)
    assert said >= 2 and re.fullmatch(r"compiling \.\.\. \d+ s", lines[0])
    time.sleep(0.8)
    assert len(lines) == said


def test_quick_work_is_not_mentioned():
    lines: list[str] = []
    with Stage("compiling", lines.append):
        pass
    assert not lines


def test_the_innermost_work_speaks(quick):
    lines: list[str] = []
    with lines_to(lines.append), Stage("outer", delay=0.1):
        with Stage("inner", delay=0.1):
            time.sleep(1.0)
        inside = lines.copy()
        time.sleep(1.0)
    assert {line.split()[0] for line in inside} == {"inner"}
    assert {line.split()[0] for line in lines[len(inside) :]} == {"outer"}


def test_a_bar_without_updates_shows_what_is_done(quick):
    lines: list[str] = []
    with lines_to(lines.append), Progress(9, "scoring", count=lambda: 4) as bar:
        time.sleep(1.4)
        bar.update(9 - bar.n)
        bar.report()
    assert lines[0].startswith("scoring: 4/9 rows ") and lines[-1].startswith("scoring: 9/9 rows ")


def test_no_line_is_shown_twice_unchanged(monkeypatch):
    monkeypatch.setattr(progress, "PERIOD", 1.1)
    lines: list[str] = []
    with lines_to(lines.append), Progress(9, "training", "steps", period=60) as bar:
        bar.update(3)
        bar.report()
        time.sleep(2.6)
        bar.update(1)
        bar.report()
    assert len(lines) >= 3 and len(set(lines)) == len(lines)
    assert all(line.startswith("training: 3/9 steps ") for line in lines[:-1])
    assert lines[1].endswith(" s so far") and " so far" not in lines[0] + lines[-1]


def test_what_shows_progress_cannot_stop_or_delay_the_work():
    def broken(line: str) -> None:
        raise BrokenPipeError(line)

    never = threading.Event()
    began = time.monotonic()
    with Stage("compiling", broken, delay=0.1), Stage("sending", lambda _: never.wait(), delay=0.1):
        time.sleep(0.5)
    assert time.monotonic() - began < 5
    never.set()


def test_the_clock_starts_again_after_compiling():
    lines: list[str] = []
    bar = Progress(10, say=lines.append, period=0)
    bar.start_t -= 100
    bar.update(2)
    bar.restart_clock()
    bar.start_t -= 1
    bar.last_print_t -= 1
    bar.update(4)
    bar.close()
    assert 3 < float(re.search(r"([\d.]+) rows/s", lines[-1])[1]) < 4.1


@pytest.mark.parametrize(
    ("seconds", "text"), [(8, "8 s"), (119, "119 s"), (1620, "27 min"), (9000, "2 h 30 min")]
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(8, "8 s"), (119, "119 s"), (124, "2 min 4 s"), (3724, "1 h 2 min 4 s")]
)
def test_elapsed_times_go_on(seconds, text):
    assert format_elapsed(seconds) == text
    assert format_elapsed(seconds + progress.PERIOD) != text


def test_a_bar_that_is_forgotten_leaves_no_thread():
    def names():
        return [thread.name for thread in threading.enumerate()]

    bar = Progress(5, say=print)
    assert "progress" in names()
    del bar
    gc.collect()
    assert "progress" not in names()
