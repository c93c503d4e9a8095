"""The state file of a launch, with which another person can continue the launch.

The file holds no secrets. A process refuses to overwrite a file that another one has written since
it was read.
"""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

from etils import epath

from distill.common.atomic import is_local, write_json
from distill.common.text_files import parse_json
from distill.errors import UserError
from distill.launch.command import Result
from distill.launch.settings import LaunchSettings, from_json

SUFFIX = ".launch.json"
_VERSION = 1


def now() -> datetime.datetime:
    """The time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


# Types of the values in the file
_KINDS = {
    "settings": (dict,),
    "phase": (str,),
    "created": (list,),
    "started": (str, type(None)),
    "restarts": (int,),
    "history": (list,),
    "revision": (int,),
}


@dataclasses.dataclass
class LaunchState:
    """A launch.

    Attributes:
      path: the state file, local or gs://.
      settings: of the launch; its topology is that of the slice at hand.
      phase: planned, starting, up, pending (the next job is not started yet), running, succeeded,
        failed, or down.
      created: names of the resources that exist, or may exist.
      started: when the first slice was asked for; None before.
      restarts: how often the training was started again.
      history: what was done: the time and either a command with its exit code, or a note.
      revision: counts the writes.
    """

    path: str
    settings: LaunchSettings
    phase: str = "planned"
    created: list[str] = dataclasses.field(default_factory=list)
    started: datetime.datetime | None = None
    restarts: int = 0
    history: list[dict[str, object]] = dataclasses.field(default_factory=list)
    revision: int = 0

    def save(self) -> None:
        """Writes the file.

        Raises:
          UserError: somebody else wrote it since it was read.
        """
        path = epath.Path(self.path)
        if path.exists() and (stored := _read(self.path)["revision"]) != self.revision:
            raise UserError(
                f"{self.path} was written by another process (revision {stored}, expected "
                f"{self.revision}): only one may work on a launch; look at `distill launch status`"
            )
        self.revision += 1
        content = {"version": _VERSION, **dataclasses.asdict(self)}
        del content["path"]
        content["started"] = self.started.isoformat() if self.started else None
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)

    def note(self, text: str, phase: str = "") -> None:
        """Adds a line to the history, changes the phase if one is given, and saves."""
        self.history.append({"time": now().isoformat(), "note": text})
        self.phase = phase or self.phase
        self.save()

    def record(self, result: Result) -> None:
        """Adds a command to the history, and saves."""
        entry: dict[str, object] = {
            "time": now().isoformat(),
            "command": list(result.command.argv),
            "exit_code": result.exit_code,
            "seconds": round(result.seconds, 1),
        }
        if result.failure is not None:
            entry |= {"failure": result.failure.kind, "stderr": result.stderr[-2000:]}
        self.history.append(entry)
        self.save()

    @property
    def folder(self) -> Path:
        """Where `plan` writes the files that commands read, for people to look at."""
        parent = Path(self.path).parent if is_local(self.path) else Path()
        return parent / f"{self.settings.name}.launch"

    @property
    def elapsed_hours(self) -> float:
        """Hours since the first slice was asked for."""
        return (now() - self.started).total_seconds() / 3600 if self.started else 0.0


def load(path: str) -> LaunchState:
    """Reads a state file.

    Raises:
      UserError: there is none; it is not one; another version wrote it.
    """
    content = _read(path)
    del content["version"]
    content["settings"] = from_json(content["settings"], path)
    if content["started"]:
        try:
            content["started"] = datetime.datetime.fromisoformat(content["started"])
        except ValueError:
            raise UserError(f"{path} is damaged: `started` is not a date and time") from None
    return LaunchState(path, **content)


def _read(path: str) -> dict[str, Any]:
    file = epath.Path(path)
    if not file.is_file():
        hint = ""
        if is_local(path):
            near = sorted(str(each) for each in file.parent.glob(f"*{SUFFIX}"))
            hint = f"; found {', '.join(near)}" if near else ""
        raise UserError(f"{path} does not exist: `distill launch plan` writes it{hint}")
    try:
        content = parse_json(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not the state file of a launch: {error}") from error
    fields = {field.name for field in dataclasses.fields(LaunchState)} - {"path"} | {"version"}
    if not isinstance(content, dict) or set(content) != fields or content["version"] != _VERSION:
        raise UserError(f"{path} is not a state file of this version of distill launch")
    for name, kinds in _KINDS.items():
        if type(content[name]) not in kinds:
            raise UserError(f"{path} is damaged: `{name}` has a value of another kind")
    return content
