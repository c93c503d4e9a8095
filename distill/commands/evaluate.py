"""`distill evaluate`: scores a trained run."""

from __future__ import annotations

import argparse

from distill.commands import arguments
from distill.errors import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `evaluate`."""
    command = arguments.add(commands, "evaluate", "score a trained run", configured=False)
    command.add_argument("--run_dir", required=True, help="the run folder")
    command.add_argument(
        "--split",
        choices=("validation", "test"),
        help="a split of the run's own data, which are read again; default test",
    )
    command.add_argument(
        "--input",
        metavar="FILE",
        help="rows with a label, JSONL or CSV, instead of a split; needs the run folder alone",
    )
    command.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="a gin file whose imports register the run's dataset, if it is your own",
    )

    def run(options: argparse.Namespace) -> dict[str, object]:
        if options.input and options.split:
            raise UserError("got --input and --split, expected one of them")
        from distill.config import files, macros, resolve
        from distill.inference import load

        resolve.import_tasks()
        paths = [files.resolve_path(name) for name in options.gin_file]
        resolve.import_modules(macros.read_gin(paths).imports)
        if options.input:
            return load.evaluate_file(options.run_dir, options.input)
        return load.evaluate(options.run_dir, options.split or "test")[0]

    def show(scores: dict[str, object]) -> None:
        low, high = scores["interval"]
        line = f"{scores['accuracy']:.3f} [{low:.3f}, {high:.3f}], n {scores['n']}"
        if scores.get("without_label"):
            line += f"; {scores['without_label']:,} more rows have no label"
        print(f"{scores.get('split') or scores['input']}: {line}")

    command.set_defaults(run=run, show=show)
