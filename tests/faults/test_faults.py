"""Each call that writes fails in turn; the run ends with one message and resumes to the end."""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import subprocess
import sys

import pytest
from harness import KINDS, Fault, read_calls
from injection import HARMLESS, STOPPED, Table, content

SEED = 17
WAYS = [
    (kind, error, lasting)
    for kind in KINDS
    for error, lasting in (("ENOSPC", True), ("EIO", False), ("SHORT", False), ("SHORT", True))
    if error != "SHORT" or kind == "write"
]


@pytest.mark.slow
def test_the_shim_sees_every_byte_of_a_run(faults):
    """Each file that is there at the end was written by calls that the shim has seen."""
    ending = faults.driver.train(log_calls="run", clean=[faults.driver.run_dir])
    written = [call.bytes for call in ending.calls if call.kind == "write"]
    files = [path for path in faults.driver.run_dir.rglob("*") if path.is_file()]
    assert sum(written) >= sum(path.stat().st_size for path in files) > 0
    opened = {pathlib.Path(call.path).name for call in ending.calls if call.kind == "open"}
    renamed = {pathlib.Path(call.path).name for call in ending.calls if call.kind == "rename"}
    assert {path.name for path in files} <= opened | renamed


@pytest.mark.parametrize("way", random.Random(SEED).sample(WAYS, 4), ids=str)
def test_a_sample_of_the_faults(way, faults):
    kind, error, lasting = way
    # Threads write at the same time, so a run may have some calls less than another.
    number = random.Random(f"{SEED} {way}").randint(1, 3 * faults.calls("run")[kind] // 4)
    ending = faults.inject(Fault("run", kind, number, error, lasting))
    assert ending in (STOPPED, HARMLESS), faults.last.output


@pytest.mark.slow
@pytest.mark.parametrize("where", ["run", "cache"])
def test_every_write_fails_in_turn(where, faults, capsys):
    table = Table()
    for kind, error, lasting in WAYS:
        for number in itertools.count(1):
            fault = Fault(where, kind, number, error, lasting)
            ending = faults.inject(fault)
            if ending is None:
                break
            table.add(fault, ending)
    with capsys.disabled():
        print(f"\n{table}")
    assert not table.problems


REAL_FAULTS = [
    Fault("run", "open", 1, "ENOSPC", True),
    Fault("run", "mkdir", 5, "EIO", False),
    Fault("run", "write", 20, "ENOSPC", True),
    Fault("run", "rename", 20, "EIO", True),
    Fault("cache", "write", 10, "SHORT", True),
]


@pytest.mark.slow
@pytest.mark.parametrize("fault", REAL_FAULTS, ids=str)
def test_a_process_of_its_own_ends_as_the_driver_does(fault, shim, faults, tmp_path):
    """Interpreter exit included: nothing waits for a thread, and nothing is printed late."""
    driver = faults.driver
    where = {"run": tmp_path / "run", "cache": tmp_path / "cache"}
    command = [sys.executable, "-m", "distill.cli", *driver.arguments(where["run"], where["cache"])]
    settings = driver.settings_of(fault, where[fault.where], tmp_path / "calls.log")
    environment = {**os.environ, **settings, "LD_PRELOAD": str(shim)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\ndistill: ") == 1, done.stderr
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert content(where["run"]) == faults.expected


@pytest.mark.slow
def test_programs_that_cannot_be_kept_are_compiled_again(shim, faults, tmp_path):
    """JAX writes them into the cache; a run needs them not."""
    run_dir, cache_dir = tmp_path / "run", tmp_path / "cache"
    command = [sys.executable, "-m", "distill.cli", *faults.driver.arguments(run_dir, cache_dir)]
    fault = Fault("cache", "open", 1, "ENOSPC", True)
    settings = faults.driver.settings_of(fault, cache_dir / "xla", tmp_path / "calls.log")
    environment = {**os.environ, **settings, "LD_PRELOAD": str(shim)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert any(call.failed for call in read_calls(tmp_path / "calls.log"))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert content(run_dir) == faults.expected
