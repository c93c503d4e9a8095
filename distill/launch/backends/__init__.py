"""Back ends: what provides a slice. Each is a module of pure functions, see `Backend`.

A back end builds commands and reads their output; it runs nothing itself (`distill.launch.verbs`
does). `run` is given the hosts that `parse_status` found.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from distill.errors import UserError
from distill.launch.command import Command, Result
from distill.launch.settings import BACKENDS, LaunchSettings

# Phases of a slice.
ABSENT = "absent"  # it does not exist
WAITING = "waiting"  # for capacity
CREATING = "creating"
READY = "ready"  # all hosts run
PREEMPTED = "preempted"  # some hosts, or all, were stopped or deleted
SUSPENDED = "suspended"  # it has no hosts, but counts against quota
FAILED = "failed"  # it cannot be created; of a training: it cannot be installed or started
# Phases of the training.
INSTALLING = "installing"
IDLE = "idle"  # nothing was started
RUNNING = "running"
ENDED = "ended"  # see `Status.exit_codes`


@dataclasses.dataclass(frozen=True)
class Status:
    """The slice, or the training on it.

    Attributes:
      phase: one of the phases above.
      hosts: names by which `run`, `progress` and `logs` reach the hosts.
      detail: a sentence for people, "" if there is nothing to add.
      exit_codes: of the training on each host, of an ended one.
      kind: of the failure (`distill.launch.failures`) that keeps the slice back, or "".
    """

    phase: str
    hosts: tuple[str, ...] = ()
    detail: str = ""
    exit_codes: tuple[int, ...] = ()
    kind: str = ""


class Backend(Protocol):
    """What a module of this package has.

    Attributes:
      CHIPS: that it has, as `distill.preflight.chips` names them.
      LEGACY: what to tell about a back end that is about to go, else "".
    """

    CHIPS: tuple[str, ...]
    LEGACY: str

    def check(self, settings: LaunchSettings) -> None:
        """Refuses settings that the back end cannot have (the chip is checked already).

        Raises:
          UserError: names the flag and what to set instead.
        """

    def files(self, settings: LaunchSettings) -> Mapping[str, str]:
        """Files that the commands read, by name; rendered from those in launch/."""

    def up(self, settings: LaunchSettings, folder: Path) -> list[Command]:
        """Gets the slice; `folder` has the files. A command that creates something names it in
        `resource`, so that only what a launch created is deleted. Commands may return before the
        slice is ready."""

    def status(self, settings: LaunchSettings) -> list[Command]:
        """Asks for the slice. Commands tolerate "not_found"."""

    def parse_status(self, settings: LaunchSettings, results: Sequence[Result]) -> Status:
        """Reads the answers of `status`: a phase of the slice."""

    def run(self, settings: LaunchSettings, hosts: Sequence[str], folder: Path) -> list[Command]:
        """Starts the training on all hosts, in the background; all commands run at once.

        A training that runs already is left alone.
        """

    def progress(self, settings: LaunchSettings, hosts: Sequence[str]) -> list[Command]:
        """Asks for the training; all commands run at once."""

    def parse_progress(self, settings: LaunchSettings, results: Sequence[Result]) -> Status:
        """Reads the answers of `progress`: a phase of the training."""

    def logs(self, settings: LaunchSettings, hosts: Sequence[str], lines: int) -> list[Command]:
        """Prints the last lines of the log of each host; all commands run at once."""

    def down(self, settings: LaunchSettings) -> list[Command]:
        """Deletes what `up` creates, in the order that deletion needs, each with its `resource`.

        Commands tolerate "not_found", so that they can be repeated.
        """


def get(settings: LaunchSettings) -> Backend:
    """The back end of a launch, after it has checked the settings.

    Raises:
      UserError: it does not have the chip; see `Backend.check`.
    """
    backend = _load(settings.backend)
    chip = settings.slice.chip.name
    if chip not in backend.CHIPS:
        others = [name for name in BACKENDS if name != settings.backend]
        fitting = [name for name in others if chip in _load(name).CHIPS]
        raise UserError(
            f"got --backend={settings.backend} with --topology={settings.topology}: it has "
            f"{', '.join(backend.CHIPS)}; for {chip} use --backend={' or '.join(fitting)}"
        )
    backend.check(settings)
    return backend


def _load(name: str) -> Backend:
    # A module has the functions of the protocol.
    return cast(Backend, importlib.import_module(f"distill.launch.backends.{name}"))
