"""Slices as Google Cloud names them: hosts, machine types, accelerator types, images.

Sources, read in November 2026: docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e, /tpu7x (chips
of a host), /tpus-and-migs (chips that instance groups have), /spot-compute and
/consume-reservation-compute (image project and family), /runtimes (software versions).
"""

from __future__ import annotations

from distill.errors import UserError
from distill.preflight.chips import Topology, topology

_CHIPS_OF_HOST = 4
_ONE_HOST_2D = 8  # chips of the largest slice of a chip with two dimensions on one host
_MACHINES = {
    "v4": "ct4p-hightpu-{}t",
    "v5e": "ct5lp-hightpu-{}t",
    "v5p": "ct5p-hightpu-{}t",
    "v6e": "ct6e-standard-{}t",
    "v7": "tpu7x-standard-{}t",
}
_IMAGES = {
    "v5p": "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e",
    "v6e": "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e",
    "v7": "ubuntu-accel-2404-amd64-tpu-tpu7x",
}
IMAGE_PROJECT = "ubuntu-os-accelerator-images"
_DISKS = {"v5p": "pd-balanced", "v6e": "hyperdisk-balanced", "v7": "hyperdisk-balanced"}
_SOFTWARE = {
    "v4": "tpu-ubuntu2204-base",
    "v5e": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}


def hosts(where: Topology) -> int:
    """Number of hosts of a slice.

    Raises:
      UserError: a slice that is not made of whole hosts.
    """
    if where.chip.dimensions == 2 and where.chips <= _ONE_HOST_2D:
        return 1
    if where.chips % _CHIPS_OF_HOST or any(side % 2 for side in where.sides[:2]):
        raise UserError(
            f"got --topology={where.name}: hosts of {where.chip.name} have 2x2x1 chips, so the "
            "first two sides have to be even"
        )
    return where.chips // _CHIPS_OF_HOST


def machine_type(where: Topology) -> str:
    """The machine type of Compute Engine and GKE (v4 and v5e: only GKE), e.g. ct6e-standard-4t."""
    return _MACHINES[where.chip.name].format(where.chips // hosts(where))


def image_family(where: Topology) -> str:
    """The family of the operating system's image, of IMAGE_PROJECT."""
    return _IMAGES[where.chip.name]


def disk_type(where: Topology) -> str:
    """The type of a boot disk."""
    return _DISKS[where.chip.name]


def sides(where: Topology) -> str:
    """The slice as `--accelerator-topology` takes it, e.g. 4x4x4."""
    return "x".join(map(str, where.sides))


def accelerator_type(where: Topology) -> str:
    """The slice as the Cloud TPU API names it, e.g. v5p-128 (cores) or v6e-16 (chips).

    Raises:
      UserError: sides that the name does not stand for.
    """
    name = where.chip.name
    if where.chip.dimensions == 2:
        return f"{'v5litepod' if name == 'v5e' else name}-{where.chips}"
    usual = topology(f"{name}:2x2x1")
    while usual.chips < where.chips:
        usual = usual.larger()
    if usual.sides != where.sides:
        raise UserError(
            f"got --topology={where.name}, which queued resources cannot name; expected "
            f"{usual.name}, or --backend=instance_group"
        )
    return f"{name}-{2 * where.chips}"


def software_version(where: Topology) -> str:
    """The software version that nodes of the Cloud TPU API start with."""
    return _SOFTWARE[where.chip.name]
