"""The generated files of xpk and SkyPilot, read by the packages that PyPI has.

Slow: the packages are installed first. DISTILL_CLIENTS names a folder with virtual environments
`xpk` and `sky` that have them already.
"""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest
from cloud import settings

from distill.launch import backends, slices
from distill.launch.backends import gke, xpk

VERSIONS = {"xpk": "xpk==1.16.0", "sky": "skypilot==0.14.1"}
SLICES = ("v4:2x2x2", "v4:4x4x8", "v5e:4x4", "v5p:2x2x1", "v5p:4x4x4", "v6e:1x1", "v6e:16x16")
SLICES_OF_V7 = ("v7:2x2x1", "v7:2x2x2", "v7:4x4x4")
# Parses command lines, and says what xpk knows of their slices. xpk itself is not run.
PARSE = """
import argparse, json, sys
from xpk.core.system_characteristics import get_system_characteristics_by_device_type
from xpk.parser.core import set_parser
parser = argparse.ArgumentParser(prog="xpk")
set_parser(parser)
found = []
for argv in json.load(sys.stdin):
    options = parser.parse_args(argv[1:])
    known, error = get_system_characteristics_by_device_type(getattr(options, "tpu_type", None))
    found.append({"command": getattr(options, "command", None), "function": options.func.__name__})
    if not error:
        found[-1] |= {
            "topology": known.topology,
            "hosts": known.vms_per_slice,
            "accelerator": known.gke_accelerator,
            "machine": known.gce_machine_type,
            "chips": known.chips_per_vm,
        }
print("ANSWER" + json.dumps(found))
"""
# Reads task files, and says what SkyPilot will ask for.
READ = """
import json, sys
import sky
found = []
for path in json.load(sys.stdin):
    task = sky.Task.from_yaml(path)
    (resources,) = task.resources
    found.append(
        {
            "name": task.name,
            "cloud": str(resources.cloud),
            "place": [resources.region, resources.zone],
            "accelerators": resources.accelerators,
            "runtime": resources.accelerator_args["runtime_version"],
            "spot": resources.use_spot,
            "recovery": resources.job_recovery["recover_on_exit_codes"],
            "run": task.run,
            "setup": task.setup,
        }
    )
print("ANSWER" + json.dumps(found))
"""
# The flags of a command of SkyPilot's client.
FLAGS = """
import json, sys
import click
from sky.client.cli import command
found = []
for argv in json.load(sys.stdin):
    at, context = command.cli, click.Context(command.cli)
    rest = argv[1:]
    while isinstance(at, click.Group):
        at = at.get_command(context, rest.pop(0))
    at.make_context(at.name, rest, resilient_parsing=False)
    found.append(at.name)
print("ANSWER" + json.dumps(found))
"""


def python_of(client: str, folder: pathlib.Path) -> str:
    """The Python of a virtual environment with a client."""
    given = os.environ.get("DISTILL_CLIENTS")
    python = pathlib.Path(given or folder) / client / "bin" / "python"
    if not given:
        subprocess.run([sys.executable, "-m", "venv", folder / client], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", VERSIONS[client]], check=True)
    return str(python)


def ask(python: str, code: str, question: object, home: pathlib.Path) -> list:
    """What a Python with a client answers."""
    done = subprocess.run(
        [python, "-c", code],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        env={
            **{name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
            **{"HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("ANSWER")[2])


@pytest.mark.slow
def test_xpk_takes_the_commands_and_has_the_same_slices(tmp_path):
    launches = [
        settings("xpk", topology=topology, train_arguments=("--gin.NAME='a b'",))
        for topology in (*SLICES, *SLICES_OF_V7)
    ]
    commands = [xpk.workload_create(launch) for launch in launches]
    commands += [command.argv for command in backends.get(launches[0]).down(launches[0])]
    made = backends.get(launches[0]).files(launches[0])["create.sh"]
    comment = made.partition("made by:")[2].partition("`timeout`")[0].replace("#", "")
    commands.append(tuple(shlex.split(comment)))
    *created, deleted, cluster = ask(python_of("xpk", tmp_path), PARSE, commands, tmp_path)
    for launch, found in zip(launches, created, strict=True):
        where = launch.slice
        hosts = slices.hosts(where)
        assert found["function"] == "workload_create"
        assert found["command"].startswith("exec timeout ") and "'\"'\"'a b'" in found["command"]
        assert found["topology"] == slices.sides(where)
        assert (found["hosts"], found["chips"]) == (hosts, where.chips // hosts)
        assert found["accelerator"] == gke.ACCELERATORS[where.chip.name]
        assert found["machine"] == slices.machine_type(where)
    assert deleted["function"] == "workload_delete" and cluster["function"] == "cluster_create"


@pytest.mark.slow
def test_skypilot_reads_the_tasks_and_takes_the_commands(tmp_path):
    paths, launches = [], []
    for index, topology in enumerate(SLICES):
        paid = ("on_demand", "spot")[index % 2]
        launch = settings("skypilot", topology=topology, provisioning=paid)
        text = backends.get(launch).files(launch)["task.yaml"]
        paths.append(str(tmp_path / f"{index}.yaml"))
        pathlib.Path(paths[-1]).write_text(text)
        launches.append(launch)
    python = python_of("sky", tmp_path)
    for launch, found in zip(launches, ask(python, READ, paths, tmp_path), strict=True):
        name = f"tpu-{slices.accelerator_type(launch.slice)}"
        assert (found["name"], found["cloud"]) == ("xl", "GCP")
        assert found["place"] == ["us-east5", "us-east5-a"]
        assert found["accelerators"] == {name: 1}
        assert found["spot"] == (launch.provisioning == "spot")
        assert found["recovery"] == [75, 134, 137, 143]
        assert shlex.join(launch.command) in found["run"]
        assert '"$DISTILL_SOURCE"' in found["setup"]
    launch, backend = launches[0], backends.get(launches[0])
    script = (pathlib.Path(__file__).parents[2] / "launch/skypilot/start.sh").read_text()
    (launched,) = (line for line in script.splitlines() if line.startswith("sky "))
    commands = [
        shlex.split(launched.replace('"$1"', "xl").replace('"$2"', paths[0])),
        shlex.split(script.partition("$(")[2].partition(")")[0]),
        *(each.argv for each in backend.status(launch)),
        *(each.argv for each in backend.progress(launch, ())),
        *(each.argv for each in backend.logs(launch, (), 50)),
        *(each.argv for each in backend.down(launch)),
    ]
    found = ask(python, FLAGS, commands, tmp_path)
    assert found == ["launch", "queue", "check", "queue", "logs", "cancel"]
