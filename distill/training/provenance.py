"""What a run was made of: run.json for programs, MODEL_CARD.md for people."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

from etils import epath

import distill
from distill.common.atomic import write_json, write_text
from distill.common.text_files import parse_json
from distill.config.resolve import Resolved
from distill.data.batching.batches import PACKED
from distill.data.cache import TokenCache
from distill.data.cache_meta import CacheMeta
from distill.data.counts.data_line import summarize_data
from distill.data.datasets import SPLITS
from distill.data.several import differ
from distill.errors import UserError
from distill.training.records import InitialCheckpoint, Results, RunDescription
from distill.training.run_folder import CARD, METRICS, RUN

_T5X = "t5x"  # T5X's own folder
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "seqio", "tensorflow", "gin-config")


def versions() -> dict[str, str]:
    """Version of Python and of each package that a result may depend on."""
    by_package = {"python": platform.python_version(), "distill": distill.__version__}
    for name in _PACKAGES:
        try:
            by_package[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            by_package[name] = "not installed"
    return by_package


def git_commit() -> str | None:
    """Commit of the checkout that runs, `+changes` if its files differ; None outside of one."""
    return _commit_of(pathlib.Path(distill.__file__).resolve().parents[1])


def t5x_commit() -> str | None:
    """Commit of the T5X that `import t5x` would load, from its checkout or from pip's record."""
    spec = importlib.util.find_spec("t5x")
    if spec is None or spec.origin is None:
        return None
    try:
        record = importlib.metadata.distribution("t5x").read_text("direct_url.json")
        return str(json.loads(record or "{}")["vcs_info"]["commit_id"])
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return _commit_of(pathlib.Path(spec.origin).resolve().parents[1])


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


def describe_run(
    resolved: Resolved,
    cache: TokenCache,
    steps_per_epoch: float,
    initial: InitialCheckpoint | None = None,
) -> RunDescription:
    """What run.json holds.

    Args:
      resolved: the run.
      cache: its data.
      steps_per_epoch: steps in which every training row is seen once.
      initial: the checkpoint that the run starts from; None without one.

    Returns:
      versions, git_commit, files (sha256 of each file of data and vocabulary by absolute path, as
      they were when they were tokenized; none for generated data), data_digest (of all their
      contents), spec_digest (settings that decide the tokens), rows and row_digests (of the rows
      themselves) by split, counts of the budget, token statistics of each task, data (what was
      dropped, cut, unknown and repeated: `data_line.summarize_data`), steps_per_epoch,
      epochs, bindings and binding_files (what gin files bind past the macros, for T5X), and
      initial, if it is given.
    """
    config = resolved.run
    described: RunDescription = {
        "versions": versions(),
        "git_commit": git_commit(),
        "files": dict(cache.meta["files"]),
        "data_digest": cache.meta["data_digest"],
        "spec_digest": config.data.digest(),
        "rows": dict(cache.meta["rows"]),
        "row_digests": dict(cache.meta["row_digests"]),
        "counts": cache.meta["counts"],
        "tasks": dict(cache.meta["tasks"]),
        "data": summarize_data(config.data, cache.meta),
        "steps_per_epoch": steps_per_epoch,
        "epochs": config.train.train_steps / steps_per_epoch,
        "bindings": dict(resolved.bindings),
        "binding_files": dict(resolved.binding_files),
    }
    if initial is not None:
        described["initial"] = initial
    return described


def write_run(folder: epath.Path, described: RunDescription) -> None:
    """Writes run.json, once: a run that is resumed keeps what it began with.

    But a run that was copied to a bucket has checkpoints without digests from then on.
    """
    if not (folder / RUN).exists():
        write_json(folder / RUN, described)
    elif has_digests(folder) and not described.get("checkpoint_digests", True):
        write_json(folder / RUN, {**read_run(folder), "checkpoint_digests": False})


def has_digests(folder: epath.PathLike) -> bool:
    """Whether run.json says that each checkpoint of the run was written with digests.

    Raises:
      UserError: run.json is damaged.
    """
    return read_run(folder).get("checkpoint_digests") is True


def read_initial(folder: epath.PathLike) -> InitialCheckpoint | None:
    """The checkpoint that a run folder's run started from; None if it records none.

    Raises:
      UserError: a damaged run.json.
    """
    initial = read_run(folder).get("initial")
    if initial is None:
        return None
    names = ("macro", "path", "kind", "digest")
    if not isinstance(initial, dict) or not all(isinstance(initial.get(n), str) for n in names):
        raise UserError(
            f"{epath.Path(folder) / RUN} is damaged: it does not record what the run started from"
        )
    found: InitialCheckpoint = {
        "macro": initial["macro"],
        "path": initial["path"],
        "kind": initial["kind"],
        "digest": initial["digest"],
        "step": initial.get("step"),
    }
    return found


def read_layout(folder: epath.PathLike) -> tuple[str, int] | None:
    """Layout and parts of the batches that a run began with; None in a folder without run.json.

    Raises:
      UserError: run.json is damaged.
    """
    run = read_run(folder)
    # Earlier versions packed and wrote no layout; later ones computed flat batches as a whole.
    return (run.get("layout", PACKED), run.get("parts", 1)) if run else None


def check_files(folder: epath.PathLike, digests: Mapping[str, str]) -> None:
    """Refuses files of data or vocabulary that are not those a run was trained on.

    They may lie elsewhere than they did: contents are compared, in their order.

    Args:
      folder: a run folder; nothing is compared in one without run.json.
      digests: sha256 of each file now, by path (`datasets.file_digests`).

    Raises:
      UserError: names the file and its digests.
    """
    old = read_run(folder).get("files")
    if old is None or list(old.values()) == list(digests.values()):
        return
    if len(old) != len(digests):
        raise _changed(folder, f"its files were {', '.join(old)}, and are {', '.join(digests)} now")
    for before, (path, digest) in zip(old.items(), digests.items(), strict=True):
        if before[1] != digest:
            both = f"sha256 {before[1][:12]} then, {digest[:12]} now"
            if before[0] == path:
                raise _changed(folder, f"{path} has changed ({both})")
            raise _changed(
                folder, f"{path} is not the file it was trained on, {before[0]} ({both})"
            )


def check_rows(folder: epath.PathLike, meta: CacheMeta) -> None:
    """Refuses rows that are not those a run was trained on, or that counted differently.

    Rows differ after a change of their reader.

    Args:
      folder: a run folder; nothing is compared in one without run.json.
      meta: of the token cache.

    Raises:
      UserError: names the split.
    """
    old = read_run(folder)
    if old and differ(meta.get("rationales")) and "several" not in old.get("data", {}):
        raise UserError(
            f"{folder} was trained by an earlier version, with which a row counted once for each "
            "of its rationales, and now all rows count the same: choose another --run_dir"
        )
    for split, digest in old.get("row_digests", {}).items():
        before, now = old["rows"][split], meta["rows"][split]
        if (before, digest) != (now, meta["row_digests"][split]):
            raise _changed(
                folder, f"the {split} split had {before:,} rows, and now has {now:,} different ones"
            )


def check_bindings(folder: epath.PathLike, resolved: Resolved) -> None:
    """Refuses to resume with other gin bindings past the macros than a run began with.

    Raises:
      UserError: names the file, or the binding.
    """
    run = read_run(folder)
    old, new = run.get("binding_files"), resolved.binding_files
    if old is not None and sorted(old.values()) != sorted(new.values()):
        lost = [path for path, digest in old.items() if digest not in new.values()]
        added = [path for path, digest in new.items() if digest not in old.values()]
        raise UserError(
            f"{folder} was started with the bindings of {', '.join(lost) or 'no such file'}, but "
            f"now gets those of {', '.join(added) or 'no such file'}: give the same --gin_file "
            "with the same content, or choose another --run_dir"
        )
    if old is not None and run["bindings"] != resolved.bindings:
        changed = sorted(dict(run["bindings"].items() ^ resolved.bindings.items()))
        raise UserError(
            f"{folder} was started with other bindings of {', '.join(changed)}: give the same "
            "--gin.NAME=value, or choose another --run_dir"
        )


def read_run(folder: epath.PathLike) -> dict[str, Any]:
    """What run.json holds; {} without one.

    Raises:
      UserError: it does not parse, or not as what `describe_run` gives.
    """
    folder = epath.Path(folder)
    path = folder / RUN
    if not path.exists():
        for trace in (METRICS, _T5X):  # a folder that was converted and never trained has neither
            if (folder / trace).exists():
                raise UserError(
                    f"{path} does not exist, but {folder / trace} does: it records what the run "
                    "was trained on; copy the folder again, or choose another --run_dir"
                )
        return {}
    try:
        run: dict[str, Any] = parse_json(path.read_bytes())
        texts = (*run["files"].items(), *run["row_digests"].items(), *run["bindings"].items())
        sound = all(isinstance(text, str) for pair in texts for text in pair)
        sound &= run["row_digests"].keys() == run["rows"].keys() == set(SPLITS)
        sound &= all(isinstance(count, int) for count in run["rows"].values())
        sound &= isinstance(run["binding_files"], dict)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{path} is damaged: it does not record what the run was trained on")
    return run


def _changed(folder: epath.PathLike, change: str) -> UserError:
    return UserError(
        f"{folder} was trained on other data: {change}; give the original data, or choose another "
        "--run_dir"
    )


def write_card(folder: epath.Path, described: RunDescription, results: Results) -> None:
    """Writes MODEL_CARD.md: what the student is, its score, and what it is not for.

    Args:
      folder: the run folder.
      described: of `describe_run`.
      results: as in results.json.
    """
    accuracy, rows = "not scored: no test rows with gold labels", described["rows"]
    if results["accuracy"] is not None and results["interval"] is not None:
        low, high = results["interval"]
        accuracy = (
            f"{results['accuracy']:.3f}, 95% interval [{low:.3f}, {high:.3f}], "
            f"{results['n_test']:,} test rows with gold labels"
        )
    write_text(
        folder / CARD,
        f"""# {results["method"]} student on {results["dataset"]}

| | |
|---|---|
| test accuracy | {accuracy} |
| parameters | {results["parameters"]:,}, T5 v1.1 |
| started from | {_describe_initial(described)} |
| trained on | {described["counts"]["train"]:,} rows (LABEL_SOURCE = {results["label_source"]!r}); \
{rows["validation"]:,} more for validation |
| objective | LABEL_WEIGHT = {results["label_weight"]}, NORMALIZATION = \
{results["normalization"]!r} |
| training | {results["steps"]:,} steps ({described["epochs"]:.1f} epochs), \
SEED = {results["seed"]}, checkpoint of step {results["checkpoint_step"]} |
| made with | distill {described["versions"]["distill"]}, jax {described["versions"]["jax"]}, \
commit {described["git_commit"] or "unknown"} |

The student answers with only the label; run it with `distill predict --run_dir=...`. It was trained
on inputs of {results["dataset"]}; its accuracy on other inputs is unknown. If labels or rationales
came from a language model, the student also learned that model's errors and biases. `config.gin`
has every setting, `run.json` the versions and digests, and `predictions_test.jsonl` every answer.
""",
    )


def _describe_initial(described: RunDescription) -> str:
    initial = described.get("initial")
    if initial is None:
        return "random parameters"
    return f"{initial['macro']} = {initial['path']!r} (digest {initial['digest'][:12]})"
