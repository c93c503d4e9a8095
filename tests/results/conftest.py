"""Records for the tests of results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import report_scale
from distill.results.record import Record

DONE: dict[str, Any] = {
    "run": "a",
    "axes": {"method": "finetune", "labels": 500},
    "accuracy": 0.5,
    "interval": (0.4, 0.6),
    "n_test": 100,
    "checkpoint_step": 1000,
}
FAILED: dict[str, Any] = {"run": "a", "status": "failed", "error": "got NaN"}


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """(changed fields) -> a record."""
    return lambda **changes: report_scale.record(**{**DONE, **changes})


@pytest.fixture(scope="session")
def make_failure() -> Callable[..., Record]:
    """(changed fields) -> the record of an attempt that failed."""
    return lambda **changes: report_scale.record(**{**FAILED, "axes": DONE["axes"], **changes})
