"""`distill convert`: checkpoints from one form to another."""

from __future__ import annotations

import argparse
from typing import Any

from distill.commands import arguments
from distill.errors import UserError

TEXT = (
    "convert a Hugging Face folder or a T5X checkpoint to a native run folder, or a native run "
    "folder to a T5X checkpoint"
)
EPILOG = """\
With --from=hf or t5x, --checkpoint is the input. --init_from, --continue_from and --seed do not
select an input: they only set macros in the configuration of the new run folder.
"""
_TARGETS = {"hf": "native", "t5x": "native", "native": "t5x"}


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `convert`."""
    command = arguments.add(commands, "convert", TEXT, configured=True)
    command.epilog = EPILOG
    command.add_argument(
        "--from",
        dest="source",
        required=True,
        choices=tuple(_TARGETS),
        help="what to convert: a Hugging Face folder, a T5X checkpoint or a native run folder",
    )
    command.add_argument(
        "--to",
        dest="target",
        choices=("native", "t5x"),
        help="default: t5x with --from=native, otherwise native",
    )
    command.add_argument(
        "--checkpoint",
        help="with --from=hf: a folder with config.json and safetensors; with --from=t5x: a "
        "checkpoint_<step> folder, or a folder of them",
    )
    command.add_argument(
        "--run_dir",
        help="the native run folder: the output with --from=hf or t5x, the input with "
        "--from=native",
    )
    command.add_argument(
        "--dry_run",
        action="store_true",
        help="with --from=hf: print which tensor becomes which parameter; write nothing",
    )
    command.add_argument(
        "--output", help="with --from=native: folder to write checkpoint_<step> into"
    )
    command.add_argument(
        "--parameters_only",
        action="store_true",
        help="with --from=t5x: convert only parameters; start at step 0",
    )
    command.add_argument(
        "--layout",
        default="zarr",
        choices=("zarr", "ocdbt"),
        help="with --from=native: storage layout, zarr (default) or ocdbt",
    )
    command.add_argument(
        "--scanned",
        action="store_true",
        help="with --from=native: write only parameters, stacked as in scalable_t5",
    )
    command.add_argument(
        "--best",
        action="store_true",
        help="with --from=native: convert the best checkpoint instead of the newest; the run must "
        "have been trained with CHECKPOINT = 'best'",
    )
    command.set_defaults(run=run, show=show)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Converts; says what was written and its step, or what would be read."""
    from distill.common.devices import check_devices
    from distill.config.resolve import resolve

    target = _TARGETS[options.source]
    if options.target not in (None, target):
        raise UserError(
            f"got --from={options.source} and --to={options.target}, expected --to={target}"
            + (": convert to native first" if options.source == "hf" else "")
        )
    if options.engine:
        raise UserError("--engine does not work with convert: --from and --to name the engines")
    _check_unused_options(options)
    check_devices()
    if options.source == "hf":
        return _from_hf(options)
    from distill.convert import folders

    if options.source == "native":
        written = folders.native_to_t5x(
            options.run_dir, options.output, options.layout, options.scanned, options.best
        )
        return {"written": str(written), "step": int(written.name.rpartition("_")[2])}
    resolved = resolve(arguments.gin_files(options), options.overrides, "native")
    step = folders.t5x_to_native(
        options.checkpoint, resolved, options.run_dir, options.parameters_only
    )
    return {"written": options.run_dir, "step": step}


def _from_hf(options: argparse.Namespace) -> dict[str, Any]:
    from distill.convert import huggingface

    if options.dry_run:
        return huggingface.describe_folder(options.checkpoint)
    names = arguments.gin_files(options) if options.gin_file or options.size else ()
    resolved = huggingface.resolve_folder(options.checkpoint, names, options.overrides)
    step = huggingface.hf_to_native(options.checkpoint, resolved, options.run_dir)
    return {"written": options.run_dir, "step": step}


def show(result: dict[str, Any]) -> None:
    """Prints what was written, or the mapping of a dry run."""
    if "mapping" not in result:
        print(f"{result['written']}: step {result['step']}")
        return
    from distill.common.table import render_columns

    rows = [
        (
            each["tensor"],
            each["dtype"],
            each["parameter"] + (" (transposed)" if each["transposed"] else ""),
            " x ".join(map(str, each["shape"])),
            each["file"],
        )
        for each in result["mapping"]
    ]
    print(render_columns(("tensor", "type", "parameter", "shape", "file"), rows, rule=True))
    for name in result["not_read"]:
        print(f"not read: {name}")
    print(f"\n{result['parameters']:,} parameters, gin/models/{result['family']}.gin")
    for name, value in result["macros"].items():
        print(f"{name} = {value!r}")


def _check_unused_options(options: argparse.Namespace) -> None:
    source = options.source
    needed = {
        "hf": {"checkpoint": "a folder with config.json and safetensors"},
        "t5x": {"checkpoint": "a checkpoint_<step> folder of T5X"},
        "native": {"output": "the folder to write checkpoint_<step> into"},
    }[source]
    if not options.dry_run:
        needed["run_dir"] = "the native run folder"
    for flag, what in needed.items():
        if not getattr(options, flag):
            raise UserError(f"--from={source} needs --{flag}, {what}")
    of_source: dict[str, tuple[object, tuple[str, ...]]] = {
        "--checkpoint": (options.checkpoint, ("hf", "t5x")),
        "--dry_run": (options.dry_run, ("hf",)),
        "--parameters_only": (options.parameters_only, ("t5x",)),
        "--output": (options.output, ("native",)),
        "--layout": (options.layout != "zarr", ("native",)),
        "--scanned": (options.scanned, ("native",)),
        "--best": (options.best, ("native",)),
    }
    # The run folder has the configuration of a native run.
    for name in ("gin_file", "size", "raw_dir", "vocabulary_path", "seed"):
        of_source[f"--{name}"] = (getattr(options, name) not in (None, []), ("hf", "t5x"))
    of_source["--gin.NAME"] = (options.overrides, ("hf", "t5x"))
    for flag, (is_given, sources) in of_source.items():
        if is_given and source not in sources:
            raise UserError(f"{flag} does not work with --from={source}")
