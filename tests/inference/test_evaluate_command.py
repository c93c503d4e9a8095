"""`distill evaluate` on a closed set: scores of each class, for people and as JSON."""

from __future__ import annotations

import json
from collections import Counter

from distill import cli
from distill.commands import evaluate
from distill.common.accuracy import describe_classes


def test_scores_of_each_class_add_up_and_are_written(run_dir, tmp_path, capsys):
    before = set(run_dir.rglob("*"))
    output = tmp_path / "new" / "scores.json"
    assert cli.main(["evaluate", f"--run_dir={run_dir}", f"--output={output}"]) == 0
    shown = capsys.readouterr().out
    scores = json.loads(output.read_text())
    answers = [json.loads(line) for line in (run_dir / "predictions_test.jsonl").open()]
    golds = Counter(row["gold"] for row in answers)
    by_class, confusion = scores["by_class"], scores["confusion"]
    assert {c: s["support"] for c, s in by_class.items()} == {c: golds[c] for c in by_class}
    hits = sum(row[place] for place, row in enumerate(confusion["counts"]))
    assert hits / scores["n"] == scores["accuracy"]
    predicted = Counter(row["prediction"] for row in answers)
    for place, label in enumerate(confusion["classes"]):
        assert sum(row[place] for row in confusion["counts"]) == predicted[label]
    assert f"macro-F1 {scores['macro_f1']:.3f}" in shown and "(other)" in shown
    table = [line.split() for line in shown.splitlines()]
    assert ["class", "precision", "recall", "F1", "support", "predicted"] in table
    assert all(any(line[:1] == [label] for line in table) for label in by_class)
    assert set(run_dir.rglob("*")) == before


def test_rows_of_a_file_are_told_of(run_dir, tmp_path, capsys):
    rows = [{"input": "my fan", "label": "repair"}, {"input": "my fan"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    argv = ["evaluate", f"--run_dir={run_dir}", f"--input={tmp_path}/rows.jsonl", "--json"]
    assert cli.main(argv) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["by_class"]["repair"]["support"] == 1
    assert (
        f"data: 1 row answered, from {tmp_path}/rows.jsonl (JSONL); 1 row without a label, not "
        "scored; no input cut" in err
    )


def test_gold_labels_that_no_answer_can_match_are_told_of(run_dir, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    labels = ["replace", "replace", "a", "b", "c", "d", "e", "f"]
    lines = (json.dumps({"input": f"my lamp {i} .", "label": x}) for i, x in enumerate(labels))
    file.write_text("\n".join(lines))
    assert cli.main(["evaluate", f"--run_dir={run_dir}", f"--input={file}"]) == 0
    warning = "warning: 6 of 8 rows (75.0%) have a label that is not one of the labels of this "
    warning += "student, so no answer to them is correct: 'a' (1), 'b' (1), 'c' (1), 'd' (1), "
    assert f"{warning}'e' (1), ...\n" in capsys.readouterr().err


def test_answers_outside_the_closed_set_are_a_row_and_a_line(capsys):
    golds, answers = ["yes", "no", "no", "yes"], ["yes", "nope", "", "nope"]
    by_class = describe_classes(golds, answers, ["yes", "no"])
    evaluate.show({"accuracy": 0.25, "interval": [0, 1], "n": 4, "split": "test", **by_class})
    lines = capsys.readouterr().out.splitlines()
    assert ["(other)", "-", "-", "-", "0", "3"] in [line.split() for line in lines]
    line = "(other): 3 of 4 answers match none of the classes and count as wrong: 'nope' 2, '' 1"
    assert line in lines
    by_class = describe_classes(golds, golds, ["yes", "no"])
    evaluate.show({"accuracy": 1.0, "interval": [0, 1], "n": 4, "split": "test", **by_class})
    assert "(other):" not in capsys.readouterr().out
