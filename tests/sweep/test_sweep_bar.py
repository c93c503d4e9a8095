"""The bar of a sweep on a terminal."""

from __future__ import annotations

import pytest

from distill.common.progress import Progress
from distill.sweep import execute, file, plan
from distill.sweep.folder import ResultsFolder

TEXT = 'title = "T"\nseeds = [1]\ngin_files = ["tickets_finetune"]\n'


def test_a_bar_shows_one_estimate_of_the_time_that_is_left(tmp_path, write_sweep):
    runs = plan.make_plan(file.read_sweep(write_sweep(TEXT)))
    folder = ResultsFolder(tmp_path / "out")
    folder.open(file.read_sweep(tmp_path / "s.toml"), pytest.fail)
    execution = execute.Execution("s", runs, folder, 1, 0, lambda line: None)
    job = execution._job(runs[0])
    with open(job.log, "w") as log:
        log.write("training: 1/4 steps   1.00 steps/s, loss 5.0253  ETA 00:03\n")
    execution._running = [job]
    for disabled in (True, False):
        execution._bar = Progress(1, disable=disabled, say=lambda line: None)
        assert ("loss 5.0253  ETA 00:03" in execution._newest_line()) == disabled
        assert "1.00 steps/s, loss 5.0253" in execution._newest_line()
        execution._bar.close()
