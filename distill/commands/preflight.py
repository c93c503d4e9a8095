"""`distill preflight`: whether a run fits its TPU slice, how long it takes, what binds it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.errors import CheckFailed, UserError

if TYPE_CHECKING:
    from distill.config.run import RunConfig
    from distill.preflight.chips import Topology
    from distill.preflight.report import Report

TEXT = "check whether a run fits a TPU slice; report its minimum time and bottleneck"


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `preflight`."""
    command = arguments.add(commands, "preflight", TEXT, configured=True)
    command.add_argument(
        "--topology",
        action="append",
        default=[],
        metavar="CHIP:SIDES",
        help="TPU slice, e.g. v5e:2x2, v5p:4x4x4, v7:2x2x1; repeatable with --search",
    )
    command.add_argument(
        "--estimate", action="store_true", help="estimate from shapes, without compiling"
    )
    command.add_argument(
        "--search",
        action="store_true",
        help="rank combinations of mesh, MICROBATCHES and REMAT; compile the best three",
    )
    command.add_argument(
        "--no_decoding", action="store_true", help="compile only the training step"
    )
    command.add_argument(
        "--rows",
        type=int,
        help="packed rows per batch, if you know this number; default: no packing, one sequence "
        "per row (the worst case)",
    )
    command.add_argument(
        "--price", type=float, help="price per chip-hour, to print the cost of the run"
    )

    def run(options: argparse.Namespace) -> Report:
        return preflight(options, arguments.gin_files(options))

    def show(result: Report) -> None:
        from distill.preflight.rendering import render_report

        print(render_report(result))

    command.set_defaults(run=run, show=show)


def preflight(options: argparse.Namespace, names: list[str]) -> Report:
    """Runs the command.

    Raises:
      UserError: options that do not go together; a VOCAB_SIZE that is too small.
      CheckFailed: a run that does not fit; its result has the nearest that does.
    """
    from distill.preflight.chips import CHIPS, topology
    from distill.preflight.compile import INSTALL, OF_JAX, has_libtpu

    for name, value in OF_JAX.items():
        os.environ.setdefault(name, value)
    topologies = [topology(text) for text in options.topology]
    if not topologies:
        raise UserError(f"give a slice with --topology=CHIP:SIDES; chips: {', '.join(CHIPS)}")
    if len(topologies) > 1 and not options.search:
        raise UserError(
            "got several --topology flags, expected one; use --search to compare slices"
        )
    if options.no_decoding and (options.estimate or options.search):
        other = "--estimate" if options.estimate else "--search"
        raise UserError(f"--no_decoding works only without {other}, which compiles no decoding")
    for flag, value in (("--rows", options.rows), ("--price", options.price)):
        if value is not None and not value > 0:
            raise UserError(f"got {flag} {value}, expected more than 0")
    from distill.config.resolve import resolve
    from distill.convert.sizes import adopt_sizes
    from distill.data.vocabulary_size import check_size_before_rows

    resolved = resolve(names, options.overrides, options.engine, adopt_sizes)
    if resolved.engine != "native":
        raise UserError(
            f"got engine {resolved.engine!r}, expected 'native': preflight compiles only the "
            "native engine's training step"
        )
    config, compiling = resolved.run, not options.estimate
    check_size_before_rows(config.data, config.student.vocab_size)
    if compiling and not has_libtpu():
        compiling = False
        _say(f"libtpu is not installed ({INSTALL}): the report below is an estimate from shapes")
    if options.search:
        result = _search(options, config, topologies, compiling)
    else:
        result = _inspect(options, config, topologies[0], compiling)
    if not result["fits"]:
        raise CheckFailed("the run does not fit: see the end of the report", result)
    if "decoding" in result and not result["decoding"]["fits"]:
        raise CheckFailed("decoding does not fit: lower EVAL_BATCH_SIZE", result)
    return result


def _inspect(
    options: argparse.Namespace, config: RunConfig, topology: Topology, compiling: bool
) -> Report:
    from distill.preflight import report, search

    decoding = not options.no_decoding
    if compiling:
        decoding_note = " and decoding" if decoding else ""
        _say(
            f"compiling the training step{decoding_note} for {topology.name}; this takes minutes "
            "for large students"
        )
    result = report.inspect(config, topology, compiling, options.rows, options.price, decoding)
    if not result["fits"]:
        _say("the run does not fit: searching for the nearest configuration that does")
        result["nearest"] = search.nearest(config, topology, compiling, options.rows)
    return result


def _search(
    options: argparse.Namespace, config: RunConfig, topologies: list[Topology], compiling: bool
) -> Report:
    from distill.preflight import search

    table = search.search(config, topologies, compiling, options.rows, options.price, _say)
    return {**table[0], "table": table}


def _say(line: str) -> None:
    from distill.common.progress import to_stderr

    to_stderr(line)
