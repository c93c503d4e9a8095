"""The command `distill`: reads arguments, calls a command, turns errors into exit codes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from distill import __version__
from distill.commands.arguments import add as _add
from distill.errors import Refusal, UserError
from distill.teacher.terminal import printable

EPILOG = """\
A run is a gin file of gin/experiments and, where you like, settings on top of it:

  distill train --gin_file=gin/experiments/returns_step_by_step.gin --gin.SEED=1
  distill predict --run_dir=runs/returns_step_by_step "my fan seems burnt ."
  distill config explain LABEL_WEIGHT --gin_file=gin/experiments/returns_step_by_step.gin
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments; None takes those of the process.

    Returns:
      0 on success, 2 on bad input (which is explained on stderr), 130 on Ctrl-C.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments, overrides = _split_overrides(list(sys.argv[1:] if argv is None else argv))
    options = _parser().parse_args(arguments)
    if overrides and not hasattr(options, "engine"):
        print(f"distill: {options.command} takes no --gin.NAME", file=sys.stderr)
        return 2
    options.overrides = [*overrides, *_shorthands(options)]
    if getattr(options, "cache_dir", None):
        os.environ["DISTILL_CACHE_DIR"] = options.cache_dir
    code = 0
    try:
        result = options.run(options)
    except Refusal as refusal:
        print(f"distill: {printable(str(refusal))}", file=sys.stderr)
        result, code = refusal.result, 2
    except UserError as error:
        print(f"distill: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("distill: interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    elif options.show is not None:
        options.show(result)
    return code


def _split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Takes `--gin.NAME=value` (or `--gin.NAME value`) out of the arguments."""
    rest, overrides = [], []
    pending = iter(arguments)
    for argument in pending:
        if argument.startswith("--gin."):
            text = argument.removeprefix("--gin.")
            overrides.append(text if "=" in text else f"{text}={next(pending, '')}")
        else:
            rest.append(argument)
    return rest, overrides


def _shorthands(options: argparse.Namespace) -> list[str]:
    """Flags that stand for a macro."""
    pairs = (("RAW_DIR", "raw_dir"), ("VOCABULARY_PATH", "vocabulary_path"), ("SEED", "seed"))
    return [
        f"{macro}={getattr(options, flag)!r}"
        for macro, flag in pairs
        if getattr(options, flag, None) is not None
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill",
        description="Distilling step-by-step (arXiv 2305.02301): train small students on an "
        "LLM's labels and rationales.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"distill {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_annotate(commands)
    _add_data(commands)
    _add_weights(commands)
    _add_preflight(commands)
    _add_convert(commands)
    _add_config(commands)
    return parser


def _gin_files(options: argparse.Namespace) -> list[str]:
    from distill.config import files
    from distill.errors import unknown

    names = list(options.gin_file)
    if not names:
        listed = ", ".join(files.list_gin_files("experiments"))
        raise UserError(f"give an experiment with --gin_file; there are: {listed}")
    if options.size:
        sizes = [name.split("/")[-1].removesuffix(".gin") for name in files.list_gin_files("sizes")]
        if options.size not in sizes:
            raise unknown("size", options.size, sizes, "--size")
        names.append(f"gin/sizes/{options.size}.gin")
    return names


def _add_train(commands: argparse._SubParsersAction) -> None:
    command = _add(commands, "train", "train a student, or go on with a run", configured=True)
    command.add_argument("--run_dir", help="the run folder; default runs/<experiment>")
    command.add_argument(
        "--profile", action="store_true", help="trace a few steps into <run_dir>/profile"
    )
    several = command.add_argument_group("several hosts, each of which starts the same command")
    several.add_argument(
        "--distributed",
        action="store_true",
        help="join them; Cloud TPU, GKE, Slurm and Open MPI say where they are",
    )
    several.add_argument("--coordinator_address", metavar="HOST:PORT",
                         help="elsewhere: of the process with --process_id=0")  # fmt: skip
    several.add_argument("--num_processes", type=int, help="elsewhere: how many there are")
    several.add_argument("--process_id", type=int, help="elsewhere: which this is, from 0")

    def run(options: argparse.Namespace) -> dict[str, object]:
        from distill.config.resolve import resolve

        names = _gin_files(options)
        resolved = resolve(names, options.overrides, options.engine)
        place = (options.coordinator_address, options.num_processes, options.process_id)
        distributed = options.distributed or any(value is not None for value in place)
        stem = names[0].split("/")[-1].removesuffix(".gin")
        run_dir = options.run_dir or f"runs/{stem}"
        if resolved.engine == "t5x":
            from distill.engines import t5x

            if options.profile:
                raise UserError("--profile is of the native engine; T5X has its own (see its docs)")
            if distributed:
                raise UserError(
                    "--distributed and its like are of the native engine; T5X finds the hosts of "
                    "a TPU slice by itself, see docs/t5x.md"
                )
            return t5x.train(resolved, run_dir)
        if distributed:
            from distill.train import hosts

            hosts.connect(*place)
        from distill.engines import native

        return native.train(resolved, run_dir, profile=options.profile)

    def show(results: dict[str, object]) -> None:
        low, high = results["interval"]
        print(f"{results['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {results['n_test']} test rows")

    command.set_defaults(run=run, show=show)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = _add(commands, "evaluate", "score a trained run", configured=False)
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
        from distill.engines import load

        resolve.import_tasks()
        paths = [files.resolve(name) for name in options.gin_file]
        resolve.import_modules(macros.read(paths).imports)
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


def _add_predict(commands: argparse._SubParsersAction) -> None:
    from distill.commands import predict

    predict.add(commands)


def _add_annotate(commands: argparse._SubParsersAction) -> None:
    from distill.commands import annotate

    annotate.add(commands)


def _add_data(commands: argparse._SubParsersAction) -> None:
    from distill.commands import data

    data.add(commands)


def _add_weights(commands: argparse._SubParsersAction) -> None:
    from distill.commands import weights

    weights.add(commands, _gin_files)


def _add_preflight(commands: argparse._SubParsersAction) -> None:
    from distill.commands import preflight

    preflight.add(commands, _gin_files)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    from distill.commands import convert

    convert.add(commands, _gin_files)


def _add_config(commands: argparse._SubParsersAction) -> None:
    command = _add(commands, "config", "show or explain a configuration", configured=True)
    command.add_argument("action", choices=("show", "explain"))
    command.add_argument("name", nargs="?", help="the macro to explain")

    def run(options: argparse.Namespace) -> dict[str, object]:
        from distill.config.resolve import read_macros

        found, engine, _ = read_macros(_gin_files(options), options.overrides, options.engine)
        found.check()
        if options.action == "show":
            settings = {
                name: {"value": found.value(name), "where": found.history[name][-1].where}
                for name in sorted(found.history)
            }
            return {"engine": engine, "macros": settings}
        if not options.name:
            raise UserError("distill config explain NAME: give the macro to explain")
        history = found.explain(options.name)
        return {
            "name": options.name,
            "value": found.value(options.name),
            "settings": [{"value": s.value, "where": s.where} for s in history],
        }

    def show(result: dict[str, object]) -> None:
        if "macros" in result:
            width = max(map(len, result["macros"]))
            for name, setting in result["macros"].items():
                print(f"{name:{width}}  {setting['value']!r}  # {setting['where']}")
            return
        print(f"{result['name']} = {result['value']!r}")
        for index, setting in enumerate(reversed(result["settings"])):
            verb = "set by" if index == 0 else "which overrode"
            print(f"  {verb} {setting['where']}: {setting['value']!r}")

    command.set_defaults(run=run, show=show)


if __name__ == "__main__":
    sys.exit(main())
