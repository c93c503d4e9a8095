"""Notes of libraries are left out of stderr, everything else stays, in a process of its own."""

import subprocess
import sys

import pytest

from distill.common import native_output

NOTE = "I0000 00:00:1795686176.167558   27868 port.cc:153] oneDNN custom operations are on."
BEFORE = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
WARNING = "W0000 00:00:1795686176.167558   27868 port.cc:153] a warning"


NO_GPU = (
    "E0000 00:00:1795833835.255444   32512 cuda_platform.cc:52] failed call to cuInit: INTERNAL: x"
)


def _run(body: str) -> tuple[int, list[str]]:
    code = (
        "import logging, os, sys\n"
        "from distill.common.native_output import without_notes\n"
        f"def c(line): os.write(2, line.encode() + b'\\n')\n{body}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.returncode, done.stderr.splitlines()


def test_notes_are_left_out_and_all_else_is_shown():
    body = (
        "with without_notes():\n"
        "    handler = logging.StreamHandler()\n"  # keeps the stream
        f"    c({BEFORE!r}); c({NOTE!r}); c({NO_GPU!r}); c({WARNING!r})\n"
        "    print('at once', file=sys.stderr)\n"
        "logging.getLogger().addHandler(handler)\n"
        "logging.error('later')\n"
        f"c({NOTE!r})\n"
    )
    assert _run(body) == (0, ["at once", WARNING, "later", NOTE])


def test_a_line_that_only_holds_a_note_is_shown():
    """As where two threads write at once: what stands beside the note may be an error."""
    lines = [f"error: {NOTE}", f"error: {BEFORE}", f"{BEFORE} error"]
    body = "with without_notes():\n" + "".join(f"    c({line!r})\n" for line in lines)
    assert _run(body) == (0, lines)


def test_what_fails_shows_what_was_written_before():
    code, lines = _run(f"with without_notes():\n    c({WARNING!r}); c({NOTE!r}); 1 / 0\n")
    assert code == 1 and lines[0] == WARNING and lines[-1].startswith("ZeroDivisionError")
    assert NOTE not in lines


@pytest.mark.slow
def test_loading_tensorflow_writes_no_line_of_its_own():
    code, lines = _run(
        "from distill.common.progress import loading_tensorflow\n"
        "with loading_tensorflow():\n    import distill.data.vocabularies\n"
    )
    assert code == 0
    assert [line for line in lines if not line.startswith("loading TensorFlow ... ")] == []


def test_a_stream_without_a_descriptor_is_left_alone(capsys):
    with native_output.without_notes():
        print("shown", file=sys.stderr)
    assert capsys.readouterr().err == "shown\n"
