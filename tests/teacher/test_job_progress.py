"""The total that the progress of `distill annotate` counts up to."""

from __future__ import annotations

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
