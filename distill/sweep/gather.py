"""Collects runs that were trained elsewhere, such as on slices of their own, from another folder.

A finished run's folder is copied without its checkpoints, and gets a record. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etils import epath

from distill.common.atomic import atomic_directory, write_bytes
from distill.common.progress import Progress, Say
from distill.common.text_files import read_json
from distill.engines import results
from distill.errors import UserError
from distill.results import store
from distill.results.record import Record
from distill.sweep import claims
from distill.sweep.collect import done_record, next_job, now
from distill.sweep.folder import RUNS, ResultsFolder
from distill.sweep.plan import Run, distinct
from distill.training import run_folder

# What records and reports read; a folder without checkpoints cannot answer new rows.
COPIED = (
    *(run_folder.CONFIG, run_folder.STUDENT, run_folder.RUN, run_folder.METRICS, run_folder.CARD),
    *(run_folder.PREDICTIONS, run_folder.RESULTS),
)


def collect(
    source: epath.PathLike, sweep: str, runs: Sequence[Run], folder: ResultsFolder, say: Say
) -> Mapping[str, Record]:
    """Records the finished runs of another results folder.

    Args:
      source: that folder, local or in a bucket; it needs no records.
      sweep: name of the sweep.
      runs: of the plan.
      folder: the results folder, which is there; runs with a record of success are left alone.
      say: takes a line about each run that is collected.

    Returns:
      The last record of each run that has one, by id.

    Raises:
      UserError: a run folder that has another configuration, lacks files, or stands in the way.
    """
    found = folder.newest(runs, say)
    missing = [run for run in runs if run.id not in found or not found[run.id].is_done]
    firsts = distinct(missing)
    with Progress(len(firsts), "collecting", unit="runs") as bar:
        for run in firsts:
            place = epath.Path(source) / RUNS / run.id
            if (place / run_folder.RESULTS).exists():
                _collect(place, sweep, run, folder, say)
            bar.update()
    for run in missing:  # those with the configuration of another one have its record
        record = folder.newest([run], say).get(run.id)
        if record is not None and record.is_done:
            own = folder.records(say).get(run.id)
            if own is None or not own[-1].is_done:
                store.append(folder.path, record, say)
            found[run.id] = record
    return found


def _collect(place: epath.Path, sweep: str, run: Run, folder: ResultsFolder, say: Say) -> None:
    claim = claims.try_claim(folder.log(run.id))
    if claim is None:
        raise UserError(f"another process holds {folder.log(run.id)}: wait until it has ended")
    try:
        started, target = now(), folder.run_dir(run.id)
        run_folder.check_run(place, run.resolved.text)
        if not (target / run_folder.RESULTS).exists():
            _copy(place, target)
        run_folder.check_run(target, run.resolved.text)
        path = target / run_folder.RESULTS
        job = next_job(run, sweep, folder, say)
        record = done_record(
            job, run.resolved.run, results.check_results(read_json(path), str(path)), started
        )
        store.append(folder.path, record, say)
        say(f"{run.title}: collected from {place}")
    finally:
        claims.release(claim)


def _copy(place: epath.Path, target: epath.Path) -> None:
    """Copies a run folder without its checkpoints; it appears whole.

    Raises:
      UserError: an unfinished run of this machine has the name; a file is missing.
    """
    if target.exists():
        raise UserError(
            f"{target} has a run that is not finished, and {place} a finished one: delete the "
            "first, or choose another --out"
        )
    described = place / run_folder.CONFIG
    if not described.exists():
        raise UserError(f"{described} does not exist: copy the run folder as a whole")
    path = place / run_folder.RESULTS
    found = results.check_results(read_json(path), str(path))
    if found["n_test"]:
        results.check_predictions(place, found["n_test"])
    with atomic_directory(target, run_folder.RESULTS) as scratch:
        for name in COPIED:
            if (place / name).exists():
                write_bytes(scratch / name, (place / name).read_bytes())
