"""What a run folder of the t5x engine holds, read without T5X.

<run_dir>/t5x/         T5X's model_dir: checkpoint_<step>, train/, inference_eval/
<run_dir>/t5x_test/    with CHECKPOINT = 'best': the best checkpoint's predictions
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from etils import epath

from distill.common.accuracy import matches_exactly
from distill.config.run import RunConfig
from distill.convert import t5x_files
from distill.data.examples import Example
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.inference.evaluator import Prediction

MODEL_DIR, TEST_DIR = "t5x", "t5x_test"
_DECODED = "inference_eval"


def chosen_step(folder: epath.Path, config: RunConfig) -> int:
    """Step of the checkpoint that is scored and answers.

    That is the newest, or with CHECKPOINT = 'best' the one of the highest validation accuracy,
    of equals the latest.

    Raises:
      UserError: no checkpoint; with 'best' none that was scored.
    """
    saved = t5x_files.steps(folder / MODEL_DIR)
    if not saved:
        raise UserError(f"no checkpoint in {folder / MODEL_DIR}: train this run first")
    if config.train.checkpoint != "best":
        return saved[-1]
    accuracies = validation(folder)
    scored = [step for step in saved if step in accuracies]
    if not scored:
        raise UserError(
            f"no checkpoint in {folder / MODEL_DIR} has been scored on the validation split yet: "
            "continue training this run"
        )
    return max(scored, key=lambda step: (accuracies[step], step))


def validation(folder: epath.Path) -> dict[int, float]:
    """The validation accuracy at each step where T5X decoded that split."""
    accuracies = {}
    for path in (folder / MODEL_DIR / _DECODED).glob("*_label-metrics.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
                accuracies[int(record["step"])] = float(record["accuracy"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # the torn last line of a killed run, or a damaged one
    return accuracies


def load_params(run_dir: epath.PathLike, config: RunConfig) -> dict:
    """The native student's parameters from the chosen checkpoint of a t5x run.

    Raises:
      UserError: see `chosen_step` and `t5x_params`.
    """
    from distill.convert.folders import t5x_params
    from distill.convert.states import OtherShapes

    folder = epath.Path(run_dir)
    step = chosen_step(folder, config)
    try:
        return t5x_params(folder / MODEL_DIR / f"checkpoint_{step}", config.student)
    except OtherShapes as error:
        raise UserError(
            f"{error.found}: {folder}/config.gin and the checkpoint are not of one run. Restore "
            "both from the same copy of the run folder"
        ) from error


def read_predictions(
    output: epath.Path,
    step: int,
    rows: Sequence[Example],
    correct: Callable[[str, str], bool] = matches_exactly,
) -> list[Prediction]:
    """What was decoded after `step`, from the file that SeqIO's JSON logger writes.

    Args:
      output: the folder that T5X's evaluation wrote to.
      step: of the checkpoint.
      rows: of the test split.
      correct: whether a prediction counts as a gold label.

    Returns:
      Predictions of the rows, in their order.

    Raises:
      UserError: there is not one such file, or it does not hold each row once.
    """
    from distill.inference.evaluator import Prediction

    written = output / _DECODED
    files = list(written.glob(f"*_label-{step:06}.jsonl"))
    fix = "see T5X's log beside it, or train again in a new --run_dir"
    if len(files) != 1:
        raise UserError(f"got {len(files)} prediction files in {written}, expected 1: {fix}")
    try:
        records = [json.loads(line) for line in files[0].read_bytes().splitlines()]
        numbers = sorted(record["input"]["row"] for record in records)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{files[0]} is damaged ({error}): {fix}") from error
    if numbers != list(range(len(rows))):
        raise UserError(
            f"{files[0]} does not contain each of {len(rows)} test rows exactly once: {fix}"
        )
    predictions: dict[int, Prediction] = {}
    for record in records:
        index, text = record["input"]["row"], record["prediction"]
        row = rows[index]
        hit = correct(text, row.label)
        predictions[index] = Prediction(
            row.id, row.input, row.label, text, hit, None, extra=row.extra
        )
    return [predictions[index] for index in range(len(rows))]
