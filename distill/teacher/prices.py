"""What tokens cost: a JSON file of USD per million tokens, by model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from etils import epath

from distill.common.text_files import parse_json, read_bytes
from distill.errors import UserError, hint

FILE = Path(__file__).resolve().parent / "prices.json"


@dataclasses.dataclass(frozen=True)
class Price:
    """USD per million tokens read and written.

    Attributes:
      batch: what a batch costs, as a share of that.
    """

    per_million_in: float
    per_million_out: float
    batch: float = 1.0

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """USD for so many tokens."""
        return (tokens_in * self.per_million_in + tokens_out * self.per_million_out) / 1e6

    def batched(self) -> Price:
        """The price in a batch."""
        return Price(self.per_million_in * self.batch, self.per_million_out * self.batch)


def price_of(model: str, path: epath.PathLike | None = None) -> Price | None:
    """The price of a model, or None where the project's own file has none.

    Args:
      model: its name; where it is not listed, its part before a date (`m-2024-08-06`) counts.
      path: a file `{"model": {"in": 0.4, "out": 1.6, "batch": 0.5}, ...}`, `batch` may be left
        out; None takes the project's.

    Raises:
      UserError: a file that is not of this form, or one of the user's without the model.
    """
    file = epath.Path(FILE if path is None else path)
    try:
        listed = parse_json(read_bytes(file))
        prices = {name: _price(entry) for name, entry in listed.items() if name[:1] != "_"}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(
            f'{file}: expected {{"model": {{"in": USD, "out": USD}}}} per million tokens ({error})'
        ) from error
    for name in sorted(prices, key=len, reverse=True):
        if model == name or (model.startswith(f"{name}-") and model[len(name) + 1].isdigit()):
            return prices[name]
    if path is not None:
        raise UserError(f"{file} has no price of {model!r}; {hint(model, prices)}")
    return None


def _price(entry: dict) -> Price:
    price = Price(float(entry["in"]), float(entry["out"]), float(entry.get("batch", 1.0)))
    if not all(0 <= usd < float("inf") for usd in dataclasses.astuple(price)):
        raise ValueError(f"a price below 0, or not finite: {entry}")
    return price
