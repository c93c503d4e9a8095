"""benchmarks/speed.py without its engines: processes, rounds, workload and tables."""

import json
import os
import sys

import numpy as np
import pytest

from benchmarks import speed
from benchmarks.speed_parts import protocol, rounds, tables, workload
from distill.preflight.count import Shapes, useful_flops

WORKER = """
import sys
from benchmarks.speed_parts import protocol

def add(a, b):
    print("this is not a reply")
    return {"sum": a + b}

def fail():
    raise ValueError("out of order")

if sys.argv[1] == "early":
    raise SystemExit("no such setting")
protocol.serve({"argument": sys.argv[1]}, {"add": add, "fail": fail})
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    (tmp_path / "adding_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    log = tmp_path / "log"
    return lambda argument: protocol.Worker(sys.executable, "adding_worker", [argument], log)


def test_a_process_answers_whatever_it_prints_and_says_why_it_ended(start):
    worker = start("x")
    assert worker.hello["argument"] == "x" and worker.hello["start"] > 0
    for a in (1, 2):
        reply = worker.call("add", a=a, b=5)
        assert reply["sum"] == a + 5 and reply["wall"] >= 0 and reply["peak_bytes"] > 2**20
    with pytest.raises(protocol.Failed, match="exit code 1: ValueError: out of order"):
        worker.call("fail")
    with pytest.raises(protocol.Failed, match="exit code 1"):
        worker.call("add", a=1, b=1)
    with pytest.raises(protocol.Failed, match="exit code 1: no such setting"):
        start("early")


class FakeWorker:
    def __init__(self, name, log, seconds):
        self.name, self.log, self.seconds = name, log, seconds

    def call(self, action, **fields):
        if action == "bound":
            return {"flops_per_second": 1e9}
        self.log.append(self.name)
        if self.seconds is None:
            raise protocol.Failed("exit code 9")
        count = fields["count"]
        return {"wall": count * self.seconds, "cpu": 2 * count * self.seconds, "peak_bytes": 2**30}


def test_data_that_cannot_be_read_are_one_message_and_exit_2(tmp_path, capsys, monkeypatch):
    for name in ("DISTILL_CACHE_DIR", "GLIBC_TUNABLES"):  # main sets both
        monkeypatch.setenv(name, os.environ.get(name, ""))
    flags = ["--only", "infer", f"--out={tmp_path / 'speed.json'}"]
    macros = ["VOCABULARY=bytes", f"RAW_DIR={tmp_path / 'missing'}"]
    assert speed.main([*flags, *macros]) == 2
    assert "missing/cqa/llm/train_CoT_0.json does not exist" in capsys.readouterr().err
    assert not (tmp_path / "speed.json").exists()


def test_rounds_alternate_and_a_process_that_ends_is_left_out():
    log, failures = [], []
    seconds = {"native flat": 0.5, "torch sorted": None, "t5x packed": 4.0}
    workers = {name: FakeWorker(name, log, one) for name, one in seconds.items()}
    found, bounds = rounds.train(workers, 3, 8, 64, failures)
    assert failures == ["torch sorted: exit code 9"]
    assert log[:3] == ["native flat", "torch sorted", "t5x packed"]
    assert log[3:] == ["t5x packed", "native flat", "native flat", "t5x packed"]
    assert [one["wall"] for one in found["native flat"]] == [0.5] * 3
    assert [one["cpu"] for one in found["t5x packed"]] == [8.0] * 3
    assert bounds[0] == {"jax": 1e9, "torch": 1e9} and bounds[1] == {"jax": 1e9}


def test_all_engines_have_the_same_rows_and_the_work_is_that_of_their_tokens(micro, tmp_path):
    macros = [*micro, "OPTIMIZER=adamw"]
    settings = workload.write(tmp_path, "tickets_step_by_step", macros, steps=3, rows=5)
    assert settings == workload.read_settings(tmp_path)
    arrays = np.load(tmp_path / workload.BATCHES)
    run = workload.resolve_run(settings)

    def rows_of(order):
        found = []
        for name in arrays:
            if name.startswith("sorted.") == bool(order):
                _, task, side = name.removeprefix(order).split(".")
                found += [(task, side, *row[row > 0].tolist()) for row in arrays[name]]
        return sorted(found)

    assert rows_of("sorted.") == rows_of("") and len(rows_of("")) == 3 * 8 * 4
    shapes = [
        Shapes(1, np.count_nonzero(inputs), np.count_nonzero(targets))
        for step in range(3)
        for task in range(2)
        for inputs, targets in zip(
            arrays[f"{step}.{task}.inputs"], arrays[f"{step}.{task}.targets"], strict=True
        )
    ]
    flops = sum(useful_flops(run.student, shape) for shape in shapes) / 3
    assert settings["work"]["useful_flops"] == pytest.approx(flops)
    assert settings["work"]["encoder_tokens"] == sum(shape.inputs for shape in shapes) / 3
    positions = {
        order: sum(arrays[f"{order}{step}.0.inputs"].size for step in range(3))
        for order in ("", "sorted.")
    }
    assert positions["sorted."] <= positions[""]
    saved = np.load(tmp_path / workload.INPUTS)
    assert len(saved["offsets"]) == 6


def test_the_optimizer_is_that_of_all_engines(micro, tmp_path):
    macros = [*micro, "OPTIMIZER=adafactor"]
    with pytest.raises(SystemExit, match="got OPTIMIZER = 'adafactor', expected 'adamw'"):
        workload.write(tmp_path, "tickets_step_by_step", macros, steps=3, rows=5)


def one_round(wall):
    return {"wall": wall, "cpu": 2 * wall, "peak_bytes": 2**30}


def test_tables_show_medians_shares_and_ratios_within_rounds():
    work = {"encoder_tokens": 60, "decoder_tokens": 40, "useful_flops": 3e9}
    hello = {"seconds": {"imports": 1.0}, "encoder_positions": 120, "decoder_positions": 50}
    train = {
        "hello": {"native flat": hello},
        "rounds": {
            "native flat": [one_round(1.0), one_round(2.0), one_round(4.0)],
            "torch sorted": [one_round(3.0), one_round(4.0), one_round(20.0)],
        },
        "bounds": [{"jax": 3e9, "torch": 5e9}, {"jax": 4e9, "torch": 6e9}, {"jax": 5e9}],
    }
    settings = {"work": work, "batch_size": 8, "rows": 4}
    lines = tables.training(train, settings).splitlines()
    flat, torch = (line.split() for line in lines[1:3])
    assert flat[2:8] == ["2.000", "(1.000-4.000)", "4.0", "50", "1.5", "27%"]
    assert torch[8:10] == ["3.00", "(2.00-5.00)"]  # the median of 3, 2 and 5
    assert "50.0% / 20.0%" in tables.costs(train, settings)
    infer = {
        "rounds": {"1": {"native": [one_round(2.0)], "transformers": [one_round(6.0)]}},
        "equal": {"1": {"native": 4, "transformers": 3}},
    }
    last = tables.inference(infer, 4).splitlines()[-1].split()
    assert last[:5] == ["transformers", "1", "0.7", "(0.7-0.7)", "3.00"] and last[-3:] == [
        *("3", "of", "4")
    ]
    assert json.dumps(tables.render({"left_out": ["t5x: no --t5x"]})) == '"left out: t5x: no --t5x"'
