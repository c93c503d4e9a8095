"""The native engine: trains and scores with the project's own trainer."""

from __future__ import annotations

import time
from collections.abc import Callable

from etils import epath

from distill.common.progress import Stage, lines_to, to_stderr
from distill.config.resolve import Resolved
from distill.config.run import RunConfig
from distill.data import cache as caches
from distill.data import datasets
from distill.data.data_line import data_lines
from distill.engines import results
from distill.inference.evaluator import summarize_predictions
from distill.inference.load import make_evaluator, share_compilations
from distill.student.params import param_count
from distill.training import assets as run_assets
from distill.training import hosts, provenance, run_folder
from distill.training.assets import Assets
from distill.training.checkpoints import read_json
from distill.training.loop import fit, make_trainer


def train(
    resolved: Resolved,
    run_dir: epath.PathLike,
    progress: Callable[[str], None] = to_stderr,
    profile: bool = False,
) -> dict[str, object]:
    """Trains a run, or goes on with it, and scores one checkpoint on the test split.

    On several hosts all call it (`distill.training.hosts`), and the first writes.

    Args:
      resolved: a checked configuration.
      run_dir: the run folder, local or gs://.
      progress: takes lines of text.
      profile: traces a few steps into `<run_dir>/profile`.

    Returns:
      The results, as stored in results.json; those of a finished run are read again.

    Raises:
      UserError: bad input of any kind, naming it.
    """
    folder = epath.Path(run_dir)
    with hosts.barrier("opening the run folder"):
        run_folder.check_run(folder, resolved.text)
    if hosts.broadcast_from_host0((folder / run_folder.RESULTS).exists()):
        progress(f"{folder} is finished: its results are read, nothing is trained")
        return read_json(folder / run_folder.RESULTS)
    began = time.monotonic()
    share_compilations()
    hosts.check_connected()
    progress = hosts.host0_only(progress)
    with lines_to(progress):
        return _train_and_score(resolved, folder, progress, profile, began)


def _train_and_score(
    resolved: Resolved,
    folder: epath.Path,
    progress: Callable[[str], None],
    profile: bool,
    began: float,
) -> dict[str, object]:
    config = resolved.run
    with hosts.barrier("preparing the run"):
        cache, assets = load_data(config, folder)
        evaluator = make_evaluator(config, assets)
        trainer = make_trainer(config, cache)
    described = provenance.describe_run(resolved, cache, trainer.stream.steps_per_epoch)
    _open(folder, resolved.text, described, assets)
    for line in data_lines(config.data, described["data"]):
        progress(line)
    progress(
        f"{config.data.method} on {config.data.dataset}: "
        f"{param_count(config.student):,} parameters, {hosts.describe_devices()}"
    )

    def validate(params: dict) -> float:
        return float(
            summarize_predictions(evaluator.split(params, cache, "validation"))["accuracy"]
        )

    state = fit(trainer, validate, folder, progress, profile)
    predictions = evaluator.split(state.params, cache, "test")
    seconds = time.monotonic() - began
    scores = results.score(config, "native", predictions, int(state.step), seconds)
    if hosts.is_host0():
        results.write_results(folder, described, scores, predictions)
    results.say(scores, progress)
    return scores


def load_data(config: RunConfig, folder: epath.Path) -> tuple[caches.TokenCache, Assets]:
    """The tokens and assets of a run; those of a folder that is resumed must be the same.

    Raises:
      UserError: data or vocabulary that the folder's run was not trained on; see `caches.load`.
    """
    with Stage("reading the digests of the data"):
        digests = datasets.file_digests(config.data)
    provenance.check_files(folder, digests)
    cache = caches.load_cache(config.data, digests)
    provenance.check_rows(folder, cache.meta)
    assets = run_assets.of_data(config.data, cache.words)
    run_assets.check_same_assets(folder, assets)
    return cache, assets


def _open(folder: epath.Path, text: str, described: dict[str, object], assets: Assets) -> None:
    """Makes the run folder, once all that can refuse the input has been asked."""
    hosts.check_same_on_hosts(
        {
            "the configuration": text,
            "the data or the vocabulary": f"{described['data_digest']} {described['rows']}",
            "the version of a package": str(described["versions"]),
        }
    )
    with hosts.barrier("making the run folder"):
        if hosts.is_host0():
            run_folder.open_run(folder, text)
            run_assets.write(folder, assets)
            provenance.write_run(folder, described)
    hosts.check_shared(folder, run_folder.CONFIG)
