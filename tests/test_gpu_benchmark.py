"""benchmarks/gpu_train.py without a card: its rows, and a process or a budget that ends early."""

import json

import pytest

from benchmarks import gpu_train
from benchmarks import gpu_workload as workload


def test_rows_fit_every_layout_that_is_allowed_and_depend_on_the_seed_alone():
    first, second = workload.synthetic_rows(300), workload.synthetic_rows(300)
    for key, ragged in first.tokens.items():
        assert ragged.values.tolist() == second.tokens[key].values.tolist()
        _, task, side = key
        low, _, high = workload.INPUT_TOKENS if side == "inputs" else workload.TARGET_TOKENS[task]
        assert low <= ragged.lengths.min() and ragged.lengths.max() <= high
    assert workload.layout("80x60") == (80, 60)


def report(seconds):
    times = {"median": seconds, "least": seconds, "most": seconds}
    return {
        "wall_seconds": 1.0,
        "matmul_flops_per_second": 1e14,
        "train": {
            "step_seconds": times,
            "first_step_seconds": 1.0,
            "useful_flops": 1e12,
            "peak_bytes": 1,
            "encoder_tokens": 1,
            "decoder_tokens": 1,
            "encoder_positions": 2,
            "decoder_positions": 4,
        },
    }


def test_a_variant_that_fails_is_named_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def run(arguments, options, seconds):
        if "eager" in arguments:
            return {"wall_seconds": 1.0, "error": "exit code 1"}
        return report(0.05 if "gpu_native.py" in arguments else 0.1)

    monkeypatch.setattr(gpu_train, "run", run)
    out = tmp_path / "gpu.json"
    assert gpu_train.main(["--out", str(out), "--rounds", "3"]) == 0
    result = json.loads(out.read_text())
    counts = {name: len(runs) for name, runs in result["runs"].items()}
    assert counts == {"native flat": 3, "torch sdpa": 3, "native 128x64": 3, "torch eager": 1}
    assert result["summary"]["ratios"]["pairs_per_second"] == pytest.approx(2.0)
    best = result["summary"]["variants"]["native flat"]
    assert best["pairs_per_second"]["median"] == pytest.approx(64 / 0.05)
    assert best["mfu"]["median"] == pytest.approx(1e12 / 0.05 / 1e14)
    assert best["padding"] == [0.5, 0.75]
    assert "left out: round 1 of torch eager: exit code 1" in capsys.readouterr().out


def test_no_process_starts_that_the_budget_has_no_time_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_train, "run", lambda *_: pytest.fail("a process was started"))
    assert gpu_train.main(["--out", str(tmp_path / "gpu.json"), "--budget", "5"]) == 1
    assert "5 s of 5 left" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "gpu.json").read_text())["left_out"]) == 12
