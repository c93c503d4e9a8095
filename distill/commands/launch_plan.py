"""`distill launch plan`: checks a launch, or one for each line of a work list."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distill.commands import arguments
from distill.common import flags
from distill.common.progress import to_stderr
from distill.errors import CheckFailed, UserError
from distill.launch.settings import LaunchSettings

if TYPE_CHECKING:
    from distill.launch.state import LaunchState


def run(options: argparse.Namespace) -> Mapping[str, Any]:
    """Plans one launch.

    Raises:
      UserError: see `prepare`; the state file is of a launch that has a slice.
      CheckFailed: a run that does not fit into memory or time.
    """
    from distill.launch.state import SUFFIX

    settings = flags.from_options(LaunchSettings, options)
    check_backends(settings)
    path = options.state or f"{settings.name}{SUFFIX}"
    before = earlier(path)
    names = arguments.gin_files(options)
    settings = prepare(settings, names, options.overrides, options.engine)
    report = check_fit(options, names, settings)
    state, result = describe(path, settings, report, before)
    write(state)
    to_stderr(f"wrote {path} and {state.folder}; next: distill launch up {path}")
    return result


def check_backends(settings: LaunchSettings) -> None:
    """Refuses settings that the back end does not have, for each slice of a launch.

    Raises:
      UserError: names the flag.
    """
    from distill.launch import backends

    backends.get(settings)
    for topology in settings.fallback_topology:
        backends.get(dataclasses.replace(settings, topology=topology))


def prepare(
    settings: LaunchSettings, names: Sequence[str], overrides: Sequence[str], engine: str | None
) -> LaunchSettings:
    """The settings of a launch with what its hosts train.

    Args:
      settings: of the launch.
      names: gin files.
      overrides: `NAME=value` texts.
      engine: as of `--engine`.

    Raises:
      UserError: a configuration that does not resolve; the engine t5x; data on this machine.
    """
    from distill.config.resolve import resolve
    from distill.convert.sizes import adopt_sizes
    from distill.launch import plan

    resolved = resolve(names, overrides, engine, adopt_sizes)
    if resolved.engine == "t5x":
        raise UserError(
            "got the engine t5x, but distill launch works only with --engine=native; docs/hosts.md "
            "says how to start T5X on several hosts"
        )
    plan.check_data_paths(resolved)
    remote, uploads = plan.place_gin_files(names, settings.launch_dir)
    train = [f"--gin_file={name}" for name in remote]
    train += [f"--gin.{override}" for override in overrides]
    train += [f"--engine={engine}"] if engine else []
    return dataclasses.replace(settings, train_arguments=tuple(train), gin_uploads=uploads)


def check_fit(
    options: argparse.Namespace, names: Sequence[str], settings: LaunchSettings
) -> Mapping[str, Any]:
    """The report of preflight for the slice of a launch; the fallback slices are estimated.

    Raises:
      CheckFailed: a run that does not fit.
    """
    report = _preflight(options, names, settings.topology, options.estimate)
    for topology in settings.fallback_topology:
        _preflight(options, names, topology, estimate=True)
    return report


def describe(
    path: str, settings: LaunchSettings, report: Mapping[str, Any], before: int
) -> tuple[LaunchState, dict[str, Any]]:
    """The state of a launch, which is not written yet, and its plan.

    Args:
      path: of the state file.
      settings: from `prepare`.
      report: from `check_fit`.
      before: from `earlier`.

    Raises:
      CheckFailed: the run takes longer than the slice may exist.
    """
    from distill.launch import plan
    from distill.launch.state import LaunchState

    state = LaunchState(path, settings, revision=before)
    return state, plan.describe(settings, report, state.folder)


def write(state: LaunchState) -> None:
    """Writes the state file and the files of the hosts."""
    from distill.launch import backends
    from distill.launch.steps import write_files

    write_files(backends.get(state.settings), state.settings, state.folder)
    state.note("planned")


def earlier(path: str) -> int:
    """The revision of a state file that a plan may replace.

    Raises:
      UserError: it has a slice.
    """
    from etils import epath

    from distill.launch.state import load

    if not epath.Path(path).exists():
        return 0
    state = load(path)
    if state.created:
        raise UserError(
            f"{path} is of a launch that has created {', '.join(state.created)}: delete it first "
            f"with `distill launch down {path}`, or give another --state"
        )
    return state.revision


def _preflight(
    options: argparse.Namespace, names: Sequence[str], topology: str, estimate: bool
) -> Mapping[str, Any]:
    from distill.commands.preflight import preflight

    own = argparse.Namespace(
        **{
            **vars(options),
            "topology": [topology],
            "estimate": estimate,
            "search": False,
            "no_decoding": not estimate,
            "rows": None,
        }
    )
    try:
        return preflight(own, list(names))
    except CheckFailed as failure:
        raise CheckFailed(f"{topology}: {failure}; nothing was created", failure.result) from None
