"""What cloud tools say when they fail: a kind for each text, and what to do about it."""

from __future__ import annotations

import dataclasses
import re

_SHOWN = 400  # characters of stderr in a message


@dataclasses.dataclass(frozen=True)
class Failure:
    """A kind of failure.

    Attributes:
      kind: its name, which `Command.tolerates` takes.
      pattern: what stderr has, in any case.
      meaning: one sentence.
      advice: what to do.
    """

    kind: str
    pattern: str
    meaning: str
    advice: str


# The first that matches counts.
FAILURES = (
    Failure(
        "not_logged_in",
        r"gcloud auth login|do(es)? not currently have an active account|reauthentication|"
        r"invalid_grant|getting credentials|could not find default credentials|Unauthorized",
        "the tool is not logged in",
        "run `gcloud auth login` (and `gcloud auth application-default login` for gs://)",
    ),
    Failure(
        "unknown_flag",
        r"unrecognized arguments|unknown flag|no such option|invalid choice",
        "the installed tool does not know a flag that is documented for newer versions",
        "update it (`gcloud components update`) and repeat the command",
    ),
    Failure(
        "unknown_field",
        r"unknown field|strict decoding error|no matches for kind|ensure CRDs are installed|"
        r"doesn't have a resource type|"
        r"Invalid value at|cannot find field",
        "the service has another version of the schema than these files",
        "compare the versions with docs/launch.md, and update the CRDs or distill",
    ),
    Failure(
        "api_disabled",
        r"SERVICE_DISABLED|API has not been used in project|it is disabled",
        "a service that is needed is not enabled in the project",
        "enable the API that the message names (`gcloud services enable NAME`)",
    ),
    Failure(
        "quota",
        r"quota|RESOURCE_EXHAUSTED.*limit|exceeded.*limit",
        "the project's quota does not cover the slice",
        "ask for quota of this chip, zone and provisioning, or choose another zone or slice; "
        "slices that are suspended or waiting count too: `distill launch down` frees them",
    ),
    Failure(
        "stockout",
        r"ZONE_RESOURCE_POOL_EXHAUSTED|STOCKOUT|no more capacity|not enough resources|"
        r"insufficient capacity|does not have enough resources|RESOURCE_POOL_EXHAUSTED|"
        r"RESOURCE_EXHAUSTED",
        "the zone has no capacity for the slice at the moment",
        "repeat later, or choose another zone, slice or --provisioning",
    ),
    Failure(
        "no_context",
        r'context "[^"]*" does not exist|context was not found',
        "kubectl does not have the credentials of the cluster",
        "run the `gcloud container clusters get-credentials` that `distill launch up --dry_run` "
        "prints",
    ),
    Failure(
        "exists",
        r"already exists|ALREADY_EXISTS|resource_in_use",
        "a resource of this name exists already",
        "choose another --name, or delete it with `distill launch down`",
    ),
    Failure(
        "permission",
        r"PERMISSION_DENIED|Required '[^']*' permission|\b403\b|Forbidden|does not have permission|"
        r"lacks permission",
        "your account, or the service account of the hosts, lacks a permission",
        "ask for the role that the message names",
    ),
    Failure(
        "not_found",
        r"NOT_FOUND|was not found|could not be found|\bnotfound\b|\(NotFound\)|does not exist|"
        r"matched no objects",
        "the resource does not exist",
        "look at `distill launch status`; it may have been deleted, or have ended by itself",
    ),
    Failure(
        "suspended",
        r"SUSPENDED|SUSPENDING",
        "the queued resource is suspended: it has no hosts, but still counts against quota",
        "run `distill launch resume`, or `distill launch down` to free the quota",
    ),
    Failure(
        "preempted",
        r"PREEMPTED|preemption",
        "the slice was preempted",
        "run `distill launch resume`",
    ),
    Failure(
        "unreachable",
        r"Connection (refused|timed out|reset|closed)|No route to host|Host key verification|"
        r"port 22|return code \[255\]|connection to the server .* was refused|i/o timeout|"
        r"Unable to connect|4003: 'failed to connect",
        "a host or the service does not answer",
        "check the firewall (port 22, and port --coordinator_port among the hosts), and repeat",
    ),
)
NO_CLIENT = Failure(
    "no_client",
    "",
    "the tool is not installed",
    "install it: gcloud and kubectl from https://cloud.google.com/sdk/docs/install, xpk and "
    "skypilot from PyPI",
)
OTHER = Failure("", "", "the command failed", "see what it said")


def classify(text: str) -> Failure:
    """The failure that a tool's stderr tells of; `OTHER` if it is not in the table."""
    for failure in FAILURES:
        if re.search(failure.pattern, text, re.IGNORECASE):
            return failure
    return OTHER


def of_kind(kind: str) -> Failure:
    """The failure of a kind; `OTHER` if it is not in the table."""
    return next((failure for failure in (*FAILURES, NO_CLIENT) if failure.kind == kind), OTHER)


def summary(text: str) -> str:
    """What stderr says in short: the first line with "error" and those after it, or the last."""
    lines = [line.strip() for line in text.strip().splitlines()]
    for index, line in enumerate(lines):
        if "error" in line.lower():
            rest = lines[index:]
            end = rest.index("") if "" in rest else len(rest)
            return " ".join(rest[: min(end, 3)])[:_SHOWN]
    return lines[-1][:_SHOWN] if lines else "(it said nothing)"
