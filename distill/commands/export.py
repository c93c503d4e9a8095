"""`distill export`: a trained student in a form that others serve."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.commands import arguments

if TYPE_CHECKING:
    from distill.export.targets import Exported

TEXT = "export a trained student so that it runs without this package"
TARGETS = ("hf", "ctranslate2", "stablehlo")


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `export`."""
    command = arguments.add(commands, "export", TEXT, configured=False)
    command.add_argument(
        "--to",
        dest="target",
        required=True,
        choices=TARGETS,
        help="hf: a folder for transformers; ctranslate2: a folder for CTranslate2; stablehlo: a "
        "program for jax alone",
    )
    command.add_argument("--run_dir", required=True, help="the run folder, of either engine")
    command.add_argument(
        "--output", required=True, metavar="DIR", help="folder to write; it must not exist"
    )
    command.add_argument(
        "--best",
        action="store_true",
        help="fail if the run kept no best checkpoint (CHECKPOINT = 'best'); does not change which "
        "checkpoint is exported, that of `distill predict`",
    )
    command.add_argument(
        "--quantization",
        choices=("float32", "int8"),
        help="only with --to=ctranslate2: type of the weights (default: float32)",
    )
    command.add_argument(
        "--input",
        metavar="FILE",
        help="only with --to=ctranslate2: file of rows on which to compare the answers, in a "
        "format that `distill predict --input` reads; default: the test rows of the run",
    )
    command.add_argument(
        "--input_length",
        type=int,
        metavar="TOKENS",
        help="only with --to=stablehlo: tokens of an input row (default: INPUT_LENGTH)",
    )
    command.set_defaults(run=run, show=show)


def run(options: argparse.Namespace) -> Exported:
    """Exports; says what was written, and for ctranslate2 how its answers compare."""
    from distill.export import targets

    targets.check_settings(
        options.target, options.quantization, options.input, options.input_length
    )
    targets.check_before_loading(options.target, options.output)
    from distill.export.source import read_run

    rows = []
    if options.target == "ctranslate2":
        from distill.export.comparison import rows_to_compare

        rows = rows_to_compare(options.run_dir, options.input)
    return targets.export_run(
        read_run(options.run_dir, options.best),
        options.target,
        options.output,
        options.quantization,
        rows,
        options.input_length,
    )


def show(result: Exported) -> None:
    """Prints what was written, and how the answers compare."""
    print(f"{result['written']}: step {result['step']}")
    if "comparison" not in result:
        return
    if result["comparison"] is None:
        print("no rows to compare the answers on: give some with --input=FILE")
        return
    from distill.export.comparison import Comparison

    print(Comparison(**result["comparison"]))
