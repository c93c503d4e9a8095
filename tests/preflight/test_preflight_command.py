"""`distill preflight` without libtpu: keys, refusals with a way out, search, topologies."""

import itertools
import json

import pytest

from distill import cli
from distill.config import resolve
from distill.preflight import chips, search
from distill.preflight.estimate import roofline
from distill.preflight.report import inspect

KEYS = {
    "fits",
    "chips",
    "peak_bytes_per_chip",
    "hbm_bytes_per_chip",
    "flops_per_chip",
    "hbm_traffic_per_chip",
    "collectives",
    "step_seconds_bound",
    "bound_by",
    "compile_seconds",
}
RUN = ("preflight", "--gin_file=tickets_step_by_step", "--gin.SCAN_LAYERS=True", "--estimate")
LARGE = (
    "--size=xl",
    "--gin.VOCAB_SIZE=32128",
    "--gin.INPUT_LENGTH=1024",
    "--gin.TARGET_LENGTH=256",
    "--gin.DTYPE=bfloat16",
    "--gin.BATCH_SIZE=64",
)


def _main(capsys, *arguments):
    code = cli.main([*RUN, *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_keys(capsys):
    code, out, _ = _main(capsys, "--topology=v5e:2x2", "--json", "--price=1.5")
    found = json.loads(out)
    assert code == 0 and set(found) >= KEYS
    assert found["fits"] and found["estimate"] and found["compile_seconds"] is None
    assert found["chips"] == 4 and found["hbm_bytes_per_chip"] == 16e9
    # 32 pairs are 64 sequences: as many rows.
    assert found["batch"] == {"rows": 64, "inputs": 64, "targets": 32}
    assert found["hours"] == pytest.approx(1000 * found["step_seconds_bound"] / 3600)
    assert found["cost"] == pytest.approx(4 * 1.5 * found["hours"])


def test_without_libtpu_it_estimates_and_says_so(capsys, monkeypatch):
    from distill.preflight import compile as compiling

    monkeypatch.setattr(compiling, "has_libtpu", lambda: False)
    code = cli.main([*RUN[:-1], "--topology=v5p:2x2x1"])
    captured = capsys.readouterr()
    assert code == 0 and "FITS (estimate)" in captured.out
    assert "libtpu is not installed" in captured.err


def test_what_cannot_fit_names_the_nearest_that_can(capsys):
    code, out, _ = _main(capsys, *LARGE, "--topology=v5p:2x2x2", "--json")
    found = json.loads(out)
    assert code == 2 and not found["fits"]
    assert found["peak_bytes_per_chip"] > found["hbm_bytes_per_chip"]
    near = found["nearest"]
    assert near["fits"] and near["changed"] and near["topology"] == "v5p:2x2x2"
    again = [f"--gin.{name}={value}" for name, value in near["changed"].items()]
    code, out, _ = _main(capsys, *LARGE, *again, "--topology=v5p:2x2x2", "--json")
    assert code == 0 and json.loads(out)["fits"]
    code, out, err = _main(capsys, *LARGE, "--topology=v5p:2x2x2")
    assert code == 2 and "DOES NOT FIT" in out and "does not fit" in err
    assert all(flag in out and flag not in err for flag in again)


def test_where_no_setting_helps_a_larger_slice_is_named(capsys):
    """2.85 billion parameters with two moments are 34 GB: too much for one v5e chip."""
    code, out, _ = _main(capsys, *LARGE, "--topology=v5e:1x1", "--json")
    near = json.loads(out)["nearest"]
    assert code == 2 and near["fits"]
    assert near["topology"] in ("v5e:2x2", "v5e:2x4", "v5e:4x4")
    assert near["chips"] * 16e9 > 34e9


def test_search_prefers_what_fits_and_is_cheap(capsys):
    slices = "--topology=v5p:2x2x2", "--topology=v6e:4x4", "--topology=v4:4x4x4"
    code, out, _ = _main(capsys, *LARGE, "--search", *slices, "--price=2")
    assert code == 0 and out.splitlines()[0].startswith("topology")
    best = out.splitlines()[1].split()
    shown = {line.split()[0] for line in out.splitlines()[1:]}
    assert shown == {flag.partition("=")[2] for flag in slices}
    chips_of_best = {"v5p:2x2x2": 8, "v6e:4x4": 16, "v4:4x4x4": 64}[best[0]]
    assert float(best[9]) == pytest.approx(float(best[8]) * chips_of_best * 2, rel=0.1)
    config = resolve.resolve(
        ["tickets_step_by_step", "gin/sizes/xl.gin"],
        ["SCAN_LAYERS=True", *(t.removeprefix("--gin.") for t in LARGE if t.startswith("--gin."))],
    ).run
    found = search.ranked(config, [chips.topology("v6e:4x4")])
    fits = [result["fits"] for result, *_ in found]
    assert fits[0] and not fits[-1]


def test_the_next_larger_slice_is_one_on_offer():
    for names in (
        ["v5e:1x1", "v5e:2x2", "v5e:2x4", "v5e:4x4"],
        ["v4:2x2x1", "v4:2x2x2", "v4:2x2x4", "v4:2x4x4", "v4:4x4x4"],
    ):
        for this, larger in itertools.pairwise(names):
            assert chips.topology(this).larger().name == larger


def test_v7_has_two_devices_a_chip(capsys):
    _, out, _ = _main(capsys, "--topology=v7:2x2x1", "--json")
    found = json.loads(out)
    assert (found["chips"], found["devices"], found["mesh"]["data"]) == (4, 8, 8)
    run = resolve.resolve(["tickets_step_by_step"], ["PARAMETER_SHARDING=replicated"]).run
    one, two = (inspect(run, chips.topology(t), False) for t in ("v7:1x1x1", "v5p:1x1x1"))
    # Two devices of a chip each hold all parameters.
    assert one["bytes_per_chip"]["parameters"] == 2 * two["bytes_per_chip"]["parameters"]
    assert one["flops_per_chip"] == two["flops_per_chip"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--topology", "v5e")),
        (("--topology=v9:2x2",), ("unknown chip", "v5e")),
        (("--topology=v5e:2x2x2",), ("2 sides", "v5e:4x4")),
        (("--topology=v5e",), ("CHIP:SIDES",)),
        (("--topology=v5e:2x2", "--topology=v4:2x2x1"), ("--search",)),
        (("--topology=v5e:2x2", "--gin.MODEL_PARALLEL=3"), ("MODEL_PARALLEL = 3", "4 devices")),
        (("--topology=v5e:2x2", "--gin.PARAMETER_SHARDING=zeros"), ("zeros", "zero")),
        (("--topology=v5e:8x8", "--gin.PARAMETER_SHARDING=zero"), ("EMBED_DIM = 48",)),
        (("--topology=v5e:2x2", "--engine=t5x"), ("native",)),
        (("--topology=v5e:2x2", "--rows=0"), ("--rows",)),
    ],
)
def test_refusals(capsys, arguments, words):
    code, _, err = _main(capsys, *arguments)
    assert code == 2
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm "
            "capacity by 4.75G.",
            (int(20.5 * 2**30), 0),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (64G) exceeds available HBM (15.75G).",
            (64 * 2**30, 64 * 2**30),
        ),
        ("Ran out of memory in memory space vmem. Used 20.5M of 16.0M vmem.", (0, 0)),
    ],
)
def test_what_the_compiler_says_of_memory(message, expected):
    from distill.preflight.compile import out_of_memory

    assert out_of_memory(message) == expected


def test_the_roofline_is_the_slowest_of_three():
    chip = chips.CHIPS["v5e"]
    assert roofline(chip, 197e12, 0, 0).seconds == pytest.approx(1)
    bound = roofline(chip, 1e12, 2 * 819e9, 100e9)
    assert (bound.bound_by, bound.seconds) == ("memory", pytest.approx(2))
    assert roofline(chip, 0, 0, 400e9).seconds == pytest.approx(2)  # half of it each way
