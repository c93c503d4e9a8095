"""JobSets of a GKE cluster, which the back ends gke and xpk use: commands, and what they print.

`progress`, `parse_progress` and `logs` are those of both back ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from distill.common.phrases import number_of
from distill.errors import UserError
from distill.launch import slices, templates
from distill.launch.backends import ENDED, FAILED, IDLE, RUNNING, Status
from distill.launch.command import Command, Result
from distill.launch.settings import LaunchSettings
from distill.preflight.chips import Topology

NAMESPACE = "default"
JOBSET = "JobSet"
# Failures that say that an object is gone; a cluster without the CRDs has none of their objects.
GONE = ("not_found", "unknown_field")
_OF_JOBSET = "jobset.sigs.k8s.io/jobset-name"
_SMALL = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))  # three sides that are not multiples of 4
# Why the container of a Pod does not start, and never will.
_HOPELESS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")


def check(settings: LaunchSettings) -> None:
    """Refuses settings that no GKE cluster has.

    Raises:
      UserError: no image; a network; three sides that GKE does not have; no cluster.
    """
    if not settings.image:
        raise UserError(
            f"--backend={settings.backend} needs --image: build it with launch/Dockerfile"
        )
    if settings.network:
        raise UserError(
            f"--network has no effect with --backend={settings.backend}: nodes have the network of "
            "the cluster"
        )
    _check_sides(settings.slice)
    cluster(settings)


def _check_sides(where: Topology) -> None:
    if where.chip.dimensions < 3 or where.sides in _SMALL:
        return
    if any(side % 4 for side in where.sides):
        small = ", ".join("x".join(map(str, sides)) for sides in _SMALL)
        raise UserError(f"got --topology={where.name}, expected {small}, or three multiples of 4")


def cluster(settings: LaunchSettings) -> tuple[str, str]:
    """Location and name of the cluster; --cluster=NAME is in the region of the zone.

    Raises:
      UserError: --cluster is missing.
    """
    if not settings.cluster:
        raise UserError(
            f"--backend={settings.backend} needs --cluster=NAME, or --cluster=LOCATION/NAME for a "
            f"cluster that is not in the region {settings.region}, such as {settings.zone}/NAME"
        )
    location, _, name = settings.cluster.rpartition("/")
    return location or settings.region, name


def context(settings: LaunchSettings) -> str:
    """The context that `gcloud container clusters get-credentials` writes."""
    return "_".join(("gke", settings.project, *cluster(settings)))


def kubectl(settings: LaunchSettings, *arguments: str) -> tuple[str, ...]:
    """A command of kubectl on the launch's cluster, whatever context is current."""
    return "kubectl", f"--context={context(settings)}", f"--namespace={NAMESPACE}", *arguments


def credentials(settings: LaunchSettings) -> Command:
    """Writes the context, with which kubectl reaches the cluster."""
    location, name = cluster(settings)
    return Command(
        (
            *("gcloud", "container", "clusters", "get-credentials", name),
            *(f"--project={settings.project}", f"--location={location}"),
        ),
        f"get the credentials of the cluster {name}",
    )


def start(settings: LaunchSettings, create: Sequence[str]) -> Command:
    """Creates a JobSet, unless there is one that has not ended.

    Args:
      settings: of the launch.
      create: the command that creates it.
    """
    place = (context(settings), NAMESPACE, settings.name)
    argv = ("bash", str(templates.path_of("gke/start.sh")), *place, *create)
    return Command(argv, "create the JobSet")


def progress(settings: LaunchSettings, hosts: Sequence[str]) -> list[Command]:
    """Asks for the JobSet and its Pods; see `Backend.progress`."""
    name, output = settings.name, "--output=json"
    return [
        Command(
            kubectl(settings, "get", "jobset", name, "--ignore-not-found", output),
            "ask for the JobSet",
            timeout=120,
        ),
        Command(
            kubectl(settings, "get", "pods", f"--selector={_OF_JOBSET}={name}", output),
            "ask for the Pods",
            timeout=120,
        ),
    ]


def parse_progress(settings: LaunchSettings, results: Sequence[Result]) -> Status:
    """Reads the answers of `progress`; see `Backend.parse_progress`.

    Returns:
      RUNNING from the creation of the JobSet to its end, for JobSet restarts the training itself;
      ENDED with exit codes; FAILED if the container cannot start; IDLE without a JobSet; a phase
      of "" if kubectl failed.
    """
    for result in results:
        if result.failure is not None:
            return Status(
                "",
                detail=f"kubectl could not {result.command.purpose}: {result.failure.meaning}",
                kind=result.failure.kind,
            )
    jobset, pods = (json.loads(result.stdout or "{}") for result in results)
    if not jobset:
        return Status(IDLE)
    items = pods.get("items", [])
    status = jobset.get("status", {})
    restarts, wanted = status.get("restarts", 0), slices.hosts(settings.slice)
    ending = status.get("terminalState", "")
    if ending == "Completed":
        return Status(ENDED, exit_codes=(0,) * wanted)
    said = _message(status, ending)
    if ending:
        codes = tuple(filter(None, map(_exit_code, items))) or (1,)
        detail = (
            f"{said or 'the JobSet failed'}; exit codes {', '.join(map(str, sorted(set(codes))))}, "
            f"{number_of(restarts, 'restart')}"
        )
        # 1, so that `run` does not restart what JobSet has given up.
        return Status(ENDED, detail=detail, exit_codes=(1,))
    hopeless = [text for text in map(_waits_for, items) if text.split(":")[0] in _HOPELESS]
    if hopeless:
        return Status(FAILED, detail=f"the container cannot start: {hopeless[0]}")
    if jobset.get("spec", {}).get("suspend"):
        return Status(RUNNING, detail="waits for Kueue to admit it")
    names = tuple(pod["metadata"]["name"] for pod in items if _phase(pod) == "Running")
    detail = f"{len(names)} of {number_of(wanted, 'host')} run"
    reasons = [text for text in map(_waits_for, items) if text]
    if reasons and len(names) < wanted:
        detail += f": {reasons[0]}"
    if restarts:
        detail += f", after {number_of(restarts, 'restart')}"
    return Status(RUNNING, names, detail)


def logs(settings: LaunchSettings, hosts: Sequence[str], lines: int) -> list[Command]:
    """Prints the last lines of each Pod's log, each with its Pod's name; see `Backend.logs`."""
    return [
        Command(
            kubectl(
                settings,
                *("logs", f"--selector={_OF_JOBSET}={settings.name}", "--all-containers"),
                *("--prefix", f"--tail={lines}"),
                *("--ignore-errors", f"--max-log-requests={slices.hosts(settings.slice)}"),
            ),
            "print the logs",
            timeout=180,
        )
    ]


def _phase(pod: Mapping[str, Any]) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def _message(status: Mapping[str, Any], kind: str) -> str:
    """What a status says in its condition of a kind, or ""."""
    found = [one for one in status.get("conditions", []) if one.get("type") == kind]
    return str(found[0].get("message") or found[0].get("reason") or "") if found else ""


def _exit_code(pod: Mapping[str, Any]) -> int:
    states = [one.get("state", {}) for one in pod.get("status", {}).get("containerStatuses", [])]
    codes = [state["terminated"].get("exitCode", 0) for state in states if "terminated" in state]
    return max(codes, default=0)


def _waits_for(pod: Mapping[str, Any]) -> str:
    """Why a Pod does not run: what its container waits for, or what the scheduler says."""
    for one in pod.get("status", {}).get("containerStatuses", []):
        waiting = one.get("state", {}).get("waiting")
        if waiting:
            return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    for one in pod.get("status", {}).get("conditions", []):
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return str(one.get("message") or one.get("reason") or "")
    return ""
