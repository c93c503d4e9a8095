"""`distill launch plan | run | status | down --work_list`: a verb for each run of a sweep."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distill.commands import launch_plan
from distill.common import flags
from distill.common.phrases import number_of
from distill.common.progress import Progress, to_stderr
from distill.errors import CheckFailed, UserError
from distill.launch.settings import LaunchSettings

if TYPE_CHECKING:
    from distill.launch.many import WorkList
    from distill.launch.work_list import Item

VERBS = ("run", "status", "down")  # apart from plan
# Flags of plan whose values come from the list.
_LISTED = (
    *("name", "run_dir", "state", "gin_file", "size", "engine", "raw_dir", "vocabulary_path"),
    *("init_from", "continue_from", "seed"),
)
_HELP = "a work list of `distill sweep --list --json`: {}"


def add_flags(command: argparse.ArgumentParser, verb: str) -> None:
    """Adds `--work_list`, and `--at_once` to `run`."""
    what = "plan one launch per line" if verb == "plan" else f"{verb} the launch of each line"
    command.add_argument("--work_list", metavar="FILE", help=_HELP.format(what))
    if verb == "run":
        command.add_argument(
            "--at_once",
            type=int,
            help="with --work_list: slices that exist at the same time (default: 1)",
        )


def check_flags(options: argparse.Namespace, verb: str) -> None:
    """Refuses flags of a verb that do not go with --work_list, and a state file beside it.

    Raises:
      UserError: names the flags.
    """
    if options.work_list is None and options.state is None:
        raise UserError(f"give the state file of a launch to distill launch {verb}, or --work_list")
    at_once = getattr(options, "at_once", None)
    if options.work_list is None:
        if at_once is not None:
            raise UserError("--at_once works only with --work_list")
        return
    if options.state is not None:
        raise UserError(f"got {options.state} and --work_list, expected one of them")
    for name in ("keep", "detach"):
        if getattr(options, name, False):
            raise UserError(f"--{name} does not work with --work_list")
    if at_once is not None and at_once < 1:
        raise UserError(f"got --at_once={at_once}, expected 1 or more")


def plan(options: argparse.Namespace) -> Mapping[str, Any]:
    """Plans a launch for each line of a list; writes nothing unless all can work.

    Raises:
      UserError: flags whose values the list has; a list, settings or a run that cannot work.
      CheckFailed: a run that does not fit into memory or time.
    """
    from distill.launch import work_list

    for name in _LISTED:
        if getattr(options, name) not in (None, "", []):
            raise UserError(
                f"got --{name} and --work_list, which has it for each run: leave out the flag"
            )
    if options.overrides:
        given = options.overrides[0].partition("=")[0]
        raise UserError(f"got --gin.{given} and --work_list: set it in the sweep file")
    items = work_list.read(options.work_list)
    states, plans = [], []
    reports: dict[tuple[object, ...], Mapping[str, Any]] = {}
    with Progress(len(items), "checking the runs", unit="runs") as bar:
        for item in items:
            try:
                settings = _settings(options, item)
                # Seeds need the same memory and time.
                key = (item.gin_files, *(o for o in item.overrides if not o.startswith("SEED=")))
                if key not in reports:
                    own = argparse.Namespace(**{**vars(options), "overrides": [*item.overrides]})
                    reports[key] = launch_plan.check_fit(own, item.gin_files, settings)
                path = work_list.state_path(options.work_list, item)
                before = launch_plan.earlier(path)
                state, planned = launch_plan.describe(path, settings, reports[key], before)
            except CheckFailed as failure:
                raise CheckFailed(f"the run {item.run}: {failure}", failure.result) from None
            except UserError as error:
                raise UserError(f"the run {item.run}: {error}") from None
            states.append(state)
            plans.append({"run": item.run, **planned})
            bar.update()
    for state in states:
        launch_plan.write(state)
    to_stderr(
        f"wrote {number_of(len(states), 'state file')} to {states[0].path.rpartition('/')[0]}"
    )
    return {
        "work_list": options.work_list,
        "launches": plans,
        "hours_at_least": sum(each["hours_at_least"] for each in plans),
        "cost_at_least": _total(plans, "cost_at_least"),
        "cost_at_most": _total(plans, "cost_at_most"),
        "finished": work_list.ask_finished(items).text,
        "next": f"distill launch run --work_list={options.work_list}",
    }


def _settings(options: argparse.Namespace, item: Item) -> LaunchSettings:
    own = argparse.Namespace(**{**vars(options), "name": item.name, "run_dir": item.run_dir})
    settings = flags.from_options(LaunchSettings, own)
    launch_plan.check_backends(settings)
    return launch_plan.prepare(settings, item.gin_files, item.overrides, None)


def _total(plans: list[dict[str, Any]], name: str) -> float | None:
    return None if plans[0][name] is None else sum(each[name] for each in plans)


def run(options: argparse.Namespace, verb: str) -> Mapping[str, Any]:
    """Runs another verb for each line of a list.

    Raises:
      UserError: see `check_flags` and `WorkList`.
      CheckFailed: runs failed, or slices could not be deleted; the result has all rows.
    """
    from distill.launch.many import WorkList

    launches = WorkList(options.work_list, to_stderr)
    if options.dry_run:
        listed = launches.commands(verb)
        if not listed:
            to_stderr(f"{options.work_list}: nothing was created: there is nothing to delete")
        return {
            "work_list": options.work_list,
            "commands": [
                {"run": name, "purpose": each.purpose, "text": each.text} for name, each in listed
            ],
        }
    result = {"run": _run, "status": _status, "down": _down}[verb](launches, options)
    return {"work_list": options.work_list, **result}


def _run(launches: WorkList, options: argparse.Namespace) -> dict[str, Any]:
    from distill.launch import many

    outcomes = launches.run(options.at_once or 1)
    failed = [each for each in outcomes if each.result == many.FAILED]
    result = {
        "runs": [dataclasses.asdict(each) for each in outcomes],
        "done": len(outcomes) - len(failed),
        "failed": len(failed),
        "next": many.collecting(launches.items),
    }
    if failed:
        raise CheckFailed(
            f"{len(failed)} of {number_of(len(outcomes), 'run')} failed, the first, "
            f"{failed[0].run}, with: {failed[0].error}; the same command tries again",
            {"work_list": options.work_list, **result},
        )
    return result


def _status(launches: WorkList, options: argparse.Namespace) -> dict[str, Any]:
    from distill.launch import many

    rows = launches.status()
    done = all(row["state"] == "done" for row in rows)
    again = f"distill launch run --work_list={options.work_list}"
    return {"runs": rows, "next": many.collecting(launches.items) if done else again}


def _down(launches: WorkList, options: argparse.Namespace) -> dict[str, Any]:
    rows = launches.down()
    result = {"runs": rows}
    failed = [row for row in rows if row["error"]]
    if failed:
        raise CheckFailed(
            f"slices of {number_of(len(failed), 'run')} could not be deleted, the first, "
            f"{failed[0]['run']}: {failed[0]['error']}; the same command tries again",
            {"work_list": options.work_list, **result},
        )
    return result


_COLUMNS = {  # field: heading and alignment
    "run": ("run", "<"),
    "launch": ("launch", "<"),
    "name": ("launch", "<"),
    "result": ("result", "<"),
    "state": ("state", "<"),
    "slice": ("slice", "<"),
    "training": ("training", "<"),
    "restarts": ("restarts", ">"),
    "hours": ("hours", ">"),
    "hours_at_least": ("hours at least", ">"),
    "cost_at_least": ("cost at least", ">"),
    "cost_at_most": ("cost at most", ">"),
    "deleted": ("deleted", "<"),
    "created": ("left", "<"),
    "left": ("left", "<"),
    "detail": ("detail", "<"),
    "error": ("error", "<"),
}


def show(result: Mapping[str, Any]) -> None:
    """Prints what a verb returns for a list, for people."""
    from distill.common.table import render_columns

    if "commands" in result:
        for each in result["commands"]:
            name = f"{each['run']}: " if each["run"] else ""
            print(f"# {name}{each['purpose']}\n{each['text']}")
        return
    rows = result.get("runs") or result["launches"]
    shown = [
        name for name in _COLUMNS if name in rows[0] and any(_cell(row[name], name) for row in rows)
    ]
    header, align = zip(*(_COLUMNS[name] for name in shown), strict=True)
    cells = [[_cell(row[name], name) for name in shown] for row in rows]
    print(render_columns(header, cells, "".join(align), rule=True))
    if "launches" in result:
        _show_plan(result)
    if "next" in result:
        print(f"\nnext: {result['next']}")


def _show_plan(result: Mapping[str, Any]) -> None:
    first, count = result["launches"][0], number_of(len(result["launches"]), "run")
    print(
        f"\n{count}, each on {first['topology']} ({first['provisioning']}, in {first['zone']}, by "
        f"{first['backend']}), which is deleted after {first['hours_at_most']:g} hours; together "
        f"at least {result['hours_at_least']:.3g} hours"
    )
    if first["legacy"]:
        print(f"note: {first['legacy']}")
    if result["cost_at_least"] is None:
        print("cost: give --price, the price per chip-hour (cloud.google.com/tpu/pricing)")
    else:
        least, most = result["cost_at_least"], result["cost_at_most"]
        print(f"cost: at least {least:,.2f}, at most {most:,.2f}")
    print(f"\nwhich runs are finished:\n  {result['finished']}")
    for each in result["launches"]:
        for verb, commands in each["commands"].items():
            print(f"\n{each['run']}, {verb}:")
            for command in commands:
                print("\n".join(f"  {line}" for line in command["text"].splitlines()))


def _cell(value: object, name: str) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}" if name.startswith("hours") else f"{value:,.2f}"
    return "" if value is None else str(value)
