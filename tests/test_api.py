"""The Python API: `distill.load`, `distill.train`, `distill.evaluate`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import distill
from distill import UserError, cli
from distill.data.examples import Example
from distill.inference.closed_set import closed_set_probabilities


@pytest.fixture(scope="module")
def tested(run_dir):
    """What the run itself answered to its test rows."""
    return [json.loads(line) for line in (run_dir / "predictions_test.jsonl").open()]


@pytest.fixture(scope="module")
def student(run_dir):
    return distill.load(run_dir)


def test_importing_distill_loads_no_heavy_package():
    code = (
        "import sys, distill\n"
        "heavy = {'jax', 'tensorflow', 'flax', 'seqio', 'orbax', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert all(hasattr(distill, name) for name in distill.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_functions_work_once_every_submodule_is_imported(run_dir, resolved, micro, tested):
    for module in pkgutil.walk_packages(distill.__path__, "distill."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # what is not installed everywhere
            assert error.name.split(".")[0] in ("t5x", "openai", "transformers", "torch"), error
    for name in ("load", "train", "evaluate"):
        assert inspect.isfunction(getattr(distill, name)), name
    result = distill.train("tickets_step_by_step", micro, run_dir=run_dir)
    stored = json.loads((run_dir / "results.json").read_text())
    assert result.results == stored and result.accuracy == stored["accuracy"]
    assert (result.run_dir, result.n_test, result.checkpoint_step) == (str(run_dir), 24, 12)
    (prediction,) = distill.load(result.run_dir).predict(tested[0]["input"])
    assert prediction.label == tested[0]["prediction"]
    assert distill.evaluate(run_dir).accuracy == result.accuracy


def test_texts_mappings_and_examples_are_answered_alike(student, tested):
    texts = [row["input"] for row in tested[:4]]
    by_text = student.predict(texts, rationales=True)
    assert [p.label for p in by_text] == [row["prediction"] for row in tested[:4]]
    assert [p.id for p in by_text] == ["row/0", "row/1", "row/2", "row/3"]
    assert all(isinstance(p.rationale, str) and p.gold is None for p in by_text)
    mappings = [{"input": r["input"], "label": r["gold"], "shop": 7} for r in tested[:4]]
    by_mapping = student.predict(iter(mappings))
    assert [(p.gold, p.correct) for p in by_mapping] == [
        (r["gold"], r["correct"]) for r in tested[:4]
    ]
    assert by_mapping[0].extra == {"shop": 7} and by_mapping[0].rationale is None
    (by_example,) = student.predict(Example(id="a", input=texts[0]))
    assert (by_example.id, by_example.label) == ("a", by_text[0].label)
    (single,) = student.predict(mappings[0])
    # Rows that are decoded together are padded alike, which rounds differently.
    assert single.probabilities == pytest.approx(by_mapping[0].probabilities, abs=1e-5)
    assert dataclasses.replace(single, probabilities=by_mapping[0].probabilities) == by_mapping[0]
    assert student.predict([]) == []


def test_probabilities_are_those_of_the_closed_set(student, tested):
    text = tested[0]["input"]
    (whole,) = student.predict([text])
    assert tuple(whole.probabilities) == student.labels and len(student.labels) > 3
    assert sum(whole.probabilities.values()) == pytest.approx(1, abs=1e-9)
    assert max(whole.probabilities, key=whole.probabilities.get) == tested[0]["ranked_label"]
    highest = [
        max(answer.probabilities.values())
        for answer in student.predict([row["input"] for row in tested])
    ]
    assert [row["probability"] for row in tested] == pytest.approx(highest, abs=1e-5)
    subset = student.labels[2:0:-1]
    (part,) = student.predict([{"input": text, "choices": subset}])
    assert tuple(part.probabilities) == subset
    mass = sum(whole.probabilities[label] for label in subset)
    for label in subset:  # conditioned on a smaller set: the same odds
        assert part.probabilities[label] == pytest.approx(
            whole.probabilities[label] / mass, rel=1e-4
        )
    (alone,) = student.predict([{"input": text, "choices": ["refund"]}])
    assert alone.probabilities == {"refund": 1.0}


def test_probabilities_of_long_labels_do_not_underflow():
    scores_C = np.array([-1.5, -0.5, -800.0], np.float32)
    shares_C = closed_set_probabilities(scores_C)
    assert np.log(shares_C[1] / shares_C[0]) == pytest.approx(1.0)
    assert shares_C.sum() == pytest.approx(1) and 0 <= shares_C[2] < 1e-300
    assert not np.isnan(closed_set_probabilities(scores_C - 5000)).any()


def test_open_answers_have_no_probabilities(student):
    assets = dataclasses.replace(student._run.assets, labels=())
    open_set = distill.Student(dataclasses.replace(student._run, assets=assets))
    (prediction,) = open_set.predict(["my fan"])
    assert prediction.probabilities is None and open_set.labels == ()


def test_warnings_about_rows_go_where_they_are_wanted(run_dir):
    lines = []
    distill.load(run_dir, lines.append).predict(["my zeppelin " + "fan " * 100])
    said = "\n".join(lines)
    assert "'zeppelin' in row row/0" in said
    assert "longer than INPUT_LENGTH" in said


def test_labeled_rows_are_scored(student, run_dir, tested, tmp_path):
    rows = [{"input": r["input"], "label": r["gold"]} for r in tested] + [{"input": "my fan"}]
    found = distill.evaluate(student, rows=rows)
    assert found.accuracy == sum(r["correct"] for r in tested) / len(tested)
    assert (found.n, found.without_label, len(found.predictions)) == (24, 1, 24)
    assert found.by_class.keys() >= set(student.labels) and len(found.interval) == 2
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    of_file = distill.evaluate(run_dir, rows=path)
    assert dataclasses.replace(of_file, predictions=()) == dataclasses.replace(
        found, predictions=()
    )
    assert cli.main(["evaluate", f"--run_dir={run_dir}", f"--input={path}"]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.predict(["a", " "]), r"row 1: `input` is blank"),
        (lambda s: s.predict(["a", 3]), r"row 1: got int, expected a string, a mapping"),
        (lambda s: s.predict([{"inptu": "a"}]), r"row 0: unknown field 'inptu'; closest: input"),
        (lambda s: s.predict(__file__), r"which is a file, expected a text or rows: read the file"),
        (lambda s: s.predict(["a"], beam=0), r"expected 1 \(greedy\) or more"),
        (lambda s: distill.evaluate(s, rows=["a"]), r"rows: no row has a `label`.* score$"),
        (
            lambda s: distill.evaluate(s, rows=[{"input": "a", "topic": "b"}]),
            r"nothing to score; rename the one that holds it \(other fields: 'topic'\)$",
        ),
        (lambda s: distill.evaluate(s, rows=[], split="test"), r"rows and split"),
        (lambda s: distill.evaluate(s, split="train"), r"split='train', expected 'test' or"),
        (lambda s: distill.load("no_such_run"), r"no_such_run is not a run folder"),
        (lambda s: distill.load("http://a/b"), r"run_dir 'http://a/b', expected a local path"),
        (lambda s: distill.train([]), r"no gin files, expected an experiment; .*tickets_step"),
        (lambda s: distill.train("a", ["--gin.SEED=1"]), r"'--gin.SEED=1': leave out '--gin.'"),
        (lambda s: distill.train("tickets_step_by_step", {"STEPS": 1}), r"STEPS.*TRAIN_STEPS"),
        (lambda s: distill.train("tickets_step_by_step", {"SEED": "a"}), r"SEED = 'a', expected"),
    ],
)
def test_bad_input_is_a_user_error(student, call, message):
    with pytest.raises(UserError, match=message):
        call(student)


def test_paths_are_those_of_a_shell(run_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(run_dir.parent))
    assert distill.load(f"~/{run_dir.name}").run_dir == str(run_dir)


def test_a_bucket_out_of_reach_is_a_user_error(monkeypatch):
    from distill.inference import load

    def refuse(*_):
        raise OSError("could not resolve host")  # without a number, as those of fsspec

    monkeypatch.setattr(load, "load_run", refuse)
    with pytest.raises(UserError, match=r"gs://b/run cannot be read or written: could not resolve"):
        distill.load("gs://b/run")


def test_overrides_are_those_of_the_command_line(run_dir, resolved):
    from distill.api_arguments import check_overrides
    from distill.config import resolve

    values = {"SEED": 3, "METHOD": "step_by_step", "LEARNING_RATE": 1e-3, "LABELS": ["a", "b c"]}
    found = resolve.resolve(["jsonl_step_by_step"], check_overrides(values))
    assert {name: found.macros[name] for name in values} == values
    assert check_overrides("SEED=3") == ["SEED=3"] == check_overrides(["SEED=3"])
