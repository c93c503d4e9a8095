"""Refuses flags of `distill annotate` that it would ignore with the others that are given."""

from __future__ import annotations

from distill.common.flags import check_used, given_flags
from distill.errors import UserError
from distill.teacher.settings import Options

_SOURCES = "--input, --raw_dir and --tfds"


def check_flags(options: Options) -> None:
    """Refuses flags that do not go together.

    Flags that a mode does not need are no mistake: --dry_run and --reparse are added to the command
    that they belong to.

    Raises:
      UserError: a flag that would be ignored, and what it needs; two modes.
    """
    inputs, outputs, mode = options.inputs, options.outputs, options.mode
    modes = given_flags(mode)
    if len(modes) > 1:
        raise UserError(f"got both {modes[0]} and {modes[1]}, expected only one of them")
    _check_batching(options)
    check_used(_given(inputs, "tfds_data_dir") if not inputs.tfds else (), "with --tfds")
    if not (inputs.input or inputs.tfds):
        check_used(_given(inputs, "field", "label_names"), "with --input or --tfds")
    if inputs.has_rows:
        check_used(given_flags(options.tickets), f"for generated tickets, which need no {_SOURCES}")
    asking = [
        *given_flags(options.sampling),
        *given_flags(options.connection),
        *given_flags(options.job),
        *given_flags(options.batching),
        *given_flags(options.filters),
        *given_flags(options.reading),
    ]
    written = given_flags(outputs)
    if mode.rehearsal:
        others = [name for name in written if name != "--output"]
        check_used([*asking, *others], "without --rehearsal")
        return
    if mode.check:
        check_used([*_given(inputs, "prompt"), *asking, *written], "without --check")
        return
    if not (inputs.has_rows or inputs.prompt or options.sampling.model):
        only = "with --model: without rows, prompt and model, a simulated teacher labels tickets"
        if not options.connection.base_url:
            check_used([*modes, *asking, *(name for name in written if name != "--output")], only)
        return
    if options.tickets.teacher_accuracy != 1.0:
        check_used(["--teacher_accuracy"], "for the simulated teacher, which needs no --model")
    if options.reading.rationale == "answer":
        check_used(_given(options.reading, "reasoning_words"), "with --rationale=reasoning or both")
    if not outputs.output:
        check_used(_given(outputs, "rationales"), "with --output")
    if inputs.prompt and not (inputs.raw_dir or outputs.released_dir or outputs.teacher_row):
        check_used(_given(inputs, "dataset"), "with --raw_dir or --released_dir")


def _check_batching(options: Options) -> None:
    """Refuses flags that --batch ignores, and flags of batches without it."""
    mode, batching = options.mode, options.batching
    if not batching.batch:
        check_used(given_flags(batching), "with --batch")
        return
    for name in _given(mode, "batch_write", "batch_read"):
        raise UserError(f"got both --batch and {name}, expected only one of them")
    alone = _given(
        options.job, "concurrency", "requests_per_minute", "tokens_per_minute", "max_failures"
    )
    check_used([*alone, *_given(options.connection, "stream")], "without --batch")


def _given(settings: object, *names: str) -> list[str]:
    """Those of some fields, named like their flags, that are set to other than their default."""
    wanted = {f"--{name}" for name in names}
    return [name for name in given_flags(settings) if name in wanted]  # type: ignore[arg-type]
