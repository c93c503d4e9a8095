"""The t5x engine: stock T5X as a child process, on the project's own gin files.

`python -m t5x.train` with gin/engines/t5x.gin and the same experiment does the same
without this module; what is added here is checking beforehand, a line of progress
now and then, and the run folder's predictions and results:

    <run_dir>/t5x/           T5X's model_dir: checkpoint_<step>, train/, inference_eval/
    <run_dir>/t5x.log        everything that T5X printed
    <run_dir>/t5x_test/      with CHECKPOINT = 'best': that checkpoint on the test split,
    <run_dir>/t5x_test.log   by `python -m t5x.eval` with gin/engines/t5x_evaluate.gin
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from etils import epath

from distill.common import cluster
from distill.common.atomic import is_local
from distill.common.devices import libtpu_environment
from distill.common.disk import disk_errors
from distill.common.progress import PERIOD, Stage, to_stderr
from distill.common.text_files import read_json
from distill.config import files, macros
from distill.config.resolve import Resolved
from distill.config.run import RunConfig
from distill.convert import t5x_files
from distill.data import cache as caches
from distill.data import datasets
from distill.data.counts.data_line import data_lines
from distill.engines.t5x.check import check_rationales, check_t5x_run
from distill.engines.t5x.errors import check_steps, explain
from distill.errors import UserError
from distill.inference import t5x_run
from distill.inference.t5x_run import MODEL_DIR, TEST_DIR
from distill.training import assets as run_assets
from distill.training import provenance, run_folder
from distill.training.records import Results
from distill.training.run_lock import RunLock
from distill.training.signals import saying_what_is_saved, stop_on_signals

LOG, TEST_LOG = "t5x.log", "t5x_test.log"
_TRAIN, _EVALUATE = "gin/engines/t5x.gin", "gin/engines/t5x_evaluate.gin"
_MODULES = ("t5x", "airio", "jestimator", "cached_property", "fiddle", "grain", "tensorboard")
_TAIL, _SHOWN = 200, 15
_METRICS = re.compile(r"\[(\d+)\] collection=train (.*loss=.*)")
_ACCURACY = re.compile(r"_label/accuracy at step (\d+): (\S+)")
_MESSAGE = re.compile(r"\] distill: (.*)")  # by this project's own functions, in T5X's process
_STAGES = {
    "Initialize/restore complete": "parameters are ready",
    "Compiling train loop": "compiling the training step",
    "Saving checkpoint.": "saving a checkpoint",
    "Running inference evaluation": "decoding",
}


def train(
    resolved: Resolved,
    run_dir: epath.PathLike,
    progress: Callable[[str], None] | None = None,
    prepared: caches.Prepared | None = None,
) -> Results:
    """Trains a run on stock T5X, or resumes it, and writes its results.

    Args:
      resolved: a checked configuration with engine "t5x".
      run_dir: the run folder, local or gs://.
      progress: takes lines of text; stderr by default.
      prepared: what `early_checks.check_rows` read of the data.

    Returns:
      The results, as stored in results.json; those of a finished run are read again.

    Raises:
      UserError: T5X does not import; it does not have a setting (`check`); the data or
        the vocabulary are wrong; T5X failed (with the end of its log).
    """
    require_t5x()
    from distill.engines import native, results

    config = resolved.run
    progress = progress or to_stderr
    lines = check_t5x_run(config, resolved.macros)
    folder = epath.Path(run_dir)
    _check_one_host(resolved, folder)
    _check_gcloud(folder)
    run_folder.check_run(folder, resolved.text)
    path = folder / run_folder.RESULTS
    if path.exists():
        progress(f"{folder} is finished: reading its results without training")
        native.compare_data(config.data, folder, progress)
        return results.check_results(read_json(path), str(path))
    check_steps(folder / MODEL_DIR, config.continue_from, config.train)
    with (
        saying_what_is_saved(lambda: max(t5x_files.steps(folder / MODEL_DIR), default=None)),
        stop_on_signals(),
        RunLock(folder) as lock,
        disk_errors(folder, run_folder.RESUMES),
    ):
        return _train(resolved, folder, progress, lines, lock, prepared)


def _train(
    resolved: Resolved,
    folder: epath.Path,
    progress: Callable[[str], None],
    lines: Sequence[str],
    lock: RunLock,
    prepared: caches.Prepared | None,
) -> Results:
    from distill.engines import native, results
    from distill.engines.start import find_start
    from distill.inference.load import make_evaluator

    config = resolved.run
    began = time.monotonic()
    for line in lines:
        progress(line)
    # Complaints of the data and the vocabulary come here, not out of T5X's traceback.
    cache, assets = native.load_data(config, folder, progress, prepared)
    check_rationales(config.data, cache)
    provenance.check_bindings(folder, resolved)
    make_evaluator(config, assets)
    if config.train.checkpoint == "best" and not cache.rows["validation"]:
        raise UserError(
            "got CHECKPOINT = 'best', but there are no validation rows: set VALIDATION_FRACTION "
            "above 0, or CHECKPOINT = 'last'"
        )
    if not cache.rows["test"]:
        raise UserError(
            "no test row has a gold label, but T5X decodes a test split: set TEST_FILE or "
            "TEST_FRACTION, or use --engine=native, which can train without a test score"
        )
    is_new = not t5x_files.steps(folder / MODEL_DIR)
    start = find_start(config, folder, assets, is_new, progress)
    begun_from = start.described if start else provenance.read_initial(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock.take()
    run_folder.open_run(folder, resolved.text)
    steps_per_epoch = cache.meta["rows"]["train"] / config.train.batch_size
    run_assets.write(folder, assets)
    described = provenance.describe_run(resolved, cache, steps_per_epoch, begun_from)
    described["t5x_commit"] = provenance.t5x_commit()
    provenance.write_run(folder, described)
    for line in (*resolved.notes, *data_lines(config.data, described["data"])):
        progress(line)
    if start is not None:
        progress(f"starting from {start.source}")
    steps, output = config.train.train_steps, folder / MODEL_DIR
    run_child(command(resolved, folder), folder / LOG, steps, progress)
    step = t5x_run.chosen_step(folder, config)
    if config.train.checkpoint == "best":
        output = folder / TEST_DIR
        progress(f"the best checkpoint is at step {step}")
        run_child(evaluate_command(resolved, folder, step), folder / TEST_LOG, steps, progress)
    correct = datasets.get(config.data.dataset).correct
    predictions = t5x_run.read_predictions(output, step, cache.rows["test"], correct)
    scores = results.score(config, "t5x", predictions, step, time.monotonic() - began)
    results.write_results(folder, described, scores, predictions, cache.rows["test"])
    return scores


def require_t5x() -> None:
    """Raises UserError where T5X cannot be imported, saying what is missing and the fix."""
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--engine=t5x needs T5X, but {', '.join(missing)} cannot be imported (T5X is not on "
            "PyPI): pip install --no-deps -r requirements/t5x.txt, see docs/t5x.md; or use "
            "--engine=native"
        )


def _check_one_host(resolved: Resolved, folder: epath.Path) -> None:
    """Refuses a host of a slice that has several: each would write the run folder's files."""
    place = cluster.detect()
    if place is not None and place.is_tpu and place.count > 1:
        plain = shlex.join(["python", *command(resolved, folder)[1:], "--multiprocess_gpu"])
        raise UserError(
            f"this is one of {place.count} hosts ({place.source}): T5X connects the hosts "
            f"itself, so start T5X on each of them instead of distill train: {plain}"
        )


def _check_gcloud(folder: epath.Path) -> None:
    """Refuses a bucket to a machine on which T5X would fail when it saves its first checkpoint."""
    if not is_local(folder) and shutil.which("gcloud") is None:
        raise UserError(
            f"{folder} is in a bucket, and T5X moves each checkpoint there with `gcloud storage "
            "mv`, but gcloud is not installed: install it "
            "(https://cloud.google.com/sdk/docs/install), use a local --run_dir, or "
            "--engine=native"
        )


def command(resolved: Resolved, folder: epath.Path) -> list[str]:
    """The command line of T5X that trains in a run folder."""
    bindings = [("MODEL_DIR", repr(str(folder / MODEL_DIR)))]
    if _is_undecoded(resolved.run, folder):
        bindings.append(("train.run_eval_before_training", "True"))
    return _command("t5x.train", resolved.gin_files, resolved.overrides, bindings)


def evaluate_command(resolved: Resolved, folder: epath.Path, step: int) -> list[str]:
    """The command line of T5X that decodes the test split with a checkpoint of the run."""
    paths = [path.removesuffix(_TRAIN) for path in resolved.gin_files]
    gin_files = [
        path if path == whole else path + _EVALUATE
        for path, whole in zip(paths, resolved.gin_files, strict=True)
    ]
    bindings = [
        ("CHECKPOINT_PATH", repr(str(folder / MODEL_DIR / f"checkpoint_{step}"))),
        ("EVAL_OUTPUT_DIR", repr(str(folder / TEST_DIR))),
    ]
    return _command("t5x.eval", gin_files, resolved.overrides, bindings)


def _is_undecoded(config: RunConfig, folder: epath.Path) -> bool:
    """Whether T5X was stopped between its newest checkpoint and the end of decoding."""
    newest = max(t5x_files.steps(folder / MODEL_DIR), default=0)
    if config.train.checkpoint == "best":
        return newest > 0 and newest not in t5x_run.validation(folder)
    return newest == config.train.train_steps


def _command(
    script: str,
    gin_files: Sequence[str],
    overrides: Sequence[str],
    bindings: Sequence[tuple[str, str]],
) -> list[str]:
    settings = [macros.parse_override(text) for text in overrides]
    return [
        sys.executable,
        "-m",
        script,
        f"--gin_search_paths={files.gin_root()}",
        *(f"--gin_file={path}" for path in gin_files),
        *(f"--gin.{name}={value}" for name, value in (*settings, *bindings)),
    ]


def run_child(
    arguments: Sequence[str],
    log_path: epath.Path,
    train_steps: int,
    progress: Callable[[str], None],
) -> None:
    """Runs T5X, keeping its output in a file and showing a line of progress now and then.

    Args:
      arguments: of the child process.
      log_path: written anew.
      train_steps: of the whole run, for the lines of progress.
      progress: takes them.

    Raises:
      UserError: it failed; the message has the last lines of its output.
    """
    progress(f"starting T5X; its output goes to {log_path}")
    tail: deque[str] = deque(maxlen=_TAIL)
    with (
        log_path.open("w") as log,
        subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**_shared_compilations(), **libtpu_environment(), **os.environ},
        ) as child,
    ):
        try:
            with Stage(f"T5X is running (its output goes to {log_path})", progress, delay=PERIOD):
                for line in child.stdout or ():
                    log.write(line)
                    log.flush()
                    tail.append(line)
                    message = progress_line(line, train_steps)
                    if message:
                        progress(message)
        except BaseException:
            child.terminate()
            raise
    if child.returncode:
        explanation = explain(tail)
        if explanation:
            raise UserError(f"{explanation} (T5X's output is in {log_path})")
        ending = "".join(list(tail)[-_SHOWN:])
        raise UserError(
            f"T5X failed with exit code {child.returncode}; {log_path} ends with:\n{ending}"
        )


def _shared_compilations() -> dict[str, str]:
    """Environment in which JAX keeps compiled programs in the cache folder."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(caches.cache_dir() / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }


def progress_line(line: str, train_steps: int) -> str | None:
    """What to show for a line of T5X's log, None for most."""
    message = _MESSAGE.search(line)
    if message:
        return f"T5X: {message[1]}"
    for text, stage in _STAGES.items():
        if text in line:
            return f"T5X: {stage}"
    evaluation = _ACCURACY.search(line)
    if evaluation:
        return f"step {evaluation[1]}: accuracy {evaluation[2]}"
    metrics = _METRICS.search(line)
    if not metrics:
        return None
    values = dict(part.split("=", 1) for part in metrics[2].strip().split(", ") if "=" in part)
    names = {"loss": "loss", "loss_label": "label loss", "loss_rationale": "rationale loss"}
    names |= {"accuracy": "token accuracy", "timing/steps_per_second": "steps/s"}
    numbers = "  ".join(
        f"{label} {float(values[name]):.4g}" for name, label in names.items() if name in values
    )
    return f"step {metrics[1]}/{train_steps}  {numbers}"
