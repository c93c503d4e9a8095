"""What a launch will do and cost, before anything is created."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.common.atomic import is_local
from distill.common.phrases import number_of
from distill.config import fields, files
from distill.config.resolve import Resolved
from distill.errors import CheckFailed, UserError
from distill.launch import backends, slices
from distill.launch.settings import LaunchSettings
from distill.launch.verbs import dry_run


def place_gin_files(
    names: Sequence[str], launch_dir: str
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Finds gin files that the hosts do not have.

    Args:
      names: as for --gin_file.
      launch_dir: folder of the launch in the bucket.

    Returns:
      Names by which the hosts read the files; pairs of a local file and its copy in the bucket.

    Raises:
      UserError: two local files have the same name.
    """
    shipped, remote, uploads = {*files.list_gin_files()}, [], []
    for name in names:
        path = files.resolve_path(name)
        relative = os.path.relpath(path, files.gin_root()) if is_local(path) else path
        if not is_local(path):
            remote.append(path)
        elif relative in shipped:
            remote.append(relative)
        else:
            target = f"{launch_dir}/{os.path.basename(path)}"
            if target in remote:
                raise UserError(f"two gin files are named {os.path.basename(path)}: rename one")
            remote.append(target)
            uploads.append((os.path.abspath(path), target))
    return tuple(remote), tuple(uploads)


def check_data_paths(resolved: Resolved) -> None:
    """Refuses data on this machine, which the hosts do not see.

    Raises:
      UserError: names the macros.
    """
    local = dict(_local_paths(resolved.macros))
    if local:
        name, path = next(iter(local.items()))
        more = f" (also {', '.join(list(local)[1:])})" if len(local) > 1 else ""
        raise UserError(
            f"got {name} = {path!r}{more}, a path of this machine, which the hosts do not see: "
            f"copy it (`gcloud storage cp --recursive {path} gs://BUCKET/`) and set {name} to the "
            "copy"
        )


def _local_paths(values: Mapping[str, object]) -> list[tuple[str, str]]:
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _local_paths({str(key).upper(): each for key, each in value.items()})
        elif fields.is_path(name) and isinstance(value, str) and value and is_local(value):
            found.append((name, value))
    return found


def describe(settings: LaunchSettings, report: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The plan.

    Args:
      settings: of the launch.
      report: of preflight for the slice (`distill.preflight.report.Report`).
      folder: with the files that the commands read.

    Returns:
      What `distill launch plan --json` prints.

    Raises:
      CheckFailed: the run takes longer than the slice may exist; its result is the plan.
      UserError: the back end does not have the slice.
    """
    backend, where = backends.get(settings), settings.slice
    chips, hours = where.chips, report["hours"]
    most = settings.max_run_hours
    plan = {
        "name": settings.name,
        "backend": settings.backend,
        "legacy": backend.LEGACY,
        "topology": settings.topology,
        "chips": chips,
        "hosts": slices.hosts(where),
        "zone": settings.zone,
        "provisioning": settings.provisioning,
        "run_dir": settings.run_dir,
        "fallback_topology": list(settings.fallback_topology),
        "hours_at_least": hours,
        "hours_at_most": most,
        "cost_at_least": hours * chips * settings.price if settings.price else None,
        "cost_at_most": most * chips * settings.price if settings.price else None,
        "preflight": dict(report),
        "commands": {
            verb: [
                {"purpose": each.purpose, "argv": list(each.argv), "text": each.text}
                for each in dry_run(settings, verb, folder)
            ]
            for verb in ("up", "run", "down")
        },
    }
    if hours > most:
        raise CheckFailed(
            f"the run takes at least {hours:.3g} hours on {settings.topology}, more than "
            f"--max_run_hours={most:g}: raise it, or choose a larger slice",
            plan,
        )
    return plan


def render(plan: Mapping[str, Any]) -> str:
    """The plan as text for people."""
    from distill.preflight.rendering import render_report

    lines = [
        f"launch {plan['name']}: {plan['topology']}, {plan['chips']} chips on "
        f"{number_of(plan['hosts'], 'host')}, {plan['provisioning']}, in {plan['zone']}, by "
        f"{plan['backend']}",
        f"run folder: {plan['run_dir']}",
    ]
    if plan["legacy"]:
        lines.append(f"note: {plan['legacy']}")
    if plan["fallback_topology"]:
        lines.append(f"restarts on {', '.join(plan['fallback_topology'])} if need be")
    lines += ["", render_report(plan["preflight"]), ""]
    lines.append(
        f"time: at least {plan['hours_at_least']:.3g} hours; the slice is deleted after "
        f"{plan['hours_at_most']:g} hours"
    )
    if plan["cost_at_least"] is None:
        lines.append("cost: give --price, the price per chip-hour (cloud.google.com/tpu/pricing)")
    else:
        lines.append(
            f"cost: at least {plan['cost_at_least']:,.2f}, at most {plan['cost_at_most']:,.2f}"
        )
    for verb, commands in plan["commands"].items():
        lines += ["", f"{verb}:"]
        lines += [f"  {line}" for each in commands for line in each["text"].splitlines()]
    return "\n".join(lines)
