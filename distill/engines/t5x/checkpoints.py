"""Which checkpoints T5X keeps, and which it starts from. Needs t5x."""

from __future__ import annotations

import functools
from collections.abc import Callable

from t5x import checkpoints


def checkpointer(task: str, checkpoint: str) -> Callable[..., checkpoints.Checkpointer]:
    """T5X's `SaveCheckpointConfig.checkpointer_cls`, from which it also sets up Orbax.

    Args:
      task: the label task, whose accuracy T5X writes for TensorBoard.
      checkpoint: "last" keeps the newest; "best" those of the highest validation accuracy,
        and any that have none yet, as the newest has when it is saved
        (t5x/checkpoints.py, SaveBestCheckpointer).
    """
    if checkpoint == "last":
        return checkpoints.Checkpointer
    return functools.partial(
        checkpoints.SaveBestCheckpointer,
        metric_name_to_monitor=f"inference_eval/{task}/eval/accuracy",
        metric_mode="max",
        keep_checkpoints_without_metrics=True,
    )


def continue_path(continue_from: str = "") -> str | None:
    """T5X's `RestoreCheckpointConfig.path`: CONTINUE_FROM, or nothing to restore where it is "".

    T5X takes "" for a path.
    """
    return continue_from or None
