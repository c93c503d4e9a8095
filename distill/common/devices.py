"""The devices that jax computes on: asked for once, before anything else is done with them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
from collections.abc import Iterator, Mapping

from distill.errors import UserError

# What libtpu looks for on a machine that is no TPU host. It writes a block of complaints where
# these are not set, and finds no device quietly where they are.
NO_TPU_HOST = {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}
_GOOGLE = "0x1ae0"  # vendor of TPU chips on the PCI bus, as jax looks for them


def check_devices() -> None:
    """Starts jax.

    Raises:
      UserError: jax finds no device of the platforms that JAX_PLATFORMS names, or none at all.
    """
    import jax

    try:
        with variables(libtpu_environment()):
            jax.devices()
    except (RuntimeError, AssertionError) as error:  # jax asserts that a platform was found
        reason = str(error).strip().partition("\n")[0] or "none of its platforms is available"
        wanted = os.environ.get("JAX_PLATFORMS")
        fix = (
            f"the environment variable JAX_PLATFORMS is {wanted!r}: unset it to use the devices of "
            "this machine, or install the driver and the jax build for that device (extra `cuda` "
            "or `tpu`)"
            if wanted
            else "set JAX_PLATFORMS=cpu to run on the CPU"
        )
        raise UserError(f"jax found no device ({reason}); {fix}") from error


def libtpu_environment(pci_devices: str = "/sys/bus/pci/devices") -> dict[str, str]:
    """Variables that keep an installed libtpu from complaining on a machine without a TPU.

    jax asks libtpu for devices first wherever it is installed. The variables must be set when jax
    starts, and not longer than that: `distill.common.cluster` reads one of them.

    Args:
      pci_devices: the folder in which the kernel lists the devices of the PCI bus.

    Returns:
      The variables; empty without libtpu or with a TPU.
    """
    if importlib.util.find_spec("libtpu") is None:
        return {}
    for path in pathlib.Path(pci_devices).glob("*/vendor"):
        if path.read_text().strip() == _GOOGLE:
            return {}
    return NO_TPU_HOST


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Within its block, these variables of the environment are set, unless they have a value."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
