"""Writes gcloud_flags.json: the documented flags of the gcloud commands that `distill launch` runs.

Run it where gcloud is installed; it needs no network and no account:

    python tests/golden/make_gcloud_flags.py

The file names the version. NEWER lists flags that this version has only in its alpha commands.
Newer versions have them in all commands; the page that documents this stands beside each flag.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess

FILE = pathlib.Path(__file__).with_name("gcloud_flags.json")
COMMANDS = (
    "compute instance-groups managed create",
    "compute instance-groups managed delete",
    "compute instance-groups managed list-instances",
    "compute instance-templates create",
    "compute instance-templates delete",
    "compute resource-policies create workload-policy",
    "compute resource-policies delete",
    "compute ssh",
    "compute tpus queued-resources create",
    "compute tpus queued-resources delete",
    "compute tpus queued-resources describe",
    "compute tpus tpu-vm ssh",
    "storage cp",
)
_GROUPS = "docs.cloud.google.com/compute/docs/instance-groups"
NEWER = {
    "compute instance-groups managed create": {
        "--target-size-policy-mode": f"{_GROUPS}/about-bulk-mode"
    }
}


def flags(command: str) -> list[str]:
    """The flags in a command's synopsis, and those of all commands, in order."""
    shown = subprocess.run(
        ["gcloud", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PAGER": "cat", "TERM": "dumb"},
    ).stdout
    plain = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", shown)
    sections = re.split(r"^([A-Z][A-Z ]+)$", plain, flags=re.MULTILINE)
    text = "".join(
        body
        for title, body in zip(sections[1::2], sections[2::2], strict=True)
        if title in ("SYNOPSIS", "GCLOUD WIDE FLAGS")
    )
    return sorted(set(re.findall(r"--[a-z][a-z0-9-]*[a-z0-9]", text)))


def main() -> None:
    """Writes the file."""
    version = subprocess.run(["gcloud", "version"], capture_output=True, text=True, check=True)
    documented = {command: flags(command) for command in COMMANDS}
    for command, newer in NEWER.items():
        missing = set(newer) - set(flags(f"alpha {command}"))
        if missing:
            raise SystemExit(f"gcloud alpha {command} does not document {missing}")
    content = {
        "made_by": f"tests/golden/{pathlib.Path(__file__).name}",
        "version": version.stdout.splitlines()[0],
        "flags": documented,
        "newer": NEWER,
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
