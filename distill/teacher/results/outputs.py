"""What `distill annotate` may replace, and a warning where it read no label at all."""

from __future__ import annotations

import os
from collections.abc import Mapping

from etils import epath

from distill.common.atomic import write_json
from distill.common.disk import check_writable
from distill.common.own_files import check_content, check_own
from distill.common.paths import check_distinct, check_json_lines, check_output_file, is_bucket
from distill.common.terminal import printable
from distill.common.text_files import parse_json
from distill.teacher import batch_files
from distill.teacher.results import aggregate
from distill.teacher.results.export import released_files
from distill.teacher.settings import Inputs, Mode, Outputs

COMMAND = "distill annotate"
TEACHER_METHOD = "few_shot_teacher"
STORED = (
    "the answers are stored: free some space or choose another file, and add --reparse, which "
    "sends nothing"
)
_SHOWN = 300  # characters of a completion


def check_outputs(
    outputs: Outputs, mode: Mode, inputs: Inputs, dataset: str, store: epath.Path | None
) -> None:
    """Refuses to replace what the command did not write, before anything is asked.

    Args:
      outputs, mode, inputs: the command's flags.
      dataset: the dataset whose released layout is written.
      store: the folder of the answers, if one is named.

    Raises:
      UserError: a file that is in the way; names the flag.
    """
    if outputs.output:
        check_json_lines(outputs.output, "--output")
        dropped = aggregate.dropped_path(outputs.output)
        if inputs.input:
            check_distinct([("--output", str(dropped))], [("--input", inputs.input)])
        check_own(outputs.output, "--output", COMMAND, [dropped], _of_earlier_version(store))
    if outputs.teacher_row:
        check_content(outputs.teacher_row, "--teacher_row", COMMAND, _is_teacher_row)
    if mode.batch_write:
        batch_files.check_replaceable(mode.batch_write, COMMAND)
    if outputs.released_dir:
        rows, *parts = released_files(outputs.released_dir, dataset, inputs.split)
        check_own(rows, "--released_dir", COMMAND, parts, _of_earlier_version(store))


def check_places(outputs: Outputs, store: epath.Path | None) -> None:
    """Makes sure, before anything is paid for, that all that will be written can be.

    Args:
      outputs: the command's flags.
      store: the folder of the answers, if one is named.

    Raises:
      UserError: a folder in the place of a file or a file in that of a folder, a disk that is full
        or read only, a folder that must not be written to; names the flag.
    """
    files = []
    if outputs.output:
        files = [("--output", outputs.output), ("--output", aggregate.dropped_path(outputs.output))]
    if outputs.teacher_row:
        files.append(("--teacher_row", outputs.teacher_row))
    for flag, path in files:
        if not is_bucket(os.fspath(path)):
            check_output_file(os.fspath(path), flag)
            check_writable(epath.Path(path).parent, flag)
    if outputs.released_dir:
        check_writable(outputs.released_dir, "--released_dir")
    if store is not None:
        check_writable(store, "--store" if outputs.store else "--output")


def write_teacher_row(
    path: str, row: aggregate.TeacherAccuracy, about: Mapping[str, object]
) -> None:
    """Writes the teacher's accuracy, with the names of a run's results, so that a table takes both.

    Args:
      path: the JSON file.
      row: see `aggregate.teacher_row`.
      about: dataset, split, model, prompt and samples.
    """
    measured = {name: value for name, value in row.items() if name != "n"}
    target = epath.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"method": TEACHER_METHOD, **about, "n_test": row["n"], **measured})


def _of_earlier_version(store: epath.Path | None) -> str:
    """What to do about rows of a version that did not record what it wrote; "" without a store."""
    if store is None or not store.is_dir():
        return ""
    return (
        f"If an earlier version of `{COMMAND}` wrote it, delete it and give the same command again "
        f"with --reparse: it writes the rows again from the store {store} and sends nothing"
    )


def _is_teacher_row(content: bytes) -> bool:
    """Whether a file holds what --teacher_row writes."""
    row = parse_json(content)
    return isinstance(row, dict) and row.get("method") == TEACHER_METHOD


def no_label_warning(totals: aggregate.Totals, prompt: str) -> str | None:
    """What to tell if there are answers and no label could be read from any of them.

    Args:
      totals: of the job's rows.
      prompt: the prompt's name.
    """
    if not totals.answered or totals.parsed:
        return None
    shown = totals.first_completion[:_SHOWN]
    dots = "..." if len(shown) < len(totals.first_completion) else ""
    return (
        f"no label could be read from the {totals.answered:,} answered rows "
        f"({_counts(totals.failures)}): the model does not answer in the form that the prompt "
        f"{prompt!r} asks for, or its parser or labels do not fit the task. The first completion "
        f"is '{printable(shown, keep='')}{dots}'. If only the parser or the labels are wrong, "
        "change them and add --reparse, which sends nothing"
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
