"""`distill convert`: checkpoints from one engine to the other."""

from __future__ import annotations

import argparse

from distill.commands import arguments
from distill.errors import UserError

TEXT = "convert a T5X checkpoint to a native run folder, or back"


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `convert`."""
    command = arguments.add(commands, "convert", TEXT, configured=True)
    engines = ("native", "t5x")
    command.add_argument("--from", dest="source", required=True, choices=engines)
    command.add_argument("--to", dest="target", required=True, choices=engines)
    command.add_argument(
        "--checkpoint", help="from t5x: a checkpoint_<step> folder, or a folder of them"
    )
    command.add_argument(
        "--run_dir",
        required=True,
        help="the native run folder: the output with --from=t5x, the input with --from=native",
    )
    command.add_argument("--output", help="to t5x: folder to write checkpoint_<step> into")
    command.add_argument(
        "--parameters_only",
        action="store_true",
        help="from t5x: convert only parameters; start at step 0",
    )
    command.add_argument(
        "--layout",
        default="zarr",
        choices=("zarr", "ocdbt"),
        help="to t5x: storage layout, zarr (default) or ocdbt",
    )
    command.add_argument(
        "--scanned",
        action="store_true",
        help="to t5x: write only parameters, stacked as in scalable_t5",
    )
    command.add_argument(
        "--best",
        action="store_true",
        help="to t5x: convert the best checkpoint (CHECKPOINT = 'best'), not the newest",
    )
    command.set_defaults(run=run, show=show)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Converts; says what was written and its step."""
    from distill.common.devices import check_devices
    from distill.config.resolve import resolve

    if options.source == options.target:
        raise UserError(
            f"got both --from={options.source} and --to={options.source}, expected two different "
            "engines"
        )
    if options.engine:
        raise UserError("--engine does not work with convert: --from and --to name the engines")
    _check_unused_options(options)
    check_devices()
    if options.source == "native":
        from distill.convert import folders

        written = folders.native_to_t5x(
            options.run_dir, options.output, options.layout, options.scanned, options.best
        )
        return {"written": str(written), "step": int(written.name.rpartition("_")[2])}
    resolved = resolve(arguments.gin_files(options), options.overrides, "native")
    from distill.convert import folders

    step = folders.t5x_to_native(
        options.checkpoint, resolved, options.run_dir, options.parameters_only
    )
    return {"written": options.run_dir, "step": step}


def show(result: dict[str, object]) -> None:
    """Prints what was written."""
    print(f"{result['written']}: step {result['step']}")


def _check_unused_options(options: argparse.Namespace) -> None:
    if options.source == "native":
        if not options.output:
            raise UserError(
                "--from=native needs --output, the folder to write checkpoint_<step> into"
            )
        unused = {"--checkpoint": options.checkpoint, "--parameters_only": options.parameters_only}
        # The run folder has the configuration.
        settings = ("gin_file", "size", "raw_dir", "vocabulary_path", "seed")
        unused |= {f"--{name}": getattr(options, name) not in (None, []) for name in settings}
        unused["--gin.NAME"] = options.overrides
    else:
        if not options.checkpoint:
            raise UserError("--from=t5x needs --checkpoint, a checkpoint_<step> folder of T5X")
        unused = {
            "--output": options.output,
            "--layout": options.layout != "zarr",
            "--scanned": options.scanned,
            "--best": options.best,
        }
    for flag, is_given in unused.items():
        if is_given:
            raise UserError(f"{flag} does not work with --from={options.source}")
