"""The targets of an export, and which settings each takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from etils import epath

from distill.data.examples import Example
from distill.errors import UserError, unknown
from distill.export.source import check_output
from distill.inference.load import LoadedRun

TARGETS = ("hf", "ctranslate2", "stablehlo")


class FoundDifferences(TypedDict):
    """`comparison.Comparison` as JSON."""

    rows: int
    same: int
    scored: int
    largest_error: float


class Exported(TypedDict):
    """What was written; `comparison` is of ctranslate2, and None without rows to compare."""

    written: str
    step: int | None
    files: list[str]
    comparison: NotRequired[FoundDifferences | None]


def check_settings(
    target: str, quantization: str | None, rows: object | None, input_length: int | None
) -> None:
    """Refuses settings that the target does not take.

    Args:
      target: one of TARGETS.
      quantization: of ctranslate2.
      rows: a file of rows, of ctranslate2.
      input_length: of stablehlo.

    Raises:
      UserError: names the flag.
    """
    if target not in TARGETS:
        raise unknown("target", target, TARGETS, "--to")
    only = {
        "--quantization": (quantization, "ctranslate2"),
        "--input": (rows, "ctranslate2"),
        "--input_length": (input_length, "stablehlo"),
    }
    for flag, (value, needed) in only.items():
        if value is not None and target != needed:
            raise UserError(f"{flag} works only with --to={needed}, got --to={target}")


def check_before_loading(target: str, output: epath.PathLike) -> None:
    """Refuses what can be told before the student is loaded: the output, missing packages."""
    check_output(output)
    if target == "ctranslate2":
        from distill.export.ctranslate2 import check_packages

        check_packages()


def export_run(
    run: LoadedRun,
    target: str,
    output: epath.PathLike,
    quantization: str | None = None,
    rows: Sequence[Example] = (),
    input_length: int | None = None,
) -> Exported:
    """Exports a student.

    Args:
      run: the student.
      target: one of TARGETS.
      output: the folder to write; it must not exist.
      quantization: of ctranslate2; None is float32.
      rows: of ctranslate2: the answers to them are compared.
      input_length: of stablehlo; None is INPUT_LENGTH.

    Raises:
      UserError: see the function of each target.
    """
    if target == "ctranslate2":
        from distill.export.ctranslate2 import write_ctranslate2

        files, found = write_ctranslate2(run, output, quantization or "float32", rows)
        differences: FoundDifferences | None = None
        if found is not None:
            fields = dataclasses.asdict(found)
            differences = FoundDifferences(**fields)  # type: ignore[typeddict-item]  # its fields
        return {**_written(run, output, files), "comparison": differences}
    if target == "stablehlo":
        from distill.export.stablehlo import write_stablehlo

        return _written(run, output, write_stablehlo(run, output, input_length))
    from distill.export.huggingface import write_huggingface

    return _written(run, output, write_huggingface(run, output))


def _written(run: LoadedRun, output: epath.PathLike, files: list[str]) -> Exported:
    return {"written": str(output), "step": run.step, "files": files}
