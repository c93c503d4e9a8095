"""Control characters of any text stay away from the terminal, at each place that shows text."""

import io
import json

import hypothesis
from hypothesis import strategies as st

from distill.common import table, terminal
from distill.common.progress import Progress, to_stderr

OWNED = "\x1b]0;owned\x07\x9b2J\u202e"
ESCAPED = r"\x1b]0;owned\x07\x9b2J\u202e"


@hypothesis.given(st.text(st.characters(exclude_categories=())))
@hypothesis.settings(deadline=None, derandomize=True)
def test_what_is_printable_has_nothing_hidden(text):
    for shown in (terminal.printable(text, keep=""), terminal.json_line(text)):
        assert all(c == " " or c.isprintable() or ord(c) >= 0xA0 for c in shown)
        shown.encode()  # no half of a surrogate pair
    assert json.loads(terminal.json_line({"x": [text]})) == {"x": [text]}


def test_lines_on_stderr_are_escaped(capsys):
    to_stderr(f"row {OWNED}")
    assert capsys.readouterr().err == f"row {ESCAPED}\n"


def test_progress_is_escaped():
    stream = io.StringIO()
    with Progress(2, OWNED, stream=stream, period=0, note=lambda: f"model {OWNED}") as bar:
        bar.update()
    assert OWNED not in stream.getvalue() and stream.getvalue().count(ESCAPED) >= 2
    assert "\x1b" not in stream.getvalue()


def test_cells_of_a_table_are_escaped_and_keep_to_their_column():
    lines = table.render_columns(("id", "n"), [(OWNED, "1"), ("a\nb", "2")], "<>").splitlines()
    assert ESCAPED in lines[1] and r"a\nb" in lines[2] and len(lines) == 3
    assert len(lines[1]) == len(lines[2])


def test_a_stream_escapes_all_that_is_printed():
    out = io.StringIO()
    print(OWNED, "\tx", file=terminal.PrintableStream(out))
    assert out.getvalue() == f"{ESCAPED} \tx\n"


def test_a_message_is_short_and_escaped():
    shown = terminal.message(f"got {'9' * 6000}, {OWNED}")
    assert "(6,001 characters)" in shown and len(shown) < 400 and "\x1b" not in shown
    assert terminal.message("got 3, expected 4") == "got 3, expected 4"


def test_the_command_line_shows_nothing_raw(tmp_path, capsys):
    """Of what a file name, a row and a setting hold."""
    from distill import cli

    path = tmp_path / "r\x1b.jsonl"
    path.write_text(json.dumps({"input": "x", "label": OWNED, "choices": ["a"]}))
    argv = ["train", "--gin_file=jsonl_step_by_step", f"--run_dir={tmp_path}/r"]
    code = cli.main([*argv, f"--gin.TRAIN_FILE={path}", f"--gin.TEST_FILE={path}"])
    err = capsys.readouterr().err
    assert code == 2 and "r\\x1b.jsonl:1" in err and "\x1b" not in err and "\x9b" not in err
    shown = ["config", "show", argv[1], f"--gin.LABEL_PREFIX={OWNED}"]
    for more in ([], ["--json"]):
        assert cli.main([*shown, *more]) == 0
        out = capsys.readouterr().out
        assert "owned" in out and not set(out) & set("\x1b\x07\x9b\u202e")
