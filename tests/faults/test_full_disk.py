"""A disk that is really full, as run folder and as cache: a small tmpfs, which needs root."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from injection import content

pytestmark = pytest.mark.slow
ROOM = "64m"
SIZES = [4, 16, 40, 100, 200, 400]


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path, kilobytes: int) -> Iterator[None]:
    """Mounts a tmpfs of this size on `folder`; skips the test where that is not allowed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this container does not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _make_room(folder: pathlib.Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={ROOM}", folder], check=True)


def _ends_with_2_then_resumes(faults, disk: pathlib.Path, run_dir, cache_dir) -> None:
    driver = faults.driver
    full = driver.train(run_dir=run_dir, cache_dir=cache_dir)
    assert (full.code, full.problem) == (2, ""), full.output
    assert "No space left on device" in full.message
    assert str(disk) in full.message
    _make_room(disk)
    again = driver.train(run_dir=run_dir, cache_dir=cache_dir)
    assert (again.code, again.problem) == (0, ""), again.output
    assert content(run_dir) == faults.expected


@pytest.mark.parametrize(
    "kilobytes",
    [
        300,
        *(pytest.param(size, marks=pytest.mark.slow) for size in (4, 16, 40, 100, 200, 400, 500)),
    ],
)
def test_a_full_disk_under_the_run_folder(kilobytes, faults, tmp_path):
    disk = tmp_path / "disk"
    with _small_disk(disk, kilobytes):
        _ends_with_2_then_resumes(faults, disk, disk / "run", faults.driver.cache_dir)


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 40, 100])
def test_a_full_disk_under_the_cache(kilobytes, faults, tmp_path):
    disk = tmp_path / "disk"
    with _small_disk(disk, kilobytes):
        _ends_with_2_then_resumes(faults, disk, tmp_path / "run", disk / "cache")
        assert not list((disk / "cache").glob(".*.tmp"))
