"""What `distill train --profile` tells: a table for people, and the same as JSON.

Tokens and operations that a step needs are counted on its sequences without padding
(`distill.preflight.count.useful_flops`); what it computes, on the shapes of its batch. The bound is
the fastest product of square matrices of the student's type that the device makes just after
training.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from typing import Any, TypedDict

import jax
import numpy as np
from etils import epath

from distill.common import table
from distill.common.atomic import write_json, write_text
from distill.common.disk import disk_errors
from distill.common.matmul import LARGE, SIZES, matmul_flops_per_second
from distill.common.progress import Say, Stage
from distill.errors import Stopped
from distill.preflight.count import Shapes, jaxpr_flops, useful_flops
from distill.training import hosts, run_folder
from distill.training import profile as profiles
from distill.training.layouts import in_words
from distill.training.profile import Profile
from distill.training.trainer import Trainer

FOLDER = "profile"


class Tokens(TypedDict):
    """Means over steps of one stack: tokens of sequences, positions that are computed."""

    tokens: float
    positions: float
    padding: float


class Report(TypedDict):
    """The JSON; operations and tokens are those of a step, of all devices."""

    first_step: int
    last_step: int
    layout: str
    devices: int
    platform: str
    seconds: float
    seconds_by_part: dict[str, float]
    step_seconds: float | None
    steps_per_second: float
    counted_steps: int
    encoder: Tokens
    decoder: Tokens
    useful_flops: float
    computed_flops: float
    useful_flops_per_second: float
    bound_flops_per_second: float
    share_of_bound: float
    bound: str


@contextlib.contextmanager
def reported(
    trainer: Trainer, profile: Profile | None, folder: epath.Path, say: Say
) -> Iterator[None]:
    """Calls `write` when the training within ends, by a signal too; nothing without a profile."""
    try:
        yield
    except Stopped:
        if profile is not None:
            write(trainer, profile, folder, say)
        raise
    if profile is not None:
        profile.lap(profiles.CHECKPOINTS)  # the last one is waited for
        write(trainer, profile, folder, say)


def write(trainer: Trainer, profile: Profile, folder: epath.Path, say: Say) -> None:
    """Measures the bound, writes the report's two files and says the table; nothing without a step.

    Args:
      trainer: of the run.
      profile: what was measured.
      folder: the run folder.
      say: takes the lines.
    """
    profile.close()
    if not profile.steps or not hosts.is_host0():
        return
    with Stage("measuring the matrix products that bound a step"):
        report = make(trainer, profile)
    text = render(report)
    name = f"profile_{report['first_step']}-{report['last_step']}"
    with disk_errors(folder, run_folder.RESUMES):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        write_json(folder / FOLDER / f"{name}.json", report)
        write_text(folder / FOLDER / f"{name}.txt", text + "\n")
    for line in text.splitlines():
        say(line)
    say(f"this table is {folder / FOLDER / name}.txt; {folder / FOLDER} also has a trace")


def make(trainer: Trainer, profile: Profile) -> Report:
    """The report of a profile that has a step; measures the bound.

    Args:
      trainer: of the run.
      profile: what was measured.
    """
    config, stream = trainer.config, trainer.stream
    lengths = [stream.lengths(step - 1) for step in profile.shapes]
    useful = [
        sum(
            useful_flops(config.student, Shapes(1, int(inputs), int(targets)))
            for inputs, targets in zip(*step, strict=True)
        )
        for step in lengths
    ]
    positions = [_positions(dict(shapes)) for shapes in profile.shapes.values()]
    tokens = [[int(side.sum()) for side in step] for step in lengths]
    computed = {shapes: _computed_flops(trainer, shapes) for shapes in set(profile.shapes.values())}
    device = trainer.mesh.devices.flat[0]
    size, dtype = SIZES.get(device.platform, LARGE), config.student.dtype
    bound = matmul_flops_per_second(size, dtype) * trainer.mesh.size
    training = sum(
        profile.seconds[part]
        for part in (profiles.INPUT, profiles.PLACING, profiles.DISPATCH, profiles.DEVICE)
    )
    steps_per_second = profile.steps / training if training else 0.0
    alone = profile.step_alone
    rate = statistics.fmean(useful) * (steps_per_second if alone is None else 1 / alone)
    return {
        "first_step": profile.first_step or 0,
        "last_step": profile.last_step,
        "layout": in_words(stream.layout, stream.parts),
        "devices": trainer.mesh.size,
        "platform": device.platform,
        "seconds": sum(profile.seconds.values()),
        "seconds_by_part": dict(profile.seconds),
        "step_seconds": alone,
        "steps_per_second": steps_per_second,
        "counted_steps": len(useful),
        "encoder": _tokens([step[0] for step in tokens], [step[0] for step in positions]),
        "decoder": _tokens([step[1] for step in tokens], [step[1] for step in positions]),
        "useful_flops": statistics.fmean(useful),
        "computed_flops": statistics.fmean(computed[s] for s in profile.shapes.values()),
        "useful_flops_per_second": rate,
        "bound_flops_per_second": bound,
        "share_of_bound": rate / bound,
        "bound": f"products of {dtype} matrices of {size}",
    }


def _tokens(tokens: list[int], positions: list[int]) -> Tokens:
    means = statistics.fmean(tokens), statistics.fmean(positions)
    return {"tokens": means[0], "positions": means[1], "padding": 1 - means[0] / means[1]}


def _positions(shapes: dict[str, tuple[int, ...]]) -> tuple[int, int]:
    """Encoder and decoder positions of a batch of either layout."""
    encoder = shapes.get("encoder_tokens") or shapes["encoder_input_tokens"]
    return int(np.prod(encoder)), int(np.prod(shapes["decoder_target_tokens"]))


def _computed_flops(trainer: Trainer, shapes: profiles.Shapes) -> float:
    """Operations of the products of a step on a batch of these shapes."""
    floats = {"decoder_loss_weights"}
    batch = {
        name: jax.ShapeDtypeStruct(shape, np.float32 if name in floats else np.int32)
        for name, shape in shapes
    }
    step: Any = trainer.program.train_step
    with trainer.program.context():
        return jaxpr_flops(step.trace(trainer.program.shapes, batch).jaxpr)


def render(report: Report) -> str:
    """The table and what follows from it, as lines of text."""
    total = report["seconds"]
    steps = report["last_step"] - report["first_step"] + 1
    rows = []
    for part, seconds in report["seconds_by_part"].items():
        per_step = f"{1000 * seconds / steps:.2f}" if part in _EACH_STEP else ""
        rows.append((part, f"{seconds:.2f}", f"{seconds / total:.1%}", per_step))
    rows.append(("total", f"{total:.2f}", "100.0%", ""))
    lines = [
        f"profile of steps {report['first_step']:,}-{report['last_step']:,}: {report['layout']} "
        f"batches, {report['devices']} {report['platform']} device(s)",
        table.render_columns(("part", "seconds", "share", "ms/step"), rows, "<>>>"),
    ]
    alone = report["step_seconds"]
    if alone is not None:
        lines.append(f"a step that is waited for: {1000 * alone:.2f} ms")
    for side in ("encoder", "decoder"):
        one = report["encoder"] if side == "encoder" else report["decoder"]
        lines.append(
            f"{side}: {one['tokens']:,.0f} tokens per step on {one['positions']:,.0f} positions "
            f"({one['padding']:.1%} padding)"
        )
    lines.append(
        f"matrix products: {report['useful_flops'] / 1e9:.4g} GFLOP per step without padding, "
        f"{report['computed_flops'] / 1e9:.4g} computed"
    )
    lines.append(
        f"speed: {report['useful_flops_per_second'] / 1e9:.4g} GFLOP/s without padding, "
        f"{report['share_of_bound']:.1%} of {report['bound_flops_per_second'] / 1e9:.4g} "
        f"({report['bound']})"
    )
    return "\n".join(lines)


_EACH_STEP = (profiles.INPUT, profiles.PLACING, profiles.DISPATCH, profiles.DEVICE)
