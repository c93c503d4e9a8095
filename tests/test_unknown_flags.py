"""Flags that a command does not have, --help, --vocabulary_path, and faults of the program."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest

import tasks  # registers the datasets  # noqa: F401
from distill import cli
from distill.commands import config

TICKETS = "--gin_file=tickets_step_by_step"
JSONL = "--gin_file=jsonl_step_by_step"

FLAGS = {
    "--learning_rate=1e-3": (["train", TICKETS], r"did you mean --gin.LEARNING_RATE=1e-3\?"),
    "rows.jsonl": (["train", TICKETS], r"did you mean --gin.TRAIN_FILE=rows.jsonl\?"),
    "mine.gin": (["train", TICKETS], r"did you mean --gin_file=mine.gin\?"),
    "tickets_finetune": (["train"], r"did you mean --gin_file=tickets_finetune\?"),
    "--field=input=a": (["train", JSONL], r"use --gin.FIELDS=\"{'input': 'NAME'}\""),
    "--train-steps": (["config", "show", TICKETS], r"did you mean --gin.TRAIN_STEPS=value\?"),
    "--labels=x": (["train", JSONL], r"did you mean --gin.LABELS=x\?"),
    "--sed=1": (["train", TICKETS], "train has no flag --sed; closest: --seed"),
    "--bem=3": (["predict", "--run_dir=x", "a"], "predict has no flag --bem; closest: --beam"),
    "--lamda=3": (["loss-weights", TICKETS], "no flag --lamda; closest: --lambda"),
    "--raw_dri=x": (["data", "summary", "--raw_dir=x"], "data summary has no flag .*: --raw_dir"),
    "--batch_size=8": (
        ["evaluate", "--run_dir=x"],
        "does not take macros, so BATCH_SIZE cannot be set",
    ),
    "--verison": ([], "distill has no flag --verison; closest: --version"),
    "-v": ([], "distill has no flag -v; "),
    "--inpt=x": (["data"], "data has no flag --inpt; "),
    "surplus": (["evaluate", "--run_dir=x"], "evaluate does not take 'surplus'"),
}


REFUSED = {
    "": "no command given, expected one of train, .*config; see distill --help",
    "data": "data: no action given, expected one of fetch, check, .*; see distill data --help",
    "trian": "unknown command 'trian', expected one of .*; did you mean train?",
    "evaluate --run_dri=x": "evaluate has no flag --run_dri; closest: --run_dir",
    "predict --rundir=x text": "predict has no flag --rundir; closest: --run_dir",
    "data build --datset=x": "data build has no flag --datset; closest: --dataset",
    "convert --form=native": "convert has no flag --form; closest: --from",
    "evaluate": "--run_dir is missing: the run folder; see distill evaluate --help",
    "evaluate runs/x": "evaluate does not take 'runs/x'; did you mean --run_dir=runs/x?",
    "convert --to=t5x": "--from is missing: expected one of hf, t5x, native; see",
    "config": "action is missing: expected one of show, explain; see distill config --help",
    "train --seed=x": "got --seed 'x', expected an integer",
    "preflight --price=x": "got --price 'x', expected a number",
    "evaluate --run_dir=x --split=tset": "got --split 'tset', expected one of .*, test; did you",
    "train --seed": "--seed needs a value: --seed=VALUE",
    "train --json=3": "--json takes no value, got '3'",
    "train --vocabulary=x": "train has no flag --vocabulary; did you mean --gin.VOCABULARY=x?",
    "predict --run=x": "predict has no flag --run; closest: --run_dir",
    "data check --input=a --test=b": "data check has no flag --test; closest: --test_input",
    "train --gin.SEED --run_dir=x": "--gin.SEED needs a value: --gin.SEED=VALUE",
    "train --gin.SEED": "--gin.SEED needs a value: --gin.SEED=VALUE",
    "train --toplogy=v5e:2x2": "train has no flag --toplogy; see distill train --help",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_argparse_refuses_is_one_message(line, capsys):
    assert cli.main(line.split()) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"distill: {REFUSED[line].replace('?', '[?]')}.*", said)


def test_a_macro_may_stand_apart_from_its_value(capsys):
    assert cli.main(["config", "show", TICKETS, "--json", "--gin.DATA_SEED", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["macros"]["DATA_SEED"]["value"] == 7


def test_config_show_repeats_no_message(capsys):
    assert cli.main(["config", "show", TICKETS, "--gin.SEED=abc"]) == 2
    assert capsys.readouterr().err.count("got SEED = 'abc'") == 1


@pytest.mark.parametrize("flag", FLAGS)
def test_an_unknown_flag_names_what_was_meant(flag, capsys):
    argv, message = FLAGS[flag]
    assert cli.main([*argv, flag]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("distill: ") and re.search(message, line)


def test_a_file_of_rows_is_not_taken_for_a_gin_file(tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"input": "a"}\n')
    meant = {
        ("data", "check"): f"--input={file}",
        ("train",): f"--gin_file=jsonl_step_by_step --gin.TRAIN_FILE={file}",
        ("train", JSONL): f"--gin.TRAIN_FILE={file}",
    }
    for argv, flags in meant.items():
        assert cli.main([*argv, str(file)]) == 2
        assert capsys.readouterr().err.endswith(f"; did you mean {flags}?\n")


COMMANDS = ["train", "config", "loss-weights", "preflight", "convert"]


@pytest.mark.parametrize("command", [*COMMANDS, "predict", "evaluate", "annotate"])
def test_help_tells_of_macros_and_defaults(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert ("--gin.NAME=value" in out) == (command in COMMANDS)
    expected = {"predict": "(default: 4096)", "loss-weights": "(default: 64)"}
    assert expected.get(command, "default") in out


def _values(capsys, *arguments):
    import json

    code = cli.main(["config", "show", JSONL, "--json", *arguments])
    out, err = capsys.readouterr()
    assert code == 0
    macros = json.loads(out)["macros"]
    return macros["VOCABULARY"]["value"], macros["VOCAB_SIZE"]["value"], err


def test_a_vocabulary_path_sets_the_vocabulary(capsys, tmp_path):
    path = "--vocabulary_path=t5.model"
    assert _values(capsys)[:2] == ("bytes", 264)
    kind, size, err = _values(capsys, path)
    assert (kind, size) == ("sentencepiece", 32128) and "VOCAB_SIZE=32128" in err
    assert _values(capsys, path, "--gin.VOCAB_SIZE=32256")[:2] == ("sentencepiece", 32256)
    kind, size, err = _values(capsys, path, "--gin.VOCABULARY=bytes")
    assert (kind, size) == ("bytes", 264) and "is ignored: VOCABULARY = 'bytes'" in err
    mine = tmp_path / "mine.gin"
    mine.write_text("VOCABULARY = 'words'\n")
    kind, _, err = _values(capsys, path, f"--gin_file={mine}")
    assert kind == "words" and f"set by {mine}:1" in err
    kind, _, err = _values(capsys, path, "--gin.VOCABULARY=sentencepiece")
    assert kind == "sentencepiece" and not err


def test_the_size_is_that_of_the_padded_model():
    from distill.config.data import T5_VOCAB_SIZE
    from distill.data.vocabularies import _PLAIN_PIECES, _SENTINELS, padded_size

    assert padded_size(_PLAIN_PIECES + _SENTINELS) == T5_VOCAB_SIZE


def test_a_fault_of_the_program_is_an_internal_error(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(options):
        raise KeyError("colum\x1b")

    monkeypatch.setattr(config.arguments, "gin_files", fail)
    assert cli.main(["config", "show", TICKETS]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert "internal error" in line and "KeyError" in line and "please open an issue" in line
    assert "\x1b" not in line
    (log,) = tmp_path.glob("distill-error-*.log")
    assert str(log) in line and stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text()
    assert "Traceback" in text and "in fail" in text and TICKETS in text


def test_nobody_reads_stdout(tmp_path):
    command = [sys.executable, "-m", "distill.cli", "config", "show", TICKETS]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 141 and not done.stderr


def test_config_show_tells_what_is_still_to_be_set(capsys):
    assert cli.main(["config", "show", "--gin_file=jsonl_step_by_step"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^TRAIN_FILE +'' ", out, re.MULTILINE)
    told = [line for line in err.splitlines() if line.startswith("must be set before a run: ")]
    assert [line.split()[7] for line in told] == ["TRAIN_FILE", "TEST_FILE"]
    assert cli.main(["config", "show", "--gin_file=jsonl_step_by_step", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["not_set"]) == 2
    assert cli.main(["config", "show", "--gin_file=jsonl_step_by_step", "--gin.TEST_FILE=a"]) == 0
    assert "macro TEST_FILE is not set" not in capsys.readouterr().err
    argv = ["config", "show", "--gin_file=jsonl_step_by_step", "--gin.VOCABULARY=sentencepiece"]
    assert cli.main([*argv, "--json"]) == 0
    not_set = json.loads(capsys.readouterr().out)["not_set"]
    assert [re.findall("[A-Z]+_[A-Z]+", text)[0] for text in not_set] == [
        "VOCABULARY_PATH",
        "TRAIN_FILE",
        "TEST_FILE",
    ]
    assert cli.main(["config", "show", "--gin_file=tickets_step_by_step", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["not_set"] == [] and "to be set" not in err
    assert cli.main(["config", "show", "--gin_file=tickets_step_by_step", "--gin.SEED=-1"]) == 2
    out, err = capsys.readouterr()
    assert "SEED                 -1" in out and "rejects this configuration: got SEED = -1" in err


@pytest.mark.parametrize(
    ("argv", "fix"),
    [
        (["train", "--gin_file=tickets_step_by_step"], "lower BATCH_SIZE"),
        (["predict", "--run_dir=x", "a"], "stop other programs"),
    ],
)
def test_a_device_without_room_is_no_internal_error(argv, fix, monkeypatch, capsys):
    class JaxRuntimeError(RuntimeError):
        pass

    def full(options):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 2304 bytes.\nmore")

    monkeypatch.setattr(cli, "check_paths", full)
    assert cli.main(argv) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert (
        line.startswith("distill: out of memory (RESOURCE_EXHAUSTED: Out of memory") and fix in line
    )
