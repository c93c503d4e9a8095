"""A cloud of stubs: what its tools answer, and what they were asked."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from distill import cli
from distill.launch.command import Command, Result
from distill.launch.settings import LaunchSettings
from distill.launch.state import LaunchState
from distill.launch.verbs import Launch

STUB = pathlib.Path(__file__).parent / "stub_tool.py"
TOOLS = ("gcloud", "kubectl", "sky", "xpk")  # names that it answers to
NAMES = ("xl-1", "xl-2", "xl-3", "xl-4")
LIST = ("list-instances",)
DESCRIBE = ("queued-resources describe",)
STATE = ("train.sh state",)
START = ("train.sh start",)
BASE = {
    "name": "xl",
    "project": "our-project",
    "zone": "us-east5-a",
    "run_dir": "gs://bucket/runs/xl",
}
ON_HOSTS = {"topology": "v6e:4x4", "source": "gs://bucket/distill.tar.gz"}  # four hosts
ON_CLUSTER = {  # two hosts
    "topology": "v7:2x2x2",
    "image": "repository/distill:1",
    "cluster": "us-east5-a/train",
}


def settings(backend: str = "instance_group", **changes: Any) -> LaunchSettings:
    """A launch."""
    values: dict[str, Any] = {
        **BASE,
        **(ON_CLUSTER if backend in ("gke", "xpk") else ON_HOSTS),
        "train_arguments": ("--gin_file=gin/experiments/tickets_step_by_step.gin",),
    }
    return LaunchSettings(backend=backend, **{**values, **changes})


class Cloud:
    """What the stubs answer, and what they were asked.

    Args:
      folder: that the stubs share; it has the state file too.

    Attributes:
      said: what launches said.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.said = folder, list[str]()

    def answers(self, *rules: dict[str, Any]) -> None:
        """Sets what the stubs answer; see stub_tool.py."""
        (self.folder / "script.json").write_text(json.dumps(rules))

    @property
    def arguments(self) -> list[list[str]]:
        """The commands so far, each as the program and its arguments."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def calls(self) -> list[str]:
        """The commands so far, as text."""
        return [" ".join(argv) for argv in self.arguments]

    @property
    def verbs(self) -> list[str]:
        """The commands so far, without flags."""
        return [" ".join(text for text in argv if text[:2] != "--") for argv in self.arguments]

    def asked(self, *texts: str) -> list[str]:
        """The commands with all of these texts."""
        return [call for call in self.calls if all(text in call for text in texts)]

    def forget(self) -> None:
        """Forgets the commands so far."""
        (self.folder / "calls.jsonl").unlink(missing_ok=True)

    def plan(self, backend: str = "instance_group", **changes: Any) -> LaunchState:
        """The state of a launch as `plan` writes it."""
        state = LaunchState(str(self.folder / "xl.launch.json"), settings(backend, **changes))
        state.note("planned")
        return state

    def launch(self, backend: str = "instance_group", **changes: Any) -> Launch:
        """A launch that was planned."""
        return Launch(self.plan(backend, **changes), self.said.append)

    def command(self, verb: str, *flags: str) -> int:
        """Runs a verb of `distill launch` on the state file, and returns its exit code."""
        return cli.main(["launch", verb, str(self.folder / "xl.launch.json"), *flags])

    def state(self) -> dict[str, Any]:
        """The content of the state file."""
        content: dict[str, Any] = json.loads((self.folder / "xl.launch.json").read_text())
        return content


def result(stdout: object, exit_code: int = 0) -> Result:
    """What a command printed; an object becomes JSON."""
    text = stdout if isinstance(stdout, str) else json.dumps(stdout)
    return Result(Command(("kubectl",), "ask"), exit_code, text, "", 0.0, None)


def rule(match: Sequence[str], stdout: object = "", times: int | None = None, **more: Any) -> dict:
    """A rule of stub_tool.py; an object as `stdout` becomes JSON."""
    text = stdout if isinstance(stdout, str) else json.dumps(stdout)
    limit = {"times": times} if times is not None else {}
    return {"match": list(match), "stdout": text, **limit, **more}


def fails(match: Sequence[str], stderr: str, code: int = 1, times: int | None = None) -> dict:
    """A rule for a command that fails."""
    return rule(match, "", times, stderr=stderr, exit=code)


def instances(status: str = "RUNNING", names: Sequence[str] = NAMES, error: str = "") -> list:
    """What list-instances answers."""
    attempt = {"errors": {"errors": [{"code": error, "message": "said so"}]}} if error else {}
    root = "https://www.googleapis.com/compute/v1/projects/our-project/zones/us-east5-a/instances"
    return [
        {"instance": f"{root}/{name}", "instanceStatus": status, "lastAttempt": attempt}
        for name in names
    ]


def training(state: str, names: Sequence[str] = NAMES, times: int | None = None) -> list[dict]:
    """Rules for what each host says about the training; `times` of each."""
    return [
        rule((f"compute ssh {name} ", *STATE), f"distill-state {name} {state}\n", times)
        for name in names
    ]
