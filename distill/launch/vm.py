"""TPU VMs, which instance groups and queued resources both provide: their files and their state."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distill.common.phrases import number_of
from distill.config.files import gin_root
from distill.errors import UserError
from distill.launch import gcloud, slices, templates
from distill.launch.backends import ENDED, FAILED, IDLE, INSTALLING, RUNNING, Status
from distill.launch.command import Command, Result
from distill.launch.settings import LaunchSettings

_ROOT = "/opt/distill"  # on a host
_TRAIN = f"{_ROOT}/train.sh"  # as in launch/vm
_SCRIPTS = ("startup.sh", "install.sh", "train.sh", "guard.sh")
_STATE = re.compile(r"distill-state (\S+) (installing|idle|running|ended|failed)(?: (.*))?")


def files(settings: LaunchSettings, queued_resource: str = "") -> Mapping[str, str]:
    """The scripts of launch/vm, and launch.env with the launch's settings.

    Args:
      settings: of the launch.
      queued_resource: that the guard deletes after the maximum run time.
    """
    values = {
        "DISTILL_SOURCE": "" if settings.image else settings.source_archive,
        "DISTILL_IMAGE": settings.image,
        "DISTILL_MAX_RUN_SECONDS": str(settings.max_run_seconds),
        "DISTILL_QUEUED_RESOURCE": queued_resource,
        "DISTILL_PROJECT": settings.project,
        "DISTILL_ZONE": settings.zone,
    }
    env = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    scripts = {name: templates.path_of(f"vm/{name}").read_text() for name in _SCRIPTS}
    return {"launch.env": env, **scripts}


def check(settings: LaunchSettings) -> None:
    """Refuses a launch whose hosts would have nothing to install, and flags of GKE.

    Raises:
      UserError: distill does not run from a checkout of git; --cluster or --queue is given.
    """
    for name in ("cluster", "queue"):
        if getattr(settings, name):
            raise UserError(f"--{name} does not work with --backend={settings.backend}")
    if not settings.image and not settings.source and not (gin_root() / ".git").exists():
        raise UserError(
            "distill is not run from a git checkout, which hosts could install: give "
            "--source=gs://BUCKET/....tar.gz or --image=IMAGE"
        )


def metadata_flag(folder: Path) -> str:
    """The flag that hands the files to the hosts, in their metadata."""
    names = ("launch.env", *_SCRIPTS[1:])
    keys = {"startup-script": "startup.sh"} | {
        f"distill-{name.replace('.', '-')}": name for name in names
    }
    texts = (f"{key}={folder / name}" for key, name in keys.items())
    return f"--metadata-from-file={','.join(texts)}"


def uploads(settings: LaunchSettings, folder: Path) -> list[Command]:
    """Copies to the bucket what the hosts read: the source of this checkout, gin files."""
    commands = []
    if not settings.image and not settings.source:
        archive = str(folder / "distill.tar.gz")
        commands += [
            Command(
                ("git", "-C", str(gin_root()), "archive", f"--output={archive}", "HEAD"),
                "pack the commit of this checkout",
            ),
            gcloud.copy(archive, settings.source_archive),
        ]
    return commands + gcloud.copy_gin_files(settings)


@dataclasses.dataclass(frozen=True)
class Training:
    """The training on TPU VMs: `run`, `progress` and `logs` of a back end, by ssh.

    Attributes:
      ssh: the command that reaches a host, given its name, without what to run there.
      reaches: what one command reaches, with {} for the name, e.g. "all hosts of {}".
      timeout: seconds for each command.
    """

    ssh: Callable[[LaunchSettings, str], tuple[str, ...]]
    reaches: str = "{}"
    timeout: float = 180.0

    def run(self, settings: LaunchSettings, hosts: Sequence[str], folder: Path) -> list[Command]:
        """See `Backend.run`."""
        text = shlex.join(("sudo", _TRAIN, "start", *settings.command))
        return self._commands(settings, hosts, text, f"start the {settings.task}")

    def progress(self, settings: LaunchSettings, hosts: Sequence[str]) -> list[Command]:
        """See `Backend.progress`."""
        # Before a host has the script, it installs, or could not get its files.
        failed = f"failed $(cat {_ROOT}/failed); see {_ROOT}/startup.log"
        text = (
            f"if [ -x {_TRAIN} ]; then sudo {_TRAIN} state; "
            f'elif [ -f {_ROOT}/failed ]; then echo "distill-state $(hostname) {failed}"; '
            'else echo "distill-state $(hostname) installing"; fi'
        )
        return self._commands(settings, hosts, text, f"ask for the {settings.task}")

    def logs(self, settings: LaunchSettings, hosts: Sequence[str], lines: int) -> list[Command]:
        """See `Backend.logs`."""
        text = (
            f"if [ -x {_TRAIN} ]; then sudo {_TRAIN} logs {lines}; "
            f"else sudo tail --lines={lines} {_ROOT}/startup.log; fi"
        )
        return self._commands(settings, hosts, text, "print the log")

    def _commands(
        self, settings: LaunchSettings, hosts: Sequence[str], text: str, purpose: str
    ) -> list[Command]:
        return [
            Command(
                (*self.ssh(settings, host), "--quiet", f"--command={text}"),
                f"{purpose} on {self.reaches.format(host)}",
                timeout=self.timeout,
            )
            for host in hosts
        ]


def parse_progress(settings: LaunchSettings, results: Sequence[Result]) -> Status:
    """Reads the answers of `Training.progress`; see `Backend.parse_progress`.

    Returns:
      FAILED if one could not install; ENDED when none runs and one has ended; INSTALLING while one
      still installs; else RUNNING or IDLE. A phase of "" means that not all hosts answered.
    """
    hosts = slices.hosts(settings.slice)
    states: dict[str, tuple[str, str]] = {}
    silent = []
    for result in results:
        if result.failure is not None:
            silent.append(result)
        for host, state, rest in _STATE.findall(result.stdout):
            states[host] = (state, rest.strip())
    names = tuple(states)
    failed = [f"{host}: {rest}" for host, (state, rest) in states.items() if state == "failed"]
    if failed:
        return Status(FAILED, names, f"could not install on {'; '.join(failed)}")
    if silent or len(states) < hosts:
        said = ", ".join(result.command.purpose for result in silent) or "ask for the training"
        failure = silent[0].failure if silent else None
        detail = f"{len(states)} of {number_of(hosts, 'host')} answered; could not {said}"
        return Status("", names, detail, kind=failure.kind if failure else "unreachable")
    phases = {state for state, _ in states.values()}
    if "installing" in phases:
        return Status(INSTALLING, names)
    if "running" in phases:
        return Status(RUNNING, names)
    if "ended" in phases:
        codes = [int(rest) for state, rest in states.values() if state == "ended"]
        by_host = ", ".join(f"{host}: {rest}" for host, (_, rest) in states.items())
        return Status(ENDED, names, f"exit codes {by_host}", tuple(codes))
    return Status(IDLE, names)
