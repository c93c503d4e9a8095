"""Arguments of any type: a UserError names a bad one, and what is given is not changed."""

from __future__ import annotations

import copy
import pathlib
import types

import numpy as np
import pytest

import distill
from distill import UserError
from distill.api_arguments import check_overrides, check_rows
from distill.data.examples import Example
from distill.inference import inputs
from distill.student.beam import check_beam

EXPERIMENT = "tickets_step_by_step"
SURROGATE = "\ud800"


@pytest.mark.parametrize("path", [None, 5, b"run", ["run"], "", "a\0", SURROGATE])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(UserError, match=r"^got run_dir "):
        distill.load(path)
    with pytest.raises(UserError, match=r"^got run_dir "):
        distill.evaluate(path)
    if path is not None:
        with pytest.raises(UserError, match=r"^got run_dir "):
            distill.train(EXPERIMENT, run_dir=path)


@pytest.mark.parametrize(
    ("names", "overrides", "message"),
    [
        (None, (), "got gin_files None"),
        (b"tickets", (), "got gin_files b'tickets'"),
        ([5], (), "got gin_files 5"),
        ({"SEED": 1}, (), r"got gin_files {'SEED': 1}, .*overrides"),
        (EXPERIMENT, None, "got overrides None"),
        (EXPERIMENT, 5, "got overrides 5"),
        (EXPERIMENT, [("SEED", 3)], r"got overrides \('SEED', 3\)"),
        (EXPERIMENT, b"SEED=3", "got overrides b'SEED=3'"),
        (EXPERIMENT, {5: 3}, "got overrides 5, expected the name of a macro"),
        (EXPERIMENT, {"SEED=1 #": 3}, "got overrides 'SEED=1 #', expected the name"),
        (EXPERIMENT, {"SEED\n": 3}, "expected the name of a macro"),
        (EXPERIMENT, {"SEED": 10**5000}, "got a value of SEED that cannot be written"),
        (EXPERIMENT, {"SEED": np.float32(0.5)}, "got SEED = 0.5, expected"),
    ],
)
def test_bad_settings_of_a_run_are_refused(names, overrides, message, tmp_path):
    with pytest.raises(UserError, match=message):
        distill.train(names, overrides, run_dir=tmp_path / "run")
    assert not any(tmp_path.iterdir())


def test_arrays_and_scalars_of_numpy_are_values():
    values = {
        "A": np.int64(3),
        "B": np.float64(0.5),
        "C": np.array(["x", "y"]),
        "D": (np.str_("z"),),
    }
    assert check_overrides(values) == ["A=3", "B=0.5", "C=['x', 'y']", "D=('z',)"]
    assert check_overrides({"A": pathlib.Path("a b"), "B": True}) == ["A=a b", "B=True"]


def test_switches_and_functions_are_not_guessed(tmp_path):
    with pytest.raises(UserError, match="got profile 'no', expected True or False"):
        distill.train(EXPERIMENT, run_dir=tmp_path, profile="no")
    for call in (distill.load, distill.evaluate):
        with pytest.raises(UserError, match="got progress 5, expected a function"):
            call(tmp_path, progress=5)
    with pytest.raises(UserError, match="got progress 5, expected a function"):
        distill.train(EXPERIMENT, run_dir=tmp_path, progress=5)
    with pytest.raises(UserError, match="got split=array"):
        distill.evaluate(tmp_path, split=np.array(["test", "a"]))
    student = distill.Student(types.SimpleNamespace())
    with pytest.raises(UserError, match=r"got rationales 'no', expected True or False"):
        student.predict("a", rationales="no")


@pytest.mark.parametrize("rows", [None, 5, b"ab", np.array("a")])
def test_what_holds_no_rows_is_refused(rows):
    with pytest.raises(UserError, match=r"^got rows .*expected a list of strings"):
        check_rows(rows)


def test_a_table_is_refused_because_its_items_are_its_columns():
    class DataFrame(list):
        columns = ("input", "label")

    with pytest.raises(UserError, match=r"type DataFrame.*to_dict\('records'\)"):
        check_rows(DataFrame(["input", "label"]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "a", 1: 2}, "row 0: got the field 1"),
        ({"input": "a", None: 2}, "row 0: got the field None"),
        ({"input": "a", "choices": ["b", SURROGATE]}, "row 0: `choices` .*surrogate"),
        (Example(id=None, input="a"), "row 0: `id` is missing or empty"),
        (Example(id="a", input=3), "row 0: got 3 for `input`"),
        (Example(id="a", input=" "), "row 0: `input` is blank"),
        (Example(id="a", input="b", label=3), "row 0: got 3 for `label`"),
        (Example(id="a", input="b", choices="xy"), "row 0: got 'xy' for `choices`"),
        (Example(id="a", input="b", choices=5), "row 0: got 5 for `choices`"),
        (Example(id="a", input="b", extra=5), "row 0: got an Example with bad fields"),
    ],
)
def test_bad_rows_are_named(row, message):
    with pytest.raises(UserError, match=message):
        inputs.of_objects([row])


@pytest.mark.parametrize("beam", [0, -1, 2.5, "2", None, True, [2], 10**30, 1001])
def test_a_beam_that_no_search_has_is_refused(beam):
    with pytest.raises(UserError, match=r"got --beam .*, expected 1 \(greedy\)"):
        check_beam(beam, 0.6)


@pytest.mark.parametrize("penalty", ["1", None, True, float("nan"), float("inf"), -1, 1e9, 10**400])
def test_a_penalty_that_no_search_has_is_refused(penalty):
    with pytest.raises(UserError, match=r"got --length_penalty .*, expected 0"):
        check_beam(2, penalty)


def test_what_is_given_is_not_changed(run_dir):
    rows = [{"input": "my fan", "choices": ["refund", "repair"], "shop": {"a": [1]}}]
    before, example = copy.deepcopy(rows), Example(id="a", input="my fan", extra={"x": [1]})
    student = distill.load(run_dir)
    (answer,) = student.predict(rows)
    assert rows == before and answer.extra == {"shop": {"a": [1]}}
    student.predict([example])
    assert example == Example(id="a", input="my fan", extra={"x": [1]})
    found = distill.evaluate(student, rows={"input": "my fan", "label": "refund"})
    assert found.n == 1


def test_a_student_knows_its_folder_when_the_working_directory_changes(run_dir, monkeypatch):
    monkeypatch.chdir(run_dir.parent)
    student = distill.load(run_dir.name)
    monkeypatch.chdir("/")
    assert student.run_dir == str(run_dir.resolve())
