"""Commands of cloud tools: argument lists, run without a shell, or printed by --dry_run."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from distill.errors import UserError
from distill.launch import failures

_AT_ONCE = 32  # commands of one group, such as one for each host


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
      argv: the program and its arguments.
      purpose: what it does, e.g. "create the instance template".
      tolerates: kinds of failures that count as success.
      resource: name of what it creates or deletes; both commands of a pair have it.
      timeout: seconds after which it counts as unreachable.
    """

    argv: tuple[str, ...]
    purpose: str
    tolerates: tuple[str, ...] = ()
    resource: str = ""
    timeout: float = 900.0

    @property
    def text(self) -> str:
        """As a shell takes it."""
        return shlex.join(self.argv)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command did; `failure` is None after a success, and for a failure it tolerates."""

    command: Command
    exit_code: int
    stdout: str
    stderr: str
    seconds: float
    failure: failures.Failure | None


class CommandFailed(UserError):
    """A command failed.

    Attributes:
      result: of the command.
    """

    def __init__(self, result: Result) -> None:
        failure = result.failure or failures.OTHER
        said = failures.summary(result.stderr or result.stdout)
        super().__init__(
            f"could not {result.command.purpose}: {failure.meaning} ({result.command.argv[0]} "
            f"exited with {result.exit_code}: {said}); {failure.advice}"
        )
        self.result = result
        self.kind = failure.kind


Record = Callable[[Result], None]


def run(command: Command) -> Result:
    """Runs a command; a failure is in the result."""
    start = time.monotonic()
    try:
        done = subprocess.run(
            command.argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=command.timeout,
        )
        code, stdout, stderr = done.returncode, done.stdout, done.stderr
        failure = failures.classify(stderr + stdout) if code else None
    except FileNotFoundError:
        code, stdout, stderr = 127, "", f"{command.argv[0]}: command not found"
        failure = failures.NO_CLIENT
    except subprocess.TimeoutExpired:
        code, stdout, stderr = 124, "", f"no answer within {command.timeout:.0f} s"
        failure = failures.classify("Connection timed out")
    if failure is not None and failure.kind in command.tolerates:
        failure = None
    return Result(command, code, stdout, stderr, time.monotonic() - start, failure)


def execute(
    commands: Iterable[Command],
    record: Record | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Result]:
    """Runs commands one after the other.

    Args:
      commands: the commands.
      record: is told of each result, also of the one that fails.
      say: takes a line before each command.

    Returns:
      Their results.

    Raises:
      CommandFailed: the first that fails; the rest does not run.
    """
    results = []
    for command in commands:
        if say is not None:
            say(command.purpose)
        result = run(command)
        if record is not None:
            record(result)
        if result.failure is not None:
            raise CommandFailed(result)
        results.append(result)
    return results


def execute_all(commands: Sequence[Command]) -> list[Result]:
    """Runs commands at once, such as one for each host; failures are in the results."""
    with ThreadPoolExecutor(max_workers=max(1, min(_AT_ONCE, len(commands)))) as pool:
        return list(pool.map(run, commands))
