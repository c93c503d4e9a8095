"""`up` and `down`: what is created, what a failure leaves, and what people are told."""

from __future__ import annotations

import datetime
import json

import pytest
from cloud import DESCRIBE, LIST, fails, instances, rule

from distill.errors import UserError
from distill.launch import failures
from distill.launch import state as states
from distill.launch.backends import READY

CREATE = ("instance-groups managed create",)
FAILURES = {
    "quota": "ERROR: (gcloud) Quota 'TPUS_PER_TPU_FAMILY' exceeded. Limit: 0.0 in region us-east5.",
    "stockout": "ERROR: (gcloud) ZONE_RESOURCE_POOL_EXHAUSTED: the zone does not have enough "
    "resources available",
    "permission": "ERROR: (gcloud) Required 'compute.instanceGroupManagers.create' permission for "
    "'projects/our-project'",
    "not_logged_in": "ERROR: (gcloud) You do not currently have an active account selected.\n"
    "Please run:\n\n  $ gcloud auth login",
    "unknown_flag": "ERROR: (gcloud) unrecognized arguments:\n  --target-size-policy-mode=bulk\n\n"
    "To search the help text of gcloud commands",
    "unknown_field": "ERROR: (gcloud) HTTPError 400: Invalid value at 'resource': unknown field",
    "api_disabled": "ERROR: (gcloud) Compute Engine API has not been used in project 1 before or "
    "it is disabled.",
    "unreachable": "ERROR: (gcloud) HTTPSConnectionPool: Connection timed out",
    "": "ERROR: (gcloud) Internal error 13",
}


def test_up_creates_a_template_a_policy_and_a_group_of_all_hosts(cloud, capsys):
    cloud.plan(max_run_hours=2.0, provisioning="spot")
    cloud.answers(
        rule(LIST, [], 1), rule(LIST, instances("STAGING"), 1), rule(LIST, instances(), 9)
    )
    assert cloud.command("up") == 0
    template, policy, group, *asked = cloud.calls
    assert "instance-templates create xl --project=our-project" in template
    assert "--machine-type=ct6e-standard-4t" in template
    assert "--provisioning-model=SPOT" in template
    assert "--max-run-duration=7200s --instance-termination-action=DELETE" in template
    assert "workload-policy xl" in policy and "--accelerator-topology=4x4" in policy
    assert "--size=4" in group and "--default-action-on-vm-failure=do-nothing" in group
    assert len(asked) == 3
    assert cloud.state()["phase"] == "up"
    assert cloud.state()["created"] == ["instance template", "workload policy", "instance group"]
    assert "xl-1, xl-2, xl-3, xl-4" in capsys.readouterr().out


def test_one_host_needs_no_policy(cloud):
    cloud.plan(topology="v6e:2x4")
    cloud.answers(rule(LIST, instances(names=["xl-1"])))
    assert cloud.command("up") == 0
    template, group, _ = cloud.calls
    assert "--machine-type=ct6e-standard-8t" in template
    assert "--size=1" in group and "workload-policy" not in group


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failed_up_says_why_and_leaves_nothing(cloud, capsys, kind):
    cloud.plan()
    cloud.answers(fails(CREATE, FAILURES[kind]))
    assert cloud.command("up") == 2
    failure = failures.of_kind(kind)
    said = capsys.readouterr().err
    assert f"could not create the group of 4 hosts: {failure.meaning} (gcloud exited with 1" in said
    assert failure.advice in said
    assert FAILURES[kind].split("\n")[0].strip() in said
    assert cloud.state()["created"] == []
    deleted = [call.split(" delete ")[0] for call in cloud.asked(" delete ")]
    assert deleted == [
        "gcloud compute instance-groups managed",
        "gcloud compute resource-policies",
        "gcloud compute instance-templates",
    ]


def test_what_exists_already_is_not_this_launchs_and_stays(cloud, capsys):
    cloud.plan()
    cloud.answers(fails(CREATE, "ERROR: The resource 'xl' already exists"))
    assert cloud.command("up") == 2
    assert "choose another --name" in capsys.readouterr().err
    assert not cloud.asked("instance-groups managed delete")
    assert cloud.asked("instance-templates delete") and cloud.state()["created"] == []


def test_keep_leaves_what_was_created_and_offers_down(cloud, capsys):
    cloud.plan()
    cloud.answers(fails(CREATE, FAILURES["quota"]))
    assert cloud.command("up", "--keep") == 2
    assert not cloud.asked(" delete ")
    assert "may cost money: instance template, workload policy, instance group; to delete it: " in (
        capsys.readouterr().err
    )
    assert cloud.command("up") == 2  # not twice
    assert "has created instance template" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["ZONE_RESOURCE_POOL_EXHAUSTED", "QUOTA_EXCEEDED"])
def test_hosts_that_do_not_come_end_the_wait(cloud, capsys, code):
    cloud.plan(wait_hours=1e-9)
    cloud.answers(rule(LIST, instances("", error=code)))
    assert cloud.command("up") == 2
    said = capsys.readouterr().err
    assert f"{code}: said so" in said and ("quota" in said) == (code == "QUOTA_EXCEEDED")
    assert cloud.state()["created"] == []


def test_a_cleanup_that_fails_is_told_and_can_be_repeated(cloud, capsys):
    cloud.plan()
    cloud.answers(
        fails(("instance-groups managed delete",), "ERROR: backend error", times=1),
        fails(CREATE, FAILURES["stockout"]),
    )
    assert cloud.command("up") == 2
    said = capsys.readouterr().err
    assert "could not delete the instance group" in said
    assert "may cost money: instance group; to delete it: `distill launch down" in said
    assert cloud.state()["created"] == ["instance group"]
    assert cloud.command("down") == 0
    assert cloud.state()["created"] == [] and cloud.state()["phase"] == "down"


def test_down_may_be_repeated_and_takes_what_is_gone_as_deleted(cloud, capsys):
    cloud.plan()
    cloud.answers(
        fails((" delete ",), "ERROR: The resource 'xl' was not found"), rule(LIST, instances())
    )
    assert cloud.command("up") == 0
    assert cloud.command("down") == 0
    assert "deleted: instance group, workload policy, instance template" in capsys.readouterr().out
    before = len(cloud.calls)
    assert cloud.command("down") == 0
    assert "nothing is left" in capsys.readouterr().out
    assert len(cloud.calls) == before


def test_an_interrupted_up_leaves_nothing(cloud, monkeypatch):
    launch = cloud.launch()
    monkeypatch.setattr(launch, "wait_ready", lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        launch.up()
    assert cloud.asked("instance-groups managed delete") and cloud.state()["created"] == []
    assert cloud.state()["history"][-1]["note"] == "up failed: KeyboardInterrupt"


def test_a_tool_that_is_not_installed_is_named(cloud, capsys, monkeypatch):
    cloud.plan()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cloud.command("up") == 2
    assert "the tool is not installed" in capsys.readouterr().err
    assert cloud.state()["created"] == []


def test_dry_run_prints_every_command_and_runs_none(cloud, capsys):
    cloud.plan()
    for verb in ("up", "run", "logs", "status", "resume"):
        assert cloud.command(verb, "--dry_run") == 0
        out = capsys.readouterr().out
        assert out.startswith("# ") and "gcloud compute" in out
    assert cloud.calls == [] and cloud.state()["created"] == []


def test_a_dry_run_of_down_shows_what_it_would_delete(cloud, capsys):
    state = cloud.plan()
    assert cloud.command("down", "--dry_run") == 0
    out, said = capsys.readouterr()
    assert out == "" and "xl.launch.json lists nothing created: there is nothing to delete" in said
    state.created.append("instance template")
    state.save()
    assert cloud.command("down", "--dry_run") == 0
    out, said = capsys.readouterr()
    assert [line for line in out.splitlines() if line.startswith("#")] == [
        "# delete the instance template"
    ]
    assert said == "" and cloud.calls == []


def test_queued_resources_wait_and_have_a_guard(cloud):
    launch = cloud.launch("queued_resource", topology="v5e:4x4", wait_hours=2.0)
    waiting = {"state": {"state": "WAITING_FOR_RESOURCES"}}
    cloud.answers(rule(DESCRIBE, waiting, 2), rule(DESCRIBE, {"state": {"state": "ACTIVE"}}, 9))
    assert launch.up().phase == READY
    create = cloud.calls[0]
    assert "--accelerator-type=v5litepod-16" in create and "--valid-until-duration=7200s" in create
    files = launch.backend.files(launch.settings)
    assert "DISTILL_QUEUED_RESOURCE=xl\n" in files["launch.env"]
    assert "DISTILL_MAX_RUN_SECONDS=86400\n" in files["launch.env"]


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_a_queued_resource_that_ends_is_told_and_deleted_by_force(cloud, capsys, state):
    cloud.plan(backend="queued_resource", topology="v5e:4x4")
    error = {"failedData": {"error": {"message": "RESOURCE_EXHAUSTED: no more capacity"}}}
    cloud.answers(rule(DESCRIBE, {"state": {"state": state, **error}}))
    assert cloud.command("up") == 2
    said = capsys.readouterr().err
    assert ("counts against quota" in said) == (state == "SUSPENDED")
    assert ("no capacity" in said) == (state == "FAILED")
    assert cloud.asked("queued-resources delete xl", "--force", "--quiet")


def test_status_of_a_suspended_resource_says_that_it_uses_quota(cloud, capsys):
    state = cloud.plan(backend="queued_resource", topology="v5e:4x4", price=1.0)
    state.created.append("queued resource")
    state.note("up", "up")
    cloud.answers(rule(DESCRIBE, {"state": {"state": "SUSPENDED"}}))
    assert cloud.command("status") == 0
    out = capsys.readouterr().out
    assert "suspended (SUSPENDED: it has no hosts, but counts against quota until it is" in out
    assert cloud.command("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["slice"]["kind"] == "suspended"


def test_the_maximum_run_time_holds_for_all_slices_together(cloud):
    launch = cloud.launch(max_run_hours=3.0)
    launch.state.started = first = states.now() - datetime.timedelta(hours=1)
    cloud.answers(rule(LIST, instances()))
    launch.up()
    (duration,) = (word for word in cloud.calls[0].split() if word.startswith("--max-run-duration"))
    assert 7000 < int(duration.split("=")[1].rstrip("s")) <= 7200
    launch.state.created.clear()
    launch.state.started = first - datetime.timedelta(hours=2)
    with pytest.raises(UserError, match="3 hours of --max_run_hours are over"):
        launch.up()


def test_waiting_in_vain_does_not_count_as_run_time(cloud):
    launch = cloud.launch()
    cloud.answers(fails(CREATE, FAILURES["stockout"]))
    with pytest.raises(UserError, match="no capacity"):
        launch.up()
    assert cloud.state()["started"] is None
