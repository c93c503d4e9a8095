"""The files and folders of test_bad_input.py."""

import json

GOOD = [{"input": f"word{i}", "label": "yes"} for i in range(20)]
NLI = {"premise": "a man plays", "hypothesis": "a man sleeps", "label": 2}
STUDENT = {"format": 1, "vocabulary": {"kind": "bytes"}, "labels": [], "eos_mark": ""}
COMPLETION = "He plays. So the answer is contradiction."


def _lines(*rows):
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


# Files of rows, JSONL or CSV by name; each is the training file of one case.
TABLES = {
    "good.jsonl": _lines(*GOOD),
    "broken.jsonl": _lines(GOOD[0], '{"input": '),
    "outside.jsonl": _lines(*GOOD[:3], {"input": "x", "label": "maybe"}),
    "unlabeled.jsonl": _lines({"input": "x"}, {"input": "y"}),
    "no_input.jsonl": _lines(GOOD[0], {"label": "yes"}),
    "twice.jsonl": _lines({"id": "7", "input": "x"}, GOOD[0], {"id": "7", "input": "y"}),
    "number.jsonl": _lines(GOOD[0], {"input": "x", "label": 3}),
    "nan.jsonl": _lines(GOOD[0], '{"input": "x", "label": NaN}'),
    "extra.jsonl": _lines(GOOD[0], {"input": "x", "lable": "yes"}),
    "blank.jsonl": _lines(GOOD[0], {"input": "  ", "label": "yes"}),
    "list.jsonl": _lines(GOOD[0], ["x", "yes"]),
    "choices.jsonl": _lines({"input": "x", "label": "yes", "choices": "yes,no"}),
    "split.jsonl": _lines(GOOD[0], {"input": "x", "label": "yes", "split": "test"}),
    "half.jsonl": _lines(GOOD[0], '{"input": "\\ud800", "label": "yes"}'),
    "latin.jsonl": _lines(GOOD[0], '{"input": "caf\xe9", "label": "yes"}').encode("latin-1"),
    "bom.jsonl": "\ufeff" + _lines(GOOD[0], {"input": "x", "label": "maybe"}),
    "utf16.jsonl": _lines(*GOOD).encode("utf-16"),
    "empty.jsonl": "",
    "empty.csv": "",
    "header.csv": "input,label\n",
    "cells.csv": "input,label\nx,yes\na, b,yes\n",
    "column.csv": "input,lable\nx,yes\n",
    "no_input.csv": "id,label\n1,yes\n",
    "quote.csv": 'input,label\nx,yes\n"y,yes\n',
    "twice.csv": "id,input,label\n7,x,yes\n7,y,yes\n",
    "latin.csv": "input,label\nx,yes\ncaf\xe9,yes\n".encode("latin-1"),
    "bom.csv": "\ufeffinput,label\nx,maybe\n",
    "long.jsonl": _lines(*GOOD, {"input": "ünknown", "label": "far too long " * 80}),
    "broken.gin": "SEED = 3\nNUM_LABELS = = 3\n",
    "choices.csv": "input,label,choices\nx,yes,yes|no\n",
}


def _raw(folder, rows=3, completions=None, part=0):
    """A released folder of e-SNLI whose files may be wrong."""
    (folder / "esnli/llm").mkdir(parents=True)
    lines = [NLI] * rows if isinstance(rows, int) else rows
    (folder / "esnli/esnli_valid.json").write_text(_lines(*lines))
    texts = json.dumps([COMPLETION] * 3) if completions is None else completions
    (folder / f"esnli/llm/valid_CoT_{part}.json").write_text(texts)
    return folder


def make_files(folder):
    """Writes the tables, released folders and run folders that cases name."""
    for name, content in TABLES.items():
        as_bytes = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(as_bytes)
    (folder / "vocabulary.model").write_text("not a model")
    _raw(folder / "short", completions=json.dumps([COMPLETION] * 2))
    _raw(folder / "no_part", part=1)
    _raw(folder / "not_json", completions="[")
    _raw(folder / "no_list", completions='{"0": "x"}')
    _raw(folder / "code", rows=[NLI, NLI | {"label": 7}, NLI])
    _raw(folder / "field", rows=[NLI, {"premise": "x", "label": 0}, NLI])
    _raw(folder / "whole")
    _runs(folder)


def _runs(folder):
    """Run folders: of another rate, without a checkpoint, with a torn file."""
    from distill.config import resolve

    text = resolve.resolve(["tickets_step_by_step"], ()).text
    contents = {
        "other": ("config.gin", text.replace("LEARNING_RATE = 0.004", "LEARNING_RATE = 0.5")),
        "half": ("config.gin", text),
        "torn": ("config.gin", text),
        "garbled": ("config.gin", "LEARNING_RATE = = 3\n"),
    }
    for name, (file, content) in contents.items():
        (folder / name).mkdir()
        (folder / name / file).write_text(content)
    (folder / "moved").mkdir()
    settings = ("TRAIN_FILE=/gone/t.jsonl", "TEST_FRACTION=0.2")
    text = resolve.resolve(["jsonl_step_by_step"], settings).text
    (folder / "moved/config.gin").write_text(text)
    (folder / "torn/results.json").write_text('{"accuracy": ')
    (folder / "half/student.json").write_text(json.dumps(STUDENT | {"answer_rule": "exact_match"}))
    (folder / "half/checkpoints/4.orbax-checkpoint-tmp-1").mkdir(parents=True)
