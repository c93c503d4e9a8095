"""Costs of the compiled training step, counted and not timed, against tests/golden/step_costs.json.

tests/golden/make_step_costs.py makes that file. A change that costs less fails as well: then make
the file again, so that no later change can take the gain away unseen.
"""

import importlib
import json
import pathlib
import sys

import jaxlib
import pytest

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path[:0] = [str(GOLDEN), str(GOLDEN.parent / "engines")]
make_step_costs = importlib.import_module("make_step_costs")
needs_t5x = importlib.import_module("parity").needs_t5x
COSTS = json.loads((GOLDEN / "step_costs.json").read_text())
REMAKE = (
    "if the step was meant to change, run python tests/golden/make_step_costs.py and compare the "
    "two files"
)
# Of bytes: XLA's CPU compiler gives the same with 1 or 2 cores, with AVX2 or AVX-512.
TOLERANCE = 0.001

slow = pytest.mark.slow
CASES = [
    pytest.param(name, marks=() if name.startswith("micro") and "adamw" in name else slow)
    for name in COSTS["native"]
]


@pytest.mark.parametrize("name", CASES)
def test_a_step_costs_what_it_did(name):
    found, golden = make_step_costs.native(*name.split()), COSTS["native"][name]
    assert found["products"] == golden["products"], REMAKE
    assert found["argument_bytes"] == golden["argument_bytes"], REMAKE
    if jaxlib.__version__ != COSTS["jaxlib"]:
        pytest.skip(f"compiled costs are those of jaxlib {COSTS['jaxlib']}")
    for cost in ("bytes", "temporary_bytes"):
        assert found[cost] == pytest.approx(golden[cost], rel=TOLERANCE), f"{cost}: {REMAKE}"


@pytest.mark.parametrize("name", COSTS["t5x"])
def test_the_flat_step_needs_at_most_half_of_stock_t5xs_temporaries(name):
    flat = COSTS["native"][name.replace("packed", "flat")]
    assert flat["temporary_bytes"] <= 0.5 * COSTS["t5x"][name]["temporary_bytes"]


@pytest.mark.parametrize("size", make_step_costs.SIZES)
@pytest.mark.parametrize("optimizer", make_step_costs.OPTIMIZERS)
def test_the_flat_step_costs_less_than_the_packed_one(size, optimizer):
    packed, flat = (
        COSTS["native"][f"{size} {layout} {optimizer}"] for layout in ("packed", "flat")
    )
    for cost in ("products", "bytes", "temporary_bytes"):
        assert flat[cost] < packed[cost]


@needs_t5x
@pytest.mark.t5x
@slow
@pytest.mark.parametrize("name", COSTS["t5x"])
def test_stock_t5x_still_needs_that(name):
    size, _, optimizer = name.split()
    if jaxlib.__version__ != COSTS["jaxlib"]:
        pytest.skip(f"compiled costs are those of jaxlib {COSTS['jaxlib']}")
    assert make_step_costs.stock(size, optimizer) == pytest.approx(
        COSTS["t5x"][name], rel=TOLERANCE
    )
