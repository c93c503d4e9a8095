"""`distill data merge`: joins the parts that `distill predict --output_dir` wrote."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.common.paths import check_json_lines
from distill.common.phrases import have, number_of

if TYPE_CHECKING:
    from distill.inference.part_files import Merged


def add(actions: argparse._SubParsersAction) -> None:
    """Adds the action `merge`."""
    text = "check and join the parts that `distill predict --output_dir` wrote"
    command = arguments.add(actions, "merge", text, configured=False)
    command.add_argument(
        "--input", required=True, metavar="FOLDER", help="the folder of --output_dir"
    )
    command.add_argument(
        "--output", metavar="FILE", help="the JSONL file to write; without it, parts are checked"
    )
    command.set_defaults(run=run, show=show, output_files=("output",))


def run(options: argparse.Namespace) -> Merged:
    """Checks the parts, and joins them into --output."""
    from distill.inference import part_files

    if options.output:
        check_json_lines(options.output, "--output")
    return part_files.merge(options.input, options.output)


def show(merged: Merged) -> None:
    """Prints what the parts hold."""
    text = (
        f"{number_of(merged['rows'], 'row')} in {number_of(merged['parts'], 'part')}, each row once"
    )
    if merged["output"]:
        text = f"{merged['output']}: {text}"
    if merged["labeled"]:
        share = merged["correct"] / merged["labeled"]
        text += f"; {merged['correct']:,} of {merged['labeled']:,} correct ({share:.3f})"
    print(text)
    if unchecked := merged["without_digest"]:
        from distill.inference.part_digests import warning

        print(warning(unchecked))
    if same := merged["same_ids"]:
        print(
            f"warning: {number_of(same, 'row')} {have(same)} the id of an earlier row: ids are "
            "unique within a file only"
        )
