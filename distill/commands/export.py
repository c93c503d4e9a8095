"""`distill export`: a trained student in a form that others serve."""

from __future__ import annotations

import argparse
import dataclasses

from distill.commands import arguments
from distill.errors import UserError

TEXT = "export a trained student for deployment, without this package"
TARGETS = ("hf", "ctranslate2", "stablehlo")
# Flags that one target takes alone.
_ONLY = {"quantization": "ctranslate2", "input": "ctranslate2", "input_length": "stablehlo"}


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
        help="refuse a run that kept no best checkpoint (CHECKPOINT = 'best'); without it the "
        "checkpoint of `distill predict` is exported",
    )
    command.add_argument(
        "--quantization",
        choices=("float32", "int8"),
        help="to ctranslate2: type of the weights; default float32",
    )
    command.add_argument(
        "--input",
        metavar="FILE",
        help="to ctranslate2: rows to compare the answers on, as of `distill predict`; default: "
        "the test rows of the run",
    )
    command.add_argument(
        "--input_length",
        type=int,
        metavar="TOKENS",
        help="to stablehlo: tokens of an input row; default INPUT_LENGTH",
    )
    command.set_defaults(run=run, show=show)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Exports; says what was written, and for ctranslate2 how its answers compare."""
    for name, target in _ONLY.items():
        if getattr(options, name) is not None and options.target != target:
            raise UserError(f"--{name} works only with --to={target}, got --to={options.target}")
    from distill.export import source

    source.check_output(options.output)
    if options.target == "ctranslate2":
        return _ctranslate2(options)
    run = source.read_run(options.run_dir, options.best)
    if options.target == "stablehlo":
        from distill.export.stablehlo import write_stablehlo

        files = write_stablehlo(run, options.output, options.input_length)
    else:
        from distill.export.huggingface import write_huggingface

        files = write_huggingface(run, options.output)
    return {"written": options.output, "step": run.step, "files": files}


def _ctranslate2(options: argparse.Namespace) -> dict[str, object]:
    from distill.export import comparison, ctranslate2, source

    ctranslate2.check_packages()
    rows = comparison.rows_to_compare(options.run_dir, options.input)
    run = source.read_run(options.run_dir, options.best)
    quantization = options.quantization or "float32"
    files, found = ctranslate2.write_ctranslate2(run, options.output, quantization, rows)
    told = dataclasses.asdict(found) if found else None
    return {"written": options.output, "step": run.step, "files": files, "comparison": told}


def show(result: dict[str, object]) -> None:
    """Prints what was written, and how the answers compare."""
    print(f"{result['written']}: step {result['step']}")
    if isinstance(told := result.get("comparison"), dict):
        from distill.export.comparison import Comparison

        print(Comparison(**told))
    elif "comparison" in result:
        print("no rows to compare the answers on: give some with --input=FILE")
