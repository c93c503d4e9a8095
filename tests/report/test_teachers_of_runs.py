"""The teacher in reports: on which rows it is measured, and what first beats it."""

import re

import pytest
from invented import grouped

from benchmarks import report_scale
from distill.report import beating
from distill.report.build import build
from distill.report.teachers import find_teachers

pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")

GOLDS = [report_scale.LABELS[place % 4] for place in range(10)]


def test_the_teacher_is_measured_on_all_test_rows_with_its_label(tmp_path):
    # 8 rows have a teacher's label: 6 correct (one with a blank), one wrong, one empty.
    teacher = [f"{GOLDS[0]} ", *GOLDS[1:6], "other", "", None, None]
    fields = {"teacher": teacher, "teacher_accuracy": 0.5, "axes": {"method": "finetune"}}
    for seed in (1, 2):
        report_scale.write_run(tmp_path, f"a{seed}", [True] * 10, seed=seed, **fields)
    (found,) = find_teachers(grouped(tmp_path).cells)
    assert (found.accuracy, found.labeled, found.rows) == (6 / 8, 8, 10)
    build(tmp_path, str(tmp_path / "r.html"), str(tmp_path / "r.md"))
    text, twin = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert "teacher 0.750 (8 of 10 test rows)" in text
    assert "0.750<br>on 8 of 10 test rows" in twin and "0.500" not in twin
    assert "as the paper's few-shot teacher" in twin


def test_answers_of_the_teacher_are_compared_as_those_of_students(tmp_path):
    teacher, golds = ["4.0", "(2 + 2)", "5"], ["4", "4", "4"]
    extra = {"axes": {"method": "m"}, "teacher": teacher, "golds": golds}
    report_scale.write_run(tmp_path, "a", [True, True, True], rule="same_value", **extra)
    (found,) = find_teachers(grouped(tmp_path).cells)
    assert (found.accuracy, found.labeled) == (pytest.approx(2 / 3), 3)


def test_without_labels_of_test_rows_it_is_the_teacher_of_the_training_rows(tmp_path):
    fields = {"axes": {"method": "finetune"}, "teacher_accuracy": 0.5}
    report_scale.write_run(tmp_path, "a", [True] * 10, **fields)
    build(tmp_path, str(tmp_path / "r.html"), str(tmp_path / "r.md"))
    assert "teacher 0.500 (training rows)" in (tmp_path / "r.html").read_text()
    assert "0.500<br>on training rows" in (tmp_path / "r.md").read_text()


def test_a_rule_that_is_not_known_is_named(tmp_path):
    fields = {"axes": {"method": "finetune"}, "teacher_accuracy": 0.5, "teacher": GOLDS}
    report_scale.write_run(tmp_path, "a", [True] * 10, rule="mine.close_enough", **fields)
    report_scale.write_run(tmp_path, "b", [True] * 10, **fields, seed=2)
    (tmp_path / "runs" / "b" / "student.json").unlink()
    assert build(tmp_path, str(tmp_path / "r.html"))["runs_with_problems"] == 2
    text = (tmp_path / "r.html").read_text()
    assert "a: no accuracy of the teacher on its test rows: the answer rule" in text
    assert "b: no accuracy of the teacher on its test rows" in text
    assert "teacher 0.500 (training rows)" in text


def test_methods_with_other_teachers_have_a_line_each(tmp_path):
    for method, hits in (("a", 9), ("b", 9), ("c", 4)):
        teacher = GOLDS[:hits] + ["other"] * (10 - hits)
        axes = {"method": method}
        report_scale.write_run(tmp_path, method, [True] * 10, axes=axes, teacher=teacher)
    names = [teacher.name for teacher in find_teachers(grouped(tmp_path).cells)]
    assert names == ["teacher 0.900 (test rows) of a, b", "teacher 0.400 (test rows) of c"]


SIZES = {"small": 10, "large": 2_000}
# Correct rows of 10 by size and share; the teacher has 5. (large, .25) has not run.
HITS = {
    "finetune": {("small", 0.25): 1, ("small", 0.5): 4, ("small", 1.0): 5}
    | {("large", 0.5): 4, ("large", 1.0): 6},
    "step_by_step": {("small", 0.25): 4, ("small", 0.5): 6, ("small", 1.0): 5}
    | {("large", 0.5): 8, ("large", 1.0): 9},
}


def _write_grid(folder, dataset, sizes=("large", "small"), shares=(0.25, 0.5, 1.0), **more):
    for method, by_place in HITS.items():
        for size in sizes:  # the largest comes first in the file
            for share in shares:
                if (size, share) not in by_place:
                    continue
                right = [place < by_place[size, share] for place in range(10)]
                report_scale.write_run(
                    folder,
                    f"{dataset}-{method}-{size}-{share}",
                    right,
                    axes={"dataset": dataset, "size": size, "share": share, "method": method},
                    method=method,
                    dataset=dataset,
                    parameters=SIZES[size],
                    overrides=(f"LABEL_FRACTION={share!r}", "SEED=1"),
                    **more,
                )


def _rows(section):
    (table,) = section.blocks[1:]
    shown = [[each if isinstance(each, str) else each.text for each in row] for row in table.rows]
    details = [[[*each.details] for each in row if not isinstance(each, str)] for row in table.rows]
    return list(table.header), shown, details


def test_what_first_beats_the_teacher(tmp_path):
    _write_grid(tmp_path, "esnli", teacher_accuracy=0.5)
    _write_grid(tmp_path, "cqa")  # without a teacher
    header, shown, details = _rows(beating.section(grouped(tmp_path)))
    columns = ["smallest share, size small", "smallest share, size large"]
    assert header == ["dataset", "method", "teacher", *columns]
    assert shown == [
        ["esnli", "finetune", "0.500", "never", "1.0"],
        ["esnli", "step_by_step", "0.500", "0.5", "0.5"],
    ]
    # The mean of finetune, small, 1.0 equals the teacher's, and is not above it.
    assert details[0] == [["on training rows"], [], ["accuracy 0.600", "no result: 0.25"]]
    assert details[1][1] == ["accuracy 0.600", "not above it: 1.0"]
    build(tmp_path, str(tmp_path / "r.html"), str(tmp_path / "r.md"))
    twin, text = (tmp_path / "r.md").read_text(), (tmp_path / "r.html").read_text()
    assert "First beats the teacher" in twin and "<caption>First beats the teacher" in text
    assert re.search(r"\| esnli \| finetune \|.*\| never \| 1\.0<br>accuracy 0\.600", twin)


def test_it_needs_an_axis_and_a_teacher(tmp_path):
    _write_grid(tmp_path / "none", "esnli")
    assert beating.section(grouped(tmp_path / "none")) is None
    _write_grid(tmp_path / "single", "esnli", ("small",), (0.5,), teacher_accuracy=0.5)
    assert beating.section(grouped(tmp_path / "single")) is None
    _write_grid(tmp_path / "sizes", "esnli", shares=(0.5,), teacher_accuracy=0.7)
    header, shown, _ = _rows(beating.section(grouped(tmp_path / "sizes")))
    assert header == ["method", "teacher", "smallest size"]
    assert [row[2] for row in shown] == ["never", "large"]


def test_all_labels_are_more_than_any_number(tmp_path):
    for labels, hits in ((0, 9), (100, 2), (500, 8)):
        axes, overrides = {"method": "m", "budget": labels}, (f"NUM_LABELS={labels}",)
        right = [place < hits for place in range(10)]
        more = {"axes": axes, "overrides": overrides, "teacher_accuracy": 0.5}
        report_scale.write_run(tmp_path, f"a{labels}", right, **more)
    _, shown, _ = _rows(beating.section(grouped(tmp_path)))
    assert shown == [["m", "0.500", "500"]]
