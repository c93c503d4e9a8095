"""`distill train`: the folder of a run that was given none, and what is said before it trains."""

import pytest

from distill.config import resolve
from distill.config.run_name import default_run_dir
from distill.errors import UserError
from distill.training import loop, run_folder

EXPERIMENT = "gin/experiments/tickets_step_by_step.gin"


@pytest.mark.parametrize(
    ("gin_files", "overrides", "name"),
    [
        ([EXPERIMENT], [], "tickets_step_by_step"),
        ([EXPERIMENT], ["RAW_DIR='/data'", "VOCABULARY_PATH='/t5.model'"], "tickets_step_by_step"),
        ([EXPERIMENT], ["SEED=1"], "tickets_step_by_step-SEED=1"),
        (
            ["tickets_finetune", "gin/sizes/mini.gin"],
            ["SEED=2", "LABEL_WEIGHT=0.5"],
            "tickets_finetune-mini-LABEL_WEIGHT=0.5-SEED=2",
        ),
        (
            [EXPERIMENT],
            ["NORMALIZATION='per_token'"],
            "tickets_step_by_step-NORMALIZATION=per_token",
        ),
    ],
)
def test_the_default_folder_is_named_after_the_command(gin_files, overrides, name):
    assert default_run_dir(gin_files, overrides) == f"runs/{name}"
    assert default_run_dir(gin_files, overrides[::-1]) == f"runs/{name}"


def test_what_does_not_belong_in_a_name_is_a_digest():
    folders = {
        default_run_dir([EXPERIMENT], overrides)
        for overrides in (
            ["TRAIN_FILE=my/rows.jsonl"],
            ["TRAIN_FILE=other/rows.jsonl"],
            ["LABELS=('a', 'b')"],
            [f"NUM_LABELS={'1' * 80}"],
        )
    }
    assert len(folders) == 4
    assert all(len(folder) == len("runs/tickets_step_by_step-12345678") for folder in folders)
    assert default_run_dir([EXPERIMENT], [], "t5x") != default_run_dir([EXPERIMENT], [])


def test_a_folder_of_another_configuration_suggests_a_free_name(tmp_path, resolved, micro):
    taken = tmp_path / "run"
    run_folder.open_run(taken, resolved.text)
    (tmp_path / "run-2").mkdir()
    other = resolve.resolve(["tickets_step_by_step"], (*micro, "SEED=5"))
    with pytest.raises(UserError, match=rf"SEED: 0 in the folder, 5 now.*--run_dir={taken}-3,"):
        run_folder.check_run(taken, other.text)


def test_the_time_of_a_run_is_told_after_its_first_steps(resolved, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    lines: list[str] = []
    steps = loop.FirstSteps(resolved.run.train, 1, 31.0, lines.append)
    now[0] += 0.4
    steps.after(2, {})
    assert not lines
    with steps.paused():  # an evaluation
        now[0] += 50
    now[0] += 1.6
    steps.after(3, {})
    now[0] += 9
    steps.after(4, {})
    assert lines == [
        "the first step took 31 s including compilation; at 1 s/step the remaining 9 "
        "steps take about 9 s, not counting evaluations"
    ]
