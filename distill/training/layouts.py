"""How the batches of a run lie in memory: packed rows, or flat tokens.

  packed  rows of INPUT_LENGTH and TARGET_LENGTH that hold several sequences each
          (`distill.data.batching.packing`); rows are split over devices and microbatches
  flat    all tokens of a step end to end, attention on classes of sequences of about one length
          (`distill.data.batching.flat`); less padding, but nothing that devices could split

A step trains on the same sequences with the same weights in either. Losses and gradients differ
by rounding, and by which numbers dropout draws.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from distill.config.train import TrainConfig
from distill.data.batching.batches import FLAT, PACKED
from distill.errors import UserError


def choose_layout(train: TrainConfig, mesh: jax.sharding.Mesh) -> str:
    """FLAT or PACKED: what LAYOUT asks for, and with 'auto' what suits the devices.

    That is flat on one CPU or GPU, and packed on TPUs and meshes and with MICROBATCHES > 1.

    Raises:
      UserError: LAYOUT = 'flat' with devices or microbatches that share a batch.
    """
    if train.layout == PACKED:
        return PACKED
    fix = "expected 'auto' or 'packed'; flat batches cannot be divided"
    if train.layout == FLAT:
        if mesh.size > 1:
            raise UserError(f"got LAYOUT = 'flat' on {mesh.size} devices, {fix}")
        if train.microbatches > 1:
            raise UserError(f"got LAYOUT = 'flat' with MICROBATCHES = {train.microbatches}, {fix}")
        return FLAT
    platform = mesh.devices.flat[0].platform
    suits = mesh.size == 1 and train.microbatches == 1 and platform != "tpu"
    return FLAT if suits else PACKED


def tell_change(before: str, now: str, say: Callable[[str], None]) -> None:
    """Says that a run goes on in another layout than it began with.

    Args:
      before: of the process that started it.
      now: of this process.
      say: takes the line.
    """
    if before != now:
        say(
            f"this run started with {before} batches and continues with {now} ones: the training "
            "sequences stay the same, but dropout draws other numbers and sums are rounded "
            f"differently; set LAYOUT = {before!r} in a new run to repeat it exactly"
        )
