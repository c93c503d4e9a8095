"""Managed instance groups of Compute Engine: v5p, v6e and v7.

A slice is an instance template, a workload policy with the topology, and a group, which creates all
hosts or none. Compute Engine deletes the hosts after the maximum run time. The group does not
repair hosts: a slice is repaired as a whole, and a deleted host is not wanted back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.common.phrases import number_of
from distill.launch import failures, gcloud, slices, vm
from distill.launch.backends import ABSENT, CREATING, FAILED, PREEMPTED, READY, WAITING, Status
from distill.launch.command import Command, Result
from distill.launch.settings import LaunchSettings

CHIPS = ("v5p", "v6e", "v7")
LEGACY = ""
_DISK_GB = 200
_GONE = ("STOPPING", "STOPPED", "TERMINATED", "SUSPENDING", "SUSPENDED", "DEPROVISIONING")


def check(settings: LaunchSettings) -> None:
    """See `Backend.check`."""
    slices.hosts(settings.slice)
    vm.check(settings)


def files(settings: LaunchSettings) -> Mapping[str, str]:
    """See `Backend.files`."""
    return vm.files(settings)


def up(settings: LaunchSettings, folder: Path) -> list[Command]:
    """See `Backend.up`."""
    name, where = settings.name, settings.slice
    hosts = slices.hosts(where)
    commands = [*vm.uploads(settings, folder), _template(settings, folder)]
    group = [
        *("gcloud", "compute", "instance-groups", "managed", "create", name),
        *gcloud.in_zone(settings),
        f"--template={name}",
        f"--size={hosts}",
        "--default-action-on-vm-failure=do-nothing",
    ]
    if hosts > 1:
        policy = f"projects/{settings.project}/regions/{settings.region}/resourcePolicies/{name}"
        group += [f"--workload-policy={policy}", "--target-size-policy-mode=bulk"]
        commands.append(gcloud.create_policy(settings))
    purpose = f"create the group of {number_of(hosts, 'host')}"
    return [*commands, Command(tuple(group), purpose, resource="instance group")]


def _template(settings: LaunchSettings, folder: Path) -> Command:
    where = settings.slice
    interface = f"nic-type=GVNIC,network={settings.network or 'default'}"
    if settings.subnetwork:
        regional = f"projects/{settings.project}/regions/{settings.region}/subnetworks"
        interface += f",subnet={regional}/{settings.subnetwork}"
    argv = [
        *("gcloud", "compute", "instance-templates", "create", settings.name),
        f"--project={settings.project}",
        f"--machine-type={slices.machine_type(where)}",
        f"--image-project={slices.IMAGE_PROJECT}",
        f"--image-family={slices.image_family(where)}",
        f"--boot-disk-size={_DISK_GB}GB",
        f"--boot-disk-type={slices.disk_type(where)}",
        f"--network-interface={interface}",
        f"--scopes={gcloud.SCOPE}",
        f"--labels=distill-launch={settings.name}",
        "--maintenance-policy=TERMINATE",
        f"--max-run-duration={settings.max_run_seconds}s",
        "--instance-termination-action=DELETE",
        vm.metadata_flag(folder),
    ]
    if settings.service_account:
        argv.append(f"--service-account={settings.service_account}")
    if settings.provisioning == "spot":
        argv.append("--provisioning-model=SPOT")
    elif settings.provisioning == "reserved":
        argv += [
            *("--provisioning-model=RESERVATION_BOUND", "--reservation-affinity=specific"),
            f"--reservation={settings.reservation}",
        ]
    return Command(tuple(argv), "create the instance template", resource="instance template")


def status(settings: LaunchSettings) -> list[Command]:
    """See `Backend.status`."""
    list_instances = (
        *("gcloud", "compute", "instance-groups", "managed", "list-instances", settings.name),
        *(*gcloud.in_zone(settings), "--format=json"),
    )
    return [Command(list_instances, "list the hosts", tolerates=("not_found",), timeout=120)]


def parse_status(settings: LaunchSettings, results: Sequence[Result]) -> Status:
    """See `Backend.parse_status`."""
    (result,) = results
    if result.exit_code:
        return Status(ABSENT)
    instances = json.loads(result.stdout or "[]")
    wanted = slices.hosts(settings.slice)
    names = tuple(sorted(str(one["instance"]).rpartition("/")[2] for one in instances))
    gone = [one for one in instances if one.get("instanceStatus") in _GONE]
    if gone:
        return Status(PREEMPTED, names, f"{len(gone)} of {number_of(wanted, 'host')} stopped")
    ready = [one for one in instances if one.get("instanceStatus") == "RUNNING"]
    if len(ready) == wanted:
        return Status(READY, names)
    errors = [
        error
        for one in instances
        for error in one.get("lastAttempt", {}).get("errors", {}).get("errors", [])
    ]
    said = "; ".join(dict.fromkeys(f"{e.get('code')}: {e.get('message')}" for e in errors))
    if said:
        kind = failures.classify(said).kind
        return Status(WAITING if kind == "stockout" else FAILED, names, said, kind=kind)
    if len(ready) > 0 and len(instances) < wanted:
        lost = wanted - len(instances)
        return Status(PREEMPTED, names, f"{lost} of {number_of(wanted, 'host')} deleted")
    return Status(CREATING if instances else WAITING, names, f"{len(ready)} of {wanted} run")


def _ssh(settings: LaunchSettings, host: str) -> tuple[str, ...]:
    return "gcloud", "compute", "ssh", host, *gcloud.in_zone(settings)


_training = vm.Training(_ssh)
run, progress, logs = _training.run, _training.progress, _training.logs
parse_progress = vm.parse_progress


def down(settings: LaunchSettings) -> list[Command]:
    """See `Backend.down`."""
    group = ("gcloud", "compute", "instance-groups", "managed", "delete", settings.name)
    template = ("gcloud", "compute", "instance-templates", "delete", settings.name)
    return [
        gcloud.delete("instance group", *group, *gcloud.in_zone(settings)),
        gcloud.delete_policy(settings),
        gcloud.delete("instance template", *template, f"--project={settings.project}"),
    ]
