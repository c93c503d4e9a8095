"""TFDS builders: `distill_released`, `distill_returns` and `distill_jsonl`.

Importing this package registers them (and loads TensorFlow), so that `tfds.load` and
`tfds build --imports distill.tfds.builders` know them. `distill data build` is the
short way.
"""

from distill.tfds.builders.jsonl import DistillJsonl
from distill.tfds.builders.released import DistillReleased
from distill.tfds.builders.returns import DistillReturns

__all__ = ["DistillJsonl", "DistillReleased", "DistillReturns"]
