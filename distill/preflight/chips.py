"""What a TPU chip has, and what a topology's name stands for.

Sources, read in November 2026: docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e and /tpu7x
(peak in bfloat16, HBM, interconnect). Makers count interconnect in both directions; v4's page
has none, so its figure is twice the page's 1.1 PB/s of all-reduce a pod of 4,096 chips.
v4 and v7 chips have two TensorCores. Programs see v4's as one device ("megacore", what Cloud's
virtual machines run) and v7's as two, each with half of the chip's memory.
"""

from __future__ import annotations

import dataclasses
import math
import re

from distill.errors import UserError, unknown

GIB, GB = 2**30, 10**9
MOST_CHIPS = 16_384  # no slice on offer has more than 9,216


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip's peaks.

    Attributes:
      name: as users write it.
      platform_name: as libtpu writes it in a topology's name.
      hbm_bytes: memory.
      hbm_bytes_per_second: its bandwidth.
      flops_per_second: of bfloat16 products.
      ici_bytes_per_second: interconnect, all links and both directions together.
      devices: that jax shows a chip as.
      dimensions: axes of a topology.
      config_name: libtpu's chip configuration, None for its default.
    """

    name: str
    platform_name: str
    hbm_bytes: int
    hbm_bytes_per_second: float
    flops_per_second: float
    ici_bytes_per_second: float
    devices: int
    dimensions: int
    config_name: str | None = None


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "v4", 32 * GIB, 1200e9, 275e12, 537e9, 1, 3, "megacore"),
        Chip("v5e", "v5e", 16 * GB, 819e9, 197e12, 400e9, 1, 2),
        Chip("v5p", "v5p", 95 * GIB, 2765e9, 459e12, 1200e9, 1, 3),
        Chip("v6e", "v6e", 32 * GB, 1638e9, 918e12, 800e9, 1, 2),
        Chip("v7", "tpu7x", 192 * GIB, 7380e9, 2307e12, 1200e9, 2, 3),
    )
}
_ALIASES = {"tpu7x": "v7", "ironwood": "v7", "trillium": "v6e"}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: its chip and how many along each axis."""

    chip: Chip
    sides: tuple[int, ...]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.sides)

    @property
    def devices(self) -> int:
        """Number of jax devices, which is not that of chips for v7."""
        return self.chips * self.chip.devices

    @property
    def name(self) -> str:
        """As users write it, e.g. v5p:4x4x4."""
        return f"{self.chip.name}:{'x'.join(map(str, self.sides))}"

    @property
    def platform_name(self) -> str:
        """As libtpu wants it."""
        return f"{self.chip.platform_name}:{'x'.join(map(str, self.sides))}"

    def larger(self) -> Topology:
        """The next larger slice on offer: the shortest side doubled, the first two at least 2."""
        shortest = min(range(len(self.sides)), key=lambda i: (self.sides[i], -i))
        sides = (s * 2 if i == shortest else s for i, s in enumerate(self.sides))
        return Topology(self.chip, tuple(max(s, 2) if i < 2 else s for i, s in enumerate(sides)))


# What Cloud TPU offers of v5e and v6e: cloud.google.com/tpu/docs/v5e and /v6e.
_SLICES_2D = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))


def topology(text: str) -> Topology:
    """Reads CHIP:SIDES, e.g. v5e:2x2, v5p:4x4x4, v7:2x2x1.

    Raises:
      UserError: another form, an unknown chip, the wrong number of sides, a slice that a chip with
        two dimensions is not offered in.
    """
    name, colon, sides = text.strip().lower().partition(":")
    chip = CHIPS.get(_ALIASES.get(name, name))
    if chip is None:
        raise unknown("chip", name, CHIPS, "--topology CHIP:SIDES, such as v5e:4x4")
    example = "x".join(["4"] * chip.dimensions)
    if not colon or not re.fullmatch(r"[0-9]+(x[0-9]+)*", sides):
        raise UserError(f"got --topology={text}, expected CHIP:SIDES such as {chip.name}:{example}")
    if max(map(len, sides.split("x"))) > len(str(MOST_CHIPS)):
        raise _too_large(text)
    lengths = tuple(int(side) for side in sides.split("x"))
    if len(lengths) != chip.dimensions or 0 in lengths:
        raise UserError(
            f"got --topology={text}, expected {chip.dimensions} sides of at least 1 for "
            f"{chip.name}, such as {chip.name}:{example}"
        )
    if math.prod(lengths) > MOST_CHIPS:
        raise _too_large(text)
    if chip.dimensions == 2 and lengths not in _SLICES_2D:
        shown = ", ".join("x".join(map(str, sides)) for sides in _SLICES_2D)
        raise UserError(
            f"got --topology={text}, which {chip.name} is not offered in; expected one of {shown}"
        )
    return Topology(chip, lengths)


def _too_large(text: str) -> UserError:
    return UserError(f"got --topology={text}, expected at most {MOST_CHIPS:,} chips")
