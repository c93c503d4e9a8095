"""xpk: one generated file, which creates a workload on a cluster that xpk made.

The workload is a JobSet with a queue of Kueue that xpk's cluster has. The launch makes and deletes
the workload only; the cluster and its node pools are the user's.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.errors import UserError
from distill.launch import gcloud, kubernetes, slices, templates
from distill.launch.backends import ABSENT, CREATING, READY, Status
from distill.launch.command import Command, Result
from distill.launch.kubernetes import JOBSET
from distill.launch.settings import LaunchSettings
from distill.preflight.chips import Topology

CHIPS = ("v4", "v5e", "v5p", "v6e", "v7")
LEGACY = ""
_FILE = "create.sh"
_PREFIXES = {"v5e": "v5litepod", "v7": "tpu7x"}  # of xpk's --tpu-type, where it is not the chip
_ONE_HOST = {"v5e": (), "v6e": ((1, 1), (2, 2))}  # of two sides; xpk has all larger ones
_RESTARTED = 75  # besides 42 and 127 to 255, which xpk restarts by itself


def check(settings: LaunchSettings) -> None:
    """See `Backend.check`."""
    kubernetes.check(settings)
    _check_type(settings.slice)
    for name in ("queue", "service_account"):
        if getattr(settings, name):
            raise UserError(f"--{name} has no effect with --backend=xpk: the cluster has its own")


def _check_type(where: Topology) -> None:
    chip = where.chip.name
    small = _ONE_HOST.get(chip)
    if small is not None and where.chips < 8 and where.sides not in small:
        raise UserError(
            f"got --topology={where.name}, which xpk does not have; expected {chip}:2x4 or a "
            "larger slice, or --backend=gke"
        )
    if chip in ("v5p", "v7") and sorted(where.sides) != list(where.sides) and where.chips > 4:
        sides = "x".join(map(str, sorted(where.sides)))
        raise UserError(
            f"got --topology={where.name}, which xpk names by ascending sides; expected "
            f"{chip}:{sides}"
        )


def tpu_type(where: Topology) -> str:
    """The slice as xpk's --tpu-type names it, e.g. v5p-4x4x4 or tpu7x-2x2x2."""
    return f"{_PREFIXES.get(where.chip.name, where.chip.name)}-{slices.sides(where)}"


def files(settings: LaunchSettings) -> Mapping[str, str]:
    """See `Backend.files`."""
    capacity = {
        "on_demand": "--on-demand",
        "spot": "--spot",
        "reserved": f"--reservation={settings.reservation}",
    }[settings.provisioning]
    cluster = (
        *("xpk", "cluster", "create", *_place(settings)),
        *(f"--tpu-type={tpu_type(settings.slice)}", "--num-slices=1", capacity),
    )
    values = {
        "CLUSTER_CREATE": _lines(cluster, "\n#   "),
        "WORKLOAD_CREATE": _lines(workload_create(settings), " \\\n  "),
    }
    return {_FILE: templates.render(f"xpk/{_FILE}", values)}


def workload_create(settings: LaunchSettings) -> tuple[str, ...]:
    """The command that creates the workload.

    xpk hands --command to bash in the container, and forwards SIGTERM to what bash has started:
    with exec that is `timeout`, which forwards it to the training.
    """
    return (
        *("xpk", "workload", "create", *_place(settings)),
        f"--workload={settings.name}",
        f"--tpu-type={tpu_type(settings.slice)}",
        "--num-slices=1",
        f"--docker-image={settings.image}",
        f"--max-restarts={settings.max_restarts}",
        f"--restart-on-exit-codes={_RESTARTED}",
        "--termination-grace-period-seconds=60",
        f"--env=JAX_COORDINATOR_PORT={settings.coordinator_port}",
        f"--command=exec {shlex.join(settings.limited_command)}",
    )


def _lines(argv: Sequence[str], between: str) -> str:
    """A command with one argument a line; the program and its verbs come first."""
    count = next(i for i, text in enumerate(argv) if text.startswith("--"))
    return between.join((shlex.join(argv[:count]), *map(shlex.quote, argv[count:])))


def up(settings: LaunchSettings, folder: Path) -> list[Command]:
    """See `Backend.up`."""
    # xpk's client has no check that asks the cluster, so this asks for the CRD alone.
    known = kubernetes.kubectl(settings, "get", "jobset", "--output=name")
    return [
        kubernetes.credentials(settings),
        *gcloud.copy_gin_files(settings),
        Command(known, "check that the cluster has JobSet", resource=JOBSET),
    ]


def status(settings: LaunchSettings) -> list[Command]:
    """See `Backend.status`."""
    location, name = kubernetes.cluster(settings)
    describe = (
        *("gcloud", "container", "clusters", "describe", name),
        *(f"--project={settings.project}", f"--location={location}", "--format=json(status)"),
    )
    return [Command(describe, "ask for the cluster", tolerates=("not_found",), timeout=120)]


def parse_status(settings: LaunchSettings, results: Sequence[Result]) -> Status:
    """See `Backend.parse_status`."""
    (result,) = results
    name = kubernetes.cluster(settings)[1]
    if result.exit_code:
        return Status(ABSENT, detail=f"there is no cluster {name}; {_FILE} says how to make it")
    phase = json.loads(result.stdout).get("status", "")
    if phase in ("RUNNING", "RECONCILING", "DEGRADED"):
        return Status(READY, (f"cluster {name}",))
    return Status(CREATING, detail=f"the cluster {name} is {phase}")


def run(settings: LaunchSettings, hosts: Sequence[str], folder: Path) -> list[Command]:
    """See `Backend.run`."""
    return [kubernetes.start(settings, ("bash", str(folder / _FILE)))]


progress, logs = kubernetes.progress, kubernetes.logs
parse_progress = kubernetes.parse_progress


def down(settings: LaunchSettings) -> list[Command]:
    """See `Backend.down`."""
    argv = ("xpk", "workload", "delete", *_place(settings), f"--workload={settings.name}")
    return [
        Command(
            (*argv, "--force"),
            "delete the workload",
            tolerates=kubernetes.GONE,
            resource=JOBSET,
        )
    ]


def _place(settings: LaunchSettings) -> tuple[str, str, str]:
    name = kubernetes.cluster(settings)[1]
    return f"--cluster={name}", f"--project={settings.project}", f"--zone={settings.zone}"
