"""GKE with JobSet and Kueue: all chips.

The launch makes a node pool with as many nodes as the slice has hosts, and a queue of its own. The
cluster's autoscaler creates the nodes when Kueue admits the JobSet, and deletes them after it. With
--queue the launch makes neither: nodes and quota are those of the cluster's administrator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.common.phrases import number_of
from distill.errors import UserError
from distill.launch import failures, gcloud, kubernetes, slices, templates
from distill.launch.backends import ABSENT, CREATING, FAILED, READY, Status
from distill.launch.command import Command, Result
from distill.launch.kubernetes import JOBSET
from distill.launch.settings import LaunchSettings
from distill.preflight.chips import Topology

CHIPS = ("v4", "v5e", "v5p", "v6e", "v7")
LEGACY = ""
_POOL, _QUEUE = "node pool", "queue"
# Values of the label cloud.google.com/gke-tpu-accelerator, as docs.cloud.google.com/
# kubernetes-engine/docs/concepts/plan-tpus (November 2026) and xpk 1.16 have them.
ACCELERATORS = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
    "v7": "tpu7x",
}


def check(settings: LaunchSettings) -> None:
    """See `Backend.check`."""
    kubernetes.check(settings)
    if settings.queue and settings.service_account:
        raise UserError(
            "--service_account is of the nodes that a launch makes, and with --queue it makes none"
        )


def files(settings: LaunchSettings) -> Mapping[str, str]:
    """See `Backend.files`."""
    where = settings.slice
    selector = {
        "cloud.google.com/gke-tpu-accelerator": ACCELERATORS[where.chip.name],
        "cloud.google.com/gke-tpu-topology": slices.sides(where),
    }
    if settings.provisioning == "spot":
        selector["cloud.google.com/gke-spot"] = "true"
    elif settings.provisioning == "reserved":
        selector["cloud.google.com/reservation-name"] = settings.reservation
    values: dict[str, object] = {
        "NAME": settings.name,
        "NAMESPACE": kubernetes.NAMESPACE,
        "QUEUE": settings.queue or settings.name,
        "MAX_RUN_SECONDS": settings.max_run_seconds,
        "MAX_RESTARTS": settings.max_restarts,
        "HOSTS": slices.hosts(where),
        "CHIPS": where.chips,
        "CHIPS_OF_HOST": where.chips // slices.hosts(where),
        "NODE_SELECTOR": selector,
        "IMAGE": json.dumps(settings.image),
        "COMMAND": list(settings.command),
        "COORDINATOR_PORT": settings.coordinator_port,
    }
    names = ("jobset.yaml",) if settings.queue else ("jobset.yaml", "queue.yaml")
    return {name: templates.render(f"gke/{name}", values) for name in names}


def up(settings: LaunchSettings, folder: Path) -> list[Command]:
    """See `Backend.up`."""
    commands = [
        kubernetes.credentials(settings),
        *gcloud.copy_gin_files(settings),
        Command(
            kubernetes.kubectl(
                settings, "create", "--dry-run=server", f"--filename={folder / 'jobset.yaml'}"
            ),
            "check the JobSet against the schema of the cluster",
            resource=JOBSET,  # which `run` creates
        ),
    ]
    if settings.queue:
        return commands
    if _has_policy(settings.slice):
        commands.append(gcloud.create_policy(settings))
    apply = kubernetes.kubectl(settings, "apply", f"--filename={folder / 'queue.yaml'}")
    return [
        *commands,
        _node_pool(settings),
        Command(apply, "create the queue", resource=_QUEUE),
    ]


def _has_policy(where: Topology) -> bool:
    """v7 has a workload policy in place of --tpu-topology."""
    return where.chip.name == "v7" and slices.hosts(where) > 1


def _node_pool(settings: LaunchSettings) -> Command:
    where = settings.slice
    hosts = slices.hosts(where)
    argv = [
        *("gcloud", "container", "node-pools", "create", settings.name),
        *_place(settings),
        f"--node-locations={settings.zone}",
        f"--machine-type={slices.machine_type(where)}",
        # No node before the JobSet is admitted, and none after it.
        *("--num-nodes=0", "--enable-autoscaling", "--min-nodes=0", f"--max-nodes={hosts}"),
        f"--node-labels=distill-launch={settings.name}",
        f"--scopes={gcloud.SCOPE}",
        "--workload-metadata=GCE_METADATA",  # Pods have the service account of their node
    ]
    if _has_policy(where):
        argv.append(f"--placement-policy={settings.name}")
    elif hosts > 1:
        argv.append(f"--tpu-topology={slices.sides(where)}")
    if settings.service_account:
        argv.append(f"--service-account={settings.service_account}")
    if settings.provisioning == "spot":
        argv.append("--spot")
    elif settings.provisioning == "reserved":
        argv += ["--reservation-affinity=specific", f"--reservation={settings.reservation}"]
    return Command(
        (*argv, "--quiet"),
        f"create the node pool of up to {number_of(hosts, 'node')}",
        resource=_POOL,
    )


def status(settings: LaunchSettings) -> list[Command]:
    """See `Backend.status`."""
    describe: tuple[str, ...] = (
        *("gcloud", "container", "node-pools", "describe", settings.name),
        *(*_place(settings), "--format=json"),
    )
    if settings.queue:
        describe = kubernetes.kubectl(
            settings, "get", "localqueue", settings.queue, "--output=json"
        )
    what = "queue" if settings.queue else _POOL
    return [Command(describe, f"ask for the {what}", tolerates=("not_found",), timeout=120)]


def parse_status(settings: LaunchSettings, results: Sequence[Result]) -> Status:
    """See `Backend.parse_status`."""
    (result,) = results
    if settings.queue:
        if result.exit_code:
            return Status(ABSENT, detail=f"the cluster has no queue {settings.queue}")
        return Status(READY, (f"queue {settings.queue}",))
    if result.exit_code:
        return Status(ABSENT)
    pool = json.loads(result.stdout)
    phase = pool.get("status", "")
    detail = "; ".join(
        dict.fromkeys(str(one.get("message", "")) for one in pool.get("conditions", []))
    )
    if phase in ("RUNNING", "RECONCILING"):
        return Status(READY, (f"node pool {settings.name}",), detail)
    if phase in ("ERROR", "RUNNING_WITH_ERROR"):
        return Status(FAILED, detail=detail or phase, kind=failures.classify(detail).kind)
    if phase == "STOPPING":
        return Status(ABSENT, detail="the node pool is being deleted")
    return Status(CREATING, detail=detail)


def run(settings: LaunchSettings, hosts: Sequence[str], folder: Path) -> list[Command]:
    """See `Backend.run`."""
    create = kubernetes.kubectl(settings, "create", f"--filename={folder / 'jobset.yaml'}")
    return [kubernetes.start(settings, create)]


progress, logs = kubernetes.progress, kubernetes.logs
parse_progress = kubernetes.parse_progress


def down(settings: LaunchSettings) -> list[Command]:
    """See `Backend.down`."""
    delete = [_delete(settings, JOBSET, "jobset", settings.name, "--wait")]  # Pods get SIGTERM
    if settings.queue:
        return delete
    kinds = ("localqueue", "clusterqueue", "resourceflavor")
    pool = ("gcloud", "container", "node-pools", "delete", settings.name, *_place(settings))
    return [
        *delete,
        gcloud.delete(_POOL, *pool),
        gcloud.delete_policy(settings),
        _delete(settings, _QUEUE, *(f"{kind}/{settings.name}" for kind in kinds)),
    ]


def _delete(settings: LaunchSettings, resource: str, *what: str) -> Command:
    argv = kubernetes.kubectl(settings, "delete", *what, "--ignore-not-found")
    return Command(argv, f"delete the {resource}", tolerates=kubernetes.GONE, resource=resource)


def _place(settings: LaunchSettings) -> tuple[str, str, str]:
    location, name = kubernetes.cluster(settings)
    return f"--project={settings.project}", f"--location={location}", f"--cluster={name}"
