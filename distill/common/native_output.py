"""Notes that C++ libraries write to stderr while they are loaded, and to stdout later."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, TextIO

# Lines of absl's log at level INFO, absl's notice before its log is set up, and TensorFlow's error
# about a missing GPU, which it does not need here. TensorFlow writes them before it reads
# TF_CPP_MIN_LOG_LEVEL.
_NOTE = re.compile(
    rb"I\d{4} \d\d:\d\d:[\d.]+ +\d+ [\w.]+:\d+\] .*"
    rb"|E\d{4} \d\d:\d\d:[\d.]+ +\d+ [\w.]+:\d+\] failed call to cuInit: .*"
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
)


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Leaves such notes out of what is written to stderr within its block.

    All other lines, warnings and errors among them, follow when the block ends, also where it
    raises. What Python prints meanwhile is shown at once.
    """
    stderr = sys.stderr
    stderr.flush()
    with contextlib.ExitStack() as stack:
        written = stack.enter_context(tempfile.TemporaryFile())
        kept = os.dup(2)
        stack.callback(os.close, kept)
        if _descriptor(stderr) == 2:
            direct = stack.enter_context(os.fdopen(os.dup(kept), "w", 1, stderr.encoding))
            stream = _Stream(direct)
            stack.enter_context(contextlib.redirect_stderr(stream))
            stack.callback(setattr, stream, "target", stderr)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            written.seek(0)
            lines = written.read().splitlines(keepends=True)
            rest = b"".join(line for line in lines if not _NOTE.fullmatch(line.rstrip(b"\r\n")))
            with contextlib.suppress(OSError):  # nobody reads stderr
                os.write(2, rest)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends to stderr what is written to stdout within its block, by C++ libraries too.

    Gloo, with which processes on CPUs talk to each other, prints a line when they are connected.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


class _Stream(io.TextIOBase):
    """Writes to `target`, which may change: a log handler may keep the stream."""

    def __init__(self, target: TextIO) -> None:
        self.target = target

    def write(self, text: str) -> int:
        return self.target.write(text)

    def flush(self) -> None:
        self.target.flush()

    def isatty(self) -> bool:
        return self.target.isatty()

    def fileno(self) -> int:
        return self.target.fileno()


def _descriptor(stream: Any) -> int | None:  # whatever stands in the place of sys.stderr
    """The file descriptor of a stream; None if it has none."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return None
