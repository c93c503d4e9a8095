"""CONTINUE_FROM: parameters, optimizer and step of a run folder or of a T5X checkpoint."""

from __future__ import annotations

import json

import numpy as np
import pytest

from distill.config.resolve import resolve
from distill.convert.folders import native_to_t5x
from distill.convert.sizes import adopt_for
from distill.engines import native
from distill.engines.t5x.errors import check_steps
from distill.errors import UserError
from distill.inference.load import load_run

EXPERIMENT = "tickets_step_by_step"


@pytest.fixture(scope="module")
def settings(micro):
    """A rate that does not depend on TRAIN_STEPS, so that a run of 6 steps begins one of 12."""
    return (*micro, "SCHEDULE=constant", "EVAL_PERIOD=0")


def run(folder, settings):
    resolved = resolve([EXPERIMENT], settings, None, adopt_for(folder))
    native.train(resolved, folder, lambda line: None)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, run(folder, settings)


@pytest.fixture(scope="module")
def half(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half") / "run"
    run(folder, (*settings, "TRAIN_STEPS=6"))
    return folder


@pytest.mark.parametrize("kind", ["run", "t5x"])
def test_two_runs_of_6_steps_are_one_of_12(kind, settings, whole, half, tmp_path):
    path = half if kind == "run" else native_to_t5x(half, tmp_path / "converted")
    lines = run(tmp_path / "run", (*settings, f"CONTINUE_FROM={path}"))
    assert lines == [line for line in whole[1] if line["step"] > 6]
    for name, leaf in load_run(whole[0]).params["encoder"]["encoder_norm"].items():
        same = load_run(tmp_path / "run").params["encoder"]["encoder_norm"][name]
        assert np.array_equal(leaf, same)
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["initial"]
    assert (recorded["macro"], recorded["kind"], recorded["step"]) == ("CONTINUE_FROM", kind, 6)


def test_what_cannot_be_continued_is_refused(settings, half, tmp_path):
    def refused(message, *overrides):
        with pytest.raises(UserError, match=message):
            run(tmp_path / "run", (*settings, *overrides))
        assert not (tmp_path / "run").exists()

    start = f"CONTINUE_FROM={half}"
    refused(
        "got both INIT_FROM = .* and CONTINUE_FROM = .*expected one", start, f"INIT_FROM={half}"
    )
    refused(
        r"got OPTIMIZER = 'adafactor', but .*config\.gin has 'adamw'.*or use INIT_FROM",
        start,
        "OPTIMIZER=adafactor",
    )
    converted = native_to_t5x(half, tmp_path / "t5x")
    refused(
        "param_states/.* is not in the checkpoint",
        f"CONTINUE_FROM={converted}",
        "OPTIMIZER=adafactor",
    )
    scanned = native_to_t5x(half, tmp_path / "scanned", scanned=True)
    refused("scanned network.*or use INIT_FROM", f"CONTINUE_FROM={scanned}")
    refused("TRAIN_STEPS = 4, but .* is of step 6: raise", start, "TRAIN_STEPS=4")
    refused("contains no checkpoint; expected", f"CONTINUE_FROM={tmp_path}")
    refused("INITIAL_CHECKPOINT_PATH.*now called CONTINUE_FROM", "INITIAL_CHECKPOINT_PATH=a")


def test_the_t5x_engine_is_told_how_to_continue_a_native_run(half, tmp_path):
    train = resolve([EXPERIMENT]).run.train
    with pytest.raises(UserError, match=rf"distill convert --from=native .* --run_dir={half}"):
        check_steps(tmp_path / "t5x", str(half), train)
