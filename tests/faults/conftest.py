"""A driver, which starts once for all tests of this folder."""

from __future__ import annotations

import pathlib
import shutil

import pytest
from harness import Driver, build_shim
from injection import Faults

# Two checkpoints, so that the first is deleted, and one evaluation.
SHORT_RUN = ("TRAIN_STEPS=4", "SAVE_PERIOD=2", "EVAL_PERIOD=4")


@pytest.fixture(scope="session")
def shim(tmp_path_factory) -> pathlib.Path:
    """The library that makes calls fail."""
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def faults(shim, micro, cache_dir, tmp_path_factory):
    """Trains a tiny run with and without faults."""
    driver = Driver(shim, tmp_path_factory.mktemp("faults"), (*micro, *SHORT_RUN))
    if (cache_dir / "xla").exists():
        shutil.copytree(cache_dir / "xla", driver.cache_dir / "xla")
    yield Faults(driver)
    driver.close()
