"""The demo's findings, page and figure, from invented results."""

import html
import importlib.util
import xml.etree.ElementTree as ET

import pytest

from benchmarks import report_scale
from distill.config import resolve
from distill.errors import UserError
from distill.inference.evaluator import Prediction
from distill.report.build import build, write_figure
from distill.results import store
from distill.sweep import demo, file, plan
from distill.sweep.findings import findings

RIGHT = {  # of 100 test rows, by policy, labels, teacher, method
    ("natural", 250, "perfect", "finetune"): 50,
    ("natural", 250, "perfect", "finetune, stronger"): 60,
    ("natural", 250, "perfect", "step_by_step"): 70,
    ("natural", 500, "perfect", "finetune"): 60,
    ("natural", 500, "perfect", "finetune, stronger"): 55,
    ("natural", 500, "perfect", "step_by_step"): 98,
    ("hard", 2000, "noisy", "distill_labels"): 30,
    ("hard", 2000, "noisy", "step_by_step"): 96,
}
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)
NAMES = ("policy", "labels", "teacher", "method")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Records of the demo's settings and two seeds, the last of which is written first."""
    folder = tmp_path_factory.mktemp("demo")
    for key, right in RIGHT.items():
        for seed in (12, 11):
            axes = dict(zip(NAMES, key, strict=True))
            rows = [i < right for i in range(100)]
            teacher = {11: 0.8, 12: 0.9}[seed] if axes["teacher"] == "noisy" else 1.0
            fields = {"axes": axes, "labels": axes["labels"], "teacher_accuracy": teacher}
            report_scale.write_run(
                folder, f"{'-'.join(map(str, key))}-{seed}", rows, seed=seed, **fields
            )
    return folder


def test_findings_say_which_way_the_numbers_fall(out):
    few, many, noisy, speed, _ = findings(demo.read_groups(out), latency_ms=2.0)
    assert "labels 250" in few and few.endswith(
        "best fine-tuning (finetune, stronger) 0.600: +10.0 points."
    )
    assert "labels 500" in many and many.endswith(
        "best fine-tuning (finetune) 0.600: +38.0 points."
    )
    assert "correct on 85.0% of its tickets" in noisy and "2.0 ms" in speed
    assert noisy.endswith("0.902, 0.902; every seed is above the teacher.")


def test_findings_admit_what_is_lost(tmp_path):
    for method, right in (("finetune", 70), ("step_by_step", 60)):
        axes = {"method": method, "teacher": "noisy"}
        rows = [i < right for i in range(100)]
        report_scale.write_run(tmp_path, method, rows, axes=axes, labels=500, teacher_accuracy=0.6)
    ours, noisy, *_ = findings(demo.read_groups(tmp_path), latency_ms=2.0)
    assert (
        ours == "labels 500: step_by_step 0.600, best fine-tuning (finetune) 0.700: -10.0 points."
    )
    assert "; not every seed is above the teacher." in noisy


def test_the_ticket_is_answered_by_a_student_of_the_perfect_teacher(out):
    cell = demo.shown_student(demo.read_groups(out))
    assert (cell.method, cell.runs[0].record.labels, cell.runs[0].record.seed) == (
        "step_by_step",
        500,
        11,
    )
    assert cell.runs[0].record.axes["teacher"] == "perfect"


@needs_matplotlib
def test_the_page_has_the_ticket_the_findings_and_the_noisy_teacher(out):
    answer = Prediction(
        "t", demo.TICKET, None, "repair", None, None, rationale="appliance & damage"
    )
    ticket = demo.ticket_section("b", answer, "refund")
    build(out, str(out / "r.html"), first=[ticket])
    page = (out / "r.html").read_text()
    first = html.unescape(page[page.index("<main") : page.index('id="missing"')])
    for text in (demo.TICKET, "appliance & damage", "repair (wrong: the gold label is refund)"):
        assert text in first
    assert "appliance &amp; damage" in page
    assert "repair (correct)" in str(demo.ticket_section("b", answer, "repair"))
    figures = page[page.index('id="curves"') : page.index('id="training"')]
    assert figures.count("<svg") == 2 and "teacher 0.850" in figures and "teacher 1.000" in figures


@needs_matplotlib
def test_the_figure_has_the_curves_and_the_students_of_the_noisy_teacher(out):
    write_figure(out, out / "f.svg")
    words = " ".join(ET.parse(out / "f.svg").getroot().itertext())
    assert "Accuracy by labels: policy natural, teacher perfect" in words
    assert "policy hard, labels 2,000, teacher noisy" in words and "teacher 0.850" in words
    assert words.count("distill_labels") == 2  # below its point, and in the legend
    assert words.count("test accuracy") == 2


def test_a_failed_run_and_another_sweep_are_named(tmp_path):
    failed = {"axes": {"method": "a"}, "status": "failed", "error": "no rows"}
    store.append(tmp_path, report_scale.record("x", **failed))
    with pytest.raises(UserError, match="x failed: no rows; run the sweep again"):
        demo.read_groups(tmp_path)
    other = tmp_path / "other"
    report_scale.write_run(other, "y", [True], axes={"size": 1})
    with pytest.raises(UserError, match="y has no axis `method`: expected the results of gin/sw"):
        demo.read_groups(other)


@pytest.mark.parametrize(("name", "runs"), [("smoke", 2), ("demo", 24), ("demo_full", 60)])
def test_the_runs_of_the_demo_are_experiments(name, runs):
    """Each has the macros of the experiment that README's table names, apart from the budget."""
    planned = plan.make_plan(file.read_sweep(f"gin/sweeps/{name}.toml"))
    assert len(planned) == runs
    experiments = {
        ("finetune", "perfect"): "tickets_finetune",
        ("finetune, stronger", "perfect"): "tickets_finetune_strong",
        ("step_by_step", "perfect"): "tickets_step_by_step",
        ("distill_labels", "noisy"): "tickets_noisy_distill_labels",
        ("step_by_step", "noisy"): "tickets_noisy_step_by_step",
    }
    for run in planned:
        experiment = experiments[run.axes["method"], run.axes.get("teacher", "perfect")]
        overrides = [f"SEED={run.seed}", f"NUM_LABELS={run.axes.get('labels', 500)}"]
        overrides += [f"POLICY={run.axes['policy']}"] if "policy" in run.axes else []
        expected = resolve.resolve([f"gin/experiments/{experiment}.gin"], overrides)
        assert run.digest == plan.config_digest(expected), run.id


def test_the_noisy_teacher_errs_as_often_as_readme_says():
    """Its students train on the tickets' own teacher: what `distill annotate` would write."""
    from distill.data.datasets import load_splits
    from distill.data.examples import teacher_accuracy

    runs = plan.make_plan(file.read_sweep("gin/sweeps/demo.toml"))
    accuracies = []
    for run in runs:
        if run.axes["teacher"] == "noisy" and run.axes["method"] == "step_by_step":
            splits = load_splits(run.resolved.run.data)
            accuracies.append(teacher_accuracy([*splits.train, *splits.validation]))
    assert [round(a, 3) for a in accuracies] == [0.861, 0.870, 0.864]
