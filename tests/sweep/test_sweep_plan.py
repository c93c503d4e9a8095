"""Plans: combinations against brute force, ids, equal configurations, shards, the work list."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill import cli
from distill.common.progress import Progress
from distill.config.resolve import resolve
from distill.errors import UserError
from distill.sweep import file, plan, work_list
from distill.sweep.axes import Axis, Choice
from distill.sweep.file import Sweep

NAMES = "abcd"


def test_the_checks_of_many_runs_show_their_progress(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(plan, "Progress", functools.partial(Progress, period=0, say=lines.append))
    assert len(plan.make_plan(file.read_sweep("smoke"))) == 2
    assert lines[0].startswith("checking the configurations: 1/2 runs")


@st.composite
def sweeps(draw):
    """A sweep of up to four axes, some of them zipped, and rules."""
    count = draw(st.integers(0, 4))
    sizes = [draw(st.integers(1, 3)) for _ in range(count)]
    groups: dict[int, list[str]] = {}
    for name, size in zip(NAMES, sizes, strict=False):
        if draw(st.booleans()):
            groups.setdefault(size, []).append(name)
    zips = tuple(tuple(group) for group in groups.values() if len(group) > 1)
    axes = tuple(
        Axis(name, tuple(Choice(value) for value in range(size)))
        for name, size in zip(NAMES, sizes, strict=False)
    )
    seeds = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True)))
    rules = []
    for _ in range(draw(st.integers(0, 2))):
        keys = draw(st.lists(st.sampled_from([*NAMES[:count], "seed"]), min_size=1, unique=True))
        sides = {**dict(zip(NAMES, map(range, sizes), strict=False)), "seed": seeds}
        rules.append(
            {k: tuple(draw(st.lists(st.sampled_from(list(sides[k])), min_size=1))) for k in keys}
        )
    return Sweep("x", "", "x", "x", (), {}, seeds, axes, zips, tuple(rules))


def _brute_force(sweep):
    """Every assignment of values and seeds that the zips and rules allow."""
    names = [axis.name for axis in sweep.axes]
    sides = [range(len(axis.choices)) for axis in sweep.axes]
    found = set()
    for values in itertools.product(*sides, sweep.seeds):
        one = dict(zip([*names, "seed"], values, strict=True))
        if all(len({one[name] for name in group}) == 1 for group in sweep.zips) and not any(
            all(one[key] in allowed for key, allowed in rule.items()) for rule in sweep.exclude
        ):
            found.add(values)
    return found


@given(sweeps())
@settings(max_examples=200)
def test_combinations_are_those_of_brute_force(sweep):
    expected = _brute_force(sweep)
    try:
        found = plan.combinations(sweep)
    except UserError as error:
        useless = "excludes no combination" in str(error)
        assert useless or not expected
        return
    rows = [(*(choice.value for choice in c.values()), seed) for c, seed in found]
    assert set(rows) == expected and len(rows) == len(expected)
    # Each shard takes its part, and all together are the plan.
    for count in (1, 2, 3):
        parts = [work_list.take_shard(rows, index, count) for index in range(1, count + 1)]
        assert sorted(row for part in parts for row in part) == sorted(rows)


TEXT = """
seeds = [1, 2]
gin_files = ["tickets_finetune"]
[macros]
{macros}
{axes}
"""
MACROS = ["NUM_TEST = 24", "BATCH_SIZE = 8", "TRAIN_STEPS = 120"]
AXES = [
    '[axes.labels]\nmacro = "NUM_LABELS"\nvalues = [40, 60]',
    '[axes.method.settings]\nfinetune = {}\nsbs = { gin_files = ["tickets_step_by_step"] }',
    '[axes.rate]\nmacro = "LEARNING_RATE"\nvalues = [0.1]',
]


def _ids(write_sweep, macros, axes):
    text = TEXT.format(macros="\n".join(macros), axes="\n".join(axes))
    return {run.id: run.digest for run in plan.make_plan(file.read_sweep(write_sweep(text)))}


def test_ids_do_not_depend_on_the_order_of_keys(write_sweep):
    ids = _ids(write_sweep, MACROS, AXES)
    assert len(ids) == len(set(ids.values())) == 8
    for macros, axes in zip(
        itertools.permutations(MACROS), itertools.permutations(AXES), strict=True
    ):
        assert _ids(write_sweep, macros, axes) == ids
    assert all(run.endswith(digest[:8]) for run, digest in ids.items())
    changed = _ids(write_sweep, [*MACROS[:2], "TRAIN_STEPS = 130"], AXES)
    assert not ids.keys() & changed.keys()


def test_a_digest_does_not_change_with_macros_that_have_their_default():
    resolved = resolve(["tickets_step_by_step"])
    lines = resolved.text.splitlines(keepends=True)
    before = [line for line in lines if not line.startswith(("RATIONALE_SOURCE", "Z_LOSS"))]
    assert len(before) == len(lines) - 2
    older = dataclasses.replace(resolved, text="".join(before))
    assert plan.config_digest(older) == plan.config_digest(resolved)
    for change in ("Z_LOSS=0.1", "NUM_LABELS=60"):
        changed = resolve(["tickets_step_by_step"], [change])
        assert plan.config_digest(changed) != plan.config_digest(resolved)


def test_equal_configurations_are_found(write_sweep):
    text = 'gin_files = ["tickets_finetune"]\n[axes.a.settings]\nx = {}\n'
    text += "y = { macros = { NUM_LABELS = 500 } }\nz = { macros = { NUM_LABELS = 501 } }\n"
    runs = plan.make_plan(file.read_sweep(write_sweep(text)))
    assert [[run.axes["a"] for run in group] for group in plan.equal_runs(runs)] == [["x", "y"]]


def test_the_work_list_has_commands_of_the_same_runs(write_sweep, tmp_path, capsys):
    from distill.config.resolve import resolve

    path = write_sweep(TEXT.format(macros='LABEL_PREFIX = "it\'s $1 "', axes="\n".join(AXES)))
    runs = {run.id: run for run in plan.make_plan(file.read_sweep(path))}
    assert cli.main(["sweep", str(path), "--out=gs://b/out", "--list", "--json"]) == 0
    items = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["run"] for item in items] == list(runs)
    shards = []
    for index in (1, 2, 3):
        flags = ["--out=gs://b/out", "--list", f"--shard={index}/3"]
        assert cli.main(["sweep", str(path), *flags]) == 0
        shards.append(capsys.readouterr().out.splitlines())
    assert sorted(line for shard in shards for line in shard) == sorted(
        shlex.join(item["command"]) for item in items
    )
    for item in items:
        words = shlex.split(shlex.join(item["command"]))
        assert words[:2] == ["distill", "train"]
        assert words[-1] == f"--run_dir=gs://b/out/runs/{item['run']}"
        given, overrides = cli._split_overrides(words[2:-1])
        gin_files = [text.removeprefix("--gin_file=") for text in given]
        resolved = resolve(gin_files, overrides)
        assert plan.config_digest(resolved) == runs[item["run"]].digest


def test_a_dry_run_says_what_is_left(write_sweep, tmp_path, capsys):
    path = write_sweep(TEXT.format(macros="TRAIN_STEPS = 120", axes=AXES[0]))
    out = tmp_path / "out"
    assert cli.main(["sweep", str(path), f"--out={out}", "--dry_run", "--workers=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["40", "1", "120", "new"]
    assert lines[-1].startswith("4 runs: 0 done, 4 left with 480 steps, 3 at once; no estimate")
    assert not out.exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    for flag in ("--dry_run", "--list"):
        assert cli.main(["sweep", str(path), f"--out={tmp_path / 'other'}", flag]) == 2
        assert "(it contains notes.txt) and has no results of a sweep" in capsys.readouterr().err
    runs = plan.make_plan(file.read_sweep(path))
    for run, step in zip(runs, (120, 40), strict=False):
        (out / "runs" / run.id / "checkpoints" / str(step)).mkdir(parents=True)
    assert cli.main(["sweep", str(path), f"--out={out}", "--dry_run", "--workers=3"]) == 0
    assert "4 runs: 0 done, 4 left with 320 steps" in capsys.readouterr().out


def test_memory_bounds_the_workers(write_sweep, monkeypatch):
    from distill.sweep import memory

    run = plan.make_plan(file.read_sweep(write_sweep(TEXT.format(macros="", axes=""))))[0]
    needed = memory.run_bytes(run.resolved.run)
    assert needed > 2**30
    monkeypatch.setattr(memory, "has_accelerator", lambda: False)
    for factor, expected in ((0.1, 1), (1.5, 1), (2.5, 2), (50, 4)):
        monkeypatch.setattr(memory, "available_bytes", lambda f=factor: f * needed)
        assert memory.worker_count(4, [run.resolved.run] * 9)[0] == expected
    assert memory.worker_count(4, [run.resolved.run] * 2)[0] == 2
    monkeypatch.setattr(memory, "has_accelerator", lambda: True)
    assert memory.worker_count(4, [run.resolved.run] * 9)[0] == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 4 kB\n"}, 4096),
        ({"proc/meminfo": "MemAvailable: 4 kB\n", "sys/fs/cgroup/memory.max": "max"}, 4096),
        (
            {
                "proc/meminfo": "MemAvailable: 4 kB\n",
                "sys/fs/cgroup/memory.max": "3000",
                "sys/fs/cgroup/memory.current": "1000",
            },
            2000,
        ),
        ({}, None),
    ],
)
def test_free_memory_is_within_the_limit_of_the_container(files, expected, tmp_path):
    from distill.preflight.host_memory import available_bytes

    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_bytes(str(tmp_path)) == expected
