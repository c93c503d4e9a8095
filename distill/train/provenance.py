"""What a run was made of: run.json for programs, MODEL_CARD.md for people."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import pathlib
import platform
import subprocess
from collections.abc import Mapping

from etils import epath

import distill
from distill.config.run import RunConfig
from distill.data.cache import TokenCache
from distill.train.run_folder import write_json, write_text

RUN, CARD = "run.json", "MODEL_CARD.md"
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "seqio", "tensorflow", "gin-config")


def versions() -> dict[str, str]:
    """Version of Python and of each package that a result may depend on."""
    found = {"python": platform.python_version(), "distill": distill.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Commit of the checkout that runs, `+changes` if its files differ; None outside of one."""
    return _commit_of(pathlib.Path(distill.__file__).resolve().parents[1])


def t5x_commit() -> str | None:
    """Commit of the T5X that `import t5x` would load, from its checkout or from pip's record."""
    found = importlib.util.find_spec("t5x")
    if found is None or found.origin is None:
        return None
    try:
        record = importlib.metadata.distribution("t5x").read_text("direct_url.json")
        return json.loads(record or "{}")["vcs_info"]["commit_id"]
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return _commit_of(pathlib.Path(found.origin).resolve().parents[1])


def _commit_of(root: pathlib.Path) -> str | None:
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(root), *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return None

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno")
    if commit is None or changes is None:
        return None
    return commit.strip() + ("+changes" if changes.strip() else "")


def describe_run(config: RunConfig, cache: TokenCache, steps_per_epoch: float) -> dict[str, object]:
    """What run.json holds.

    Args:
      config: the run.
      cache: its data.
      steps_per_epoch: steps in which every training row is seen once.

    Returns:
      versions, git_commit, files (sha256 of each file of data and vocabulary by path, as they lay
      when they were tokenised; none for generated data), data_digest (of all their contents),
      spec_digest (settings that decide the tokens), rows by split, counts of the budget, token
      statistics of each task, steps_per_epoch, epochs.
    """
    return {
        "versions": versions(),
        "git_commit": git_commit(),
        "files": dict(cache.meta["files"]),
        "data_digest": cache.meta["data_digest"],
        "spec_digest": config.data.digest(),
        "rows": dict(cache.meta["rows"]),
        "counts": dict(cache.meta["counts"]),
        "tasks": dict(cache.meta["tasks"]),
        "steps_per_epoch": steps_per_epoch,
        "epochs": config.train.train_steps / steps_per_epoch,
    }


def write_run(folder: epath.Path, described: Mapping[str, object]) -> None:
    """Writes run.json, once: a run that goes on keeps what it began with."""
    if not (folder / RUN).exists():
        write_json(folder / RUN, described)


def write_card(
    folder: epath.Path, described: Mapping[str, object], results: Mapping[str, object]
) -> None:
    """Writes MODEL_CARD.md: what the student is, its score, and what it is not for.

    Args:
      folder: the run folder.
      described: of `describe_run`.
      results: as in results.json.
    """
    low, high = results["interval"]
    rows = described["rows"]
    write_text(
        folder / CARD,
        f"""# {results["method"]} student on {results["dataset"]}

| | |
|---|---|
| test accuracy | {results["accuracy"]:.3f}, 95% interval [{low:.3f}, {high:.3f}], \
{results["n_test"]} rows with gold labels |
| parameters | {results["parameters"]:,}, T5 v1.1 |
| trained on | {rows["train"]} rows, labels: {results["label_source"]}; {rows["validation"]} more \
for validation |
| objective | label weight {results["label_weight"]}, {results["normalization"]} |
| training | {results["steps"]} steps ({described["epochs"]:.1f} epochs), seed {results["seed"]}, \
checkpoint of step {results["checkpoint_step"]} |
| made with | distill {described["versions"]["distill"]}, jax {described["versions"]["jax"]}, \
commit {described["git_commit"] or "unknown"} |

It answers with the label alone; `distill predict --run_dir=...` asks it. It was trained for the
inputs of {results["dataset"]} and nothing is known of it elsewhere. Where labels or rationales came
from a language model, that model's errors and biases were learned with them. `config.gin` holds
every setting, `run.json` versions and digests, `predictions_test.jsonl` each answer.
""",
    )
