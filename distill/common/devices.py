"""The devices that jax computes on: asked for once, before anything else is done with them."""

from __future__ import annotations

import importlib.util
import os
import pathlib

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
    quiet_libtpu()
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # jax asserts that a platform was found
        reason = str(error).strip().partition("\n")[0] or "none of its platforms is available"
        wanted = os.environ.get("JAX_PLATFORMS")
        fix = (
            f"the environment variable JAX_PLATFORMS is {wanted!r}: unset it to use the devices of "
            "this machine, or install the jax build and the driver for that device"
            if wanted
            else "set JAX_PLATFORMS=cpu to run on the CPU"
        )
        raise UserError(f"jax found no device ({reason}); {fix}") from error


def quiet_libtpu(pci_devices: str = "/sys/bus/pci/devices") -> None:
    """Keeps an installed libtpu from complaining on a machine without a TPU.

    jax asks libtpu for devices first wherever it is installed. To be called before jax starts.

    Args:
      pci_devices: the folder in which the kernel lists the devices of the PCI bus.
    """
    if importlib.util.find_spec("libtpu") is None:
        return
    for path in pathlib.Path(pci_devices).glob("*/vendor"):
        if path.read_text().strip() == _GOOGLE:
            return
    for name, value in NO_TPU_HOST.items():
        os.environ.setdefault(name, value)
