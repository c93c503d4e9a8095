"""The scripts of launch/vm, with stubs of systemd and of what a host has."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

import pytest
from cloud import NAMES, result, settings

from distill.launch import vm
from distill.launch.backends import FAILED

VM = pathlib.Path(__file__).parents[2] / "launch" / "vm"
# systemctl keeps the state of the unit in $HOST/unit, as "ActiveState SubState Code Status".
SYSTEMCTL = """#!/bin/bash
echo "systemctl $*" >>"$HOST/calls"
read -r active sub code status <"$HOST/unit"
case "$*" in
*ActiveState*) echo "$active" ;;
*SubState*) echo "$sub" ;;
*ExecMainCode*) echo "$code" ;;
*ExecMainStatus*) echo "$status" ;;
esac
"""
RECORD = """#!/bin/bash
echo "$(basename "$0") $*" >>"$HOST/calls"
[[ ! -f "$HOST/fails-$(basename "$0")" ]]
"""
CURL = """#!/bin/bash
name="${*: -1}"; name="${name##*/distill-}"
[[ -f "$HOST/metadata/$name" ]] && cat "$HOST/metadata/$name"
"""


class Host:
    """A host: its folder, its stubs."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.root = folder, folder / "root"
        (folder / "bin").mkdir()
        (folder / "metadata").mkdir()
        self.root.mkdir()
        for name in ("systemd-run", "gcloud", "shutdown", "docker", "tar"):
            self.stub(name, RECORD)
        self.stub("systemctl", SYSTEMCTL)
        self.stub("curl", CURL)
        self.unit("inactive dead 0 0")
        self.env(DISTILL_IMAGE="", DISTILL_QUEUED_RESOURCE="")

    def stub(self, name: str, text: str) -> None:
        """Puts a program on the path."""
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def unit(self, state: str) -> None:
        """What systemd says about the unit."""
        (self.folder / "unit").write_text(state + "\n")

    def env(self, **values: str) -> None:
        """Writes launch.env."""
        base = {
            "DISTILL_SOURCE": "gs://bucket/distill.tar.gz",
            "DISTILL_MAX_RUN_SECONDS": "7200",
            "DISTILL_PROJECT": "our-project",
            "DISTILL_ZONE": "us-east5-a",
        }
        text = "".join(f"{name}='{value}'\n" for name, value in {**base, **values}.items())
        (self.root / "launch.env").write_text(text)
        (self.folder / "metadata" / "launch-env").write_text(text)

    def run(self, script: str, *words: str) -> subprocess.CompletedProcess:
        """Runs a script of launch/vm."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        env = {"PATH": path, "HOST": str(self.folder), "DISTILL_ROOT": str(self.root)}
        argv = ["bash", str(VM / script), *words]
        return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=30)

    @property
    def calls(self) -> str:
        """What the stubs were called with."""
        path = self.folder / "calls"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("unit", "state"),
    [
        ("inactive dead 0 0", "idle"),
        ("active running 0 0", "running"),
        ("deactivating stop-sigterm 0 0", "running"),
        ("active exited 1 0", "ended 0"),
        ("failed failed 1 143", "ended 143"),
        ("failed failed 1 75", "ended 75"),
        ("failed failed 2 9", "ended 137"),  # 2: by a signal
        ("failed failed 3 6", "ended 134"),  # 3: with a core dump
    ],
)
def test_state_reads_what_systemd_says(host, unit, state):
    (host.root / "installed").touch()
    host.unit(unit)
    assert host.run("train.sh", "state").stdout == f"distill-state {os.uname().nodename} {state}\n"


def test_state_before_and_after_a_failed_installation(host):
    assert host.run("train.sh", "state").stdout.endswith(" installing\n")
    (host.root / "failed").write_text("startup failed in line 31\n")
    assert " failed startup failed in line 31; see " in host.run("train.sh", "state").stdout


def test_start_runs_the_command_as_a_unit_that_saves_on_sigterm(host):
    (host.root / "installed").touch()
    assert host.run("train.sh", "start", "distill", "train", "--gin.A='x y'").returncode == 0
    assert f"{host.root}/venv/bin/distill train --gin.A='x y'" in host.calls
    assert "--property=KillMode=mixed --property=TimeoutStopSec=30" in host.calls


def test_start_leaves_a_running_training_alone(host):
    (host.root / "installed").touch()
    host.unit("active running 0 0")
    assert host.run("train.sh", "start", "distill").stdout == "runs already\n"
    assert "systemd-run" not in host.calls


def test_start_waits_for_the_installation(host):
    done = host.run("train.sh", "start", "distill")
    assert done.returncode == 1 and "not ready: installing" in done.stderr


def test_a_container_is_started_with_docker(host):
    (host.root / "installed").touch()
    host.env(DISTILL_IMAGE="eu-docker.pkg.dev/p/r/distill:1", DISTILL_QUEUED_RESOURCE="")
    assert host.run("train.sh", "start", "distill", "train").returncode == 0
    assert "--network=host eu-docker.pkg.dev/p/r/distill:1 distill train" in host.calls


def test_startup_takes_its_files_from_the_metadata_and_says_what_failed(host):
    for name in ("train-sh", "guard-sh"):
        (host.folder / "metadata" / name).write_text("")
    (host.folder / "metadata" / "install-sh").write_text("#!/bin/bash\nexit 3\n")
    assert host.run("startup.sh").returncode != 0
    assert re.fullmatch(
        r"startup failed in line \d+ with exit code 3\n", (host.root / "failed").read_text()
    )
    (host.folder / "metadata" / "install-sh").write_text('#!/bin/bash\necho x >"$HOST/done"\n')
    assert host.run("startup.sh").returncode == 0
    assert (host.root / "installed").exists() and not (host.root / "failed").exists()
    assert "systemd-run" not in host.calls  # the guard is of queued resources alone


def _asks(host, command):
    """What a host answers to a command that `distill launch` sends by ssh."""
    text = command.argv[-1].removeprefix("--command=").replace("/opt/distill", str(host.root))
    path = f"{host.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "HOST": str(host.folder), "DISTILL_ROOT": str(host.root)}
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, env=env)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"launch-env": None}, r"startup failed in line \d+ with exit code 1"),  # curl fails
        ({"launch-env": "DISTILL_IMAGE=''\n"}, "startup failed with exit code 1"),  # set -u
    ],
)
def test_a_host_that_gets_no_files_says_so_and_shows_its_log(host, metadata, reason):
    host.stub("sudo", '#!/bin/bash\n"$@"\n')
    one = settings(topology="v6e:2x4")
    (progress,), (logs,) = (
        vm.Training(lambda *_: ()).progress(one, NAMES[:1]),
        vm.Training(lambda *_: ()).logs(one, NAMES[:1], 3),
    )
    assert _asks(host, progress).stdout.endswith(" installing\n")
    for name in ("install-sh", "train-sh", "guard-sh"):
        (host.folder / "metadata" / name).write_text((VM / name.replace("-", ".")).read_text())
    for name, text in metadata.items():
        path = host.folder / "metadata" / name
        path.unlink() if text is None else path.write_text(text)
    assert host.run("startup.sh").returncode != 0
    status = vm.parse_progress(one, [result(_asks(host, progress).stdout)])
    assert status.phase == FAILED
    assert re.search(f"could not install on .*: {reason}; see .*/startup.log", status.detail)
    assert "startup: " in _asks(host, logs).stdout


def test_logs_before_a_start_are_those_of_the_installation(host):
    (host.root / "startup.log").write_text("installing jax\n")
    assert "nothing was started yet" in (said := host.run("train.sh", "logs", "5").stdout)
    assert said.endswith("startup.log:\ninstalling jax\n")
    (host.root / "train.log").write_text("step 1\nstep 2\n")
    assert host.run("train.sh", "logs", "1").stdout == "step 2\n"


def test_the_guard_keeps_its_deadline_over_a_reboot(host):
    for name in ("train-sh", "guard-sh", "install-sh"):
        (host.folder / "metadata" / name).write_text("#!/bin/bash\n")
    host.env(DISTILL_IMAGE="", DISTILL_QUEUED_RESOURCE="xl")
    assert host.run("startup.sh").returncode == 0
    deadline = (host.root / "deadline").read_text()
    (host.root / "deadline").write_text("1\n")  # long ago
    assert host.run("startup.sh").returncode == 0
    first, second = (line for line in host.calls.splitlines() if "distill-guard" in line)
    seconds = first.split("--on-active=")[1].split("s ")[0]
    assert int(deadline) > 1 and 7150 <= int(seconds) <= 7200
    assert "--on-active=1s" in second


def test_the_guard_deletes_the_resource_or_shuts_down(host):
    host.env(DISTILL_IMAGE="", DISTILL_QUEUED_RESOURCE="xl")
    host.run("guard.sh")
    assert (
        "queued-resources delete xl --project=our-project --zone=us-east5-a --force" in host.calls
    )
    assert "shutdown" not in host.calls
    (host.folder / "fails-gcloud").touch()
    host.run("guard.sh")
    assert "shutdown -P now" in host.calls


def test_the_example_has_every_setting():
    names = [line.split("=")[0] for line in vm.files(settings())["launch.env"].splitlines()]
    example = (VM / "launch.env").read_text().splitlines()
    assert names == [line.split("=")[0] for line in example if not line.startswith("#")]
