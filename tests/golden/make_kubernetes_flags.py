"""Writes kubernetes_flags.json: the documented flags of the commands of the back end for GKE.

Run it where gcloud and kubectl are installed; it needs no network and no account:

    python tests/golden/make_kubernetes_flags.py
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess

from make_gcloud_flags import flags

FILE = pathlib.Path(__file__).with_name("kubernetes_flags.json")
GCLOUD = (
    "container clusters describe",
    "container clusters get-credentials",
    "container node-pools create",
    "container node-pools delete",
    "container node-pools describe",
)
KUBECTL = ("apply", "create", "delete", "get", "logs")


def say(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Writes the file."""
    client = json.loads(say("kubectl", "version", "--client", "--output=json"))
    pattern = r"^ +(?:-\w, )?(--[a-z][a-z-]*)="
    common = set(re.findall(pattern, say("kubectl", "options"), re.MULTILINE))
    by_verb = {
        verb: sorted(common | set(re.findall(pattern, say("kubectl", verb, "--help"), re.M)))
        for verb in KUBECTL
    }
    content = {
        "made_by": f"tests/golden/{pathlib.Path(__file__).name}",
        "versions": {
            "gcloud": say("gcloud", "version").splitlines()[0],
            "kubectl": client["clientVersion"]["gitVersion"],
        },
        "gcloud": {command: flags(command) for command in GCLOUD},
        "kubectl": by_verb,
    }
    FILE.write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
