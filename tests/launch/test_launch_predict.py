"""`distill launch predict`: a corpus is labeled on the slice of a training."""

from __future__ import annotations

import json

import pytest
from cloud import LIST, NAMES, START, Cloud, instances, rule, training

from distill.launch import state as states

FLAGS = ("--input=gs://bucket/corpus/*.jsonl", "--output_dir=gs://bucket/answers")


@pytest.fixture
def trained(cloud: Cloud) -> Cloud:
    """A slice that was kept after its training."""
    launch = cloud.launch()
    launch.state.created += ["instance template", "workload policy", "instance group"]
    launch.state.started = states.now()
    launch.state.note("the training succeeded", "succeeded")
    return cloud


def _ran(cloud: Cloud) -> set[str]:
    return {call.split("train.sh start ")[1] for call in cloud.asked(*START)}


def test_all_hosts_label_the_corpus_after_the_training_and_the_slice_is_deleted(trained, capsys):
    trained.answers(
        rule(LIST, instances()),
        *training("ended 0", times=2),  # of the training
        *training("running", times=1),
        *training("ended 0"),
    )
    assert trained.command("predict", *FLAGS, "--field=input={text}", "--rationale") == 0
    assert _ran(trained) == {
        "distill predict --run_dir=gs://bucket/runs/xl --output_dir=gs://bucket/answers "
        "'--input=gs://bucket/corpus/*.jsonl' '--field=input={text}' --beam=1 --answer=decode "
        "--rationale --block_rows=4096 --distributed --coordinator_port=8476 --start_timeout=600"
    }
    assert len(trained.asked(*START)) == 4
    out, err = capsys.readouterr()
    assert "slice v6e:4x4: absent" in out and "prediction: ended (exit codes xl-1: 0" in out
    assert "starting the prediction on all hosts" in err
    assert trained.state()["phase"] == "succeeded" and trained.state()["created"] == []


def test_a_prediction_that_ended_is_not_started_again_but_another_one_is(trained):
    answers = [rule(LIST, instances()), *training("ended 0")]
    trained.answers(*answers)
    assert trained.command("predict", *FLAGS, "--keep") == 0
    assert trained.command("predict", *FLAGS, "--keep") == 0
    assert len(trained.asked(*START)) == 4
    assert trained.command("predict", FLAGS[0], "--output_dir=gs://bucket/other", "--keep") == 0
    assert len(trained.asked(*START)) == 8
    assert trained.command("run", "--keep") == 0  # resumes at its last step
    assert len(trained.asked(*START)) == 12 and trained.state()["settings"]["job"] == []


def test_a_prediction_that_was_chosen_but_not_started_is_started(trained, monkeypatch):
    trained.answers(rule(LIST, instances()), *training("ended 0"))
    with monkeypatch.context() as patch:  # the process dies between the two

        def dies(*_):
            raise SystemExit

        patch.setattr("distill.launch.verbs.Launch.start", dies)
        with pytest.raises(SystemExit):
            trained.command("predict", *FLAGS)
    assert trained.state()["phase"] == "pending" and not trained.asked(*START)
    assert trained.command("predict", *FLAGS, "--keep") == 0
    assert len(trained.asked(*START)) == 4


def test_one_job_at_a_time(trained, capsys):
    trained.answers(rule(LIST, instances()), *training("running"))
    assert trained.command("predict", *FLAGS) == 2
    assert "the hosts still run `distill train --gin_file=" in capsys.readouterr().err
    assert not trained.asked(*START) and trained.state()["settings"]["job"] == []


def test_a_host_that_died_starts_the_prediction_again(trained, capsys):
    trained.answers(
        rule(LIST, instances()),
        *training("ended 0", times=2),
        *training("ended 137", NAMES[:1], times=2),
        *training("ended 75", NAMES[1:], times=2),
        *training("ended 0"),
    )
    assert trained.command("predict", *FLAGS) == 0
    assert len(trained.asked(*START)) == 8 and trained.state()["restarts"] == 1
    assert "): starting again, with the parts that are complete kept" in capsys.readouterr().err


def test_resume_goes_on_with_the_prediction(trained, capsys):
    trained.answers(rule(LIST, instances()), *training("ended 0", times=2), *training("ended 2"))
    assert trained.command("predict", *FLAGS) == 2
    assert "the prediction failed: exit codes xl-1: 2" in capsys.readouterr().err
    trained.forget()
    trained.answers(rule(LIST, instances()), *training("idle", times=1), *training("ended 0"))
    assert trained.command("resume") == 0
    assert all(text.startswith("distill predict ") for text in _ran(trained))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--input=rows.jsonl", FLAGS[1]), "got --input=rows.jsonl, a path of this machine"),
        ((FLAGS[0], "--output_dir=answers"), "got --output_dir=answers, a path of this machine"),
        ((*FLAGS, "--run_dir=runs/xl"), "got --run_dir=runs/xl, a path of this machine"),
        ((*FLAGS, "--length_penalty=1"), "--length_penalty works only with --beam=2 or more"),
        ((*FLAGS, "--part_rows=0"), "got --part_rows 0, expected 1 to"),
        ((FLAGS[0],), "--output_dir is missing"),
    ],
)
def test_what_the_hosts_would_refuse_is_refused_here(trained, capsys, flags, message):
    assert trained.command("predict", *flags) == 2
    assert message in capsys.readouterr().err
    assert not trained.calls


@pytest.mark.parametrize("backend", ["gke", "xpk"])
def test_clusters_get_files_with_the_command(cloud, backend, capsys):
    state = cloud.plan(backend)
    assert cloud.command("predict", *FLAGS, "--dry_run") == 0
    printed = capsys.readouterr().out
    assert "launch/gke/start.sh" in printed and not cloud.calls
    name = {"gke": "jobset.yaml", "xpk": "create.sh"}[backend]
    text = (state.folder / name).read_text().replace('", "', " ")
    assert f"{state.folder / name}" in printed
    assert "predict --run_dir=gs://bucket/runs/xl --output_dir=gs://bucket/answers" in text
    assert cloud.command("run", "--dry_run") == 0
    assert "distill train " in (state.folder / name).read_text().replace('", "', " ")


def test_status_names_the_job(trained, capsys):
    trained.answers(rule(LIST, instances()), *training("ended 0", times=2), *training("running"))
    assert trained.command("predict", *FLAGS, "--detach") == 0
    capsys.readouterr()
    assert trained.command("status") == 0
    assert "prediction: running; hosts: xl-1" in capsys.readouterr().out
    assert trained.command("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["task"] == "prediction"
