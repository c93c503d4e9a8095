"""Queued resources of the Cloud TPU API: v4, v5e, v5p and v6e.

The API gets fixes only, and has no limit of the run time: a guard on each host deletes the
queued resource (launch/vm/guard.sh). A preempted one is SUSPENDED, and counts against quota until
it is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.errors import UserError
from distill.launch import failures, gcloud, slices, vm
from distill.launch.backends import (
    ABSENT,
    CREATING,
    FAILED,
    READY,
    SUSPENDED,
    WAITING,
    Status,
)
from distill.launch.command import Command, Result
from distill.launch.settings import LaunchSettings

CHIPS = ("v4", "v5e", "v5p", "v6e")
LEGACY = (
    "queued resources belong to the Cloud TPU API, which gets fixes only: prefer "
    "--backend=instance_group or gke where they have the chip"
)
_PHASES = {
    "CREATING": WAITING,
    "ACCEPTED": WAITING,
    "WAITING_FOR_RESOURCES": WAITING,
    "PROVISIONING": CREATING,
    "ACTIVE": READY,
    "SUSPENDING": SUSPENDED,
    "SUSPENDED": SUSPENDED,
    "DELETING": FAILED,
    "FAILED": FAILED,
}
_TPUS = ("gcloud", "compute", "tpus")


def check(settings: LaunchSettings) -> None:
    """See `Backend.check`."""
    slices.hosts(settings.slice)
    slices.accelerator_type(settings.slice)
    vm.check(settings)
    if settings.reservation not in ("", "any"):
        raise UserError(
            f"got --reservation={settings.reservation}, expected any: queued resources take "
            "whatever the project has reserved"
        )


def files(settings: LaunchSettings) -> Mapping[str, str]:
    """See `Backend.files`."""
    return vm.files(settings, queued_resource=settings.name)


def up(settings: LaunchSettings, folder: Path) -> list[Command]:
    """See `Backend.up`."""
    argv = [
        *(*_TPUS, "queued-resources", "create", settings.name, *gcloud.in_zone(settings)),
        f"--node-id={settings.name}",
        f"--accelerator-type={slices.accelerator_type(settings.slice)}",
        f"--runtime-version={slices.software_version(settings.slice)}",
        f"--valid-until-duration={round(settings.wait_hours * 3600)}s",
        f"--scopes={gcloud.SCOPE}",
        f"--labels=distill-launch={settings.name}",
        vm.metadata_flag(folder),
    ]
    for flag, value in (
        ("--network", settings.network),
        ("--subnetwork", settings.subnetwork),
        ("--service-account", settings.service_account),
    ):
        if value:
            argv.append(f"{flag}={value}")
    if settings.provisioning == "spot":
        argv.append("--spot")
    elif settings.provisioning == "reserved":
        argv.append("--reserved")
    create = Command(tuple(argv), "request the queued resource", resource="queued resource")
    return [*vm.uploads(settings, folder), create]


def status(settings: LaunchSettings) -> list[Command]:
    """See `Backend.status`."""
    describe = (
        *(*_TPUS, "queued-resources", "describe", settings.name, *gcloud.in_zone(settings)),
        "--format=json",
    )
    purpose = "look at the queued resource"
    return [Command(describe, purpose, tolerates=("not_found",), timeout=120)]


def parse_status(settings: LaunchSettings, results: Sequence[Result]) -> Status:
    """See `Backend.parse_status`."""
    (result,) = results
    if result.exit_code:
        return Status(ABSENT)
    content = json.loads(result.stdout or "{}")
    state = content.get("state", {})
    name = state.get("state", "")
    phase = _PHASES.get(name, WAITING)
    error = state.get("failedData", {}).get("error", {}).get("message", "")
    if phase == SUSPENDED:
        detail = f"{name}: it has no hosts, but counts against quota until it is deleted"
        return Status(phase, (), detail, kind="suspended")
    if phase == FAILED:
        kind = failures.classify(error).kind
        return Status(phase, (), f"{name}: {error}" if error else name, kind=kind)
    hosts = (settings.name,) if phase == READY else ()
    return Status(phase, hosts, "" if phase == READY else name)


def _ssh(settings: LaunchSettings, node: str) -> tuple[str, ...]:
    return *_TPUS, "tpu-vm", "ssh", node, *gcloud.in_zone(settings), "--worker=all"


_training = vm.Training(_ssh, reaches="all hosts of {}", timeout=300)
run, progress, logs = _training.run, _training.progress, _training.logs
parse_progress = vm.parse_progress


def down(settings: LaunchSettings) -> list[Command]:
    """See `Backend.down`."""
    argv = (*_TPUS, "queued-resources", "delete", settings.name, *gcloud.in_zone(settings))
    # --force deletes the node first; a SUSPENDED resource is deleted too.
    return [gcloud.delete("queued resource", *argv, "--force")]
