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
from distill.tfds.tasks import TENTH, register_tfds_tasks

__all__ = ["register_tfds_tasks"]

for _name, _kind in KINDS.items():
    register_tfds_tasks(
        _name,
        f"distill_released/{_name}:1.0.0",
        splits=None if "valid" in _kind.splits else TENTH,
        correct=_kind.correct,
    )
for _policy in ("natural", "hard"):
    register_tfds_tasks(f"tickets_{_policy}", f"distill_tickets/{_policy}:1.0.0", splits=TENTH)
