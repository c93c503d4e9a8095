"""How the batches of a run lie in memory: packed rows, or flat tokens.

  packed  rows of INPUT_LENGTH and TARGET_LENGTH that hold several sequences each
          (`distill.data.batching.packing`); rows are split over devices and microbatches
  flat    all tokens of a step end to end, attention on classes of sequences of about one length
          (`distill.data.batching.flat`); less padding, but nothing that devices could split.
          A step may be computed in parts (`distill.data.batching.flat_parts`)

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

    That is flat on one CPU or GPU, and packed on TPUs and meshes.

    Raises:
      UserError: LAYOUT = 'flat' with devices that share a batch.
    """
    if train.layout == PACKED:
        return PACKED
    if train.layout == FLAT:
        if mesh.size > 1:
            raise UserError(
                f"got LAYOUT = 'flat' on {mesh.size} devices, expected 'auto' or 'packed'; flat "
                "batches cannot be divided"
            )
        return FLAT
    suits = mesh.size == 1 and _platform(mesh) != "tpu"
    return FLAT if suits else PACKED


def choose_parts(train: TrainConfig, mesh: jax.sharding.Mesh) -> int | None:
    """Parts of a flat batch: MICROBATCHES, or None for as many as suit a CPU."""
    if train.microbatches == 1 and _platform(mesh) == "cpu":
        return None
    return train.microbatches


def _platform(mesh: jax.sharding.Mesh) -> str:
    platform: str = mesh.devices.flat[0].platform
    return platform


def tell_change(before: tuple[str, int], now: tuple[str, int], say: Callable[[str], None]) -> None:
    """Says that a run goes on in another layout, or in other parts, than it began with.

    Args:
      before: layout and parts of the process that started it.
      now: those of this process.
      say: takes the line.
    """
    if before == now:
        return
    layout, parts = before
    settings = [f"LAYOUT = {layout!r}"] if layout != now[0] else []
    settings += [f"MICROBATCHES = {parts}"] if parts > 1 else []
    repeat = f"; set {' and '.join(settings)} in a new run to repeat it exactly"
    say(
        f"this run started with {in_words(*before)} batches and continues with {in_words(*now)} "
        "ones: the training sequences stay the same, but dropout draws other numbers and sums are "
        f"rounded differently{repeat if settings else ''}"
    )


def in_words(layout: str, parts: int) -> str:
    """A layout and its parts, as `flat` or `flat (5 parts)`."""
    return layout if parts == 1 else f"{layout} ({parts} parts)"
