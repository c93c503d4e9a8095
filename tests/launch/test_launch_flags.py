"""Every flag that is passed to gcloud is documented by it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from cloud import settings

from distill import cli
from distill.launch.verbs import dry_run

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "gcloud_flags.json"
EVERYTHING = {
    "network": "net",
    "subnetwork": "sub",
    "service_account": "a@our-project.iam.gserviceaccount.com",
    "source": "",
    "gin_uploads": (("/home/me/mine.gin", "gs://bucket/mine.gin"),),
}
LAUNCHES: list[dict[str, Any]] = [
    {"backend": backend, "topology": topology, **EVERYTHING, **paid}
    for backend, topology in (("instance_group", "v7:2x2x2"), ("queued_resource", "v5e:4x4"))
    for paid in (
        {},
        {"provisioning": "spot"},
        {"provisioning": "reserved", "reservation": "any"},
    )
]


@pytest.mark.parametrize("launch", LAUNCHES)
def test_flags_are_documented(launch):
    golden = json.loads(GOLDEN.read_text())
    checked = 0
    for verb in ("up", "run", "logs", "status", "down"):
        for command in dry_run(settings(**launch), verb, pathlib.Path("folder")):
            if command.argv[0] != "gcloud":
                continue
            joined = " ".join(command.argv[1:])
            (name,) = [each for each in golden["flags"] if f"{joined} ".startswith(f"{each} ")]
            documented = {*golden["flags"][name], *golden["newer"].get(name, {})}
            used = {word.partition("=")[0] for word in command.argv if word.startswith("--")}
            assert used <= documented, f"gcloud {name} of {golden['version']}"
            checked += len(used)
    assert checked > 20


def test_train_takes_what_the_hosts_are_told_to_run():
    command = settings(train_arguments=("--gin_file=x", "--engine=native")).command
    _, rest = cli.make_parser().parse_known_args(list(command[1:]))
    assert rest == []
