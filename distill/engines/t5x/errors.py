"""What well-known failures of T5X mean, in this project's words.

T5X runs as a child process, so its failures are texts at the end of its log. The causes
here are those that its users meet most; any other is shown as T5X printed it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from etils import epath

from distill.common.atomic import absolute
from distill.config.train import TrainConfig
from distill.convert import sources, t5x_files
from distill.errors import UserError

_KNOWN = (
    # An error of this project's own functions, which gin follows up with the call's scope.
    (r"distill\.errors\.UserError: (?P<found>.+)", "{found}"),
    (
        r"ModuleNotFoundError: No module named '(?P<found>[^']+)'",
        "T5X's process cannot import {found!r}: install it (docs/t5x.md), or add its folder to "
        "PYTHONPATH if it is your own module",
    ),
    (
        r"(?P<found>number of partitions on GPU must be a factor or multiple of .*"
        r"|No default mesh for this configuration.*"
        r"|each dimension of the model parallel submesh .* must be a factor of .*"
        r"|to tile the mesh by hosts, .*)",
        "T5X has no mesh for MODEL_PARALLEL or MODEL_PARALLEL_SUBMESH on these devices ({found}): "
        "set MODEL_PARALLEL to a divisor of their number, or set MODEL_PARALLEL_SUBMESH to the "
        "four sides of a part of the TPU",
    ),
    (
        r"(?P<found>Batch size \(\d+\) must be divisible by .*"
        r"|Batch size isn't divided evenly by num_microbatches.*)",
        "{found}: change BATCH_SIZE, MODEL_PARALLEL or MICROBATCHES",
    ),
    (
        r"(?P<found>Model and Task vocabularies do not match)",
        "{found}: the model and the data of gin/engines/t5x.gin both follow VOCABULARY and "
        "VOCABULARY_PATH; remove vocabulary bindings from your own gin file",
    ),
    (
        r"Unexpected total_steps \((?P<steps>\d+)\) < checkpoint step +\((?P<found>\d+)\)",
        "got TRAIN_STEPS = {steps}, but the run has a checkpoint of step {found}: raise "
        "TRAIN_STEPS, or choose another --run_dir",
    ),
    (
        r"(?P<found>RESOURCE_EXHAUSTED: .*)",
        "out of memory ({found}): lower BATCH_SIZE, or raise MICROBATCHES or MODEL_PARALLEL",
    ),
)


def explain(lines: Sequence[str]) -> str | None:
    """What a failed T5X complains of, from the last lines of its log; None if it is unknown."""
    for line in reversed(lines):
        for pattern, text in _KNOWN:
            match = re.search(pattern, line)
            if match:
                return text.format(**match.groupdict())
    return None


def check_steps(model_dir: epath.Path, continue_from: str, train: TrainConfig) -> None:
    """Raises UserError where the run would begin at a later step than it is to end with.

    Args:
      model_dir: T5X's, whose newest checkpoint counts.
      continue_from: CONTINUE_FROM, which counts where there is none.
      train: has the last step.
    """
    steps = t5x_files.steps(model_dir)
    source, fix = model_dir, "another --run_dir"
    if not steps and continue_from:
        found = sources.find_source("CONTINUE_FROM", continue_from)
        if found.kind == "run":
            raise UserError(
                f"got {found}, expected a T5X checkpoint with the t5x engine: convert it with "
                f"`distill convert --from=native --to=t5x --run_dir={continue_from} "
                "--output=FOLDER`, and give FOLDER/checkpoint_<step>"
            )
        if found.kind == "hf":
            raise UserError(
                f"got {found}, which has no optimizer state and no step, expected a T5X "
                "checkpoint; to start from its parameters, use INIT_FROM"
            )
        source, fix = found.folder, "an earlier CONTINUE_FROM"
        if source != absolute(continue_from):
            raise UserError(
                f"got CONTINUE_FROM = {continue_from!r}, expected one checkpoint of that folder, "
                f"such as {source}"
            )
        steps = t5x_files.steps(source.parent)
        steps = [step for step in steps if source.name == f"checkpoint_{step}"]
    if max(steps, default=0) > train.train_steps:
        raise UserError(
            f"got TRAIN_STEPS = {train.train_steps}, but {source} has a checkpoint of step "
            f"{max(steps)}: raise TRAIN_STEPS, or choose {fix}"
        )
