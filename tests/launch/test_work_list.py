"""`--work_list`: a launch for each run of a sweep, several at once, each done once."""

from __future__ import annotations

import json
import pathlib
import re
import threading

import pytest
from cloud import LIST, STATE, fails, rule, settings
from work_lists import CREATE, DELETE, FINISHED, ROOT, RUNS, command, done, ends, host, state_of

from distill.launch import many, work_list
from distill.launch import state as states


def test_names_are_valid_distinct_and_stable():
    items = [
        work_list.Item(run, f"gs://b/{n}/runs/{run}", (), ())
        for run in (*RUNS, "=+", "7-seed1-dddddddd", "x" * 200, "x" * 199 + "y")
        for n in (1, 2)
    ]
    found = [item.name for item in items]
    assert len(set(found)) == len(items)
    assert found == [work_list.Item(i.run, i.run_dir, ("other",), ()).name for i in items]
    for name in found:
        settings(name=name)  # which refuses names that Compute Engine and GKE do not take
    assert re.fullmatch(r"finetune-seed1-aaaaaaaa-[0-9a-f]{8}", found[0])


def test_a_list_without_launches_says_how_to_plan_them(path, cloud, capsys):
    states_of_two = pathlib.Path(work_list.states_folder(str(path)))
    (states_of_two / f"{RUNS[1]}.launch.json").unlink()
    assert command(path, "run") == 2
    assert (
        f"1 run of {path} has no launch, the first {RUNS[1]}: `distill launch plan --work_list="
        in capsys.readouterr().err
    )
    assert cloud.calls == []


def test_launches_of_another_bucket_are_refused(path, cloud, capsys):
    state = state_of(path, RUNS[0])
    other = f"gs://other/runs/{RUNS[0]}"
    state.settings = settings(name="other", run_dir=other)
    state.save()
    assert command(path, "run") == 2
    assert f"is of a launch that writes {other}, but" in capsys.readouterr().err
    assert cloud.calls == []


def test_every_run_gets_a_slice_unless_its_results_are_there(path, names, cloud, capsys):
    cloud.answers(done(RUNS[1]), *map(host, names), *ends(names[0]), *ends(names[2]))
    assert command(path, "run", "--at_once=2") == 0
    out, said = capsys.readouterr()
    rows = [row.split()[:3] for row in out.splitlines()[2:5]]
    assert rows == [
        [RUNS[0], names[0], "done"],
        [RUNS[1], names[1], "done"],  # before
        [RUNS[2], names[2], "done"],
    ]
    assert f"next: distill sweep FILE --out=FOLDER --collect={ROOT}" in out
    assert f"{RUNS[0]}: starting the training on all hosts" in said and "3/3 " in said
    created = cloud.asked(*CREATE)
    assert len(created) == 2 and not any(names[1] in call for call in created)
    assert len(cloud.asked(*DELETE)) == 2
    assert state_of(path, RUNS[0]).phase == "succeeded"
    cloud.forget()
    cloud.answers(done(*RUNS))
    assert command(path, "run") == 0  # again: nothing is left to do
    assert cloud.verbs == [f"gcloud storage ls {ROOT}/runs/*/results.json"]


def test_a_bucket_without_results_is_empty(path, names, cloud):
    none = "ERROR: (gcloud.storage.ls) One or more URLs matched no objects."
    cloud.answers(fails(FINISHED, none), *map(host, names), *(r for n in names for r in ends(n)))
    assert command(path, "run") == 0
    assert len(cloud.asked(*CREATE)) == 3


def test_a_bucket_that_cannot_be_listed_ends_the_command(path, cloud, capsys):
    cloud.answers(fails(FINISHED, "ERROR: does not currently have an active account"))
    assert command(path, "run") == 2
    assert "could not list the finished runs: the tool is not logged in" in capsys.readouterr().err
    assert len(cloud.calls) == 1


def test_a_run_that_fails_is_named_its_log_kept_its_slice_deleted_and_it_is_tried_again(
    path, names, cloud, capsys
):
    log = rule(("train.sh logs",), "ValueError: no\n")
    quota = fails((*CREATE, names[1]), "ERROR: Quota 'TPUS' exceeded")
    trained = (*ends(names[0], 1), *ends(names[2]))
    cloud.answers(done(), quota, log, *map(host, names), *trained)
    assert command(path, "run") == 2
    out, said = capsys.readouterr()
    assert f"2 of 3 runs failed, the first, {RUNS[0]}, with: the training failed: exit" in said
    assert [row.split()[2] for row in out.splitlines()[2:5]] == ["failed", "failed", "done"]
    kept = pathlib.Path(work_list.states_folder(str(path))) / f"{RUNS[0]}.log"
    assert kept.read_text() == f"== print the log on {names[0]}-1\nValueError: no\n\n"
    for run in RUNS:
        assert state_of(path, run).created == []
    assert state_of(path, RUNS[0]).phase == "failed"
    assert any(names[0] in call for call in cloud.asked(*DELETE))
    cloud.forget()
    cloud.answers(done(RUNS[2]), *map(host, names), *ends(names[0]), *ends(names[1]))
    assert command(path, "run") == 0
    assert len(cloud.asked(*CREATE)) == 2 and state_of(path, RUNS[0]).phase == "succeeded"


def test_after_a_kill_a_training_that_runs_is_followed_on_its_slice(path, names, cloud):
    state = state_of(path, RUNS[0])
    state.created += ["instance template", "instance group"]
    state.started = states.now()
    state.note("the training runs", "running")
    asked = (f"compute ssh {names[0]}-1 ", *STATE)
    running = rule(asked, f"distill-state {names[0]}-1 running\n", 2)
    ended = rule(asked, f"distill-state {names[0]}-1 ended 0\n")
    cloud.answers(done(*RUNS[1:]), host(names[0]), running, ended)
    assert command(path, "run") == 0
    assert not cloud.asked(*CREATE) and len(cloud.asked(*DELETE)) == 1


def test_a_slice_that_another_process_works_on_is_not_deleted(path, names, cloud, monkeypatch):
    """The other process writes the state file after this one has got the slice."""
    up = many.Launch.up

    def up_and_other(launch, keep=False):
        status = up(launch, keep)
        states.load(launch.state.path).note("by another process")
        return status

    monkeypatch.setattr(many.Launch, "up", up_and_other)
    cloud.answers(done(*RUNS[1:]), host(names[0]), *ends(names[0]))
    assert command(path, "run") == 2
    assert cloud.asked(*CREATE) and not cloud.asked(*DELETE)


def test_a_slice_whose_training_may_still_run_stays(path, names, cloud, capsys):
    asked = (f"compute ssh {names[0]}-1 ", *STATE)
    idle = rule(asked, f"distill-state {names[0]}-1 idle\n", 1)
    silent = fails(asked, "ssh: connect to host 10.0.0.2 port 22: Connection refused", 255)
    cloud.answers(done(*RUNS[1:]), host(names[0]), idle, silent)
    assert command(path, "run") == 2
    out, said = capsys.readouterr()
    assert "the slice is ready, but" in said and "may cost money: instance template" in said
    assert "instance group" in out  # the column of what is left
    assert not cloud.asked(*DELETE) and state_of(path, RUNS[0]).phase == "running"


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_slices_than_at_once_exist(path, cloud, monkeypatch, at_once):
    there, counts, guard = set[str](), list[int](), threading.Lock()
    first = threading.Barrier(at_once)  # so many get their slices before one ends

    def up(launch, keep=False):
        with guard:
            there.add(launch.settings.name)
            counts.append(len(there))
        if len(counts) <= at_once:
            first.wait(60)

    def run(launch, *_):
        threading.Event().wait(0.1)  # in which one slice too many would come
        with guard:
            there.remove(launch.settings.name)

    monkeypatch.setattr(many.Launch, "up", up)
    monkeypatch.setattr(many.Launch, "run", run)
    assert command(path, "run", f"--at_once={at_once}") == 0
    assert max(counts) == at_once and len(counts) == 3 and not there


def test_ctrl_c_deletes_slices_that_are_not_ready_and_leaves_trainings(
    path, names, cloud, monkeypatch, capsys
):
    """Two slices at once: one trains, the other waits for its hosts; the third has not begun."""
    creating = rule((*LIST, f" {names[1]} "), [])
    running = rule(STATE, f"distill-state {names[0]}-1 running\n")
    idle = rule(STATE, f"distill-state {names[0]}-1 idle\n", 1)
    cloud.answers(done(), host(names[0]), creating, idle, running)
    wait = many.wait

    def interrupted(*arguments, **more):
        trains = state_of(path, RUNS[0]).phase == "running"
        if trains and cloud.asked(*LIST, names[1]):
            monkeypatch.setattr(many, "wait", wait)
            raise KeyboardInterrupt
        return wait(*arguments, **{**more, "timeout": 0.01})

    monkeypatch.setattr(many, "wait", interrupted)
    assert command(path, "run", "--at_once=2") == 130
    said = capsys.readouterr().err
    assert f"0 of 3 runs are done; slices that cost money are left of {RUNS[0]}, and" in said
    assert state_of(path, RUNS[0]).phase == "running" and state_of(path, RUNS[0]).created
    assert state_of(path, RUNS[1]).created == []
    assert [names[1] in call for call in cloud.asked(*DELETE)] == [True]
    assert not cloud.asked(names[2])


def test_status_has_a_row_for_each_run(path, names, cloud, capsys):
    state = state_of(path, RUNS[0])
    state.created.append("instance group")
    state.started = states.now()
    state.note("the training runs", "running")
    state_of(path, RUNS[2]).note("no restart is left: x", "failed")
    running = rule(STATE, f"distill-state {names[0]}-1 running\n")
    cloud.answers(done(RUNS[1]), host(names[0]), running)
    assert command(path, "status") == 0
    out = capsys.readouterr().out
    rows = [row.split() for row in out.splitlines()[2:5]]
    assert rows[0][2:5] == ["running", "ready", "running"]
    assert rows[1][2] == "done" and rows[2][2] == "failed"
    assert "no restart is left: x" in out
    assert f"next: distill launch run --work_list={path}" in out
    assert command(path, "status", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in result["runs"]] == ["running", "done", "failed"]


def test_down_deletes_what_is_there_and_tells_what_could_not_be(path, names, cloud, capsys):
    for run in RUNS[:2]:
        state = state_of(path, run)
        state.created.append("instance group")
        state.save()
    assert command(path, "down", "--dry_run") == 0
    shown = [text for text in capsys.readouterr().out.splitlines() if text.startswith("#")]
    assert shown == [f"# {run}: delete the instance group" for run in RUNS[:2]]
    cloud.answers(fails((*DELETE, names[0]), "ERROR: backend error", times=1))
    assert command(path, "down") == 2
    assert f"slices of 1 run could not be deleted, the first, {RUNS[0]}: could not delete" in (
        capsys.readouterr().err
    )
    assert state_of(path, RUNS[1]).created == []
    assert command(path, "down") == 0 and state_of(path, RUNS[0]).created == []


def test_a_dry_run_prints_every_command_and_runs_none(path, names, cloud, capsys):
    assert command(path, "run", "--dry_run") == 0
    out = capsys.readouterr().out
    assert out.startswith("# list the finished runs\ngcloud storage ls ")
    for run, name in zip(RUNS, names, strict=True):
        for text in (f"create {name}", f"managed delete {name}", f"--run_dir={ROOT}/runs/{run} "):
            assert text in out
    assert cloud.calls == []
