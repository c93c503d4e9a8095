"""Makes crds.json: what JobSet and Kueue accept, of the CRDs that their repositories have.

  python tests/golden/make_crds.py --jobset JOBSET --kueue KUEUE

JOBSET and KUEUE are clones of github.com/kubernetes-sigs/jobset and /kueue (Apache License 2.0).
Kept are the names of fields, their types and their bounds; descriptions and status are left out.
JobSet's CRD has Kubernetes' own schema of Jobs and Pods in it. Subtrees that occur more than once
are stored once. PyYAML is needed.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import yaml

JOBSET, KUEUE = "v0.12.0", "v0.19.2"
FOLDER = "config/components/crd/bases"
KINDS = {
    "JobSet": ("jobset", JOBSET, "jobset.x-k8s.io_jobsets.yaml", "v1alpha2"),
    "ResourceFlavor": ("kueue", KUEUE, "kueue.x-k8s.io_resourceflavors.yaml", "v1beta2"),
    "ClusterQueue": ("kueue", KUEUE, "kueue.x-k8s.io_clusterqueues.yaml", "v1beta2"),
    "LocalQueue": ("kueue", KUEUE, "kueue.x-k8s.io_localqueues.yaml", "v1beta2"),
}
LEAST = 200  # characters of a subtree that is worth a name


def git(clone: str, *arguments: str) -> str:
    """Output of a command of git."""
    command = ["git", "-C", clone, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def structure(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema without descriptions, which refuses the fields that it does not name."""
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: structure(each) for name, each in value.items()}
            kept.setdefault("additionalProperties", False)
        elif key in ("items", "additionalProperties"):
            kept[key] = structure(value) if isinstance(value, dict) else value
        elif key != "description" and not key.startswith("x-"):
            kept[key] = value
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        kept["additionalProperties"] = True
    if schema.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
        kept.pop("anyOf", None)
    return kept


def inner(schema: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """The schemas directly inside a schema, by where they are."""
    found = {("properties", name): each for name, each in schema.get("properties", {}).items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found[(key,)] = schema[key]
    return found


def subtrees(schema: dict[str, Any]) -> Iterator[str]:
    """A schema and all inside it, as JSON."""
    for each in inner(schema).values():
        yield from subtrees(each)
    yield json.dumps(schema, sort_keys=True)


def shared(
    schema: dict[str, Any], names: dict[str, str], definitions: dict[str, Any]
) -> dict[str, Any]:
    """The schema with references in place of the subtrees that have a name."""
    text = json.dumps(schema, sort_keys=True)
    made = {**schema, "properties": {}} if "properties" in schema else dict(schema)
    for place, each in inner(schema).items():
        target = made if len(place) == 1 else made[place[0]]
        target[place[-1]] = shared(each, names, definitions)
    if text not in names:
        return made
    definitions[names[text]] = made
    return {"$ref": f"#/$defs/{names[text]}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobset", required=True)
    parser.add_argument("--kueue", required=True)
    options = vars(parser.parse_args())
    schemas, sources = {}, {}
    for kind, (repository, tag, name, version) in KINDS.items():
        clone = options[repository]
        crd = yaml.safe_load(git(clone, "show", f"{tag}:{FOLDER}/{name}"))
        (found,) = (one for one in crd["spec"]["versions"] if one["name"] == version)
        schema = found["schema"]["openAPIV3Schema"]
        schema["properties"].pop("status", None)
        schemas[kind] = structure(schema)
        # Of metadata, a CRD says nothing; these are the fields that people set.
        text, texts = {"type": "string"}, {"additionalProperties": {"type": "string"}}
        schemas[kind]["properties"]["metadata"] = {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": text,
                "namespace": text,
                "labels": {"type": "object", **texts},
                "annotations": {"type": "object", **texts},
            },
        }
        schemas[kind]["properties"]["apiVersion"]["enum"] = [f"{crd['spec']['group']}/{version}"]
        schemas[kind]["properties"]["kind"]["enum"] = [kind]
        sources[kind] = {
            "repository": f"https://github.com/kubernetes-sigs/{repository}",
            "tag": tag,
            "commit": git(clone, "rev-parse", f"{tag}^{{commit}}").strip(),
            "file": f"{FOLDER}/{name}",
        }
    counts = collections.Counter(text for schema in schemas.values() for text in subtrees(schema))
    often = [text for text, count in counts.items() if count > 1 and len(text) >= LEAST]
    names = {text: f"s{index}" for index, text in enumerate(often)}
    definitions: dict[str, Any] = {}
    golden = {
        "license": "Apache-2.0; made by make_crds.py",
        "sources": sources,
        "schemas": {kind: shared(schema, names, definitions) for kind, schema in schemas.items()},
        "$defs": definitions,
    }
    path = pathlib.Path(__file__).with_name("crds.json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
