"""SeqIO tasks on built TFDS data, for stock T5X and for SeqIO's offline caching.

Importing this module registers, for each DATASET below,

    distill_<DATASET>_label          input -> gold label
    distill_<DATASET>_teacher_label  input -> teacher's label; gold in the test split
    distill_<DATASET>_rationale      input -> rationale

The data are built with `distill data build`; where they lie is said as for any TFDS
data: `--tfds_data_dir` of T5X and of `seqio_cache_tasks`, or the environment variable
TFDS_DATA_DIR. The vocabulary is T5's, at DISTILL_VOCABULARY_PATH or, without that, in
the bucket of T5. Rows of one's own are registered with `register`.
"""

from __future__ import annotations

from distill.data.released.rows import KINDS
from distill.tfds.tasks import TENTH, register

__all__ = ["register"]

for _name, _kind in KINDS.items():
    register(
        _name,
        f"distill_released/{_name}:1.0.0",
        splits=None if "valid" in _kind.splits else TENTH,
        correct=_kind.correct,
    )
for _policy in ("natural", "hard"):
    register(f"returns_{_policy}", f"distill_returns/{_policy}:1.0.0", splits=TENTH)
