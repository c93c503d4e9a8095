"""The macro guard, and where a value comes from."""

import shlex

import pytest

from distill import cli
from distill.config import macros, resolve
from distill.errors import UserError


def _write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_later_settings_win_and_are_remembered(tmp_path):
    base = _write(tmp_path, "base.gin", "A = 1\nB = %A\nf.x = %B\n")
    top = _write(tmp_path, "top.gin", f"include '{base}'\n\nA = 2\n")
    found = macros.read_gin([top], ["A=3"])
    found.check()
    assert found.value("B") == 3
    history = [(s.value, s.where.split("/")[-1]) for s in found.explain("A")]
    assert history == [(1, "base.gin:1"), (2, "top.gin:3"), (3, "--gin.A")]


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        ("A = 1\nf.x = %A\n", "AA=2", "no gin file declares the macro AA .*closest: A"),
        ("A = 1\nf.x = %A\n", "RAW_DIR=data", "only the paper's datasets.*leave out --raw_dir"),
        (
            "DATASET_OPTIONS = {'labels': ('a', 'b')}\nf.x = %DATASET_OPTIONS\n",
            "LABELS=()",
            r"the key 'labels' of DATASET_OPTIONS, .*OPTIONS=\"{'labels': \('a', 'b'\)}\"$",
        ),
        ("LENGTH = 1\nf.x = %LENGHT\n", None, r"the macro LENGHT .*m.gin:2.*closest: LENGTH"),
        ("LENGTH = 1\nLENGHT = 2\nf.x = %LENGTH\n", None, r"m.gin:2: macro LENGHT is set, but"),
        ("A = %B\nB = %A\nf.x = %A\n", None, "cycle"),
        ("A = 1\nf.x = \n", None, r"m.gin:2: not a gin statement"),
        ("A = 1\nB = [\n x]\n", None, r"m.gin:3: .*got x in the value of B, .* such as 'x'$"),
        ("include 'gin/sizes/tinny.gin'\n", None, r"m.gin:1\); closest: gin/sizes/tiny.gin"),
        ("A = 1\nf.x = %A\n", "A", "expected --gin.NAME=value"),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path, text, override, message):
    path = _write(tmp_path, "m.gin", text)
    with pytest.raises(UserError, match=message):
        found = macros.read_gin([path], [override] if override else [])
        found.check()
        found.values()


@pytest.mark.parametrize("by", ["file", "command line"])
def test_bindings_past_the_macros_are_t5xs_alone(tmp_path, by):
    binding = "student.T5Config.dropout_rate"
    path = tmp_path / "mine.gin"
    path.write_text(f"\n{binding} = 0.9\n" if by == "file" else "")
    overrides = [] if by == "file" else [f"{binding}=0.9"]
    where = r"mine\.gin:2" if by == "file" else "--gin.student"
    with pytest.raises(UserError, match=where + ".*binding of student.T5Config.dropout_rate"):
        resolve.resolve(["tickets_step_by_step", str(path)], overrides)
    text = resolve.resolve(["tickets_step_by_step", str(path)], overrides, "t5x").text
    assert f"# {binding} = 0.9" in text.splitlines()


def test_bare_words_are_strings():
    assert macros.parse_override("METHOD=finetune") == ("METHOD", "'finetune'")
    assert macros.parse_override("A=.5") == ("A", ".5")
    assert macros.parse_override("A='x'") == ("A", "'x'")
    assert macros.parse_override("A=%B") == ("A", "%B")


@pytest.mark.parametrize("text", ["[a] ", "(a", "{'a': b}", '["$a`', "@", "%", "+5", " x", "x "])
def test_a_message_has_the_quotes_with_which_a_shell_passes_the_string(tmp_path, text):
    path = _write(tmp_path, "m.gin", "A = 1\nf.x = %A\n")
    with pytest.raises(UserError) as error:
        macros.read_gin([path], [f"A={text}"])
    (override,) = shlex.split(str(error.value).rpartition(" --gin.")[2])
    assert macros.read_gin([path], [override]).value("A") == text


def test_reading_macros_imports_no_trainer():
    found, engine, paths = resolve.read_macros(["tickets_step_by_step"], engine="t5x")
    assert engine == "t5x" and found.value("WEIGHTING") == "mixture_rates"
    assert paths[0].endswith("gin/engines/t5x.gin")


def test_explain_names_every_setting(capsys):
    argv = ["config", "explain", "LABEL_WEIGHT", "--gin_file=tickets_step_by_step"]
    assert cli.main([*argv, "--gin.LABEL_WEIGHT=.4"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "LABEL_WEIGHT = 0.4"
    assert "gin/methods/step_by_step.gin:" in out
    assert "gin/experiments/tickets_step_by_step.gin:" in out


def test_modules_that_a_users_file_imports(tmp_path):
    mine = tmp_path / "mine.gin"
    mine.write_text("from __gin__ import dynamic_registration\nimport nowhere.to_be_found\n")
    with pytest.raises(UserError, match=r"mine\.gin:2: no module named 'nowhere'.*PYTHONPATH"):
        resolve.resolve(["tickets_step_by_step", str(mine)])
    mine.write_text("from __gin__ import dynamic_registration\nimport json\n")
    resolved = resolve.resolve(["tickets_step_by_step", str(mine)])
    assert "# import json\n" in resolved.text and str(mine) in resolved.binding_files
