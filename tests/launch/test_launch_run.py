"""`run` and `resume`: restarts after preemptions, other slices, and what ends a launch."""

from __future__ import annotations

import json

import pytest
from cloud import DESCRIBE, LIST, NAMES, START, Cloud, fails, instances, rule, training

from distill.errors import UserError
from distill.launch import state as states
from distill.launch.backends import ENDED, RUNNING
from distill.launch.verbs import Launch

DELETE = ("instance-groups managed delete",)


def up(cloud: Cloud, **changes) -> Launch:
    """A launch whose slice is there."""
    launch = cloud.launch(**changes)
    launch.state.created += ["instance template", "workload policy", "instance group"]
    launch.state.started = states.now()
    launch.state.note("up", "up")
    return launch


def test_all_hosts_get_the_same_command_and_the_slice_is_deleted_at_the_end(cloud):
    launch = up(cloud)
    cloud.answers(
        rule(LIST, instances()),
        *training("installing", times=2),
        *training("idle", times=1),
        *training("running", times=2),
        *training("ended 0"),
    )
    status = launch.run()
    assert status.phase == ENDED and status.exit_codes == (0, 0, 0, 0)
    starts = [call.split("--command=")[1] for call in cloud.asked(*START)]
    assert len(starts) == 4 and len(set(starts)) == 1
    assert starts[0] == (
        "sudo /opt/distill/train.sh start distill train "
        "--gin_file=gin/experiments/tickets_step_by_step.gin --run_dir=gs://bucket/runs/xl "
        "--distributed --coordinator_port=8476 --start_timeout=600"
    )
    assert {call.split()[3] for call in cloud.asked(*START)} == set(NAMES)
    assert cloud.state()["phase"] == "succeeded" and cloud.state()["created"] == []
    assert cloud.asked(*DELETE)


def test_keep_leaves_the_slice(cloud):
    launch = up(cloud)
    cloud.answers(rule(LIST, instances()), *training("ended 0"))
    launch.run(keep=True)
    assert not cloud.asked(" delete ") and cloud.state()["created"]
    assert not cloud.asked(*START)  # it had succeeded already


def test_detach_returns_when_it_runs(cloud):
    launch = up(cloud)
    cloud.answers(rule(LIST, instances()), *training("idle"))
    assert launch.run(detach=True).phase == RUNNING
    assert cloud.state()["phase"] == "running" and not cloud.asked(" delete ")


@pytest.mark.parametrize("code", [143, 75, 134, 137])
def test_an_interrupted_training_restarts_on_the_same_slice(cloud, code):
    launch = up(cloud, topology="v6e:2x4")  # one host
    host = NAMES[:1]
    cloud.answers(
        rule(LIST, instances(names=host)),
        *training("idle", host, times=1),
        *training(f"ended {code}", host, times=2),  # seen by the poll, then before the start
        *training("ended 0", host),
    )
    launch.run()
    assert len(cloud.asked(*START)) == 2 and cloud.state()["restarts"] == 1
    assert not cloud.asked("instance-groups managed create")


def test_one_host_with_143_and_others_that_jax_aborted_restart(cloud):
    launch = up(cloud)
    cloud.answers(
        rule(LIST, instances()),
        *training("idle", times=1),
        *training("ended 143", NAMES[:1], times=2),
        *training("ended 134", NAMES[1:], times=2),
        *training("ended 0"),
    )
    launch.run()
    assert cloud.state()["restarts"] == 1


def test_a_slice_that_is_preempted_twice_is_replaced_twice(cloud):
    launch = up(cloud, provisioning="spot")
    away = [instances(names=NAMES[:3]), instances("TERMINATED")]
    cloud.answers(
        # run, then (poll's look, regain's look, wait for the next) for each preemption
        rule(LIST, instances(), 1),
        *(rule(LIST, answer, 1) for each in away for answer in (each, each, instances())),
        *training("idle", times=1),
        *(fails(("compute ssh xl-4", "state"), "Connection refused", times=1) for _ in "a"),
        *training("running", NAMES[:3], times=1),
        *training("idle", times=1),
        *(fails(("compute ssh xl-4", "state"), "Connection refused", times=1) for _ in "b"),
        *training("running", NAMES[:3], times=1),
        *training("idle", times=1),
        *training("ended 0"),
    )
    launch.run()
    assert cloud.state()["restarts"] == 2
    assert len(cloud.asked(*DELETE)) == 3 and len(cloud.asked("managed create")) == 2
    assert len(cloud.asked(*START)) == 12


def test_restarts_have_a_limit(cloud, capsys):
    up(cloud, max_restarts=2)
    cloud.answers(rule(LIST, instances()), *training("ended 143"))
    assert cloud.command("run") == 2
    said = capsys.readouterr().err
    assert "interrupted (exit codes xl-1: 143" in said and "after 2 restarts, as many as" in said
    assert "may cost money: instance template" in said
    assert len(cloud.asked(*START)) == 12


def test_without_capacity_it_goes_on_with_another_number_of_hosts(cloud):
    launch = up(cloud, provisioning="spot", fallback_topology=("v6e:2x4", "v6e:8x8"))
    no = "ERROR: ZONE_RESOURCE_POOL_EXHAUSTED"
    cloud.answers(
        rule(LIST, [], 2),
        fails(("managed create", "--size=4"), no),
        rule(LIST, instances(names=NAMES[:1])),
        *training("idle", NAMES[:1], times=1),
        *training("ended 0", NAMES[:1]),
    )
    launch.resume()
    assert [call.split("--size=")[1][:1] for call in cloud.asked("managed create")] == ["4", "1"]
    assert len(cloud.asked(*START)) == 1
    assert cloud.state()["settings"]["topology"] == "v6e:2x4"
    assert cloud.state()["settings"]["fallback_topology"] == ["v6e:4x4", "v6e:8x8"]


def test_a_failed_training_names_its_hosts_and_stays_for_a_look(cloud, capsys):
    up(cloud)
    cloud.answers(rule(LIST, instances()), *training("idle", times=1), *training("ended 2"))
    assert cloud.command("run") == 2
    said = capsys.readouterr().err
    assert "the training failed: exit codes xl-1: 2, xl-2: 2" in said
    assert "`distill launch logs" in said and "`distill launch down" in said
    assert not cloud.asked(" delete ") and cloud.state()["phase"] == "failed"


def test_a_host_that_cannot_install_is_named(cloud, capsys):
    up(cloud)
    cloud.answers(
        rule(LIST, instances()),
        *training("failed startup failed in line 31; see /opt/distill/startup.log", NAMES[2:3]),
        *training("installing"),
    )
    assert cloud.command("run") == 2
    assert "could not install on xl-3: startup failed in line 31" in capsys.readouterr().err


def test_an_unreachable_host_is_named(cloud, capsys):
    up(cloud)
    cloud.answers(
        rule(LIST, instances()),
        fails(("compute ssh xl-2",), "ssh: connect to host 10.0.0.2 port 22: Connection timed out"),
        *training("idle"),
    )
    assert cloud.command("run") == 2
    said = capsys.readouterr().err
    assert "3 of 4 hosts answered; could not ask for the training on xl-2, 3 times in a row" in said
    assert "firewall" in said


def test_a_start_that_fails_on_a_host_is_told(cloud, capsys):
    up(cloud)
    cloud.answers(
        rule(LIST, instances()),
        fails(("compute ssh xl-3", *START), "ERROR: Permission denied (publickey): Forbidden"),
        *training("idle"),
    )
    assert cloud.command("run") == 2
    assert "could not start the training on xl-3: your account, or" in capsys.readouterr().err


def test_run_without_a_slice_says_what_to_do(cloud, capsys):
    cloud.plan()
    cloud.answers(fails(LIST, "ERROR: The resource 'xl' was not found"))
    assert cloud.command("run") == 2
    assert "the slice is absent: `distill launch up" in capsys.readouterr().err


def test_a_suspended_resource_is_deleted_and_asked_for_again(cloud):
    launch = cloud.launch("queued_resource", topology="v5e:4x4")
    launch.state.created.append("queued resource")
    launch.state.note("up", "up")
    cloud.answers(
        rule(DESCRIBE, {"state": {"state": "SUSPENDED"}}, 1),
        rule(DESCRIBE, {"state": {"state": "ACTIVE"}}),
        rule(("--worker=all", *START), ""),
        rule(("--worker=all", "state"), lines("idle"), 1),
        rule(("--worker=all", "state"), lines("ended 0")),
    )
    launch.resume()
    first, delete, create, *_ = cloud.calls
    assert "describe" in first and "delete xl" in delete and "create xl" in create
    assert len(cloud.asked(*START)) == 1
    assert cloud.state()["phase"] == "succeeded"


def lines(state: str) -> str:
    """What four workers print."""
    return "".join(f"distill-state t1v-w-{i} {state}\n" for i in range(4))


def test_a_host_that_is_repaired_during_the_installation_is_waited_for(cloud):
    launch = up(cloud, topology="v6e:2x4")
    host = NAMES[:1]
    cloud.answers(
        rule(LIST, instances(names=host), 1),
        rule(LIST, instances("REPAIRING", host), 2),
        rule(LIST, instances(names=host)),
        fails(("compute ssh", "state"), "Connection refused", times=1),
        *training("idle", host, times=1),
        *training("running", host, times=1),
        *training("ended 0", host),
    )
    launch.run()
    assert len(cloud.asked(*START)) == 1 and cloud.state()["restarts"] == 1


def test_a_slice_that_is_still_coming_is_waited_for(cloud):
    launch = up(cloud, provisioning="spot")
    launch.state.note("", "starting")  # another process began this
    cloud.answers(rule(LIST, [], 2), rule(LIST, instances()), *training("ended 0"))
    launch.resume()
    assert not cloud.asked("managed create")


def test_a_second_person_goes_on_with_the_state_file(cloud, capsys):
    up(cloud)
    cloud.answers(rule(LIST, instances()), *training("running"))
    assert cloud.command("status", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["training"]["phase"] == RUNNING and result["slice"]["hosts"] == list(NAMES)
    assert cloud.command("run", "--detach") == 0  # attaches; train.sh leaves what runs alone
    assert cloud.command("logs") == 0
    assert "== print the log on xl-4" in capsys.readouterr().out


def test_logs_that_some_hosts_do_not_give_are_told(cloud, capsys):
    up(cloud)
    refused = "ssh: connect to host 10.0.0.2 port 22: Connection refused"
    log = ("train.sh logs",)
    cloud.answers(
        rule(LIST, instances()),
        *(fails(("compute ssh", name, *log), refused, 255) for name in NAMES[:2]),
        fails(("compute ssh xl-3", *log), "tail: cannot open 'train.log'"),
        rule(log, "step 7\n"),
    )
    assert cloud.command("logs") == 2
    out, err = capsys.readouterr()
    assert "== print the log on xl-4\nstep 7" in out
    assert (
        "3 of 4 commands failed: could not print the log on xl-1, print the log on xl-2: a host or "
        "the service does not answer (exit code 255: ssh: connect" in err
    )
    assert "could not print the log on xl-3: the command failed (exit code 1: tail: cannot" in err


def test_two_processes_do_not_work_on_one_launch(cloud):
    launch = up(cloud)
    other = states.load(launch.state.path)
    other.note("by another process")
    with pytest.raises(UserError, match="written by another process"):
        launch.down()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["settings"].update(colour="red"), "the setting 'colour', which"),
        (lambda content: content.update(version=9), "not a state file of this version"),
        (lambda content: content["settings"].update(topology="v9:1"), "unknown chip 'v9'"),
        (lambda content: content["settings"].pop("project"), "--project is missing"),
    ],
)
def test_other_state_files_are_refused(cloud, change, message):
    state = cloud.plan()
    content = cloud.state()
    change(content)
    (cloud.folder / "xl.launch.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        states.load(state.path)


def test_a_missing_state_file_names_those_that_are_there(cloud):
    cloud.plan()
    with pytest.raises(UserError, match=r"other.launch.json does not exist.*xl.launch.json"):
        states.load(str(cloud.folder / "other.launch.json"))
