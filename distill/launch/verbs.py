"""up, run, predict, resume, logs, status and down: a launch from its state file."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from distill.common.phrases import number_of
from distill.errors import CheckFailed, UserError
from distill.launch import backends, failures
from distill.launch.backends import Status
from distill.launch.command import Command, CommandFailed, Result, execute_all
from distill.launch.settings import LaunchSettings
from distill.launch.steps import PENDING, SliceLost, Steps, in_brackets, write_files

# Exit codes of a preemption, of a host that lost others (75; 134 if jax ends it first), of a kill
RESTART = (143, 75, 134, 137)
_RESTARTS = {
    "training": "restarting from the newest checkpoint",
    "prediction": "starting again, with the parts that are complete kept",
}
_NO_CAPACITY = ("stockout", "quota")


class Launch(Steps):
    """The verbs; what they say on the way goes to `say`."""

    def up(self, keep: bool = False) -> Status:
        """Gets the slice, and waits for its hosts.

        Args:
          keep: leave what was created if it fails.

        Raises:
          UserError: a slice is there already; what failed, after what was created is deleted.
        """
        if self.state.created:
            raise UserError(
                f"launch {self.settings.name} has created {', '.join(self.state.created)} already: "
                f"{self.offer('status')}, or first {self.offer('down')}"
            )
        is_first = self.state.started is None
        try:
            self.create()
            return self.wait_ready()
        except BaseException as error:
            if not keep and self.state.created:
                self.say("up failed: deleting what it created")
                try:
                    self.delete()
                except UserError as left:
                    self.say(str(left))
            if is_first and not self.state.created:
                self.state.started = None  # the maximum run time begins with another `up`
            self.state.note(f"up failed: {str(error) or type(error).__name__}", "failed")
            self.remind()
            raise

    def run(
        self, detach: bool = False, keep: bool = False, job: tuple[str, ...] | None = None
    ) -> Status:
        """Starts a job, follows it to its end, and restarts it when it is preempted.

        A job that runs already is followed.

        Args:
          detach: return when it has started.
          keep: leave the slice when the job has succeeded.
          job: `LaunchSettings.job`; None takes the last one.

        Raises:
          UserError: the slice is not there; another job runs on it; the job failed, on which hosts.
        """
        try:
            ready = self.ask()
            if ready.phase != backends.READY:
                raise UserError(
                    f"the slice is {ready.phase}{in_brackets(ready.detail)}: {self.offer('up')} "
                    f"for the first one, {self.offer('resume')} for another"
                )
            self._choose(ready, self.settings.job if job is None else job)
            return self._follow(ready, detach, keep)
        except KeyboardInterrupt:
            self.say(f"a {self.settings.task} that has started goes on without this process")
            self.remind()
            raise
        except UserError:
            self.remind()
            raise

    def resume(self, detach: bool = False, keep: bool = False) -> Status:
        """As `run` with the last job, but gets another slice first if the one at hand is lost."""
        self._regain(self.ask())
        return self.run(detach, keep)

    def logs(self, lines: int) -> list[tuple[str, str]]:
        """The last lines of each host's log.

        Returns:
          For each command, what it does and what it printed.

        Raises:
          UserError: the slice has no hosts.
          CheckFailed: hosts gave no log; names them. Its result has those of the others.
        """
        commands = self.backend.logs(self.settings, self.ask().hosts, lines)
        if not commands:
            raise UserError(f"the slice has no hosts: {self.offer('status')}")
        results = execute_all(commands)
        logs = [(each.command.purpose, each.stdout + each.stderr) for each in results]
        if failed := [each for each in results if each.failure is not None]:
            raise CheckFailed(_describe_failures(failed, len(results)), {"logs": logs})
        return logs

    def status(self) -> tuple[Status, Status | None]:
        """The slice, and the training on it if there are hosts."""
        status = self.ask()
        if status.phase != backends.READY:
            return status, None
        commands = self.backend.progress(self.settings, status.hosts)
        return status, self.backend.parse_progress(self.settings, execute_all(commands))

    def down(self) -> list[str]:
        """Deletes what the launch created. It may be repeated.

        Returns:
          The names of what was deleted, or was gone already.
        """
        deleted = self.delete()
        self.state.started = None
        finished = self.state.phase in ("planned", "succeeded")
        self.state.note("down", "" if finished else "down")
        return deleted

    def _choose(self, ready: Status, job: tuple[str, ...]) -> None:
        """Makes a job the one that the hosts run next."""
        if job == self.settings.job:
            return
        status = self.poll(ready.hosts, (backends.INSTALLING,))
        if status.phase == backends.RUNNING:
            raise UserError(
                f"the hosts still run `{shlex.join(self.settings.command)}`: wait until it has "
                f"ended ({self.offer('status')})"
            )
        self.state.settings = dataclasses.replace(self.settings, job=job)
        write_files(self.backend, self.settings, self.state.folder)
        self.state.note(f"the next job is {shlex.join(self.settings.command)}", PENDING)

    def _follow(self, ready: Status, detach: bool, keep: bool) -> Status:
        while True:
            status = self.start(ready)
            if status.phase == backends.RUNNING:
                if detach:
                    return status
                status = self.poll(ready.hosts, (backends.RUNNING,))
            codes = status.exit_codes
            ended = status.phase == backends.ENDED
            if ended and not any(codes):
                self.state.note(f"the {self.settings.task} succeeded", "succeeded")
                if not keep:
                    self.down()
                return status
            if ended and not any(code in RESTART for code in codes):
                text = f"the {self.settings.task} failed: {status.detail}"
                self.state.note(text, "failed")
                raise UserError(f"{text}; {self.offer('logs')}")
            what = status.detail or f"the slice is {status.phase}"
            if self.state.restarts >= self.settings.max_restarts:
                self.state.note(f"no restart is left: {what}", "failed")
                raise UserError(
                    f"the {self.settings.task} was interrupted ({what}) after "
                    f"{number_of(self.state.restarts, 'restart')}, as many as --max_restarts allows"
                )
            self.state.restarts += 1
            self.state.note(f"restart {self.state.restarts}: {what}")
            self.say(f"interrupted ({what}): {_RESTARTS[self.settings.task]}")
            ready = self._regain(self.ask())

    def _regain(self, ready: Status) -> Status:
        """Waits for a slice that is still to come or is being repaired; replaces a lost one."""
        if ready.phase == backends.READY:
            return ready
        is_coming = ready.phase in (backends.WAITING, backends.CREATING)
        if is_coming and (self.state.phase == "starting" or self.settings.provisioning != "spot"):
            return self.wait_ready()
        return self._replace(ready)

    def _replace(self, lost: Status) -> Status:
        """Deletes what is left of a slice, and gets the first other one that is available."""
        self.say(f"the slice is {lost.phase}{in_brackets(lost.detail)}: getting another")
        self.delete()
        wanted = tuple(dict.fromkeys((self.settings.topology, *self.settings.fallback_topology)))
        for topology in wanted:
            others = tuple(each for each in wanted if each != topology)
            self.state.settings = dataclasses.replace(
                self.settings, topology=topology, fallback_topology=others
            )
            try:
                return self.up()
            except (CommandFailed, SliceLost) as error:
                if error.kind not in _NO_CAPACITY or topology == wanted[-1]:
                    raise
                self.say(f"{topology} is not available: trying the next slice")
        raise AssertionError("there is at least one slice")


def _describe_failures(failed: Sequence[Result], count: int) -> str:
    """One message for commands of a group that failed, by what they said."""
    reasons: dict[str, list[str]] = {}
    for each in failed:
        failure = each.failure or failures.OTHER
        said = failures.summary(each.stderr or each.stdout)
        reason = f"{failure.meaning} (exit code {each.exit_code}: {said}); {failure.advice}"
        reasons.setdefault(reason, []).append(each.command.purpose)
    texts = (f"could not {', '.join(what)}: {reason}" for reason, what in reasons.items())
    whole = f"{len(failed)} of {number_of(count, 'command')} failed: " if count > 1 else ""
    return whole + "; ".join(texts)


def dry_run(settings: LaunchSettings, verb: str, folder: Path, lines: int = 50) -> list[Command]:
    """The commands of a verb, none of which is executed.

    Args:
      settings: of the launch.
      verb: its name.
      folder: with the files that the commands read.
      lines: of `logs`.

    Returns:
      The commands. Hosts, whose names only the service knows, are HOST: `run` and `logs` repeat a
      command for each.
    """
    backend, hosts = backends.get(settings), ("HOST",)
    status, down = backend.status(settings), backend.down(settings)
    up = [*backend.up(settings, folder), *status]
    run = [*backend.run(settings, hosts, folder), *backend.progress(settings, hosts)]
    return {
        "up": up,
        "run": [*status, *run],
        "predict": [*status, *run],
        "resume": [*status, *down, *up, *run],
        "logs": [*status, *backend.logs(settings, hosts, lines)],
        "status": [*status, *backend.progress(settings, hosts)],
        "down": down,
    }[verb]
