"""Bad input of every kind: exit code 2, one message that names it and the way out, no traceback.

No case trains: what refuses the input must come before. `{name}` in an argument is a file
or a folder of the fixture `files`.
"""

import re

import pytest
from bad_input_files import make_files

import tasks  # registers the datasets  # noqa: F401
from distill import cli

TICKETS = "--gin_file=tickets_step_by_step"
RAW = ["--gin_file=esnli_mini_finetune", "--gin.VOCABULARY=bytes"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    make_files(folder)
    return folder


def _own(train="good.jsonl", test="good.jsonl", labels="('yes','no')"):
    return [
        *("train", "--gin_file=tickets_finetune", "--gin_file=gin/data/jsonl.gin"),
        *(f"--gin.TRAIN_FILE={{dir}}/{train}", f"--gin.TEST_FILE={{dir}}/{test}"),
        *(f"--gin.LABELS={labels}", "--gin.NUM_LABELS=0"),
    ]


def _raws(folder, *more):
    return ["train", *RAW, f"--raw_dir={{dir}}/{folder}", *more]


# Macro and value -> what the message must say (`!` for the macro's name).
MACROS = {
    "BATCH_SIZE=0": "got ! = 0, expected an integer >= 1",
    "BATCH_SIZE=1.5": "got ! = 1.5, expected an integer",
    "TRAIN_STEPS=0": "! = 0",
    "SEED=-1": "got ! = -1, expected an integer >= 0",
    "SEED=1.5": "! = 1.5, expected an integer",
    "EVAL_PERIOD=-1": "got ! = -1, expected",
    "SAVE_PERIOD=0": "got ! = 0, expected",
    "SAVE_PERIOD=30": "got ! = 30, expected a multiple of LOG_PERIOD = 50",
    "LOG_PERIOD=0": "got ! = 0, expected",
    "KEEP_CHECKPOINTS=0": "got ! = 0, expected",
    "EVAL_BATCH_SIZE=0": "got ! = 0, expected",
    "CHECKPOINT=bst": "macro !.*closest: best",
    "MODEL_PARALLEL=0": "got ! = 0, expected",
    "MICROBATCHES=0": "got ! = 0, expected",
    "LEARNING_RATE=-1": "got ! = -1, expected more than 0",
    "LEARNING_RATE=high": "got ! = 'high', expected a number",
    "WARMUP_STEPS=-1": "got ! = -1, expected 0 or more",
    "WARMUP_STEPS=1.5": "got ! = 1.5, expected an integer",
    "SCHEDULE=cosin": "macro !.*closest: cosine",
    "OPTIMIZER=adam": "macro !.*closest: adamw",
    "ADAM_B1=1.5": r"got ! = 1.5, expected a number >= 0 and < 1",
    "ADAM_B2=-.1": r"got ! = -0.1, expected a number >= 0 and < 1",
    "ADAM_B2='much'": "got ! = 'much', expected a number",
    "WEIGHT_DECAY=-1": "got ! = -1, expected 0 or more",
    "CLIP_NORM=-1": "got ! = -1, expected 0 or more",
    "Z_LOSS=-1": "got ! = -1, expected a number >= 0",
    "MODEL_PARALLEL=3": "! = 3",
    "NUM_LABELS=9999": "got ! = 9999.*only 2,000",
    "NUM_LABELS=3": "!",
    "VOCAB_SIZE=8": "! = 216",
    "Z_LOSS=nan": "got ! = 'nan', expected a number",
    "NORMALIZATION=per_tokn": "macro !.*closest: per_token",
    "LABEL_WEIGHT=half": "got ! = 'half', expected a number",
    "LABEL_WEIGHT=2": "! = 2",
    "LABEL_WEIGHT=.9": "expected 1; set both",
    "WEIGHTING=pared": "macro !.*expected one of .*paired_batches",
    "METHOD=finetun": "macro !.*closest: finetune",
    "LABEL_SOURCE=god": "macro !.*closest: gold",
    "VALIDATION_FRACTION=1.0": r"got ! = 1.0, expected a number >= 0 and < 1",
    "VALIDATION_FRACTION=none": "got ! = 'none', expected a number",
    "NUM_LABELS=-1": "got ! = -1, expected 0",
    "NUM_LABELS=1.5": "got ! = 1.5, expected an integer",
    "INPUT_LENGTH=1": "got ! = 1, expected at least 2",
    "INPUT_LENGTH=9.5": "got ! = 9.5, expected an integer",
    "TARGET_LENGTH=1": "got ! = 1, expected at least 2",
    "DATA_SEED=first": "got ! = 'first', expected an integer",
    "EMBED_DIM=0": "got ! = 0, expected an integer >= 1",
    "NUM_HEADS=0": "got ! = 0, expected an integer >= 1",
    "HEAD_DIM=0": "got ! = 0, expected an integer >= 1",
    "MLP_DIM=0": "got ! = 0, expected an integer >= 1",
    "NUM_ENCODER_LAYERS=-1": "got ! = -1, expected an integer >= 1",
    "NUM_DECODER_LAYERS=1.5": "got ! = 1.5, expected an integer >= 1",
    "DROPOUT_RATE=1.0": "got ! = 1.0, expected a number >= 0 and < 1",
    "MLP_ACTIVATIONS=('gulu',)": "got ! = .*gulu.*, expected .*gelu",
    "EMBED_INIT=-1": "got ! = -1, expected a number > 0",
    "DTYPE=float17": "got ! = 'float17', expected .*float32",
    "REMAT=maybe": "macro !.*expected one of",
    "TIE_EMBEDDINGS=3": "got ! = 3, expected True or False",
    "VOCABULARY=word": "macro !.*closest: words",
    "NUM_ROWS=all": "got ! = 'all', expected an integer",
    "NUM_TEST=0": "got ! = 0, expected 1 to",
    "TEACHER_ACCURACY=2": "got ! = 2.0, expected a number between 0 and 1",
    "TEACHER_ACCURACY=good": "got ! = 'good', expected a number",
    "POLICY=natual": "macro !.*closest: natural",
    "DATASET=tikets": "macro !.*closest: tickets",
    "LABEL_WIEGHT=.3": "!.*closest: LABEL_WEIGHT",
}

# Training file -> line, and what is wrong with it.
ROWS = {
    "broken.jsonl": "broken.jsonl:2: not JSON",
    "outside.jsonl": "outside.jsonl:4.*maybe",
    "unlabeled.jsonl": "2 of 2 have no gold label",
    "no_input.jsonl": "no_input.jsonl:2.*`input` is missing or empty",
    "twice.jsonl": "twice.jsonl:3: duplicate id '7', already used in line 1",
    "number.jsonl": "number.jsonl:2: got 3 for `label`, expected a string",
    "nan.jsonl": "nan.jsonl:2: got nan for `label`",
    "extra.jsonl": "extra.jsonl:2: unknown field 'lable'; closest: label",
    "blank.jsonl": "blank.jsonl:2: `input` is blank",
    "list.jsonl": "list.jsonl:2: got a JSON list, expected an object",
    "choices.jsonl": "choices.jsonl:1: got 'yes,no' for `choices`, expected a list",
    "split.jsonl": "split.jsonl:2: the row has split 'test'",
    "half.jsonl": "half.jsonl:2: `input` contains an unpaired surrogate",
    "latin.jsonl": "latin.jsonl:2: not UTF-8",
    "bom.jsonl": "bom.jsonl:2.*maybe",
    "utf16.jsonl": "utf16.jsonl is UTF-16, expected UTF-8",
    "empty.jsonl": "empty.jsonl has no rows",
    "empty.csv": "empty.csv has no rows",
    "header.csv": "header.csv has no rows",
    "cells.csv": "cells.csv:3: got 3 cells, expected 2",
    "column.csv": "column.csv:1: unknown column 'lable'; closest: label",
    "no_input.csv": "no_input.csv:1: no column `input`",
    "quote.csv": "quote.csv:3: not CSV",
    "twice.csv": "twice.csv:3: duplicate id '7', already used in line 2",
    "latin.csv": "latin.csv:3: not UTF-8",
    "bom.csv": "bom.csv:2.*maybe",
    "choices.csv": "choices.csv:2: got 'yes|no' for `choices`",
    "god.jsonl": "god.jsonl does not exist; closest in its folder: good.jsonl",
}

CASES = {
    "no experiment": (["train"], "give an experiment with --gin_file; available: gin/exp"),
    "a missing gin file": (["train", "--gin_file=tickets_finetun"], "closest: gin/experiments/tic"),
    "an unknown size": (["train", TICKETS, "--size=tinny"], "size 'tinny'.*closest: tiny"),
    "an unknown engine": (["train", TICKETS, "--engine=nativ"], "engine 'nativ'.*closest: native"),
    "hosts by halves": (
        ["train", TICKETS, "--num_processes=2"],
        "must be given together: give all three",
    ),
    "hosts for T5X": (
        ["train", TICKETS, "--engine=t5x", "--distributed"],
        "--distributed .* only with the native",
    ),
    "a process too many": (
        ["train", TICKETS, "--coordinator_address=h:1", "--num_processes=2", "--process_id=2"],
        "got --process_id=2 and --num_processes=2, expected a --process_id from 0 to 1",
    ),
    "a coordinator without a port": (
        ["train", TICKETS, "--coordinator_address=h", "--num_processes=2", "--process_id=0"],
        "--coordinator_address=h, expected host:port",
    ),
    "a macro without a name": (["train", TICKETS, "--gin.=3"], "gin"),
    "a value that is no Python": (["train", TICKETS, "--gin.TRAIN_STEPS=["], "TRAIN_STEPS"),
    "no raw data": (["train", *RAW], "RAW_DIR is not set"),
    "no vocabulary": (["train", "--gin_file=esnli_mini_finetune"], "VOCABULARY_PATH"),
    "no such raw folder": (_raws("nowhere"), "nowhere/esnli.* does not exist"),
    "fewer completions than rows": (_raws("short"), "has 3 rows, but .* has 2 completions"),
    "a part of completions is missing": (_raws("no_part"), "valid_CoT_0.json does not exist"),
    "completions that are no JSON": (_raws("not_json"), "valid_CoT_0.json: not JSON"),
    "completions that are no list": (_raws("no_list"), "expected a JSON list of strings"),
    "an unknown label code": (_raws("code"), r"esnli_valid.json:2: got label 7, expected one of"),
    "a row without a hypothesis": (_raws("field"), r"esnli_valid.json:2.*`hypothesis`"),
    "an unknown split": (_raws("whole", "--gin.RAW_SPLIT=vald"), "split 'vald'.*closest: valid"),
    "one file for both": (
        _raws("whole", "--gin.RAW_TEST_SPLIT=valid"),
        "RAW_SPLIT and RAW_TEST_SPLIT both name",
    ),
    "an unknown teacher": (_raws("whole", "--gin.RAW_TEACHER=plam"), "RAW_TEACHER.*closest: palm"),
    "an unknown form": (_raws("whole", "--gin.RAW_FORM=releasd"), "RAW_FORM.*closest: released"),
    "no test premises": (_raws("whole", "--gin.TEST_FRACTION=0"), "got TEST_FRACTION = 0"),
    "a share that is a text": (_raws("whole", "--gin.TEST_FRACTION=few"), "TEST_FRACTION = 'few'"),
    "no training file": (
        [*_own()[:3], "--gin.LABELS=('yes','no')"],
        "macro TRAIN_FILE is not set",
    ),
    "test rows without labels": (_own(test="unlabeled.jsonl"), "none of 2 test .*gold label"),
    "a broken test file": (_own(test="broken.jsonl"), "broken.jsonl:2: not JSON"),
    "a gin file that does not parse": (
        ["train", TICKETS, "--gin_file={dir}/broken.gin"],
        r"broken.gin:\d: not a gin statement",
    ),
    "a label longer than the target": (
        [*_own(train="long.jsonl", labels="()"), "--gin.VALIDATION_FRACTION=0.0"],
        r"longer than TARGET_LENGTH = \d+ tokens \(.*row .*\); TARGET_LENGTH = \d+ would fit all",
    ),
    "a vocabulary that is no model": (
        [*_own(), "--gin.VOCABULARY=sentencepiece", "--vocabulary_path={dir}/vocabulary.model"],
        "vocabulary.model",
    ),
    "a run of another configuration": (
        ["train", TICKETS, "--run_dir={dir}/other"],
        "LEARNING_RATE: 0.5 in the folder, 0.004 now",
    ),
    "results that are torn": (
        ["train", TICKETS, "--run_dir={dir}/torn"],
        r"is finished, but its checkpoints are missing: delete .*results.json",
    ),
    "evaluate: no run": (["evaluate", "--run_dir={dir}/none"], "is not a run folder"),
    "evaluate: a file": (
        ["evaluate", "--run_dir={dir}/good.jsonl"],
        "is a file, expected the folder of a run",
    ),
    "evaluate: no whole checkpoint": (["evaluate", "--run_dir={dir}/half"], "no checkpoint in"),
    "evaluate: a garbled config": (["evaluate", "--run_dir={dir}/garbled"], "config.gin"),
    "evaluate: a setting": (
        ["evaluate", "--run_dir=x", "--gin.SEED=1"],
        "does not take --gin.NAME",
    ),
    "evaluate: no such split": (["evaluate", "--run_dir=x", "--split=tset"], "'tset'.*test"),
    "predict: no run of that name": (
        ["predict", "--run_dir={dir}/hafl", "x"],
        r"hafl is not a run folder: .* does not exist \(closest: .*/half\)",
    ),
    "predict: the folder of the runs": (
        ["predict", "--run_dir={dir}", "x"],
        r"is not a run folder: .* exist \(it contains the runs .*/garbled, .*/half, .*/moved\)",
    ),
    "predict: no run": (["predict", "--run_dir={dir}/none", "x"], "is not a run folder"),
    "predict: nothing": (["predict", "--run_dir={dir}/half"], "nothing to label|no checkpoint"),
    "predict: a missing file": (
        ["predict", "--run_dir={dir}/half", "--input={dir}/god.jsonl"],
        "does not exist|no checkpoint",
    ),
    "annotate: an unknown policy": (
        ["annotate", "--policy=hrd", "--output={dir}/o.jsonl"],
        "unknown policy .hrd. .set by --policy.; closest: hard",
    ),
    "annotate: an accuracy above 1": (
        ["annotate", "--teacher_accuracy=1.5", "--output={dir}/o.jsonl"],
        "1.5",
    ),
    "data summary: no folder": (
        ["data", "summary", "--raw_dir={dir}/none"],
        "no released data in .*none, which is no folder",
    ),
    "preflight: a slice that is not offered": (
        ["preflight", "--gin_file=tickets_finetune", "--estimate", "--topology=v5e:3x5"],
        "v5e:3x5, which v5e is not offered in; expected one of 1x1, 2x2, 2x4",
    ),
    "data check: rows without a flag": (["data", "check", "r.csv"], "did you mean --input=r.csv"),
    "data build: a file as folder": (
        ["data", "build", "--dataset=jsonl", "--raw_dir=README.md", "--tfds_data_dir={dir}/t"],
        "--raw_dir: README.md is a file, expected a folder|--raw_dir: README.md does not exist",
    ),
    "evaluate: an empty run folder": (["evaluate", "--run_dir="], "got --run_dir=''"),
    "train: two seeds": (
        ["train", "--gin_file=tickets_finetune", "--seed=2", "--gin.SEED=1"],
        "got --seed=2 and --gin.SEED=1, expected only one of them",
    ),
    "data summary: an unknown teacher": (
        ["data", "summary", "--raw_dir={dir}/whole", "--teacher=plam"],
        "closest: palm",
    ),
    "config explain: no name": (["config", "explain", TICKETS], "give the macro to explain"),
    "config explain: an unknown name": (
        ["config", "explain", "LABEL_WEIGTH", TICKETS],
        "closest: LABEL_WEIGHT",
    ),
    "config show: an unknown macro": (["config", "show", TICKETS, "--gin.SED=1"], "closest: SEED"),
    "config show: bad values": (
        ["config", "show", TICKETS, "--gin.BATCH_SIZE=-1", "--gin.POLICY=natual"],
        "`distill train` rejects this configuration: got BATCH_SIZE = -1, .*; also: unknown policy "
        "'natual'",
    ),
    "config show: a share": (
        ["config", "show", "--gin_file=jsonl_step_by_step", "--gin.TEST_FRACTION=2"],
        "rejects this configuration: got TEST_FRACTION = 2.0, expected a number > 0 and < 1",
    ),
    "a share, before rows are read": (
        [*_own(train="broken.jsonl")[:4], "--gin.TEST_FRACTION=2"],
        "got TEST_FRACTION = 2.0, expected a number > 0 and < 1",
    ),
    "two missing files": (
        _own(train="god.jsonl", test="lng.jsonl"),
        "/god.jsonl does not exist; .*: good.jsonl.*; also: .*/lng.jsonl does not exist; .*: "
        "long.jsonl",
    ),
    "two missing gin files": (
        ["train", "--gin_file=nowhere", "--gin_file={dir}/brokn.gin"],
        "'nowhere' not found .*; also: .*brokn.gin' not found .*; closest: .*/broken.gin$",
    ),
    "a misspelled raw folder": (
        _raws("whol"),
        "the folder .*/whol does not exist; closest in .*: whole.* Set --raw_dir to",
    ),
    "a file as raw folder": (_raws("good.jsonl"), "/good.jsonl is a file, expected a folder"),
    "evaluate: the data are gone": (
        ["evaluate", "--run_dir={dir}/moved", "--split=test"],
        "/gone/t.jsonl does not exist; .*Scoring a split needs the files .* `distill evaluate --i",
    ),
    "an unknown command": (
        ["trian"],
        "unknown command 'trian', expected one of .*; did you mean train",
    ),
}
for setting, text in MACROS.items():
    CASES[setting] = (
        ["train", TICKETS, f"--gin.{setting}"],
        text.replace("!", setting.split("=")[0]),
    )
for file, text in ROWS.items():
    CASES[file] = (_own(train=file), text)


def test_there_are_enough_cases():
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=[f"{n:03d} {name}" for n, name in enumerate(CASES, 1)])
def test_bad_input_exits_with_2_and_one_message(case, files, tmp_path, capsys):
    arguments, message = CASES[case]
    filled = [argument.replace("{dir}", str(files)) for argument in arguments]
    run_dir = tmp_path / "run"
    if filled[0] == "train" and not any(a.startswith("--run_dir") for a in filled):
        filled.append(f"--run_dir={run_dir}")
    assert cli.main(filled) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("distill")]
    lines = [line for line in lines if " is running ... " not in line]
    assert len(lines) == 1 and "Traceback" not in err
    assert re.search(message, lines[0]), lines[0]
    assert not run_dir.exists(), "a refused run must not leave a folder behind"
