"""`distill predict` from end to end, on the run of twelve steps."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import sys
import time

import pytest

from distill import cli
from distill.commands.predict import show
from distill.common.progress import lines_to
from distill.data.examples import Example, write_jsonl
from distill.inference import closed_set, evaluator
from distill.inference.predictor import Predictor


@pytest.fixture(scope="module")
def tested(run_dir):
    """What the run itself answered to its test rows, as far as the command says it, too."""
    rows = [json.loads(line) for line in (run_dir / "predictions_test.jsonl").open()]
    return [{name: row[name] for name in row if name != "probability"} for row in rows]


@pytest.fixture
def rows_file(tested, tmp_path):
    """The test rows as a user's file, shortest and longest inputs mixed."""
    rows = [Example(id=r["id"], input=r["input"], label=r["gold"]) for r in tested]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


@pytest.fixture
def predict(run_dir, capsys):
    """Calls the command; gives its JSON object and what it said on stderr."""

    def call(*arguments, run_dir=run_dir):
        assert cli.main(["predict", f"--run_dir={run_dir}", "--json", *map(str, arguments)]) == 0
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    return call


@pytest.fixture
def refusal(run_dir, capsys):
    """Calls the command; gives the one message of its refusal."""

    def call(*arguments, run_dir=run_dir):
        assert cli.main(["predict", f"--run_dir={run_dir}", *map(str, arguments)]) == 2
        lines = capsys.readouterr().err.splitlines()
        (message,) = (line for line in lines if line.startswith("distill: "))
        return message

    return call


def _stdin(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_file_is_answered_in_blocks_and_gone_on_with(predict, refusal, rows_file, tested):
    path = rows_file.with_name("answers.jsonl")
    arguments = f"--input={rows_file}", f"--output={path}", "--block_rows=12"
    result, said = predict(*arguments)
    assert [json.loads(line) for line in path.open()] == tested
    assert (result["rows"], result["resumed_at"], result["labeled"]) == (24, 0, 24)
    assert result["correct"] == sum(row["correct"] for row in tested)
    assert "answering the rows: 12/24 rows" in said and "rows/s  ETA 00:" in said
    content = path.read_bytes()
    kept = b"".join(content.splitlines(keepends=True)[:15])
    path.write_bytes(content[: len(kept) + 9])
    result, said = predict(*arguments)
    assert path.read_bytes() == content and result["resumed_at"] == 15
    assert "data: 12 rows answered, " in said
    assert "; 3 of them again, because their block was not complete" in said
    assert "beam: was 1, now 2" in refusal(*arguments, "--beam=2")
    with rows_file.open("a") as file:
        file.write('{"id": "more", "input": "x"}\n')
    assert "input: was sha256 " in refusal(*arguments)


def test_parts_of_two_processes_are_the_bytes_of_one_file(predict, rows_file, capsys):
    folder, sizes = rows_file.parent, (f"--input={rows_file}", "--block_rows=4")
    predict(*sizes, f"--output={folder / 'one.jsonl'}")
    for index in range(2):
        place = "--part_rows=8", "--num_processes=2", f"--process_id={index}"
        result, said = predict(*sizes, f"--output_dir={folder / 'parts'}", *place)
        assert "rows answered, from" in said
    assert (result["parts"], result["complete"], result["rows"]) == (3, 3, 24)
    merge = ["data", "merge", f"--input={folder / 'parts'}", f"--output={folder / 'all.jsonl'}"]
    assert cli.main(merge) == 0
    assert (folder / "all.jsonl").read_bytes() == (folder / "one.jsonl").read_bytes()
    assert "24 rows in 3 parts, each row once; " in capsys.readouterr().out


def test_texts_and_json_from_stdin(predict, refusal, tested, monkeypatch):
    texts = [row["input"] for row in tested[:3]]
    _stdin(monkeypatch, "\n\n".join(texts).encode())
    found, said = predict("--input=-")
    assert [row["id"] for row in found["predictions"]] == ["stdin:1", "stdin:3", "stdin:5"]
    expected = [row["prediction"] for row in tested[:3]]
    assert [row["prediction"] for row in found["predictions"]] == expected
    assert "3 rows" in said and "ETA" not in said
    assert (
        "3 rows answered, from stdin (one text per line); 2 blank lines skipped; no input" in said
    )
    _stdin(monkeypatch, b'{"input": "a"}\n{"id": "b", "input": "a", "label": "x"}\n{"input": "a"}')
    found, _ = predict("--input=-")
    assert [row["id"] for row in found["predictions"]] == ["stdin/0", "b", "stdin/2"]
    assert found["predictions"][1]["correct"] is False
    _stdin(monkeypatch, b'\ninput,customer\n"my fan, and\n mine",ann\nmy kettle,\n')
    found, said = predict("--input=-")
    rows = [(row["id"], row["input"], row.get("customer")) for row in found["predictions"]]
    assert rows == [("stdin/0", "my fan, and\n mine", "ann"), ("stdin/1", "my kettle", None)]
    assert "2 rows answered, from stdin (CSV); no input cut" in said
    _stdin(monkeypatch, b"input,customer\nmy fan,ann\n")
    found, said = predict("--input=-", "--format=text")
    assert [row["input"] for row in found["predictions"]] == ["input,customer", "my fan,ann"]
    _stdin(monkeypatch, b"id,input\n1,my fan\n1,my fan\n")
    assert "stdin:3: duplicate id '1', already used in line 2" in refusal("--input=-")
    _stdin(monkeypatch, b" \n\n")
    assert "stdin is empty" in refusal("--input=-")
    _stdin(monkeypatch, b'{"input": "a"}\n{"inptu": "b"}')
    assert "stdin:2: unknown field 'inptu'; closest: input" in refusal("--input=-")


def test_beam_scores_and_rationales(predict, tested):
    texts = [row["input"] for row in tested[:4]]
    found, _ = predict("--beam=3", "--rationale", *texts)
    for row in found["predictions"]:
        assert row["score"] <= 0 and isinstance(row["rationale"], str)
        assert row["prediction"] != row["rationale"]


def test_the_rationale_is_what_the_rationale_prefix_asks_for(run_dir, tested):
    """The label task, told that its prefix is the other one, decodes the same text."""
    from distill.inference import load

    run = load.load_run(run_dir)
    rows = [Example(id=row["id"], input=row["input"]) for row in tested[:4]]
    asked = run.evaluator().texts(run.params, rows, rationale=True)
    data = run.config.data
    spec = dataclasses.replace(
        data, label_prefix=data.rationale_prefix, rationale_prefix=data.label_prefix
    )
    changed = dataclasses.replace(run, config=dataclasses.replace(run.config, data=spec))
    other = changed.evaluator().texts(run.params, rows)
    assert [row.rationale for row in asked] == [row.prediction for row in other]
    assert [row.prediction for row in asked] != [row.rationale for row in asked]


@pytest.mark.parametrize("method", ["finetune", "single_task"])
def test_no_rationale_of_a_student_without_that_task(method, run_dir, refusal, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    text = (run_dir / "config.gin").read_text()
    changes = {
        "'step_by_step'": f"'{method}'",
        "LABEL_WEIGHT = 0.3": "LABEL_WEIGHT = 1.0",
        "RATIONALE_WEIGHT = 0.7": "RATIONALE_WEIGHT = 0.0",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "run" / "config.gin").write_text(text)
    message = refusal("--rationale", "my fan", run_dir=tmp_path / "run")
    assert f"METHOD = '{method}', which has no rationale task" in message


def test_a_row_is_scored_by_its_own_choices(predict, tested, tmp_path):
    labels = sorted({row["ranked_label"] for row in tested} | {row["gold"] for row in tested})
    text, best = tested[0]["input"], tested[0]["ranked_label"]
    others = [label for label in labels if label != best]
    rows = [
        Example(id="own", input=text, choices=tuple(others[:2])),
        Example(id="one", input=text, choices=(others[-1],)),
        Example(id="all", input=text),
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found, _ = predict(f"--input={tmp_path / 'rows.jsonl'}")
    own, one, every = (row["ranked_label"] for row in found["predictions"])
    assert own in others[:2] and one == others[-1] and every == best


@pytest.mark.parametrize(
    ("rule", "hits"),
    [("exact_match", [False] * 3), ("same_value", [True, True, False]), ("mine.rule", [None] * 3)],
)
def test_an_answer_is_correct_by_the_rule_of_its_dataset(
    rule, hits, predict, run_dir, rows_file, monkeypatch, tmp_path
):
    """The run folder names the rule; one that is not known here leaves answers unscored."""
    shutil.copytree(run_dir, tmp_path / "run")
    path = tmp_path / "run" / "student.json"
    path.write_text(path.read_text().replace('"exact_match"', f'"{rule}"'))
    monkeypatch.setattr(evaluator.Evaluator, "_text", lambda self, tokens: "( 6 / 2 )")
    golds = "3", "( 1.0 + 2.0 )", "( 2 / 6 )"
    rows = [Example(id=gold, input="my fan", label=gold) for gold in golds]
    write_jsonl(rows_file, rows)
    found, _ = predict(f"--input={rows_file}", run_dir=path.parent)
    assert [row.get("correct") for row in found["predictions"]] == hits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--beam=0"], "got --beam 0, expected 1"),
        (["x", "--beam=2", "--length_penalty=-1"], "got --length_penalty -1.0"),
        (["x", f"--beam={10**30}"], "expected 1 (greedy) or more"),
        (["x", "--block_rows=0"], "got --block_rows 0"),
        (["x", f"--block_rows={10**30}"], "expected 1 to "),
        (["x", "--input=rows.jsonl"], "got rows from text and input, expected only one"),
        (["x", "--field", "input={a}"], "--field works only with --input or --tfds"),
        (["--input={file}l"], "closest in its folder: rows.jsonl"),
        (["--input={file}", "--output={folder}/taken.txt"], "did not write it"),
        (["--input={file}", "--output=p.csv"], "expected a name such as p.jsonl: rows are written"),
        (["--input={file}", "--output=p.jsonl.gz"], "a name such as p.jsonl: rows"),
        (["--input={file}", "--output=gs://b/o.jsonl"], "expected a local file"),
    ],
)
def test_bad_input(arguments, message, refusal, rows_file):
    rows_file.with_name("taken.txt").write_text("x")
    names = {"file": rows_file, "folder": rows_file.parent}
    known = [a.format(**names) if "{f" in a else a for a in arguments]
    assert message in refusal(*known)


def test_a_row_is_one_line_for_people(run_dir, capsys):
    texts = ["two\nlines", "a\ttab"]
    assert cli.main(["predict", f"--run_dir={run_dir}", "--rationale", *texts]) == 0
    header, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["prediction", "input", "rationale"]
    assert [len(row) for row in rows] == [3, 3]
    assert [row[1] for row in rows] == [r"two\nlines", r"a\ttab"]


def test_extra_fields_are_carried_through(predict, run_dir, tested, tmp_path, capsys):
    row = {"id": "1", "input": tested[0]["input"], "source": {"page": 3}, "gold": "mine"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (found,), _ = predict(f"--input={tmp_path}/rows.jsonl")[0]["predictions"], None
    assert found["prediction"] == tested[0]["prediction"] and "gold" not in found
    assert (found["source"], found["row_gold"]) == ({"page": 3}, "mine")
    (tmp_path / "rows.csv").write_text("input,customer\nmy fan,ann\nmy kettle,\n")
    output = tmp_path / "answers.jsonl"
    predict(f"--input={tmp_path}/rows.csv", f"--output={output}")
    assert [json.loads(line).get("customer") for line in output.open()] == ["ann", None]
    assert cli.main(["predict", f"--run_dir={run_dir}", f"--input={tmp_path}/rows.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "prediction\tinput\tcustomer"
    assert lines[1].endswith("\tmy fan\tann") and lines[2].endswith("\tmy kettle\t")


def test_a_file_of_texts_is_answered_line_by_line(predict, refusal, tested, tmp_path):
    texts = [row["input"] for row in tested[:3]]
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbf\n" + "\n\n".join(texts).encode())
    found, said = predict(f"--input={path}")
    assert [row["input"] for row in found["predictions"]] == texts
    assert [row["id"] for row in found["predictions"]] == [
        "texts.txt:2",
        "texts.txt:4",
        "texts.txt:6",
    ]
    line = f"data: 3 rows answered, from {path} (one text per line); 3 blank lines skipped; "
    assert f"{line}no input cut; no unknown token in inputs" in said
    path.write_bytes(b"one\ncaf\xe9\n")
    assert "texts.txt:2: not UTF-8" in refusal(f"--input={path}")
    path.write_bytes(b" \n")
    assert "texts.txt is empty" in refusal(f"--input={path}")
    path.write_text('{"input": "a"}\n')
    assert predict(f"--input={path}")[0]["predictions"][0]["input"] == "a"


def test_inputs_that_are_cut_or_unknown_are_said(predict):
    long = "my fan seems burnt . " * 40
    _, said = predict(long, "my fan", "seems wrapt wrapt")
    assert "data: 3 rows answered, from the command line" in said.splitlines()
    assert "warning: 0.9% of input tokens are not in VOCABULARY" in said
    assert said.count("'wrapt' in row text/2") == 1
    assert "warning: 1 of 3 inputs (33.3%) is longer than INPUT_LENGTH = 64 tokens and is" in said
    assert "INPUT_LENGTH = 202 would fit all in a new training run" in said
    assert said.count("INPUT_LENGTH = 202") == 1


def test_labels_that_the_student_cannot_give_are_said(predict, tmp_path):
    rows = [{"input": "my fan", "label": label} for label in ("refund", "refund ", "x", None)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, said = predict(f"--input={tmp_path}/rows.jsonl")
    expected = r"warning: \d of 4 rows .* not one of the labels of this student, .*'x' \(1\)"
    assert re.search(expected, said)
    assert "'refund' (" not in said
    rows = [{"input": "my fan", "label": "x", "choices": ["x", "refund"]}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]))
    assert re.search(
        expected.replace("4 rows", "1 row"), predict(f"--input={tmp_path}/rows.jsonl")[1]
    )
    _, said = predict(f"--input={tmp_path}/rows.jsonl", "--answer=rank")
    assert "not one of the labels" not in said


def test_words_without_quotes_are_refused(refusal, tmp_path):
    message = refusal("my", "kettle", "seems", "warped")
    assert "got 4 texts of one word each" in message and '"my kettle seems warped"' in message
    (tmp_path / "texts.txt").write_text("my kettle\n")
    named = refusal(tmp_path / "texts.txt")
    assert f"texts.txt is a file, expected a text: use --input={tmp_path}/texts.txt" in named
    both = refusal("--input=nowhere.txt", run_dir=tmp_path / "none")
    assert "nowhere.txt does not exist" in both and "none is not a run folder" in both


def test_what_was_written_tells_how_many_are_correct(capsys):
    result = {"output": "o.jsonl", "rows": 12, "resumed_at": 0, "labeled": 10, "correct": 9}
    show(result)
    assert capsys.readouterr().out == "o.jsonl: 12 rows; 9 of 10 correct (0.900)\n"


def test_what_compiles_says_so(run_dir, monkeypatch):
    predictor = Predictor(run_dir, progress=print)
    encode = closed_set._encode

    def slow(*arguments):
        time.sleep(1.3)
        return encode(*arguments)

    monkeypatch.setattr(closed_set, "_encode", slow)
    lines: list[str] = []
    with lines_to(lines.append):
        predictor([Example(id="a", input="my fan seems burnt .")])
        assert lines[0].endswith(": compiling for inputs of 16 tokens ... 1 s")
        assert not [line for line in lines if "0/1 rows" in line]
        lines.clear()
        predictor([Example(id="b", input="my fan seems burnt .")])
    assert not lines
