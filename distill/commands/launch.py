"""`distill launch plan | up | run | predict | logs | status | resume | down`, on Cloud TPU."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from distill.commands import arguments, launch_list, launch_plan, launch_predict
from distill.common import flags
from distill.common.progress import to_stderr
from distill.launch.settings import LaunchSettings

if TYPE_CHECKING:
    from distill.launch.backends import Status
    from distill.launch.verbs import Launch

TEXT = "train on a Cloud TPU slice: get it, start all hosts, restart after preemptions, delete it"
_VERBS = {
    "up": "get the slice and wait for its hosts; deletes what it created if it fails",
    "run": "start the training on all hosts, follow it, restart it when it is preempted",
    "predict": "label a corpus on all hosts, with the trained student; otherwise as run",
    "resume": "as run or predict, whichever was last, but get another slice first if it is lost",
    "logs": "print the last lines of each host's log",
    "status": "say how the slice and the training are, and what they cost so far",
    "down": "delete everything that the launch created",
}


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `launch` and its actions."""
    launch = commands.add_parser("launch", help=TEXT, description=TEXT)
    actions = launch.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_plan(actions)
    for verb, text in _VERBS.items():
        _add_verb(actions, verb, text)


def _add_plan(actions: argparse._SubParsersAction) -> None:
    text = "check a launch, show its cost and commands, and write its state file; creates nothing"
    command = arguments.add(actions, "plan", text, configured=True)
    flags.add_flags(command.add_argument_group("launch"), LaunchSettings)
    command.add_argument(
        "--estimate", action="store_true", help="estimate memory and time, without compiling"
    )
    command.add_argument(
        "--state", help="the state file to write, local or gs://; default <name>.launch.json"
    )
    launch_list.add_flags(command, "plan")

    def run(options: argparse.Namespace) -> Mapping[str, Any]:
        return (launch_plan.run if options.work_list is None else launch_list.plan)(options)

    def show(result: Mapping[str, Any]) -> None:
        from distill.launch.plan import render
        from distill.preflight.rendering import render_report

        if "launches" in result:
            launch_list.show(result)
        else:  # a run that does not fit has a report of preflight alone
            print(render(result) if "commands" in result else render_report(result))  # type: ignore[arg-type]

    command.set_defaults(run=run, show=show)


def _add_verb(actions: argparse._SubParsersAction, verb: str, text: str) -> None:
    command = arguments.add(actions, verb, text, configured=False)
    takes_list = verb in launch_list.VERBS
    command.add_argument(
        "state",
        metavar="STATE",
        nargs="?" if takes_list else None,
        help="the state file that plan wrote",
    )
    if takes_list:
        launch_list.add_flags(command, verb)
    command.add_argument(
        "--dry_run", action="store_true", help="print the commands; execute none of them"
    )
    if verb == "up":
        command.add_argument(
            "--keep", action="store_true", help="leave what was created if it fails"
        )
    if verb in ("run", "predict", "resume"):
        command.add_argument("--keep", action="store_true", help="leave the slice after a success")
        command.add_argument(
            "--detach", action="store_true", help="return when all hosts have started"
        )
    if verb == "predict":
        launch_predict.add_flags(command)
    if verb == "logs":
        command.add_argument("--lines", type=int, default=50, help="lines of each host")

    def run(options: argparse.Namespace) -> Mapping[str, Any]:
        from distill.launch import backends, verbs
        from distill.launch.state import load
        from distill.launch.steps import write_files

        if takes_list:
            launch_list.check_flags(options, verb)
            if options.work_list is not None:
                return launch_list.run(options, verb)
        state = load(options.state)
        launch = verbs.Launch(state, to_stderr)
        if verb == "predict":
            options.job = launch_predict.job_of(options, state.settings.run_dir)
        if options.dry_run:
            if verb == "down":
                commands = launch.deletions()
                if not commands:
                    to_stderr(f"{options.state} lists nothing created: there is nothing to delete")
            else:
                lines, settings = getattr(options, "lines", 50), state.settings
                if verb in ("run", "predict"):
                    settings = dataclasses.replace(settings, job=getattr(options, "job", ()))
                    write_files(backends.get(settings), settings, state.folder)
                commands = verbs.dry_run(settings, verb, state.folder, lines)
            return {"commands": [{"purpose": c.purpose, "text": c.text} for c in commands]}
        return _ACTIONS[verb](launch, options)

    command.set_defaults(run=run, show=_show)


def _outcome(launch: Launch, status: Status, training: Status | None = None) -> dict[str, Any]:
    state, settings = launch.state, launch.settings
    cost = None
    if settings.price and state.created:
        cost = settings.price * settings.slice.chips * state.elapsed_hours
    return {
        "name": settings.name,
        "task": settings.task,
        "phase": state.phase,
        "slice": {**dataclasses.asdict(status), "topology": settings.topology},
        "training": dataclasses.asdict(training) if training else None,
        "created": state.created,
        "restarts": state.restarts,
        "hours": state.elapsed_hours,
        "max_run_hours": settings.max_run_hours,
        "cost_at_most": cost,
    }


def _after_run(launch: Launch, job: Status) -> dict[str, Any]:
    """The outcome of a verb that ends with the status of the job on the hosts."""
    from distill.launch.backends import ABSENT, READY, Status

    where = Status(READY, job.hosts) if launch.state.created else Status(ABSENT)
    return _outcome(launch, where, job)


_ACTIONS: Mapping[str, Callable[[Any, argparse.Namespace], Mapping[str, Any]]] = {
    "up": lambda launch, options: _outcome(launch, launch.up(options.keep)),
    "run": lambda launch, options: _after_run(launch, launch.run(options.detach, options.keep, ())),
    "predict": lambda launch, options: _after_run(
        launch, launch.run(options.detach, options.keep, options.job)
    ),
    "resume": lambda launch, options: _after_run(
        launch, launch.resume(options.detach, options.keep)
    ),
    "status": lambda launch, options: _outcome(launch, *launch.status()),
    "logs": lambda launch, options: {"logs": launch.logs(options.lines)},
    "down": lambda launch, options: {"deleted": launch.down(), "left": launch.state.created},
}


def _show(result: Mapping[str, Any]) -> None:
    """Prints what a verb returns, for people."""
    if "work_list" in result:
        launch_list.show(result)
    elif "commands" in result:
        for command in result["commands"]:
            print(f"# {command['purpose']}\n{command['text']}")
    elif "logs" in result:
        for purpose, text in result["logs"]:
            print(f"== {purpose}\n{text.rstrip()}")
    elif "deleted" in result:
        print(
            f"deleted: {', '.join(result['deleted'])}" if result["deleted"] else "nothing is left"
        )
    else:
        where, training = result["slice"], result["training"]
        print(f"launch {result['name']}: {result['phase']}; restarts: {result['restarts']}")
        for what, status in ((f"slice {where['topology']}", where), (result["task"], training)):
            if status:
                phase = status["phase"] or "not known"
                detail = f" ({status['detail']})" if status["detail"] else ""
                print(f"{what}: {phase}{detail}; hosts: {', '.join(status['hosts']) or 'none'}")
        if result["created"]:
            cost = result["cost_at_most"]
            so_far = f", {cost:,.2f} at most" if cost is not None else ""
            print(
                f"created: {', '.join(result['created'])}; {result['hours']:.1f} of "
                f"{result['max_run_hours']:g} hours{so_far}"
            )
