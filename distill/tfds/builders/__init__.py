"""TFDS builders: `distill_released`, `distill_tickets` and `distill_jsonl`.

Importing this package registers them (and loads TensorFlow), so that `tfds.load` and
`tfds build --imports distill.tfds.builders` know them. `distill data build` is the
short way.
"""

from distill.tfds.builders.jsonl import DistillJsonl
from distill.tfds.builders.released import DistillReleased
from distill.tfds.builders.tickets import DistillTickets

__all__ = ["DistillJsonl", "DistillReleased", "DistillTickets"]
