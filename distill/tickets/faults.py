"""What an endpoint can do wrong, as a plan that a test or a demonstration injects."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

from etils import epath

from distill.common.hashing import uniform
from distill.common.text_files import parse_json, read_bytes
from distill.errors import UserError, unknown

KINDS: Mapping[str, str] = {
    "429": "too many requests, no Retry-After",
    "429_retry_after": "too many requests, with Retry-After",
    "500": "internal error",
    "503": "unavailable",
    "drop": "the connection ends without an answer",
    "truncated_json": "an answer that breaks off",
    "empty_choices": "an answer without choices",
    "stall": "no answer for `stall_seconds`",
    "wrong_model": "an answer of another model",
    "n_ignored": "one choice, however many were asked for",
    "n_refused": "a refusal of more than one choice",
    "no_usage": "an answer without token counts",
    "401": "the key is refused",
    "404": "there is no such model",
}
# Faults that pass, and the reason of a row that they lastingly hit (two leave the answer usable).
TRANSIENT = tuple(kind for kind in KINDS if kind not in ("401", "404", "n_refused"))
REASONS: Mapping[str, str] = {
    "429": "rate_limited",
    "429_retry_after": "rate_limited",
    "500": "server_error",
    "503": "server_error",
    "drop": "connection",
    "truncated_json": "bad_json",
    "empty_choices": "empty_choices",
    "stall": "timeout",
    "wrong_model": "wrong_model",
}


@dataclasses.dataclass
class FaultPlan:
    """Which requests go wrong: a seeded draw for each attempt at each prompt.

    Attributes:
      rates: kind -> probability that an attempt goes wrong in this way; at most 1 in sum.
      always: kind -> probability that every attempt at a prompt does.
      seed: seeds both draws.
      retry_after: seconds that `429_retry_after` asks for.
      stall_seconds: how long `stall` is silent.
    """

    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    always: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seed: int = 0
    retry_after: float = 1.0
    stall_seconds: float = 30.0

    def __post_init__(self) -> None:
        for rates in (self.rates, self.always):
            for kind in rates:
                if kind not in KINDS:
                    raise unknown("fault", kind, KINDS, "fault plan")
            if not 0 <= sum(rates.values()) <= 1:
                raise UserError(f"got fault rates {dict(rates)}, expected a sum between 0 and 1")
        self._attempts: collections.Counter[str] = collections.Counter()

    def draw(self, prompt: str) -> str | None:
        """The fault of the next attempt at a prompt, or None."""
        lasting = _pick(self.always, uniform("always", self.seed, prompt)) if self.always else None
        if lasting or not self.rates:
            return lasting
        self._attempts[prompt] += 1
        return _pick(self.rates, uniform("fault", self.seed, prompt, self._attempts[prompt]))


def read_plan(path: epath.PathLike) -> FaultPlan:
    """The plan of a JSON file with the attributes of FaultPlan.

    Raises:
      UserError: a missing file, one that is no JSON object, or unknown names.
    """
    try:
        return FaultPlan(**parse_json(read_bytes(epath.Path(path))))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not a fault plan ({error})") from error


def _pick(rates: Mapping[str, float], u: float) -> str | None:
    """The kind on which a number in [0, 1) falls."""
    for kind, rate in rates.items():
        if u < rate:
            return kind
        u -= rate
    return None
