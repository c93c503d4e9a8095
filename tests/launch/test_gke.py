"""GKE against stubs of its cloud: what is run, read, and left behind; flags of all back ends."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
from typing import Any

import pytest
from cloud import Cloud, fails, result, rule, settings

from distill.errors import UserError
from distill.launch import backends
from distill.launch.backends import ENDED, FAILED, IDLE, RUNNING, Status
from distill.launch.command import run
from distill.launch.verbs import dry_run

FLAGS = pathlib.Path(__file__).parents[1] / "golden" / "kubernetes_flags.json"
SCRIPTS = pathlib.Path(__file__).parents[2] / "launch"
POOL = rule(("node-pools describe",), {"status": "RUNNING"})


def test_up_makes_a_pool_without_nodes_and_down_deletes_all(cloud):
    cloud.answers(POOL)
    launch = cloud.launch("gke", provisioning="spot")
    assert launch.up().phase == backends.READY
    (create,) = (call for call in cloud.calls if "node-pools create" in call)
    for flag in (
        *("--num-nodes=0", "--enable-autoscaling", "--min-nodes=0", "--max-nodes=2", "--spot"),
        *("--machine-type=tpu7x-standard-4t", "--placement-policy=xl", "--location=us-east5-a"),
        *("--cluster=train", "--node-locations=us-east5-a"),
    ):
        assert flag in create.split(), flag
    assert "--tpu-topology" not in create
    assert all(
        "--context=gke_our-project_us-east5-a_train" in c
        for c in cloud.calls
        if c.startswith("kubectl")
    )
    assert launch.state.created == ["JobSet", "workload policy", "node pool", "queue"]
    cloud.forget()
    assert launch.down() == ["JobSet", "node pool", "workload policy", "queue"]
    assert cloud.verbs == [
        "kubectl delete jobset xl",
        "gcloud container node-pools delete xl",
        "gcloud compute resource-policies delete xl",
        "kubectl delete localqueue/xl clusterqueue/xl resourceflavor/xl",
    ]
    cloud.forget()
    assert launch.down() == [] and cloud.calls == []


def test_other_generations_name_their_topology_and_one_host_does_not(tmp_path):
    def create(topology, **values):
        launch = settings("gke", topology=topology, **values)
        commands = backends.get(launch).up(launch, tmp_path)
        (found,) = (each.argv for each in commands if each.resource == "node pool")
        return found

    assert {"--tpu-topology=4x4x4", "--machine-type=ct5p-hightpu-4t"} <= set(create("v5p:4x4x4"))
    assert "--max-nodes=16" in create("v5p:4x4x4")
    one_host = create("v6e:2x4")
    assert "--machine-type=ct6e-standard-8t" in one_host and "--max-nodes=1" in one_host
    assert not any(text.startswith(("--tpu-topology", "--placement")) for text in one_host)
    reserved = create("v4:2x2x2", provisioning="reserved", reservation="mine")
    assert {"--reservation=mine", "--reservation-affinity=specific"} <= set(reserved)


@pytest.mark.parametrize(
    ("command", "stderr", "message"),
    [
        (
            "create --dry-run=server",
            'Error from server: strict decoding error: unknown field "x"',
            "check the JobSet against the schema of the cluster: the service has another version",
        ),
        (
            "create --dry-run=server",
            'error: no matches for kind "JobSet" in version "jobset.x-k8s.io/v1"',
            "another version of the schema",
        ),
        (
            "node-pools create",
            "ERROR: Insufficient regional quota",
            "create the node pool of up to 2 nodes: the project's quota",
        ),
        ("node-pools create", "ERROR: (gcloud) PERMISSION_DENIED", "lacks a permission"),
        (
            "queue.yaml",
            "Unable to connect to the server",
            "create the queue: a host or the service does not answer",
        ),
        (
            "get-credentials",
            "ERROR: ResponseError: code=404 NOT_FOUND",
            "get the credentials of the cluster train: the resource does not exist",
        ),
    ],
)
def test_nothing_is_left_when_up_fails(cloud, command, stderr, message):
    cloud.answers(fails((command,), stderr))
    launch = cloud.launch("gke")
    with pytest.raises(UserError, match=message):
        launch.up()
    assert launch.state.created == []
    created = cloud.asked("node-pools create")
    assert len(cloud.asked("node-pools delete")) == len(created)


def test_down_without_the_credentials_of_the_cluster_forgets_nothing(cloud):
    launch = cloud.launch("gke", queue="team")
    launch.state.created.append("JobSet")
    cloud.answers(fails(("kubectl",), 'error: context "gke_p_us-east5-a_train" does not exist'))
    with pytest.raises(UserError, match="delete the JobSet: kubectl does not have the credentials"):
        launch.down()
    assert cloud.state()["created"] == ["JobSet"]


def test_a_pool_that_could_not_be_made_is_deleted(cloud):
    pool = {"status": "ERROR", "conditions": [{"message": "GCE_STOCKOUT: no more capacity"}]}
    cloud.answers(rule(("node-pools describe",), pool))
    launch = cloud.launch("gke")
    with pytest.raises(UserError, match=r"failed \(GCE_STOCKOUT.*the zone has no capacity"):
        launch.up()
    assert launch.state.created == [] and "up failed: deleting what it created" in cloud.said


def test_a_queue_of_the_cluster_is_used_as_it_is(cloud):
    launch = cloud.launch("gke", queue="team")
    assert launch.up().hosts == ("queue team",)
    assert not any("node-pools" in call or "apply" in call for call in cloud.calls)
    cloud.forget()
    assert launch.down() == ["JobSet"] and len(cloud.calls) == 1
    cloud.answers(fails(("localqueue",), "Error from server (NotFound): localqueues"))
    with pytest.raises(UserError, match="the cluster has no queue team"):
        launch.up()


def start(cloud: Cloud, found: str = "", state: str = "") -> list[str]:
    """What start.sh does where a JobSet is there, or not."""
    cloud.forget()
    cloud.answers(rule(("--output=name",), found), rule(("--output=jsonpath",), state))
    launch = settings("gke")
    (command,) = backends.get(launch).run(launch, (), pathlib.Path("folder"))
    assert run(command).exit_code == 0
    return cloud.verbs


def test_a_jobset_that_runs_is_left_alone_and_one_that_ended_is_replaced(cloud):
    get, create = "kubectl get jobset xl", "kubectl create"
    assert start(cloud) == [get, create]
    assert start(cloud, found="jobset/xl") == [get, get]
    ended = start(cloud, found="jobset/xl", state="Failed")
    assert ended == [get, get, "kubectl delete jobset xl", create]


def pod(phase: str, **status: Any) -> dict[str, Any]:
    """A Pod."""
    return {"metadata": {"name": f"xl-slice-0-{phase}"}, "status": {"phase": phase, **status}}


def container(**state: Any) -> dict[str, Any]:
    """The status of a Pod's container."""
    return {"containerStatuses": [{"state": state}]}


UNSCHEDULED = {
    "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes available"}]
}
FAILED_JOBSET = {
    "status": {
        "terminalState": "Failed",
        "restarts": 2,
        "conditions": [{"type": "Failed", "message": "due to one or more job failures"}],
    }
}


@pytest.mark.parametrize(
    ("jobset", "pods", "status"),
    [
        ("", [], Status(IDLE)),
        (
            {"spec": {"suspend": True}},
            [],
            Status(RUNNING, detail="waits for Kueue to admit it"),
        ),
        (
            {"spec": {}},
            [pod("Pending", **UNSCHEDULED), pod("Running")],
            Status(RUNNING, ("xl-slice-0-Running",), "1 of 2 hosts run: 0/3 nodes available"),
        ),
        (
            {"status": {"restarts": 1}},
            [pod("Running"), pod("Running")],
            Status(RUNNING, ("xl-slice-0-Running",) * 2, "2 of 2 hosts run, after 1 restart"),
        ),
        (
            {"spec": {}},
            [pod("Pending", **container(waiting={"reason": "ImagePullBackOff", "message": "403"}))],
            Status(FAILED, detail="the container cannot start: ImagePullBackOff: 403"),
        ),
        (
            {"status": {"terminalState": "Completed"}},
            [],
            Status(ENDED, exit_codes=(0, 0)),
        ),
        (
            FAILED_JOBSET,
            [pod("Failed", **container(terminated={"exitCode": code})) for code in (143, 2)],
            Status(
                ENDED,
                detail="due to one or more job failures; exit codes 2, 143, 2 restarts",
                exit_codes=(1,),
            ),
        ),
    ],
)
def test_the_jobset_and_its_pods_are_read(jobset, pods, status):
    launch = settings("gke")
    results = [result(jobset), result({"items": pods})]
    assert backends.get(launch).parse_progress(launch, results) == status


def test_a_training_on_gke_from_its_start_to_its_end(cloud):
    get_jobset = ("get jobset", "--output=json")
    cloud.answers(
        POOL,
        rule(get_jobset, "", 1),
        rule(get_jobset, {"spec": {}}, 2),
        rule(get_jobset, {"status": {"terminalState": "Completed"}}),
        rule(("get pods",), {"items": []}),
    )
    launch = cloud.launch("gke")
    launch.up()
    assert launch.run().phase == ENDED
    assert launch.state.phase == "succeeded" and launch.state.created == []
    assert len(cloud.asked("kubectl", " create ")) == 2  # one is a dry run


def test_the_cloud_document_every_flag(tmp_path):
    documented = json.loads(FLAGS.read_text())
    seen = set()
    for topology, values in (
        *(("v7:2x2x2", {}), ("v5p:4x4x4", {"provisioning": "spot"}), ("v4:2x2x2", {"queue": "q"})),
        ("v6e:4x4", {"provisioning": "reserved", "reservation": "r", "service_account": "a@b"}),
    ):
        launch = settings("gke", topology=topology, **values)
        for verb in ("up", "run", "logs", "status", "down"):
            for command in dry_run(launch, verb, tmp_path):
                words = list(command.argv)
                words = words[words.index("kubectl") :] if "kubectl" in words else words
                texts = [text for text in words[1:] if not text.startswith("--")]
                known = documented[words[0]]
                for length in (1, 3):
                    flags = known.get(" ".join(texts[:length]))
                    if flags is not None:
                        used = {text.partition("=")[0] for text in words if text.startswith("--")}
                        assert used <= set(flags), (texts, used - set(flags))
                        seen.add(" ".join(texts[:length]))
    wanted = {*documented["gcloud"], *documented["kubectl"]}
    assert wanted - seen == {"container clusters describe"}  # of xpk
    (describe,) = backends.get(settings("xpk")).status(settings("xpk"))
    flags = {text.partition("=")[0] for text in describe.argv if text.startswith("--")}
    assert flags <= set(documented["gcloud"]["container clusters describe"])


def test_the_scripts_use_documented_flags_of_kubectl():
    documented = json.loads(FLAGS.read_text())["kubectl"]
    text = (SCRIPTS / "gke" / "start.sh").read_text()
    found = re.findall(r'\[@\]\}" (get|delete) (.*?)(?:\)|$)', text, re.MULTILINE)
    assert [verb for verb, _ in found] == ["get", "get", "delete"]
    for verb, rest in found:
        assert set(re.findall(r"--[a-z-]+", rest)) <= set(documented[verb])


@pytest.mark.parametrize("script", ["gke/start.sh", "skypilot/start.sh"])
def test_scripts_show_their_use(script):
    done = subprocess.run([SCRIPTS / script], capture_output=True, text=True)
    assert done.returncode == 2 and f"launch/{script}" in done.stderr


@pytest.mark.parametrize("backend", ["gke", "xpk", "skypilot"])
def test_every_verb_has_commands_to_show(backend, tmp_path):
    for verb in ("up", "run", "resume", "logs", "status", "down"):
        assert dry_run(settings(backend, topology="v6e:4x4"), verb, tmp_path), verb
