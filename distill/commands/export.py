"""`distill export`: a trained student in a form that others serve."""

from __future__ import annotations

import argparse

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
    """Exports; says what was written."""
    for name, target in _ONLY.items():
        if getattr(options, name) is not None and options.target != target:
            raise UserError(f"--{name} works only with --to={target}, got --to={options.target}")
    from distill.export import source

    source.check_output(options.output)
    loaded = source.read_run(options.run_dir, options.best)
    if options.target == "stablehlo":
        from distill.export.stablehlo import write_stablehlo

        described = write_stablehlo(loaded, options.output, options.input_length)
        files = sorted([*described["files"], "export.json", source.CARD])
        return {"written": options.output, "step": loaded.step, "files": files}
    from distill.export.huggingface import write_huggingface

    written = write_huggingface(loaded, options.output)
    return {"written": options.output, "step": loaded.step, "files": written}


def show(result: dict[str, object]) -> None:
    """Prints what was written."""
    print(f"{result['written']}: step {result['step']}")
