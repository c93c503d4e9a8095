"""A list of three runs of a sweep, and what the cloud says of their slices."""

from __future__ import annotations

import pathlib

from cloud import LIST, STATE, instances, rule

from distill import cli
from distill.launch import state as states
from distill.launch import work_list

ROOT = "gs://bucket/s"
RUNS = ("finetune-seed1-aaaaaaaa", "finetune-seed2-bbbbbbbb", "LABELS=500-seed1-cccccccc")
FINISHED = ("storage ls",)
CREATE = ("instance-groups managed create",)
DELETE = ("instance-groups managed delete",)
ONE_HOST = "v6e:2x4"


def line(run: str, **changes: object) -> dict[str, object]:
    """A line of a list, as `distill sweep --list --json` prints it."""
    content: dict[str, object] = {
        "run": run,
        "axes": {},
        "seed": 1,
        "steps": 10,
        "run_dir": f"{ROOT}/runs/{run}",
        "gin_files": ["gin/experiments/tickets_finetune.gin"],
        "overrides": ["SEED=1"],
    }
    content |= changes
    item = work_list.Item(
        *(content[name] for name in ("run", "run_dir", "gin_files", "overrides"))  # type: ignore[arg-type]
    )
    return {**content, "command": item.command, **changes}


def command(path: pathlib.Path, verb: str, *flags: str) -> int:
    return cli.main(["launch", verb, f"--work_list={path}", *flags])


def host(name: str) -> dict:
    """The slice of a launch, with its one host."""
    return rule((*LIST, f" {name} "), instances(names=[f"{name}-1"]))


def ends(name: str, code: int = 0) -> list[dict]:
    """A training that starts, and ends with a code."""
    asked = (f"compute ssh {name}-1 ", *STATE)
    text = f"distill-state {name}-1 "
    return [rule(asked, f"{text}idle\n", 1), rule(asked, f"{text}ended {code}\n")]


def done(*runs: str) -> dict:
    """What the bucket lists."""
    return rule(FINISHED, "".join(f"{ROOT}/runs/{run}/results.json\n" for run in runs))


def state_of(path: pathlib.Path, run: str) -> states.LaunchState:
    return states.load(f"{work_list.states_folder(str(path))}/{run}.launch.json")
