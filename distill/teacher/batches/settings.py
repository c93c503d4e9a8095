"""The flags of batches."""

from __future__ import annotations

import dataclasses

from distill.common.flags import check_bounds, flag
from distill.errors import UserError


@dataclasses.dataclass(frozen=True)
class Batching:
    """Whether rows are sent in batches that the provider runs later, and how.

    Attributes without a flag:
      settle_seconds: seconds until a batch that was just submitted appears in the provider's list.
    """

    batch: bool = flag(
        False,
        "send the requests as batches, which the provider answers later, often for less; the same "
        "command resumes",
    )
    requests: int = flag(
        50_000, "maximum number of requests per batch", name="batch_requests", least=1, most=50_000
    )
    window: str = flag(
        "24h", "time that the provider may take", name="batch_window", metavar="TIME"
    )
    poll_seconds: float = flag(
        60.0, "seconds between two looks at a batch", name="batch_poll_seconds", least=0.01
    )
    settle_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.window.strip():
            raise UserError("got an empty --batch_window, expected e.g. 24h")
