"""What the verbs are made of: getting, asking, starting, waiting, deleting."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from distill.common.phrases import number_of
from distill.errors import UserError
from distill.launch import backends, failures
from distill.launch.backends import Backend, Status
from distill.launch.command import Command, CommandFailed, execute, execute_all
from distill.launch.settings import LaunchSettings
from distill.launch.state import LaunchState, now

POLL = 20.0  # seconds between two looks at a slice or a training
PENDING = "pending"  # phase of a launch whose next job is not started yet
MISSES = 15  # looks in a row that may fail before a host or a service counts as unreachable
_LOST = (backends.ABSENT, backends.PREEMPTED, backends.SUSPENDED, backends.FAILED)
_LEAST_HOURS = 0.2  # Compute Engine takes no shorter run time than ten minutes


class SliceLost(UserError):
    """A slice that was not available, or was lost.

    Attributes:
      kind: of the failure (`distill.launch.failures`), or "".
    """

    def __init__(self, status: Status, after: str = "") -> None:
        text = f"the slice is {status.phase}{after}{in_brackets(status.detail)}"
        if status.kind:
            failure = failures.of_kind(status.kind)
            text += f": {failure.meaning}; {failure.advice}"
        super().__init__(text)
        self.kind = status.kind


class Steps:
    """The steps of a launch.

    Args:
      state: its state, which every step saves.
      say: takes lines of progress.
      pause: waits some seconds between two looks; what it raises ends the verb, as Ctrl-C does.
    """

    def __init__(
        self,
        state: LaunchState,
        say: Callable[[str], None],
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.state, self.say, self.pause = state, say, pause

    @property
    def settings(self) -> LaunchSettings:
        """Of the slice at hand."""
        return self.state.settings

    @property
    def backend(self) -> Backend:
        """Of the launch."""
        return backends.get(self.settings)

    def offer(self, verb: str) -> str:
        """What to type for another verb."""
        return f"`distill launch {verb} {self.state.path}`"

    def remind(self) -> None:
        """Says that something costs money, and how to end that."""
        if self.state.created:
            self.say(
                f"still there, and may cost money: {', '.join(self.state.created)}; to delete it: "
                f"{self.offer('down')}"
            )

    def create(self) -> None:
        """Runs the commands that get a slice.

        Raises:
          CommandFailed: one failed.
          UserError: the maximum run time is over.
        """
        self.state.started = self.state.started or now()
        # The maximum holds for all slices of the launch together.
        left = self.settings.max_run_hours - self.state.elapsed_hours
        if left < _LEAST_HOURS:
            raise UserError(
                f"the {self.settings.max_run_hours:g} hours of --max_run_hours are over; to go on, "
                "plan another launch with the same --run_dir"
            )
        settings = dataclasses.replace(self.settings, max_run_hours=left)
        self.state.note(f"up: {settings.topology} with {settings.backend}", "starting")
        with rendered(self.backend, settings) as folder:
            for command in self.backend.up(settings, folder):
                if command.resource:  # noted first: this process may be killed meanwhile
                    self.state.created.append(command.resource)
                    self.state.save()
                try:
                    execute([command], self.state.record, self.say)
                except CommandFailed as failed:
                    if command.resource and failed.kind in ("exists", "no_client"):
                        self.state.created.remove(command.resource)  # not this launch's
                        self.state.save()
                    raise

    def wait_ready(self) -> Status:
        """Waits until all hosts run.

        Raises:
          SliceLost: it cannot be had, or not within `wait_hours`.
        """
        deadline, said = time.monotonic() + 3600 * self.settings.wait_hours, ""
        while True:
            status = self.ask()
            if status.phase == backends.READY:
                self.state.note(f"all hosts run: {', '.join(status.hosts)}", "up")
                return status
            if status.phase in _LOST:
                raise SliceLost(status)
            if time.monotonic() > deadline:
                lacking = dataclasses.replace(status, kind=status.kind or "stockout")
                raise SliceLost(lacking, f" after {self.settings.wait_hours:g} hours")
            line = f"the slice is {status.phase}{in_brackets(status.detail)}"
            if line != said:
                self.say(line)
            said = line
            self.pause(POLL)

    def ask(self) -> Status:
        """Looks at the slice; a service that does not answer is asked again for a while."""
        misses = 0
        while True:
            try:
                results = execute(self.backend.status(self.settings))
                return self.backend.parse_status(self.settings, results)
            except CommandFailed as failed:
                misses += 1
                if failed.kind != "unreachable" or misses == MISSES:
                    raise
            self.pause(POLL)

    def start(self, ready: Status) -> Status:
        """Starts the job on all hosts, once distill is installed on them.

        Returns:
          RUNNING; ENDED if it has succeeded already; the slice, if it is no longer ready.
        """
        self.say(f"waiting until distill is installed on {number_of(len(ready.hosts), 'host')}")
        status = self.poll(ready.hosts, (backends.INSTALLING,))
        # The end that is seen may be that of the job before.
        is_new = self.state.phase == PENDING
        is_done = status.phase == backends.ENDED and not any(status.exit_codes) and not is_new
        if is_done or status.phase not in (backends.IDLE, backends.RUNNING, backends.ENDED):
            return status
        self.say(f"starting the {self.settings.task} on all hosts")
        with rendered(self.backend, self.settings) as folder:
            results = execute_all(self.backend.run(self.settings, ready.hosts, folder))
        for result in results:
            self.state.record(result)
        for result in results:
            if result.failure is not None:
                raise CommandFailed(result)
        self.state.note(f"the {self.settings.task} runs", "running")
        return Status(backends.RUNNING, ready.hosts)

    def poll(self, hosts: Sequence[str], meanwhile: Sequence[str]) -> Status:
        """Waits for another phase of the training than `meanwhile`.

        Args:
          hosts: of the slice.
          meanwhile: phases to wait through.

        Returns:
          The training in that phase; the slice, if it is no longer ready.

        Raises:
          UserError: hosts could not install; one does not answer, while the slice is ready.
        """
        misses = 0
        while True:
            results = execute_all(self.backend.progress(self.settings, hosts))
            status = self.backend.parse_progress(self.settings, results)
            if status.phase == backends.FAILED:
                raise UserError(f"{status.detail}; {self.offer('logs')}")
            if status.phase and status.phase not in meanwhile:
                return status
            misses = 0 if status.phase else misses + 1
            if misses:
                slice_status = self.ask()
                if slice_status.phase != backends.READY:
                    return slice_status
            if misses == MISSES:
                raise UserError(
                    f"the slice is ready, but {status.detail}, {MISSES} times in a row; "
                    f"{failures.of_kind(status.kind).advice}"
                )
            self.pause(POLL)

    def deletions(self) -> list[Command]:
        """The commands that delete what the launch created."""
        commands = self.backend.down(self.settings)
        return [each for each in commands if each.resource in self.state.created]

    def delete(self) -> list[str]:
        """Deletes what the launch created; what is gone already counts as deleted.

        Returns:
          The names of what was deleted.

        Raises:
          CommandFailed: something could not be deleted; the rest was.
        """
        deleted, error = [], None
        for command in self.deletions():
            try:
                execute([command], self.state.record, self.say)
            except CommandFailed as failed:
                error = error or failed
                continue
            self.state.created.remove(command.resource)
            self.state.save()
            deleted.append(command.resource)
        if error is not None:
            self.state.note(f"could not delete {', '.join(self.state.created)}", "failed")
            raise error
        return deleted


@contextmanager
def rendered(backend: Backend, settings: LaunchSettings) -> Iterator[Path]:
    """A folder with the files of a launch, for as long as its block."""
    with tempfile.TemporaryDirectory(prefix="distill-launch-") as name:
        write_files(backend, settings, Path(name))
        yield Path(name)


def write_files(backend: Backend, settings: LaunchSettings, folder: Path) -> None:
    """Writes the files of a launch, for people to look at and for commands to read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in backend.files(settings).items():
        (folder / name).write_text(text)


def in_brackets(text: str) -> str:
    """The text as " (text)"; "" if there is none."""
    return f" ({text})" if text else ""
