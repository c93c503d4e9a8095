"""The one exception for bad input, and the hint of the closest valid names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Input that a user can put right.

    The message says what was got, what was expected, where it stands (file and
    line, or macro) and how to fix it. The command line prints it without a
    traceback and exits with 2.
    """


def closest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The `count` names most like `name`, best first (never empty if names is not)."""
    return difflib.get_close_matches(str(name), sorted(names), n=count, cutoff=0.0)


def unknown(kind: str, got: str, names: Iterable[str], where: str) -> UserError:
    """An error for a name that is not one of `names`.

    Args:
      kind: what the name stands for, e.g. "dataset".
      got: the name that was given.
      names: the valid ones.
      where: the macro, file or flag that set it, e.g. "macro DATASET".
    """
    hint = ", ".join(closest(got, names)) or "there are none"
    return UserError(f"unknown {kind} {got!r} (set by {where}); closest: {hint}")
