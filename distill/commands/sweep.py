"""`distill sweep`: trains the runs that a file declares, and records their results."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, TypedDict

from distill.commands import arguments
from distill.common.paths import check_path
from distill.common.phrases import number_of
from distill.common.progress import format_duration, to_stderr
from distill.errors import CheckFailed, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distill.results.record import Record
    from distill.sweep.file import Sweep
    from distill.sweep.folder import ResultsFolder
    from distill.sweep.plan import Run

_EPILOG = """\
The file names gin files, macros, seeds and axes; every combination is a run. Repeat the command
after an interruption: finished runs are skipped, the others resume. docs/sweeps.md describes the
file and the results folder.

  distill sweep gin/sweeps/smoke.toml --out=runs/smoke
  distill results runs/smoke
"""


class Planned(TypedDict):
    """A run of --dry_run."""

    run: str
    axes: dict[str, object]
    seed: int
    steps: int
    steps_left: int
    state: str


class SweepResult(TypedDict, total=False):
    """What the command gives.

    `planned` and `estimated_seconds` are there with --dry_run, `missing` with --collect.
    """

    sweep: str
    title: str
    out: str
    runs: int
    done: int
    failed: int
    records: list[dict[str, Any]]
    missing: list[str]
    planned: list[Planned]
    workers: int
    estimated_seconds: float | None


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `sweep`."""
    text = "train every combination of settings that a file declares"
    command = arguments.add(commands, "sweep", text, configured=False)
    command.epilog = _EPILOG
    command.add_argument(
        "file", help="the sweep file, in TOML, or a name in gin/sweeps, such as smoke"
    )
    command.add_argument(
        "--out", required=True, metavar="FOLDER", help="the results folder; it may be shared"
    )
    arguments.add_data_paths(command)
    command.add_argument(
        "--workers",
        type=int,
        help="runs side by side; default: one per core, fewer if memory is short, 1 with a GPU or "
        "TPU",
    )
    command.add_argument(
        "--retries",
        type=int,
        default=1,
        help="how often to repeat a run that fails; the next start tries it again in any case",
    )
    command.add_argument(
        "--dry_run",
        action="store_true",
        help="check all runs and show them, their steps and the time left; train nothing",
    )
    command.add_argument(
        "--list",
        action="store_true",
        help="print a `distill train` command for each run that is not finished, with --json a "
        "line of JSON each; train nothing",
    )
    command.add_argument(
        "--collect",
        metavar="FOLDER",
        help="record the finished runs of another results folder, such as the gs://BUCKET/FOLDER "
        "of a --list, and copy their run folders without checkpoints; train nothing",
    )
    command.add_argument(
        "--shard", default="", metavar="I/N", help="only every Nth run, from the Ith on"
    )
    command.add_argument(
        "--cache_dir",
        help="folder for tokenized data and compiled programs, which all runs share; "
        "default $DISTILL_CACHE_DIR or ~/.cache/distill",
    )
    command.set_defaults(run=run, show=show)


def run(options: argparse.Namespace) -> SweepResult | None:
    """Plans the sweep, and lists, shows or executes its runs.

    Raises:
      CheckFailed: runs failed.
    """
    from distill.sweep import plan, work_list
    from distill.sweep.file import read_sweep
    from distill.sweep.folder import ResultsFolder

    check_path(options.file, "FILE")
    _check_options(options)
    shard = work_list.parse_shard(options.shard) if options.shard else None
    sweep = read_sweep(options.file)
    runs = plan.make_plan(sweep, options.overrides)
    for group in plan.equal_runs(runs):
        same = "; ".join(each.title for each in group[1:])
        to_stderr(f"{group[0].title} has the configuration of: {same}; it is trained once for all")
    if shard is not None:
        planned = len(runs)
        runs = work_list.take_shard(runs, *shard)
        if not runs:
            raise UserError(
                f"got --shard={options.shard}, which has no run: {sweep.path} declares "
                f"{number_of(planned, 'run')}"
            )
    folder = ResultsFolder(options.out)
    if options.list:
        _print_list(options, runs, folder)
        return None
    if options.dry_run:
        return _dry_run(options, sweep, runs, folder)
    if options.collect is not None:
        return _collect(options, sweep, runs, folder)
    return _execute(options, sweep, runs, folder)


def _check_options(options: argparse.Namespace) -> None:
    check_path(options.out, "--out")
    if not options.out:
        raise UserError("got --out='', expected the path of a folder")
    if options.workers is not None and options.workers < 1:
        raise UserError(f"got --workers={options.workers}, expected 1 or more")
    if options.retries < 0:
        raise UserError(f"got --retries={options.retries}, expected 0 or more")
    modes = {"--list": options.list, "--dry_run": options.dry_run}
    given = [name for name, value in (modes | {"--collect": options.collect}).items() if value]
    if len(given) > 1:
        raise UserError(f"got both {given[0]} and {given[1]}, expected only one of them")
    same = options.out.rstrip("/")
    if options.collect is not None and options.collect.rstrip("/") in ("", same):
        raise UserError(
            f"got --collect={options.collect!r}, expected the path of another folder than --out"
        )


def _newest(folder: ResultsFolder, runs: Sequence[Run]) -> dict[str, Record]:
    """The last record of each run that has one; those of a folder in a bucket are not known.

    Raises:
      UserError: a local folder that holds something else.
    """
    from distill.common.atomic import is_local

    if not is_local(folder.path):
        return {}
    folder.check()
    return folder.newest(runs, to_stderr)


def _print_list(options: argparse.Namespace, runs: Sequence[Run], folder: ResultsFolder) -> None:
    from distill.common.terminal import json_line
    from distill.sweep import plan, work_list

    newest = _newest(folder, runs)
    firsts = plan.distinct(runs)
    left = [run for run in firsts if run.id not in newest or not newest[run.id].is_done]
    if len(left) < len(firsts):
        to_stderr(f"{number_of(len(firsts) - len(left), 'finished run')} left out")
    for item in work_list.items(left, options.out):
        print(json_line(item) if options.json else work_list.as_shell(item))
    options.json, options.show = False, None


def _workers(options: argparse.Namespace, runs: Sequence[Run]) -> tuple[int, str]:
    """The number of runs side by side, and what decides it."""
    from distill.sweep import memory
    from distill.sweep.workers import available_cores

    if options.workers is not None:
        return options.workers, "--workers"
    return memory.worker_count(len(available_cores()), (run.resolved.run for run in runs))


def _dry_run(
    options: argparse.Namespace, sweep: Sweep, runs: Sequence[Run], folder: ResultsFolder
) -> SweepResult:
    from distill.sweep.cost import estimate_seconds
    from distill.sweep.plan import check_data

    newest = _newest(folder, runs)
    check_data(sweep.path, [r for r in runs if r.id not in newest or not newest[r.id].is_done])
    planned: list[Planned] = []
    for each in runs:
        record = newest.get(each.id)
        step = folder.saved_step(each.id)
        state = "new" if step is None else f"step {step:,}"
        if record is not None:
            state = "done" if record.is_done else f"failed: {record.error}"
        steps = each.resolved.run.train.train_steps
        planned.append(
            {
                "run": each.id,
                "axes": dict(each.axes),
                "seed": each.seed,
                "steps": steps,
                "steps_left": 0 if state == "done" else max(0, steps - (step or 0)),
                "state": state,
            }
        )
    workers, _ = _workers(options, runs)
    done = sum(each["state"] == "done" for each in planned)
    return {
        **_head(options, sweep, runs),
        "done": done,
        "failed": sum(each["state"].startswith("failed") for each in planned),
        "planned": planned,
        "workers": workers,
        "estimated_seconds": estimate_seconds(runs, newest, workers),
    }


def _head(options: argparse.Namespace, sweep: Sweep, runs: Sequence[Run]) -> SweepResult:
    return {
        "sweep": sweep.name,
        "title": sweep.title,
        "out": options.out,
        "runs": len(runs),
    }


def _execute(
    options: argparse.Namespace, sweep: Sweep, runs: Sequence[Run], folder: ResultsFolder
) -> SweepResult:
    from distill.sweep import table
    from distill.sweep.execute import Execution
    from distill.sweep.plan import check_data

    folder.open(sweep, to_stderr)
    workers, limit = _workers(options, runs)
    execution = Execution(sweep.name, runs, folder, workers, options.retries)
    left = execution.left
    if left:
        check_data(sweep.path, left)
        before = execution.finished_before
        finished = f", {before} of them finished before" if before else ""
        to_stderr(
            f"{number_of(len(runs), 'run')}{finished}; {workers} at once ({limit}); logs: "
            f"{folder.path / 'runs'}/*.log"
        )
    records = execution.run()
    failed = [record for record in records if not record.is_done]
    result: SweepResult = {
        **_head(options, sweep, runs),
        "done": len(records) - len(failed),
        "failed": len(failed),
        "records": [record.to_json() for record in records],
    }
    if not options.json:
        print(f"{sweep.title}\n\n{table.summary(runs, records)}\n\nrecords: {folder.records_path}")
        options.show = None
    if failed:
        raise CheckFailed(
            f"{len(failed)} of {number_of(len(runs), 'run')} failed, the first with: "
            f"{failed[0].error}; the same command tries again",
            result,
        )
    return result


def _collect(
    options: argparse.Namespace, sweep: Sweep, runs: Sequence[Run], folder: ResultsFolder
) -> SweepResult:
    from distill.sweep import gather, table

    folder.open(sweep, to_stderr)
    found = gather.collect(options.collect, sweep.name, runs, folder, to_stderr)
    recorded = [run for run in runs if run.id in found]
    missing = [run.id for run in runs if run.id not in found or not found[run.id].is_done]
    result: SweepResult = {
        **_head(options, sweep, runs),
        "done": len(runs) - len(missing),
        "records": [found[run.id].to_json() for run in recorded],
        "missing": missing,
    }
    if not options.json and recorded:
        shown = table.summary(recorded, [found[run.id] for run in recorded])
        print(f"{sweep.title}\n\n{shown}\n\nrecords: {folder.records_path}")
    options.show = None
    if missing:
        more = f" and {number_of(len(missing) - 1, 'other run')}" if len(missing) > 1 else ""
        raise CheckFailed(
            f"{missing[0]}{more} {'are' if more else 'is'} not finished in {options.collect}: the "
            "same command collects what is finished later",
            result,
        )
    return result


def show(result: SweepResult) -> None:
    """Prints the plan of --dry_run."""
    from distill.common.table import render_columns

    planned = result["planned"]
    axes = list(planned[0]["axes"])
    rows = [
        (*map(str, each["axes"].values()), str(each["seed"]), f"{each['steps']:,}", each["state"])
        for each in planned
    ]
    print(
        render_columns([*axes, "seed", "steps", "state"], rows, "<" * len(axes) + ">>", rule=True)
    )
    seconds, left = result["estimated_seconds"], result["runs"] - result["done"]
    steps = sum(each["steps_left"] for each in planned)
    told = "no estimate of the time before a run is finished"
    if seconds is not None:
        told = f"about {format_duration(seconds)}, from the finished runs"
    print(
        f"\n{number_of(result['runs'], 'run')}: {result['done']} done, {left} left with "
        f"{steps:,} steps, {result['workers']} at once; {told}"
    )
