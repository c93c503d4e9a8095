"""The total that the progress of `distill annotate` counts up to."""

from __future__ import annotations

from distill import cli
from distill.teacher.job_progress import JobProgress
from distill.teacher.settings import Settings


def test_the_total_is_what_is_stored_and_max_rows():
    progress = JobProgress(40, Settings(max_rows=5, progress_seconds=0), str)
    totals = [progress.total]
    for change in (lambda: progress.skip(3), lambda: progress.allow(7), lambda: progress.skip(35)):
        change()
        totals.append(progress.total)
    assert totals == [5, 8, 10, 40]


def test_without_max_rows_the_total_is_all_rows():
    progress = JobProgress(40, Settings(progress_seconds=0), str)
    progress.skip(3)
    assert (progress.n, progress.total) == (3, 40)


def test_max_rows_is_the_total_of_the_progress(serve, rows_file, tmp_path, capsys):
    with serve() as (_, url):
        argv = ["annotate", "--prompt=tickets", "--model=simulated-returns", "--json"]
        argv += [f"--input={rows_file}", f"--base_url={url}", f"--output={tmp_path / 'o.jsonl'}"]
        for bound, total in ("15", 15), ("15", 30), ("15", 40):
            more = ["--progress_seconds=30", f"--max_rows={bound}"]
            assert cli.main([*argv, *more]) == 0
            assert f"annotate: {total}/{total} rows" in capsys.readouterr().err
