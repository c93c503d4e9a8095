"""The command line: fast start, and one clear message for each kind of bad input."""

import dataclasses
import json
import re
import subprocess
import sys
import time

import pytest

import tasks  # registers the datasets  # noqa: F401
from distill import cli
from distill.data import datasets

RETURNS = "--gin_file=returns_step_by_step"


def test_help_and_import_load_no_framework():
    code = (
        "import sys, distill, distill.cli\n"
        "heavy = {'jax', 'tensorflow', 'flax', 'seqio', 'orbax'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    middle = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "distill.cli", "--help"], capture_output=True)
    assert done.returncode == 0 and b"step-by-step" in done.stdout
    assert middle - began < 1 and time.monotonic() - middle < 1


def _jsonl(folder, name, *lines):
    path = folder / name
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    return path


@pytest.fixture
def files(tmp_path):
    good = [{"input": f"word{i}", "label": "yes"} for i in range(20)]
    odd = [*good[:-1], {"input": "ünknown", "label": "a label that is far too long " * 40}]
    return {
        "good": _jsonl(tmp_path, "good.jsonl", *good),
        "broken": _jsonl(tmp_path, "broken.jsonl", good[0], '{"input": '),
        "outside": _jsonl(tmp_path, "outside.jsonl", *good[:3], {"input": "x", "label": "maybe"}),
        "unlabelled": _jsonl(tmp_path, "unlabelled.jsonl", {"input": "x"}, {"input": "y"}),
        "long": _jsonl(tmp_path, "long.jsonl", *odd),
        "vocabulary": _jsonl(tmp_path, "vocabulary.model", "not a model"),
        "dir": tmp_path,
    }


def _own_rows(train="{good}", test="{good}", labels="('yes','no')"):
    return [
        "--gin_file=returns_finetune", "--gin_file=gin/data/jsonl.gin",
        f"--gin.TRAIN_FILE={train}", f"--gin.TEST_FILE={test}", f"--gin.LABELS={labels}",
        "--gin.NUM_LABELS=0",
    ]  # fmt: skip


CASES = {
    "no experiment": ([], "give an experiment with --gin_file; there are: gin/exp"),
    "missing gin file": (["--gin_file=returns_finetun"], r"closest: gin/experiments/returns_finet"),
    "unknown macro": ([RETURNS, "--gin.LABEL_WIEGHT=.3"], "LABEL_WIEGHT.*closest: LABEL_WEIGHT"),
    "unknown method": ([RETURNS, "--gin.METHOD=finetun"], "macro METHOD.*closest: finetune"),
    "unknown label source": ([RETURNS, "--gin.LABEL_SOURCE=god"], "LABEL_SOURCE.*closest: gold"),
    "unknown dataset": ([RETURNS, "--gin.DATASET=retuns"], "macro DATASET.*closest: returns"),
    "unknown size": ([RETURNS, "--size=tinny"], "size 'tinny'.*closest: tiny"),
    "unknown policy": ([RETURNS, "--gin.POLICY=natual"], "macro POLICY.*closest: natural"),
    "unknown engine": ([RETURNS, "--engine=nativ"], "engine 'nativ'.*closest: native"),
    "unknown vocabulary": ([RETURNS, "--gin.VOCABULARY=word"], "macro VOCABULARY.*closest: words"),
    "unknown schedule": ([RETURNS, "--gin.SCHEDULE=cosin"], "macro SCHEDULE.*closest: cosine"),
    "weights that do not sum to 1": ([RETURNS, "--gin.LABEL_WEIGHT=.9"], "expected 1; set both"),
    "a negative rate": ([RETURNS, "--gin.LEARNING_RATE=-1"], "got LEARNING_RATE = -1"),
    "a size that is no number": ([RETURNS, "--gin.EMBED_DIM=big"], "EMBED_DIM"),
    "no steps": ([RETURNS, "--gin.TRAIN_STEPS=0"], "WARMUP_STEPS = 100.*TRAIN_STEPS = 0"),
    "a fraction of a batch": ([RETURNS, "--gin.BATCH_SIZE=1.5"], "BATCH_SIZE = 1.5"),
    "more labels than rows": ([RETURNS, "--gin.NUM_LABELS=9999"], "NUM_LABELS = 9999.*only 2000"),
    "an empty subset": ([RETURNS, "--gin.NUM_LABELS=3"], "NUM_LABELS"),
    "a vocabulary larger than the network's": ([RETURNS, "--gin.VOCAB_SIZE=8"], "VOCAB_SIZE = 216"),
    "a mesh of too few devices": ([RETURNS, "--gin.MODEL_PARALLEL=3"], "MODEL_PARALLEL = 3"),
    "rates in the native engine": ([RETURNS, "--gin.WEIGHTING=rates"], "expected 'paired'"),
    "no raw data": (["--gin_file=esnli_mini_finetune", "--vocabulary_path=x"], "RAW_DIR"),
    "missing raw file": (
        ["--gin_file=esnli_mini_finetune", "--raw_dir={dir}", "--vocabulary_path=x"],
        "esnli.*valid",
    ),
    "no vocabulary": (["--gin_file=esnli_mini_finetune", "--raw_dir={dir}"], "VOCABULARY_PATH"),
    "missing training file": (_own_rows(train="{dir}/god.jsonl"), "god.jsonl.*good.jsonl"),
    "no training file": (_own_rows(train=""), "macro TRAIN_FILE is not set"),
    "JSON that does not parse": (_own_rows(train="{broken}"), r"broken.jsonl:2"),
    "gold label outside the set": (_own_rows(train="{outside}"), r"outside.jsonl:4.*maybe"),
    "rows without labels": (_own_rows(train="{unlabelled}"), "label"),
    "test rows without labels": (_own_rows(test="{unlabelled}"), "has no gold label"),
    "a label longer than the target": (
        [*_own_rows(train="{long}", labels="()"), "--gin.SEED=0", "--gin.VALIDATION_FRACTION=0.0"],
        "label has .* tokens, expected at most TARGET_LENGTH",
    ),
    "a vocabulary that is no model": (
        [*_own_rows(), "--gin.VOCABULARY=sentencepiece", "--vocabulary_path={vocabulary}"],
        "vocabulary.model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_exits_with_2_and_one_message(case, files, capsys):
    arguments, message = CASES[case]
    filled = [a.format(**files) if "{" in a else a for a in arguments]
    run_dir = files["dir"] / "run"
    assert cli.main(["train", *filled, f"--run_dir={run_dir}"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("distill:")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert not run_dir.exists(), "a refused run must not leave a folder behind"


def test_words_that_do_not_cover_the_data(tmp_path, capsys, monkeypatch):
    known = datasets.get("returns")
    smaller = dataclasses.replace(
        known, words=lambda spec: [w for w in known.words(spec) if w != "refuse"]
    )
    monkeypatch.setitem(datasets._DATASETS, "returns", smaller)
    argv = [
        "train",
        RETURNS,
        "--gin.NUM_ROWS=100",
        "--gin.NUM_LABELS=100",
        f"--run_dir={tmp_path}/r",
    ]
    assert cli.main(argv) == 2
    assert "does not cover 'refuse' in label" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["predict", "--run_dir={dir}/none", "x"], "is not a run folder"),
        (["predict", "--run_dir={dir}/none"], "nothing to label"),
        (["evaluate", "--run_dir={dir}/none"], "is not a run folder"),
        (["annotate", "--policy=hrd", "--output={dir}/o.jsonl"], "closest: hard"),
        (["annotate", "--teacher_accuracy=1.5", "--output={dir}/o.jsonl"], "1.5"),
        (["config", "explain", "LABEL_WEIGTH", RETURNS], "closest: LABEL_WEIGHT"),
    ],
)  # fmt: skip
def test_other_commands_refuse_bad_input(argv, message, files, capsys):
    assert cli.main([a.format(**files) if "{dir}" in a else a for a in argv]) == 2
    assert message in capsys.readouterr().err


def test_annotate_writes_what_training_reads(tmp_path, capsys):
    """The tickets of a JSONL file are those of a run with the same seed and settings."""
    from distill.config import resolve
    from distill.data import datasets
    from distill.data.examples import read_jsonl

    path = tmp_path / "tickets.jsonl"
    argv = ["annotate", "--policy=hard", "--rows=50", "--teacher_accuracy=.8", "--seed=4",
            f"--output={path}", "--json"]  # fmt: skip
    assert cli.main(argv) == 0
    said = json.loads(capsys.readouterr().out)
    overrides = ("POLICY=hard", "NUM_ROWS=50", "NUM_LABELS=50", "TEACHER_ACCURACY=.8", "SEED=4")
    run = resolve.resolve(["returns_noisy_step_by_step"], overrides).run
    rows, _ = datasets.get("returns").load(run.data)
    assert read_jsonl(path, "train") == rows
    assert said["rows"] == 50 and 0.5 < said["teacher_accuracy"] < 1
