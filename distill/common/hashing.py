"""Seeded hashes: the same on every machine, Python and numpy version.

Python's own `hash` of a string changes with each process, and a numpy generator
may change its stream between releases; neither may decide what a run trains on.
"""

from __future__ import annotations

import hashlib


def digest64(*parts: object) -> int:
    """A 64-bit unsigned integer that depends on the text of all `parts` and their order."""
    text = "".join(f"{len(str(part))}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def digest63(*parts: object) -> int:
    """The first 63 bits of `digest64`: an integer that signed 64 bits can hold."""
    return digest64(*parts) >> 1


def uniform(*parts: object) -> float:
    """A number in [0, 1), uniform over the values of `parts` (53 bits)."""
    return (digest64(*parts) >> 11) / 2.0**53
