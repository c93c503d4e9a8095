"""The native engine: trains and scores with the project's own trainer."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
from etils import epath

from distill.common.atomic import is_local
from distill.common.devices import check_devices
from distill.common.disk import disk_errors
from distill.common.progress import Say, Stage, lines_to, to_stderr
from distill.common.text_files import read_json
from distill.config.data import DataSpec
from distill.config.resolve import Resolved
from distill.config.run import RunConfig
from distill.data import cache as caches
from distill.data import datasets
from distill.data.counts.data_line import data_lines
from distill.data.vocabulary_size import check_size_before_rows
from distill.engines import profile_report, results, training_time
from distill.engines.start import find_start
from distill.errors import UserError
from distill.inference.compilations import share_compilations
from distill.inference.evaluator import summarize_predictions
from distill.inference.load import make_evaluator
from distill.preflight import host_memory
from distill.student.params import param_count
from distill.training import assets as run_assets
from distill.training import hosts, provenance, run_folder
from distill.training.assets import Assets
from distill.training.layouts import in_words, tell_change
from distill.training.loop import fit
from distill.training.notices import watched_notices
from distill.training.profile import Profile
from distill.training.records import Results, RunDescription
from distill.training.run_lock import RunLock
from distill.training.saved_checkpoints import SavedCheckpoints
from distill.training.signals import StopRequest, saying_what_is_saved, stop_on_signals
from distill.training.trainer import make_trainer


def train(
    resolved: Resolved,
    run_dir: epath.PathLike,
    progress: Callable[[str], None] = to_stderr,
    profile: bool = False,
    prepared: caches.Prepared | None = None,
    step_timeout: float = 0,
) -> Results:
    """Trains a run, or resumes it, and scores one checkpoint on the test split.

    On several hosts all call it (`distill.training.hosts`), and the first writes.

    Args:
      resolved: a checked configuration.
      run_dir: the run folder, local or gs://.
      progress: takes lines of text.
      profile: measures where the time goes, and writes `<run_dir>/profile`.
      prepared: what `early_checks.check_rows` read of the data.
      step_timeout: as of `fit`.

    Returns:
      The results, as stored in results.json; those of a finished run are read again.

    Raises:
      UserError: bad input of any kind, naming it.
      Stopped: a signal; the message names the saved step.
      KeyboardInterrupt: Ctrl-C; with the same message.
    """
    config, folder = resolved.run, epath.Path(run_dir)
    check_devices()
    with hosts.barrier("opening the run folder"):
        run_folder.check_run(folder, resolved.text)
        finished = read_finished(folder, progress)
        if finished is not None:
            compare_data(config.data, folder, progress)
    if hosts.broadcast_from_host0(finished is not None):
        progress(f"{folder} is finished: reading its results without training")
        path = folder / run_folder.RESULTS
        return finished or results.check_results(read_json(path), str(path))
    hosts.check_connected()
    progress = hosts.host0_only(progress)
    if _is_one_cpu():
        shortage = host_memory.describe_shortage(config, host_memory.available_bytes())
        if shortage is not None:
            progress(shortage)
    with (
        saying_what_is_saved(lambda: SavedCheckpoints(folder).latest_step),
        stop_on_signals() as stop,
        watched_notices(progress),
        RunLock(folder, writes=hosts.is_host0()) as lock,
        lines_to(progress),
    ):
        return _train(resolved, folder, progress, profile, lock, stop, prepared, step_timeout)


def _is_one_cpu() -> bool:
    """Whether this process alone trains, on a CPU."""
    return jax.default_backend() == "cpu" and jax.process_count() == 1


def _train(
    resolved: Resolved,
    folder: epath.Path,
    progress: Callable[[str], None],
    profile: bool,
    lock: RunLock,
    stop: StopRequest,
    prepared: caches.Prepared | None,
    step_timeout: float,
) -> Results:
    config = resolved.run
    began = time.monotonic()
    measured = Profile(folder / profile_report.FOLDER) if profile else None
    share_compilations(progress)
    with hosts.barrier("preparing the run"):
        cache, assets = load_data(config, folder, progress, prepared)
        evaluator = make_evaluator(config, assets)
        trainer = make_trainer(config, cache)
        is_new = SavedCheckpoints(folder).latest_step is None
        start = find_start(config, folder, assets, is_new, progress)
    begun_from = start.described if start else provenance.read_initial(folder)
    described = provenance.describe_run(resolved, cache, trainer.stream.steps_per_epoch, begun_from)
    layout = trainer.stream.layout, trainer.stream.parts
    described["layout"], described["parts"] = layout
    described["checkpoint_digests"] = is_local(folder)
    started = provenance.read_layout(folder)
    _open(folder, resolved.text, described, assets, lock)
    stop.check()
    for line in (*resolved.notes, *data_lines(config.data, described["data"])):
        progress(line)
    if start is not None:
        progress(f"starting from {start.source}")
    source = config.data.rationale_source
    control = "" if source == "teacher" else f", a control with RATIONALE_SOURCE = {source!r}"
    progress(
        f"{config.data.method} on {config.data.dataset}{control}: "
        f"{param_count(config.student):,} parameters, {hosts.describe_devices()}, "
        f"{in_words(*layout)} batches (LAYOUT = {config.train.layout!r})"
    )
    if started is not None:
        tell_change(started, layout, progress)
    if _is_one_cpu():
        done = SavedCheckpoints(folder).latest_step or 0
        if least := training_time.describe_least_time(config, trainer.stream, done):
            progress(least)

    def validate(params: dict) -> float:
        return summarize_predictions(evaluator.split(params, cache, "validation"))["accuracy"]

    with (
        profile_report.reported(trainer, measured, folder, progress),
        disk_errors(folder, run_folder.RESUMES),
    ):
        state = fit(trainer, validate, folder, progress, measured, stop, start, step_timeout)
    with stop.released():
        predictions = evaluator.split(state.params, cache, "test", probabilities=True)
    seconds = time.monotonic() - began
    scores = results.score(config, "native", predictions, int(state.step), seconds)
    if hosts.is_host0():
        with disk_errors(folder, run_folder.RESUMES):
            results.write_results(folder, described, scores, predictions, cache.rows["test"])
    return scores


def compare_data(spec: DataSpec, folder: epath.Path, say: Say) -> None:
    """Refuses to give the results of a finished run for data that have changed since.

    If the data are gone, the results are read without a comparison, and `say` gets a line.

    Raises:
      UserError: names the file that has changed.
    """
    try:
        digests = datasets.file_digests(spec)
    except UserError as error:
        say(f"the data of the finished run was not checked: {error}")
        return
    provenance.check_files(folder, digests)


def read_finished(folder: epath.Path, say: Say) -> Results | None:
    """The results of a finished run.

    Args:
      folder: the run folder.
      say: takes a line about a damaged or missing file.

    Returns:
      What results.json holds; None if there is none, or if it or the predictions are damaged: the
      run then only has to be scored again.

    Raises:
      UserError: the run is finished and has no checkpoint.
    """
    path = folder / run_folder.RESULTS
    if not path.exists():
        return None
    if SavedCheckpoints(folder).latest_step is None:
        raise UserError(
            f"{folder} is finished, but its checkpoints are missing: delete {path} to train it "
            "again, or choose another --run_dir"
        )
    try:
        found = results.check_results(read_json(path), str(path))
        results.check_predictions(folder, found["n_test"])
    except UserError as damage:
        say(f"{damage}: scoring the run again")
        return None
    return found


def load_data(
    config: RunConfig,
    folder: epath.Path,
    say: Say = to_stderr,
    prepared: caches.Prepared | None = None,
) -> tuple[caches.TokenCache, Assets]:
    """The tokens and assets of a run; those of a folder that is resumed must be the same.

    Args:
      config: the run.
      folder: its folder, which need not be there.
      say: takes a line about a damaged cache.
      prepared: what `caches.prepare` gave, if it was called.

    Raises:
      UserError: data or vocabulary that the folder's run was not trained on; a VOCAB_SIZE that is
        too small; see `caches.load_cache`.
    """
    if prepared is None:
        with Stage("hashing the data files"):
            prepared = caches.Prepared(datasets.file_digests(config.data))
    provenance.check_files(folder, prepared.digests)
    check_size_before_rows(config.data, config.student.vocab_size)
    cache = caches.load_cache(config.data, prepared.digests, say, prepared.rows)
    provenance.check_rows(folder, cache.meta)
    assets = run_assets.of_data(config.data, cache.words)
    run_assets.check_same_assets(folder, assets)
    return cache, assets


def _open(
    folder: epath.Path,
    text: str,
    described: RunDescription,
    assets: Assets,
    lock: RunLock,
) -> None:
    """Makes the run folder, once all that can refuse the input has been asked."""
    hosts.check_same_on_hosts(
        {
            "the configuration": text,
            "the data or the vocabulary": f"{described['data_digest']} {described['rows']}",
            "the checkpoint to start from": str(described.get("initial")),
            "the version of a package": str(described["versions"]),
        }
    )
    with hosts.barrier("creating the run folder"), disk_errors(folder, run_folder.RESUMES):
        if hosts.is_host0():
            folder.mkdir(parents=True, exist_ok=True)
            lock.take()
            run_folder.open_run(folder, text)
            run_assets.write(folder, assets)
            provenance.write_run(folder, described)
    hosts.check_shared(folder, run_folder.CONFIG)
