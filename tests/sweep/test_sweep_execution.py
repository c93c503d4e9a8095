"""Sweeps that are stopped, killed, or run beside each other do everything once and lose nothing.

The worker processes are replaced by a crew that works in this process on runs that do not train,
so that a kill can come at every point. test_workers.py kills processes that train.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import threading
import time

import pytest

from distill import cli
from distill.results import store
from distill.sweep import claims, execute, worker
from distill.sweep.collect import failed_record
from distill.training import run_lock

TEXT = """
title = "T"
seeds = [1, 2]
gin_files = ["tickets_finetune"]
[axes.labels]
macro = "NUM_LABELS"
values = [40, 60]
"""


class Killed(BaseException):
    """The process ends here, and nothing of it is cleaned up."""


class FakeCrew:
    """Does the jobs one after another, in this process."""

    has_idle = True

    def __init__(self):
        self.jobs = []

    @property
    def has_room(self):
        return len(self.jobs) < 2

    def start(self, job):
        self.jobs.append(job)

    def wait(self, timeout):
        if not self.jobs:
            return []
        job = self.jobs.pop(0)
        return [(job, worker.work(job))]


@pytest.fixture
def trained(monkeypatch):
    """How often each run was trained; runs end at once, with the record of their results."""
    counts = collections.Counter()

    def attempt(job, began, started):
        from distill.config.resolve import resolve

        config = resolve(job.gin_files, job.overrides).run
        results = f"{job.run_dir}/results.json"
        if not os.path.exists(results):  # else it is read again, as `native.train` does
            counts[job.run] += 1
            os.makedirs(job.run_dir, exist_ok=True)
            with open(results, "w") as file:
                json.dump({"accuracy": 0.5}, file)
        record = failed_record(job, config, "x", started, 1.0)
        return worker.Outcome("ended", record=_done(record))

    monkeypatch.setattr(worker, "_attempt", attempt)
    monkeypatch.setattr(execute, "crew", lambda count, cores: contextlib.nullcontext(FakeCrew()))
    monkeypatch.setattr(execute, "_HELD_PERIOD", 0.01)
    monkeypatch.setattr(execute, "_ELSEWHERE_PERIOD", 0.01)
    return counts


def _done(record):
    return dataclasses.replace(record, status="done", error=None, accuracy=0.5, n_test=2)


def _sweep(path, out, *flags):
    return cli.main(["sweep", str(path), f"--out={out}", "--workers=2", *flags])


def test_a_sweep_records_each_run_and_skips_it_the_next_time(
    trained, write_sweep, tmp_path, capsys
):
    path, out = write_sweep(TEXT), tmp_path / "out"
    assert _sweep(path, out) == 0
    shown = capsys.readouterr()
    assert "4 runs; 2 at once (--workers)" in shown.err and "4/4" in shown.err
    row = next(line for line in shown.out.splitlines() if line.startswith("40 "))
    assert row.split() == ["40", "0.500", "+-", "0.000", "2", "1,000", "1"]
    records = store.read_all(out)
    assert len(records) == 4 and {r.sweep for r in records} == {"s"}
    assert [dict(r.axes) for r in records] == [{"labels": n} for n in (40, 40, 60, 60)]
    assert (out / "sweep.toml").read_text() == f'name = "s"\n{TEXT}'
    assert _sweep(path, out, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["runs"], result["done"], result["failed"]) == (4, 4, 0)
    assert set(trained.values()) == {1} and store.read_all(out) == records
    assert _sweep(path, out, "--list") == 0
    shown = capsys.readouterr()
    assert not shown.out and "4 finished runs left out" in shown.err


def test_a_kill_at_every_point_loses_nothing_and_repeats_nothing(
    trained, write_sweep, tmp_path, monkeypatch
):
    """Before a run, after it and before its record, while the record is written, and after it."""
    path, out = write_sweep(TEXT), tmp_path / "out"
    append, attempt = store.append, worker._attempt
    points = iter([*range(4), *range(4), *range(4), *[None] * 20])

    def before(job, began, started):
        point = next(points)
        if point == 0:
            raise Killed
        outcome = attempt(job, began, started)
        if point == 1:
            raise Killed

        def killed_append(folder, record, *say):
            if point == 2:
                whole = json.dumps(record.to_json())
                with open(store.records_path(folder), "a") as file:
                    file.write(whole[: len(whole) // 2])
                raise Killed
            append(folder, record, *say)
            if point == 3:
                raise Killed

        monkeypatch.setattr(store, "append", killed_append)
        return outcome

    monkeypatch.setattr(worker, "_attempt", before)
    kills, code = 0, None
    while code is None:
        try:
            code = _sweep(path, out)
        except Killed:
            kills += 1
            monkeypatch.setattr(store, "append", append)
    assert code == 0
    assert kills == 12
    records = store.read_all(out, pytest.fail)
    assert len(records) == len({record.run for record in records}) == 4
    assert set(trained.values()) == {1} and len(trained) == 4


def test_a_run_that_fails_is_tried_again_then_and_at_the_next_start(
    trained, write_sweep, tmp_path, monkeypatch, capsys
):
    path, out = write_sweep(TEXT), tmp_path / "out"
    attempt, broken = worker._attempt, [True]

    def fails(job, began, started):
        if broken[0] and job.axes["labels"] == 40 and job.seed == 1:
            from distill.config.resolve import resolve

            config = resolve(job.gin_files, job.overrides).run
            record = failed_record(job, config, "the loss is NaN", started, 1.0)
            return worker.Outcome("ended", "the loss is NaN", record)
        return attempt(job, began, started)

    monkeypatch.setattr(worker, "_attempt", fails)
    assert _sweep(path, out, "--retries=2") == 2
    shown = capsys.readouterr()
    assert "1 of 4 runs failed, the first with: the loss is NaN; the same command" in shown.err
    assert "1 of 2" in shown.out
    runs = store.by_run(out)
    assert sorted(map(len, runs.values())) == [1, 1, 1, 3]
    failed = next(records for records in runs.values() if len(records) == 3)
    assert [record.attempt for record in failed] == [1, 2, 3]
    broken[0] = False
    assert _sweep(path, out) == 0
    newest = {record.run: record for record in store.read(out)}
    assert newest[failed[0].run].is_done and newest[failed[0].run].attempt == 4
    assert set(trained.values()) == {1} and len(trained) == 4


def test_a_process_that_dies_is_a_failure_that_says_how(
    trained, write_sweep, tmp_path, monkeypatch
):
    path, out = write_sweep(TEXT), tmp_path / "out"
    died = []

    def work(job, real=worker.work):
        if not died:
            died.append(job.run)
            return worker.Outcome("dead", "its process was ended by SIGKILL", seconds=2.0)
        return real(job)

    monkeypatch.setattr(worker, "work", work)
    assert _sweep(path, out) == 0
    records = store.by_run(out)[died[0]]
    assert [(r.status, r.error) for r in records] == [
        ("failed", "its process was ended by SIGKILL"),
        ("done", None),
    ]


def test_one_training_serves_all_runs_of_its_configuration(trained, write_sweep, tmp_path, capsys):
    text = TEXT + "[axes.a.settings]\nx = {}\ny = {}\n"
    out = tmp_path / "out"
    assert _sweep(write_sweep(text), out) == 0
    assert "is trained once for all" in capsys.readouterr().err
    records = {record.run: record for record in store.read(out)}
    assert len(records) == 8 and sum(trained.values()) == 4
    by_digest = collections.defaultdict(list)
    for record in records.values():
        by_digest[record.config_digest].append((record.axes["a"], record.folder))
    for pair in by_digest.values():
        assert [name for name, _ in sorted(pair)] == ["x", "y"] and pair[0][1] == pair[1][1]
    assert _sweep(write_sweep(TEXT.replace("axes.labels", "axes.budget"), "t"), out) == 0
    others = [record for record in store.read(out) if "budget" in record.axes]
    assert [record.sweep for record in others] == ["t"] * 4 and sum(trained.values()) == 4


def _hold(path, taken, until):
    descriptor = claims.try_claim(path)
    taken.set()
    until.wait(30)
    claims.release(descriptor)


def test_a_run_of_another_process_is_left_to_it(trained, write_sweep, tmp_path, capsys):
    """It is waited for at the end, and done here if the other process has left it undone."""
    from distill.sweep import file, plan

    path, out = write_sweep(TEXT), tmp_path / "out"
    run = plan.make_plan(file.read_sweep(path))[0]
    (out / "runs").mkdir(parents=True)
    log = out / "runs" / f"{run.id}.log"
    taken, until = threading.Event(), threading.Event()
    # A thread stands for the other process: the kernel locks per opened file.
    other = threading.Thread(target=_hold, args=(log, taken, until))
    other.start()
    taken.wait(30)
    assert claims.is_claimed(log)

    def release_at_the_end(self, line=execute.Execution._look_at_held):
        if len(self._records) == 3:
            until.set()
        line(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute.Execution, "_look_at_held", release_at_the_end)
        assert _sweep(path, out) == 0
    other.join()
    assert f"another process holds {log}; it is waited for at the end" in capsys.readouterr().err
    assert [record.run for record in store.read_all(out)][-1] == run.id
    assert set(trained.values()) == {1} and len(trained) == 4


def test_a_run_folder_that_distill_train_holds_is_left_to_it(tmp_path, monkeypatch, write_sweep):
    from distill.sweep import file, plan
    from distill.sweep.folder import ResultsFolder

    path = write_sweep(TEXT)
    runs = plan.make_plan(file.read_sweep(path))
    folder = ResultsFolder(tmp_path / "out")
    folder.open(file.read_sweep(path), pytest.fail)
    execution = execute.Execution("s", runs, folder, 1, 0, lambda line: None)
    run_dir = folder.run_dir(runs[0].id)
    run_dir.mkdir(parents=True)
    with run_lock.RunLock(run_dir):
        assert execution._is_held(runs[0])
        with pytest.raises(run_lock.InUse), run_lock.RunLock(run_dir):
            pass
    assert not execution._is_held(runs[0])


def test_two_sweeps_of_one_folder_share_the_work(trained, write_sweep, tmp_path, monkeypatch):
    """Two threads stand for two processes: locks of files are between open files, not processes."""
    from distill.sweep import file, plan
    from distill.sweep.folder import ResultsFolder

    sweep = file.read_sweep(write_sweep(TEXT))
    runs, out = plan.make_plan(sweep), tmp_path / "out"
    ResultsFolder(out).open(sweep, pytest.fail)
    begun, attempt = [], worker._attempt

    def slow(job, *times):
        begun.append(job.run)
        time.sleep(0.05)
        return attempt(job, *times)

    monkeypatch.setattr(worker, "_attempt", slow)
    monkeypatch.setattr(worker, "_printing_to", lambda descriptor: contextlib.nullcontext())
    both = [
        execute.Execution("s", runs, ResultsFolder(out), 2, 0, lambda line: None) for _ in range(2)
    ]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda execution: execution.run(), both))
    records = store.read_all(out, pytest.fail)
    assert len(records) == len({record.run for record in records}) == 4
    assert sorted(begun) == sorted(run.id for run in runs)
    assert found[0] == found[1] == [store.newest(records)[run.id] for run in runs]


def test_a_second_sweep_keeps_its_own_copy(trained, write_sweep, tmp_path, capsys):
    out = tmp_path / "out"
    for name in ("s", "t"):
        assert _sweep(write_sweep(f"# {name}\n{TEXT}", name), out) == 0
    assert "# s" in (out / "sweep.toml").read_text()
    assert "# t" in (out / "sweeps" / "t.toml").read_text()
    assert sum(trained.values()) == 4  # the runs of the first serve the second
    assert _sweep(write_sweep(f"# u\n{TEXT}", "t"), out) == 0
    assert "t.toml has changed since the sweep was started: replacing" in capsys.readouterr().err


def test_errors_of_the_folder_are_told(trained, write_sweep, tmp_path, capsys):
    out = tmp_path / "out"
    assert _sweep(write_sweep(TEXT), out) == 0
    with (out / "records.jsonl").open("a") as file:
        file.write('{"format": 9}\n')
    assert _sweep(write_sweep(TEXT), out) == 2
    assert "records.jsonl:5: got a record of format 9" in capsys.readouterr().err


def test_a_worker_does_not_repeat_what_another_process_has_just_finished(
    trained, write_sweep, tmp_path
):
    """And the records that others append are seen."""
    from distill.sweep import file, plan
    from distill.sweep.folder import ResultsFolder

    sweep = file.read_sweep(write_sweep(TEXT))
    runs, folder = plan.make_plan(sweep), ResultsFolder(tmp_path / "out")
    folder.open(sweep, pytest.fail)
    job = execute.Execution("s", runs, folder, 1, 0, pytest.fail)._job(runs[0])
    assert folder.records(pytest.fail) == {}
    first = worker.work(job).record
    assert folder.records(pytest.fail) == {runs[0].id: [first]}
    again = worker.work(job)
    assert again.kind == "ended" and again.record == first
    assert store.read_all(tmp_path / "out") == [first]
    second = worker.work(execute.Execution("s", runs, folder, 1, 0, pytest.fail)._job(runs[1]))
    assert folder.records(pytest.fail) == {runs[0].id: [first], runs[1].id: [second.record]}
