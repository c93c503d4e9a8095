"""The key of a stored answer: what was asked, and the number of the sample.

Rows with the same request share their answers, whatever their ids and files. Up to version 0.1 a
key also held the row's id, which may be its position in a file; such answers are still found, first
by the id, then by what was asked.
"""

from __future__ import annotations

import hashlib


def key_of(digest: str, sample: int) -> str:
    """32 hex digits for one sample of a request.

    Args:
      digest: of the request, see `sampling.Digests.of`.
      sample: its number, from 0.
    """
    return _hashed(f"{digest}:{sample}")


def position_key(row_id: str, digest: str, sample: int) -> str:
    """The key of versions up to 0.1: one sample of one row."""
    return _hashed(f"{len(row_id)}:{row_id}:{digest}:{sample}")


def _hashed(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
