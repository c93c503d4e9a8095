"""The devices that jax computes on: asked for once, before anything else is done with them."""

from __future__ import annotations

import os

from distill.errors import UserError


def check_devices() -> None:
    """Starts jax.

    Raises:
      UserError: jax finds no device of the platforms that JAX_PLATFORMS names, or none at all.
    """
    import jax

    try:
        jax.devices()
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        wanted = os.environ.get("JAX_PLATFORMS")
        fix = (
            f"the environment variable JAX_PLATFORMS is {wanted!r}: unset it to take the devices "
            "that are there, or install the jax of that device (README.md, installation)"
            if wanted
            else "set JAX_PLATFORMS=cpu to compute on the processor"
        )
        raise UserError(f"jax finds no device ({reason}); {fix}") from error
