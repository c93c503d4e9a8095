"""xpk and SkyPilot against stubs of their clients: what is run, and what is read."""

from __future__ import annotations

import json
import shlex

import pytest
from cloud import result, rule, settings

from distill.errors import UserError
from distill.launch import backends, steps
from distill.launch.backends import ENDED, IDLE, RUNNING, Status
from distill.launch.command import run


def test_xpk_creates_a_workload_by_its_file(cloud, tmp_path):
    launch = settings("xpk", max_run_hours=2.0, provisioning="spot")
    backend = backends.get(launch)
    steps.write_files(backend, launch, tmp_path / "files")
    (command,) = backend.run(launch, (), tmp_path / "files")
    assert run(command).exit_code == 0
    (call,) = (argv for argv in cloud.arguments if argv[0] == "xpk")
    assert call[:3] == ["xpk", "workload", "create"]
    assert {"--tpu-type=tpu7x-2x2x2", "--cluster=train", "--restart-on-exit-codes=75"} <= set(call)
    training = shlex.join(launch.command)
    assert f"--command=exec timeout --kill-after=60s 7200s {training}" in call
    made = (tmp_path / "files" / "create.sh").read_text()
    assert "#   --spot" in made and "xpk cluster create" in made
    cloud.forget()
    for command in backend.down(launch):
        run(command)
    assert cloud.verbs == ["xpk workload delete"]


@pytest.mark.parametrize(
    ("backend", "values", "message"),
    [
        ("xpk", {"topology": "v5e:2x2"}, r"xpk does not have; expected v5e:2x4"),
        ("xpk", {"topology": "v5p:4x8x4"}, r"expected v5p:4x4x8"),
        ("xpk", {"queue": "q"}, "--queue has no effect with --backend=xpk"),
        ("skypilot", {"topology": "v7:2x2x2"}, "it has v4, v5e, v5p, v6e; for v7 use"),
        (
            "skypilot",
            {"provisioning": "reserved", "reservation": "r"},
            "--provisioning=reserved does not work with --backend=skypilot",
        ),
        ("skypilot", {"image": "i", "source": ""}, "--image has no effect"),
        ("skypilot", {"service_account": "a@b"}, "SkyPilot's configuration"),
    ],
)
def test_settings_that_a_back_end_does_not_have_are_refused(backend, values, message):
    with pytest.raises(UserError, match=message):
        backends.get(settings(backend, **values))


def test_a_managed_job_is_started_once(cloud, tmp_path):
    launch = settings("skypilot")
    (command,) = backends.get(launch).run(launch, (), tmp_path)
    run(command)
    other = json.dumps([{"job_name": "xl2", "status": "RUNNING"}], indent=2)
    cloud.answers(rule(("jobs queue",), other))
    run(command)
    assert len(cloud.asked("sky jobs launch --name=xl --yes")) == 2
    cloud.forget()
    mine = json.dumps([{"job_name": "xl", "status": "RUNNING"}], indent=2)
    cloud.answers(rule(("jobs queue",), mine))
    assert "runs already" in run(command).stdout
    assert not cloud.asked("launch")


@pytest.mark.parametrize(
    ("jobs", "status"),
    [
        ([], Status(IDLE)),
        ([{"job_name": "other", "status": "RUNNING"}], Status(IDLE)),
        (
            [
                {"job_name": "xl", "job_id": 3, "status": "FAILED", "failure_reason": "exit 2"},
                {"job_name": "xl", "job_id": 7, "status": "RECOVERING", "recovery_count": 1},
            ],
            Status(RUNNING, detail="managed job 7: RECOVERING, recovered 1 time"),
        ),
        (
            [{"job_name": "xl", "job_id": 3, "status": "FAILED_SETUP", "failure_reason": "exit 2"}],
            Status(ENDED, detail="managed job 3: FAILED_SETUP (exit 2)", exit_codes=(1,)),
        ),
        (
            [{"job_name": "xl", "job_id": 3, "status": "SUCCEEDED"}],
            Status(ENDED, detail="managed job 3: SUCCEEDED", exit_codes=(0,)),
        ),
    ],
)
def test_managed_jobs_are_read(jobs, status):
    launch = settings("skypilot")
    printed = result("Fetching managed jobs\n" + json.dumps(jobs))
    assert backends.get(launch).parse_progress(launch, [printed]) == status
