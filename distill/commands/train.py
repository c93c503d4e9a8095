"""`distill train`: trains a student, or resumes its training."""

from __future__ import annotations

import argparse

from distill.commands import arguments
from distill.errors import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `train`."""
    command = arguments.add(
        commands, "train", "train a student, or go on with a run", configured=True
    )
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
    several.add_argument(
        "--coordinator_address",
        metavar="HOST:PORT",
        help="elsewhere: of the process with --process_id=0",
    )
    several.add_argument("--num_processes", type=int, help="elsewhere: how many there are")
    several.add_argument("--process_id", type=int, help="elsewhere: which this is, from 0")

    def run(options: argparse.Namespace) -> dict[str, object]:
        from distill.config.resolve import resolve

        names = arguments.gin_files(options)
        resolved = resolve(names, options.overrides, options.engine)
        place = (options.coordinator_address, options.num_processes, options.process_id)
        distributed = options.distributed or any(value is not None for value in place)
        stem = names[0].split("/")[-1].removesuffix(".gin")
        run_dir = options.run_dir or f"runs/{stem}"
        if resolved.engine == "t5x":
            from distill.engines.t5x import train as t5x_train

            if options.profile:
                raise UserError("--profile is of the native engine; T5X has its own (see its docs)")
            if distributed:
                raise UserError(
                    "--distributed and its like are of the native engine; T5X finds the hosts of "
                    "a TPU slice by itself, see docs/t5x.md"
                )
            return t5x_train.train(resolved, run_dir)
        if distributed:
            from distill.training import hosts

            hosts.connect(*place)
        from distill.engines import native

        return native.train(resolved, run_dir, profile=options.profile)

    def show(results: dict[str, object]) -> None:
        if results["accuracy"] is None:
            print("not scored: there are no test rows with gold labels")
            return
        low, high = results["interval"]
        print(f"{results['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {results['n_test']} test rows")

    command.set_defaults(run=run, show=show)
