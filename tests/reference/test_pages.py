"""The generated pages are what the code says: every macro, its bounds, every flag."""

import re

import pytest

from distill import cli
from distill.config import fields, files
from distill.reference import bounds, commands, macros
from distill.reference.__main__ import PAGES
from distill.reference.markdown import plain, table


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name):
    written = (files.gin_root() / name).read_text()
    assert written == PAGES[name](), "run python -m distill.reference"


def test_every_macro_of_every_gin_file_has_a_row():
    named = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", macros.render(), re.MULTILINE))
    declared = set()
    for name in files.list_gin_files():
        text = (files.gin_root() / name).read_text()
        declared |= set(re.findall(r"^([A-Z][A-Z0-9_]*) *=", text, re.MULTILINE))
    assert named == declared


def test_a_macro_that_follows_another_one_says_so():
    rows = {b.macro: macros.row(b) for b in fields.bindings() if b.macro.endswith("SEED")}
    assert rows["DATA_SEED"][3] == "value of `SEED`" and rows["SEED"][3] == "`0`"
    assert rows["SEED"][5].endswith("; also the default of `DATA_SEED`.")


@pytest.mark.parametrize(
    ("macro", "kind", "expected"),
    [
        ("DROPOUT_RATE", "float", "[0, 1)"),
        ("LEARNING_RATE", "float", "> 0"),
        ("LABEL_WEIGHT", "float", "[0, 1]"),
        ("WARMUP_STEPS", "int", ">= 0"),
        ("LOG_PERIOD", "int", ">= 1"),
        ("INPUT_LENGTH", "int", "[2, 65,536]"),
    ],
)
def test_intervals_are_those_of_the_checks(macro, kind, expected):
    assert bounds.interval(macro, kind) == expected


def test_a_new_check_changes_the_interval(monkeypatch):
    def build(values, real=fields.build_run):
        if values.get("MODEL_PARALLEL", 1) > 8 or values.get("CLIP_NORM", 1.0) >= 3:
            raise bounds.UserError("refused")
        return real(values)

    monkeypatch.setattr(fields, "build_run", build)
    assert bounds.interval("MODEL_PARALLEL", "int") == "[1, 8]"
    assert bounds.interval("CLIP_NORM", "float") == "[0, 3)"


def test_the_values_of_a_text_are_all_that_its_check_takes():
    without = []
    for binding in fields.bindings():
        row = macros.row(binding)
        if row[2] != "`str`":
            continue
        if not row[4]:
            without.append(binding.macro)
            continue
        for value in re.findall(r"`'(\w+)'`", row[4]):
            # these need other macros, and are trained with elsewhere
            if value not in ("distill_labels", "finetune", "single_task", "sentencepiece"):
                assert bounds.accepts(binding.macro, value), (binding.macro, value)
        assert not bounds.accepts(binding.macro, "another"), binding.macro
    texts = ["DATASET", "VOCABULARY_PATH", "LABEL_PREFIX", "RATIONALE_PREFIX"]
    assert without == ["INIT_FROM", "CONTINUE_FROM", *texts]


def test_a_field_without_a_meaning_is_refused(monkeypatch):
    text = fields.PARTS["TrainConfig"].__doc__.replace("log_period: steps", "steps")
    monkeypatch.setattr(fields.PARTS["TrainConfig"], "__doc__", text)
    with pytest.raises(ValueError, match="TrainConfig has no entry for log_period"):
        macros.render()


def test_every_flag_of_every_command_has_a_row():
    page = commands.render()
    shared = page.partition("## Configuration flags")[2]
    for parser in commands.leaves(cli.make_parser()):
        section = page.partition(f"## {parser.prog}\n")[2].partition("\n## ")[0]
        for action in parser._actions:
            for flag in action.option_strings:
                hidden = action.help == "==SUPPRESS==" or flag in ("-h", "--help")
                rows = section + shared if "--engine" in parser._option_string_actions else section
                has_row = f"`{flag}=" in rows or f"`{flag}`" in rows
                has_row &= f", except `{flag}`" not in section
                assert has_row != hidden, (parser.prog, flag)


def test_convert_does_not_show_the_engine_that_it_refuses():
    for parser in commands.leaves(cli.make_parser()):
        takes = "--engine" in parser._option_string_actions
        shows = "--engine" in parser.format_help()
        assert shows == (takes and parser.prog != "distill convert"), parser.prog


def test_markdown_is_escaped_outside_of_code():
    assert plain("a <b> and\n `<c>` * d") == r"a &lt;b> and `<c>` \* d"
    assert table(("x", "y"), [("a|b", "")]) == "| x |\n| --- |\n| a\\|b |"
