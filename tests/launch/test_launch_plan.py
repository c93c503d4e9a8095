"""`plan`: what it shows, what it refuses, and that it creates nothing."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pytest
from cloud import BASE, ON_HOSTS, Cloud

from distill import cli
from distill.preflight import search


@pytest.fixture
def plan(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Plans in a folder of its own, by estimate."""
    monkeypatch.chdir(cloud.folder)
    monkeypatch.setattr(search, "nearest", lambda *_: None)  # takes long, and has tests of its own

    def run(*more: str, **changes: str | None) -> int:
        usual = {**BASE, **ON_HOSTS, "gin_file": "tickets_step_by_step"}
        flags = [f"--{name}={value}" for name, value in {**usual, **changes}.items() if value]
        return cli.main(["launch", "plan", "--estimate", *flags, *more])

    return run


def test_a_plan_shows_time_cost_and_every_command(plan, cloud, capsys):
    assert plan("--price=2.5", "--max_run_hours=10", "--seed=3", "--gin.TRAIN_STEPS=300") == 0
    out = capsys.readouterr().out
    assert "launch xl: v6e:4x4, 16 chips on 4 hosts, on_demand, in us-east5-a" in out
    assert "at most 400.00" in out  # 10 hours of 16 chips
    for text in ("FITS", "instance-templates create xl", "train.sh start distill train"):
        assert text in out
    assert "managed delete xl" in out and "the slice is deleted after 10 hours" in out
    assert cloud.calls == []
    state = cloud.state()
    assert state["phase"] == "planned" and state["created"] == []
    assert state["settings"]["train_arguments"] == [
        "--gin_file=gin/experiments/tickets_step_by_step.gin",
        "--gin.TRAIN_STEPS=300",
        "--gin.SEED=3",
    ]
    files = {path.name for path in (cloud.folder / "xl.launch").iterdir()}
    assert files == {"launch.env", "startup.sh", "install.sh", "train.sh", "guard.sh"}


def test_without_a_price_it_says_where_prices_are(plan, capsys):
    assert plan() == 0
    assert "cost: give --price" in capsys.readouterr().out


def test_json_has_the_commands(plan, capsys):
    assert plan("--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["hosts"] == 4 and result["cost_at_most"] is None
    assert result["commands"]["down"][0]["argv"][:2] == ["gcloud", "compute"]


@pytest.mark.parametrize(
    ("more", "changes", "message"),
    [
        (
            ["--gin.BATCH_SIZE=16384"],
            {"topology": "v6e:1x1"},
            "v6e:1x1: the run does not fit: see the end of the report; nothing was created",
        ),
        (
            ["--backend=queued_resource"],
            {"topology": "v7:2x2x2"},
            "it has v4, v5e, v5p, v6e; for v7 use --backend=instance_group",
        ),
        ([], {"topology": "v5e:4x4"}, "it has v5p, v6e, v7; for v5e use --backend="),
        ([], {"topology": "v5p:3x3x4"}, "hosts of v5p have 2x2x1 chips"),
        (
            ["--backend=queued_resource"],
            {"topology": "v5p:2x2x8"},
            "queued resources cannot name; expected v5p:2x4x4",
        ),
        (
            ["--gin.TRAIN_STEPS=2000000000", "--max_run_hours=0.5"],
            {},
            "hours on v6e:4x4, more than --max_run_hours=0.5: raise it",
        ),
        (
            ["--fallback_topology=v6e:1x1", "--gin.BATCH_SIZE=16384"],
            {},
            "v6e:1x1: the run does not fit",
        ),
        (["--provisioning=reserved"], {}, "--reservation=NAME must be given together"),
        (["--queue=q"], {}, "--queue does not work with --backend=instance_group"),
        (["--image=i"], {}, "--image and --source were both given"),
        ([], {"run_dir": "runs/xl"}, "got --run_dir='runs/xl', expected gs://BUCKET/"),
        ([], {"zone": "us-east5"}, "expected a zone such as us-east5-a"),
        ([], {"name": "XL"}, "expected at most 40 lower-case letters"),
        ([], {"project": None}, "--project is missing"),
        (["--max_run_hours=0"], {}, "got --max_run_hours 0.0, expected more than 0"),
        (
            ["--vocabulary_path=words.model"],
            {},
            "a path of this machine, which the hosts do not see: copy it (`gcloud storage cp",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused(plan, cloud, capsys, more, changes, message):
    (cloud.folder / "words.model").write_text("")
    assert plan(*more, **changes) == 2
    assert message in capsys.readouterr().err
    assert cloud.calls == [] and not (cloud.folder / "xl.launch.json").exists()


def test_the_t5x_engine_is_refused_before_a_slice_is_paid_for(plan, cloud, capsys):
    assert plan("--engine=t5x") == 2
    assert "got the engine t5x, but distill launch works only with" in capsys.readouterr().err
    assert not (cloud.folder / "xl.launch.json").exists()


def test_a_gin_file_of_this_machine_is_copied_to_the_bucket(plan, cloud):
    own = cloud.folder / "mine.gin"
    own.write_text("include 'gin/experiments/tickets_step_by_step.gin'\nTRAIN_STEPS = 200\n")
    assert plan(gin_file=str(own)) == 0
    settings = cloud.state()["settings"]
    target = "gs://bucket/runs/xl.launch/mine.gin"
    assert settings["train_arguments"] == [f"--gin_file={target}"]
    assert settings["gin_uploads"] == [[str(own), target]]


def test_a_launch_with_a_slice_is_not_planned_again(plan, cloud, capsys):
    state = cloud.plan()
    state.created.append("instance group")
    state.note("up", "up")
    assert plan() == 2
    assert "has created instance group: delete it first" in capsys.readouterr().err


def test_the_source_is_the_commit_of_the_checkout(plan, capsys):
    assert plan(source=None) == 0
    out = capsys.readouterr().out
    root = pathlib.Path(cli.__file__).parents[1]
    assert f"git -C {root} archive --output=xl.launch/distill.tar.gz HEAD" in out
    assert "storage cp xl.launch/distill.tar.gz gs://bucket/runs/xl.launch/distill.tar.gz" in out


def test_a_run_folder_that_was_not_given_is_missing(plan, capsys):
    assert plan(run_dir=None) == 2
    assert "--run_dir is missing" in capsys.readouterr().err
