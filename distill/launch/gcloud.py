"""Commands of gcloud that several back ends run."""

from __future__ import annotations

from distill.launch import slices
from distill.launch.command import Command
from distill.launch.settings import LaunchSettings

SCOPE = "https://www.googleapis.com/auth/cloud-platform"  # of the hosts
POLICY = "workload policy"


def copy(source: str, target: str) -> Command:
    """Copies a file to a bucket."""
    return Command(("gcloud", "storage", "cp", source, target), f"copy {source} to {target}")


def copy_gin_files(settings: LaunchSettings) -> list[Command]:
    """Copies the gin files that the hosts do not have to the bucket."""
    return [copy(local, target) for local, target in settings.gin_uploads]


def in_zone(settings: LaunchSettings) -> tuple[str, str]:
    """The flags that name the project and the zone."""
    return f"--project={settings.project}", f"--zone={settings.zone}"


def create_policy(settings: LaunchSettings) -> Command:
    """Creates a workload policy with the topology of the slice."""
    return Command(
        (
            *("gcloud", "compute", "resource-policies", "create", "workload-policy", settings.name),
            *_in_region(settings),
            "--type=HIGH_THROUGHPUT",
            f"--accelerator-topology={slices.sides(settings.slice)}",
        ),
        f"create the {POLICY}",
        resource=POLICY,
    )


def delete(resource: str, *argv: str) -> Command:
    """Deletes a resource, which may be gone already.

    Args:
      resource: its name in the state file.
      argv: of the command, without --quiet.
    """
    return Command(
        (*argv, "--quiet"), f"delete the {resource}", tolerates=("not_found",), resource=resource
    )


def delete_policy(settings: LaunchSettings) -> Command:
    """Deletes the workload policy."""
    argv = ("gcloud", "compute", "resource-policies", "delete", settings.name)
    return delete(POLICY, *argv, *_in_region(settings))


def _in_region(settings: LaunchSettings) -> tuple[str, str]:
    return f"--project={settings.project}", f"--region={settings.region}"
