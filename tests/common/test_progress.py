"""The one progress display: lines without a terminal, a bar on one."""

from __future__ import annotations

import io
import os
import re

import pytest

from distill.common.progress import Progress, to_stderr


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
