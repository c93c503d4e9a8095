"""Manifests of JobSet and Kueue: what their CRDs accept, and rules that the CRDs do not tell.

The schemas are in tests/golden/crds.json, which make_crds.py takes from the projects' repositories.
They refuse fields that they do not name, as an API server with strict validation does.
"""

from __future__ import annotations

import copy
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import cloud
import jsonschema
import pytest
import yaml

from distill.errors import UserError
from distill.launch import backends, slices
from distill.launch.settings import LaunchSettings

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "crds.json").read_text())
SLICES = (
    *("v4:2x2x1", "v4:4x4x8", "v5e:1x1", "v5e:2x2", "v5e:2x4", "v5e:16x16", "v5p:2x2x2"),
    *("v5p:4x4x4", "v6e:4x4", "v6e:16x16", "v7:2x2x1", "v7:4x4x4"),
)
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def launch(topology: str = "v5p:4x4x4", **values: Any) -> LaunchSettings:
    """Settings of a launch on GKE."""
    return cloud.settings("gke", topology=topology, **values)


def manifests(settings: LaunchSettings) -> list[dict[str, Any]]:
    """The objects in all YAML files of a launch."""
    texts = backends.get(settings).files(settings).values()
    return [each for text in texts for each in yaml.safe_load_all(text)]


def jobset(settings: LaunchSettings) -> dict[str, Any]:
    """The JobSet of a launch."""
    (found,) = (each for each in manifests(settings) if each["kind"] == "JobSet")
    return found


def validate(manifest: dict[str, Any]) -> None:
    """Raises jsonschema's error if the CRD does not accept an object."""
    schema = {**GOLDEN["schemas"][manifest["kind"]], "$defs": GOLDEN["$defs"]}
    jsonschema.Draft202012Validator(schema).validate(manifest)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The spec of a JobSet's Pods."""
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    return job["template"]["spec"]


@pytest.mark.parametrize("topology", SLICES)
def test_the_crds_accept_the_manifests_of_every_generation(topology):
    for values in (
        {},
        {"provisioning": "spot"},
        {"provisioning": "reserved", "reservation": "my-reservation"},
        {"queue": "team"},
    ):
        settings = launch(topology, **values)
        objects = manifests(settings)
        for each in objects:
            validate(each)
        own = [] if settings.queue else ["ResourceFlavor", "ClusterQueue", "LocalQueue"]
        assert [each["kind"] for each in objects] == ["JobSet", *own]


@pytest.mark.parametrize("topology", SLICES)
def test_a_pod_on_every_host_has_all_its_chips(topology):
    settings = launch(topology)
    manifest = jobset(settings)
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    resources = pod_of(manifest)["containers"][0]["resources"]
    hosts = slices.hosts(settings.slice)
    assert job["parallelism"] == job["completions"] == hosts
    assert resources["limits"] == resources["requests"]
    assert resources["limits"]["google.com/tpu"] * hosts == settings.slice.chips
    selector = pod_of(manifest)["nodeSelector"]
    assert selector["cloud.google.com/gke-tpu-topology"] == topology.partition(":")[2]
    queue = next(each for each in manifests(settings) if each["kind"] == "ClusterQueue")
    (flavor,) = queue["spec"]["resourceGroups"][0]["flavors"]
    assert flavor["resources"] == [{"name": "google.com/tpu", "nominalQuota": settings.slice.chips}]


def misplaced(manifest: dict[str, Any]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Mistakes in a JobSet: a name, and what makes it."""
    spec = manifest["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    container = pod_of(manifest)["containers"][0]
    # As an example of JobSet's own repository has it.
    yield (
        "podFailurePolicy",
        lambda: spec["replicatedJobs"][0]["template"].update(
            podFailurePolicy=job.pop("podFailurePolicy")
        ),
    )
    yield "maxRestart", lambda: spec["failurePolicy"].update(maxRestart=3)
    yield "Restart", lambda: spec["failurePolicy"]["rules"][0].update(action="Restart")
    yield "ressources", lambda: container.update(ressources=container.pop("resources"))
    yield "ten", lambda: spec["failurePolicy"].update(maxRestarts="ten")
    yield "containers", lambda: pod_of(manifest).pop("containers")
    yield "nodeSelectors", lambda: pod_of(manifest).update(nodeSelectors={})
    yield "v1alpha1", lambda: manifest.update(apiVersion="jobset.x-k8s.io/v1alpha1")


@pytest.mark.parametrize("index", range(8))
def test_the_crds_refuse_mistakes(index):
    manifest = copy.deepcopy(jobset(launch()))
    mistakes = list(misplaced(manifest))
    assert len(mistakes) == 8
    name, make = mistakes[index]
    make()
    with pytest.raises(jsonschema.ValidationError, match=name):
        validate(manifest)


def test_rules_of_kubernetes_that_are_in_no_schema():
    manifest = jobset(launch(provisioning="reserved", reservation="r", max_run_hours=1.5))
    spec, pod = manifest["spec"], pod_of(manifest)
    job = spec["replicatedJobs"][0]["template"]["spec"]
    policy = job["podFailurePolicy"]["rules"]
    # A policy for failures needs Pods that are not restarted in place, and ascending exit codes.
    assert pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0
    codes = policy[0]["onExitCodes"]
    assert codes["values"] == sorted({75, 134, 137, 143}) and codes["operator"] == "In"
    assert codes["containerName"] == pod["containers"][0]["name"]
    assert {rule["action"] for rule in policy} == {"FailJob"}
    assert job["completionMode"] == "Indexed"
    # Reasons that JobSet's webhook knows, and with which an interrupted training is restarted.
    rules = spec["failurePolicy"]["rules"]
    assert {rule["action"]: rule["onJobFailureReasons"] for rule in rules} == {
        "RestartJobSet": ["PodFailurePolicy"],
        "FailJobSet": ["BackoffLimitExceeded", "DeadlineExceeded"],
    }
    limit = manifest["metadata"]["labels"]["kueue.x-k8s.io/max-exec-time-seconds"]
    assert limit == "5400" and job["activeDeadlineSeconds"] == 5400
    assert pod["terminationGracePeriodSeconds"] > 30
    for labels in (manifest["metadata"]["labels"], pod["nodeSelector"]):
        assert all(LABEL.fullmatch(value) for value in labels.values()), labels


def test_texts_arrive_as_they_are():
    arguments = ("--gin.NAME='it''s: {a} # $HOME \\ \"x\"'", "--gin.LINES=a\nb")
    settings = launch(train_arguments=arguments, coordinator_port=9000)
    (container,) = pod_of(jobset(settings))["containers"]
    assert container["command"] == list(settings.command)
    assert set(arguments) <= set(container["command"])
    assert container["env"] == [{"name": "JAX_COORDINATOR_PORT", "value": "9000"}]
    assert container["ports"] == [{"containerPort": 9000}]


def test_capacity_is_selected():
    def selector(**values):
        return pod_of(jobset(launch("v7:4x4x4", **values)))["nodeSelector"]

    usual = selector()
    assert usual["cloud.google.com/gke-tpu-accelerator"] == "tpu7x"
    assert selector(provisioning="spot") == {**usual, "cloud.google.com/gke-spot": "true"}
    reserved = selector(provisioning="reserved", reservation="mine")
    assert reserved == {**usual, "cloud.google.com/reservation-name": "mine"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": ""}, "--backend=gke needs --image: build it with launch/Dockerfile"),
        ({"cluster": ""}, r"needs --cluster=NAME, or --cluster=LOCATION/NAME .* us-east5-a/NAME"),
        ({"network": "vpc"}, "--network has no effect with --backend=gke"),
        ({"queue": "q", "service_account": "a@b"}, "--service_account is of the nodes"),
        ({"topology": "v5p:2x2x8"}, r"expected 2x2x1, 2x2x2, 2x2x4, 2x4x4, or three multiples"),
    ],
)
def test_settings_that_gke_does_not_have_are_refused(values, message):
    settings = launch(**values)
    with pytest.raises(UserError, match=message):
        backends.get(settings)
