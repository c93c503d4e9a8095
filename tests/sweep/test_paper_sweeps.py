"""The sweeps of the paper's tables and figures plan, with the paper's settings."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import re
import shutil

import pytest

from distill import cli
from distill.config import files
from distill.preflight.host_memory import parameter_count
from distill.sweep import plan
from distill.sweep.file import read_sweep

SWEEPS = pathlib.Path(files.gin_root()) / "gin" / "sweeps"
# Number of runs of each file.
RUNS = {
    "paper_tables_1_2": 80,
    "paper_figure_4": 160,
    "paper_figure_5": 160,
    "paper_figure_6": 64,
    "paper_figure_6_11b": 32,
    "paper_figure_7": 80,
    "paper_figure_7_11b": 40,
    "paper_figure_8": 320,
    "paper_figure_8_11b": 160,
    "paper_figure_9": 240,
    "paper_figure_9_11b": 120,
    "paper_figure_9_svamp": 80,
    "esnli_mini": 15,
    "svamp_mini": 15,
    "svamp_mini_two_teachers": 3,
}
PAPER = sorted(name for name in RUNS if name.startswith("paper_"))
METHODS = {"finetune", "distill_labels", "single_task", "step_by_step", "answer_first"}
VOCABULARY = pathlib.Path(__file__).parents[1] / "golden" / "hf_loss" / "spiece.model"
PARAMETERS = {"base": 248e6, "large": 783e6, "xxl": 11.1e9}
SPLITS = {
    "esnli": ("train", "valid", "test"),
    "anli1": ("train", "test"),
    "cqa": ("train", "test"),
    "svamp": ("train", "test"),
    "asdiv": ("train",),
}


def _touch(path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small vocabulary, and an empty file for each other file that sweeps read."""
    root = tmp_path_factory.mktemp("paper")
    data = root / "data" / "datasets"
    for dataset, splits in SPLITS.items():
        for split in splits:
            _touch(data / dataset / f"{dataset}_{split}.json")
            _touch(data / dataset / "llm" / f"{split}_CoT_0.json")
            _touch(data / "gpt-neox" / dataset / f"{split}.json")
    shutil.copy(VOCABULARY, root / "data" / "cc_all.32000.100extra.model")
    for size in PARAMETERS:
        _touch(root / "checkpoints" / f"t5_1_1_{size}" / "checkpoint_1000000" / "checkpoint")
    return root


@pytest.fixture(scope="module")
def planned(folder):
    """By name of the file: its sweep, and its runs of the first seed and the first share."""

    def first(axis):
        is_share = axis.name in ("fraction", "asdiv")
        return dataclasses.replace(axis, choices=axis.choices[:1]) if is_share else axis

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = {}
        for name in RUNS:
            sweep = read_sweep(name)
            axes = tuple(map(first, sweep.axes))
            runs = plan.make_plan(dataclasses.replace(sweep, seeds=sweep.seeds[:1], axes=axes))
            plan.check_data(sweep.path, runs)
            found[name] = sweep, runs
    return found


def test_all_files_plan(planned):
    assert {path.stem for path in SWEEPS.glob("paper_*.toml")} == set(PAPER)
    counted = {name: len(plan.combinations(sweep)) for name, (sweep, _) in planned.items()}
    assert counted == RUNS
    assert all(not plan.equal_runs(runs) for _, runs in planned.values())


@pytest.mark.parametrize("name", PAPER)
def test_settings_are_those_of_the_paper(name, planned):
    sweep, runs = planned[name]
    assert len(sweep.seeds) == 4
    for each in runs:
        run = each.resolved.run
        size = re.search(r"t5_1_1_(\w+)/", run.init_from)[1]
        assert parameter_count(run.student) == pytest.approx(PARAMETERS[size], rel=0.01)
        steps = (32, 4000) if size == "xxl" else (64, 10_000)
        assert (run.train.batch_size, run.train.train_steps) == steps
        assert (run.optimizer.name, run.optimizer.learning_rate) == ("adamw", 5e-5)
        assert run.data.input_length == 1024
        assert run.weighting.normalization == "per_token_batch"
        assert run.train.checkpoint == "last"
        if each.axes["dataset"] in ("esnli", "anli1"):
            options = run.data.dataset_options
            assert (options["raw_split"], options["raw_test_split"]) == ("train", "test")


@pytest.mark.parametrize("name", ["paper_figure_5", "paper_figure_7", "paper_figure_9"])
def test_students_of_unlabeled_rows_see_the_teachers_labels_alone(name, planned):
    _, runs = planned[name]
    assert {run.resolved.run.data.label_source for run in runs} == {"teacher"}


@pytest.mark.parametrize("name", ["esnli_mini", "svamp_mini"])
def test_the_small_twins_choose_by_validation(name, planned):
    _, runs = planned[name]
    configs = [run.resolved.run for run in runs]
    assert {config.data.method for config in configs} == METHODS
    assert {config.train.checkpoint for config in configs} == {"best"}
    assert len({config.train.eval_period for config in configs}) == 1
    assert {config.weighting.normalization for config in configs} == {"per_token"}


def test_two_teachers_differ_from_step_by_step_in_their_rationales_alone(planned):
    (run,) = planned["svamp_mini_two_teachers"][1]
    config = run.resolved.run
    options = {**config.data.dataset_options}
    assert options["raw_teacher"] == ("palm", "gpt-neox")
    palm = dataclasses.replace(config.data, dataset_options=options | {"raw_teacher": "palm"})
    one = [each for each in planned["svamp_mini"][1] if each.axes["method"] == "step_by_step"]
    assert [each.resolved.run for each in one] == [dataclasses.replace(config, data=palm)]
    assert run.id != one[0].id


@pytest.mark.parametrize("name", RUNS)
def test_headers_say_what_is_needed(name):
    lines = (SWEEPS / f"{name}.toml").read_text().splitlines()
    header = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    text = " ".join(line.lstrip("# ") for line in header)
    assert f"distill sweep {name} --out=" in text and f"{RUNS[name]} runs" in text
    for word in ("Data:", "Expected time:"):
        assert word in text, word
    assert ("Not run yet" in text) != ("Measured:" in text)
    if name in PAPER:
        assert "Student:" in text and "distill preflight " in text and "INIT_FROM" in text


@pytest.mark.parametrize("missing", ["checkpoints", "data"])
def test_what_is_absent_is_said_in_one_message(missing, folder, tmp_path, monkeypatch, capsys):
    for name in {"checkpoints", "data"} - {missing}:
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", "paper_tables_1_2", "--out=out", "--dry_run", "--shard=1/20"]) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("distill: ")]
    assert len(said) == 1
    expected = {"checkpoints": "INIT_FROM = 'checkpoints/t5_1_1_base/", "data": "set --raw_dir"}
    assert expected[missing].lower() in said[0].lower()


def test_flags_say_where_data_and_checkpoint_are(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = [
        f"--raw_dir={folder}/data/datasets",
        f"--vocabulary_path={folder}/data/cc_all.32000.100extra.model",
    ]
    start = f"--init_from={folder}/checkpoints/t5_1_1_base/checkpoint_1000000"
    shard = ["--out=out", "--shard=1/80", "--list"]
    assert cli.main(["sweep", "paper_tables_1_2", *shard, *flags, start]) == 0
    listed = capsys.readouterr().out
    for text in ("RAW_DIR", "VOCABULARY_PATH", "INIT_FROM"):
        assert listed.count(f"--gin.{text}=") == 1, listed
    assert listed.count(str(folder)) == 3
    # Sizes that start from different checkpoints name them in the file.
    assert cli.main(["sweep", "paper_figure_6", *shard, *flags, start]) == 2
    assert "[axes.size] sets INIT_FROM, and so does --init_from" in capsys.readouterr().err
