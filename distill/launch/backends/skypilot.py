"""SkyPilot: one generated file, a managed job, for v4 to v6e.

SkyPilot gets the slice, starts the job again on another when it is lost, and deletes the slice when
the job ends. So the launch has nothing of its own besides the job.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.common.phrases import number_of
from distill.errors import UserError
from distill.launch import slices, templates, vm
from distill.launch.backends import ENDED, IDLE, READY, RUNNING, Status
from distill.launch.command import Command, Result
from distill.launch.settings import LaunchSettings

CHIPS = ("v4", "v5e", "v5p", "v6e")
LEGACY = ""
_FILE = "task.yaml"
_JOB = "managed job"
_FAILED = ("FAILED", "CANCELLED")  # and FAILED_SETUP, FAILED_NO_RESOURCE, ...


def check(settings: LaunchSettings) -> None:
    """See `Backend.check`."""
    slices.accelerator_type(settings.slice)
    vm.check(settings)
    if settings.image:
        raise UserError("--image has no effect with --backend=skypilot: it installs the source")
    if settings.provisioning == "reserved":
        raise UserError(
            "--provisioning=reserved does not work with --backend=skypilot; expected on_demand or "
            "spot, or another --backend"
        )
    for name in ("network", "service_account"):
        if getattr(settings, name):
            raise UserError(
                f"--{name} has no effect with --backend=skypilot: set it in SkyPilot's "
                "configuration (~/.sky/config.yaml)"
            )


def files(settings: LaunchSettings) -> Mapping[str, str]:
    """See `Backend.files`."""
    where = settings.slice
    values: dict[str, object] = {
        "NAME": settings.name,
        "INFRA": f"gcp/{settings.region}/{settings.zone}",
        "ACCELERATOR": f"tpu-{slices.accelerator_type(where)}:1",
        "RUNTIME_VERSION": slices.software_version(where),
        "USE_SPOT": settings.provisioning == "spot",
        "COORDINATOR_PORT": settings.coordinator_port,
        "SOURCE": json.dumps(settings.source_archive),
        "COMMAND": shlex.join(settings.limited_command),
    }
    return {_FILE: templates.render(f"skypilot/{_FILE}", values)}


def up(settings: LaunchSettings, folder: Path) -> list[Command]:
    """See `Backend.up`."""
    # The job, which `run` creates, is the only thing that `down` has to delete.
    (ask,) = status(settings)
    return [
        *vm.uploads(settings, folder),
        Command(ask.argv, "check SkyPilot's access to Google Cloud", resource=_JOB),
    ]


def status(settings: LaunchSettings) -> list[Command]:
    """See `Backend.status`."""
    return [Command(("sky", "check", "gcp"), "ask for SkyPilot's access to Google Cloud")]


def parse_status(settings: LaunchSettings, results: Sequence[Result]) -> Status:
    """See `Backend.parse_status`."""
    return Status(READY, ("SkyPilot",))


def run(settings: LaunchSettings, hosts: Sequence[str], folder: Path) -> list[Command]:
    """See `Backend.run`."""
    script = str(templates.path_of("skypilot/start.sh"))
    argv = ("bash", script, settings.name, str(folder / _FILE))
    return [Command(argv, "start the managed job")]


def progress(settings: LaunchSettings, hosts: Sequence[str]) -> list[Command]:
    """See `Backend.progress`."""
    queue = ("sky", "jobs", "queue", "--refresh", "--all", "--output=json")
    return [Command(queue, "ask for the managed job", timeout=300)]


def parse_progress(settings: LaunchSettings, results: Sequence[Result]) -> Status:
    """See `Backend.parse_progress`."""
    (result,) = results
    if result.failure is not None:
        return Status("", detail="SkyPilot does not answer", kind=result.failure.kind)
    start = result.stdout.find("[")  # after what the client says of itself
    jobs = json.loads(result.stdout[start:]) if start >= 0 else []
    mine = [job for job in jobs if job.get("job_name") == settings.name]
    if not mine:
        return Status(IDLE)
    job = max(mine, key=lambda job: job.get("job_id") or 0)
    phase, recovered = str(job.get("status")), job.get("recovery_count") or 0
    detail = f"managed job {job.get('job_id')}: {phase}"
    if recovered:
        detail += f", recovered {number_of(recovered, 'time')}"
    if phase == "SUCCEEDED":
        return Status(ENDED, detail=detail, exit_codes=(0,))
    if phase.startswith(_FAILED):
        reason = job.get("failure_reason") or job.get("details")
        return Status(ENDED, detail=f"{detail} ({reason})" if reason else detail, exit_codes=(1,))
    return Status(RUNNING, detail=detail)


def logs(settings: LaunchSettings, hosts: Sequence[str], lines: int) -> list[Command]:
    """See `Backend.logs`."""
    argv = ("sky", "jobs", "logs", f"--name={settings.name}", "--no-follow", f"--tail={lines}")
    return [Command(argv, "print the log", timeout=300)]


def down(settings: LaunchSettings) -> list[Command]:
    """See `Backend.down`."""
    argv = ("sky", "jobs", "cancel", f"--name={settings.name}", "--yes")
    return [Command(argv, "cancel the managed job", tolerates=("not_found",), resource=_JOB)]
