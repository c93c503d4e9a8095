"""Native's training step and decoding against transformers on PyTorch, on one card.

    PYTHONPATH=. python3 benchmarks/gpu_train.py --out gpu.json
    PYTHONPATH=. python3 benchmarks/gpu_train.py --size tiny --steps 3 --device cpu --out cpu.json

Needs the repository, jax, flax, optax, torch and transformers: no TensorFlow, SeqIO, gin, network
or data. Each measurement is a process of its own (gpu_native.py, gpu_torch.py), so that the memory
of the card is free before it; the processes alternate, round after round. Each gives the median of
many steps; the table has the median of the rounds, least and most in brackets.

MFU divides the products of the unpadded sequences (`distill.preflight.count`), three forward
passes, by the step's time and by the fastest product of bfloat16 matrices of 8192 that JAX or
PyTorch made in this run. The JSON is written after every process: what was measured stays when
time runs out (--budget) or a process fails, and the table then says what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import gpu_workload as workload
from benchmarks.gpu_torch import SETTINGS
from distill.common.table import render_columns
from distill.data.batching.batches import FLAT, PACKED

ROOT = Path(__file__).resolve().parents[1]
LAYOUTS = (FLAT, "128x64")
INFER_ROWS = 512
# On a CPU the script is only tried out.
SMALL = {"batch": 8, "infer-rows": 16, "matmul": 256, "warmup": 1, "passes": 2, "group": 1}


def variants(options: argparse.Namespace) -> dict[str, list[str]]:
    """The arguments of each process of a round, in their order; native and PyTorch alternate."""
    native = [
        (f"native {layout}", ["gpu_native.py", *_layout(layout), "--remat", options.remat])
        for layout in options.layouts
    ]
    if options.scan_layers:
        for _, arguments in native:
            arguments.append("--scan-layers")
    torch = [
        (f"torch {setting}", ["gpu_torch.py", "--setting", setting]) for setting in options.torch
    ]
    for of_kind in (native, torch):
        if of_kind:
            of_kind[0][1].append(f"--infer-rows={options.infer_rows}")
    order = []
    for index in range(max(len(native), len(torch))):
        order += native[index : index + 1] + torch[index : index + 1]
    return dict(order)


def _layout(name: str) -> list[str]:
    """The flags of gpu_native.py for a name of `--layouts`; raises as `workload.layout` does."""
    if name == FLAT:
        return [f"--batches={FLAT}"]
    return [f"--batches={PACKED}", "--layout={}x{}".format(*workload.layout(name))]


def run(arguments: Sequence[str], options: argparse.Namespace, seconds: float) -> dict:
    """Runs one process, whose output goes to stderr.

    Args:
      arguments: script and flags of a variant.
      options: the flags that all processes share.
      seconds: after which it is killed.

    Returns:
      Its report, what there is of it; "error" says why it ended early, "wall_seconds" how long
      it took.
    """
    shared = ("size", "batch", "device", "steps", "warmup", "group", "passes", "matmul", "dtype")
    script, *flags = arguments
    flags += [f"--{name}={getattr(options, name)}" for name in shared]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "JAX_COMPILATION_CACHE_DIR": str(options.compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        # Memory is taken as it is needed; the peak that is reported is of bytes in use.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "HF_HUB_OFFLINE": "1",
    }
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        command = [sys.executable, str(ROOT / "benchmarks" / script), *flags, f"--out={out}"]
        error = None
        try:
            code = subprocess.run(command, env=environment, stdout=sys.stderr, timeout=seconds)
            error = f"exit code {code.returncode}" if code.returncode else None
        except subprocess.TimeoutExpired:
            error = f"stopped after {seconds:.0f} s"
        report = json.loads(out.read_text()) if out.exists() else {}
    if error:
        report["error"] = error
    return report | {"wall_seconds": time.monotonic() - start}


def rounds(options: argparse.Namespace, result: dict) -> None:
    """Fills `result["runs"]` and writes it after each process, until rounds or time are over.

    Attention is timed once, after the second round: what is compared comes first.
    """
    deadline = time.monotonic() + options.budget
    attention = ["gpu_native.py", "--attention"]
    for number in range(options.rounds):
        order = variants(options)
        if options.attention and number == min(1, options.rounds - 1):
            order["attention"] = attention
        for name, arguments in order.items():
            runs = result["runs"].setdefault(name, [])
            label = f"round {number + 1} of {name}"
            left = deadline - time.monotonic()
            if runs and "error" in runs[-1]:
                continue
            if left < expected_seconds(runs):
                result["left_out"].append(f"{label}: {left:.0f} s of {options.budget:.0f} left")
                _write(options.out, result)
                continue
            print(label, file=sys.stderr, flush=True)
            runs.append(run(arguments, options, left))
            if "error" in runs[-1]:
                result["left_out"].append(f"{label}: {runs[-1]['error']}")
            result["summary"] = summary(result["runs"], options.batch)
            _write(options.out, result)


def _write(out: Path, result: Mapping) -> None:
    out.write_text(json.dumps(result, indent=1) + "\n")


def expected_seconds(runs: Sequence[Mapping]) -> float:
    """How long the next process of a variant may take, after those that ran.

    The first call of each program compiles. It counts for a third of its time, because later
    processes read the compiled program from disk.
    """
    if not runs:
        return 20.0
    last = runs[-1]
    first = last.get("train", {}).get("first_step_seconds", 0.0)
    first += last.get("infer", {}).get("first_pass_seconds", 0.0)
    return last["wall_seconds"] - 2 * first / 3


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summary(runs: Mapping[str, Sequence[Mapping]], batch: int) -> dict:
    """What the table shows of each variant, over its rounds."""
    bounds = [r["matmul_flops_per_second"] for of in runs.values() for r in of if "train" in r]
    found: dict = {"matmul_flops_per_second": max(bounds, default=None), "variants": {}}
    for name, of_variant in runs.items():
        trained = [r["train"] for r in of_variant if "train" in r]
        if not trained:
            continue
        seconds = [t["step_seconds"]["median"] for t in trained]
        flops = [t["useful_flops"] for t in trained]
        row = {
            "pairs_per_second": spread([batch / s for s in seconds]),
            "step_milliseconds": spread([1000 * s for s in seconds]),
            "useful_tera_flops_per_step": flops[0] / 1e12,
            "mfu": spread([f / s / max(bounds) for f, s in zip(flops, seconds, strict=True)]),
            # The first round's has what compiling took beside the step.
            "peak_bytes": min(t["peak_bytes"] for t in trained),
            "padding": [
                1 - trained[0][f"{side}_tokens"] / trained[0][f"{side}_positions"]
                for side in ("encoder", "decoder")
            ],
            "first_step_seconds": spread([t["first_step_seconds"] for t in trained]),
        }
        inferred = [r["infer"] for r in of_variant if "infer" in r]
        if inferred:
            speeds = [i["rows"] / i["pass_seconds"]["median"] for i in inferred]
            row["inference_rows_per_second"] = spread(speeds)
            row["inference_tokens_per_row"] = inferred[0]["tokens_per_row"]
        found["variants"][name] = row
    found["ratios"] = _ratios(found["variants"])
    return found


def _ratios(rows: Mapping[str, Mapping]) -> dict[str, float]:
    """The best native variant over the best PyTorch one, for training and inference."""
    ratios = {}
    for what in ("pairs_per_second", "inference_rows_per_second"):
        best = {
            kind: max(
                (r[what]["median"] for n, r in rows.items() if n.startswith(kind) and what in r),
                default=None,
            )
            for kind in ("native", "torch")
        }
        if all(best.values()):
            ratios[what] = best["native"] / best["torch"]
    return ratios


def table(found: Mapping) -> str:
    """The summary as text."""
    header = (
        "variant",
        "pairs/s",
        "step, ms",
        "MFU",
        "peak GiB",
        "padding",
        "first step, s",
        "inference rows/s",
    )
    lines = [
        (
            name,
            _cell(row["pairs_per_second"], "{:.1f}"),
            _cell(row["step_milliseconds"], "{:.1f}"),
            f"{row['mfu']['median']:.1%}",
            f"{row['peak_bytes'] / 2**30:.2f}",
            " / ".join(f"{share:.0%}" for share in row["padding"]),
            f"{row['first_step_seconds']['most']:.0f}",
            _cell(row.get("inference_rows_per_second"), "{:.0f}"),
        )
        for name, row in found["variants"].items()
    ]
    return render_columns(header, lines, "<" + ">" * 7, rule=True)


def _cell(values: Mapping[str, float] | None, form: str) -> str:
    if values is None:
        return "-"
    median, least, most = (form.format(values[key]) for key in ("median", "least", "most"))
    return f"{median} ({least}-{most})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="the JSON file to write")
    parser.add_argument(
        "--size", default="base", choices=workload.sizes(), help="a file of gin/sizes"
    )
    parser.add_argument("--batch", type=int, help="pairs a step, rows a decoded batch (64)")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of a process")
    parser.add_argument("--warmup", type=int, help="steps before the clock starts (10)")
    parser.add_argument("--group", type=int, help="steps between two waits for the card (5)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument(
        "--layouts",
        nargs="+",
        default=LAYOUTS,
        help="of native's batches: flat, or packed to INPUT_LENGTHxTARGET_LENGTH",
    )
    parser.add_argument("--remat", default="none", help="native's macro REMAT")
    parser.add_argument("--scan-layers", action="store_true", help="native's SCAN_LAYERS = True")
    parser.add_argument(
        "--torch", nargs="*", default=("sdpa", "eager"), choices=SETTINGS, help="its settings"
    )
    parser.add_argument("--infer-rows", type=int, help=f"inputs to decode ({INFER_ROWS})")
    parser.add_argument("--passes", type=int, help="timed passes over them (5)")
    parser.add_argument("--matmul", type=int, help="size of the bound's matrices (8192)")
    parser.add_argument("--attention", action="store_true", help="time attention alone as well")
    parser.add_argument("--budget", type=float, default=440.0, help="seconds in which to end")
    parser.add_argument("--compiled", type=Path, help="folder of compiled programs")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, writes the JSON and prints the table; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    for text in options.layouts:
        try:
            _layout(text)
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument --layouts: {error}")
    full = {"batch": 64, "infer-rows": INFER_ROWS, "matmul": 8192, "warmup": 10, "passes": 5}
    for name, value in (full | {"group": 5}).items():
        field = name.replace("-", "_")
        if getattr(options, field) is None:
            setattr(options, field, value if options.device == "cuda" else SMALL[name])
    with tempfile.TemporaryDirectory() as scratch:
        options.compiled = options.compiled or Path(scratch)
        result: dict = {
            "settings": {
                name: value
                for name, value in vars(options).items()
                if name not in ("compiled", "out")
            },
            "machine": {"python": platform.python_version(), "cpus": os.cpu_count()},
            "runs": {},
            "left_out": [],
        }
        rounds(options, result)
    found = result.get("summary", {"variants": {}})
    if not found["variants"]:
        print("nothing was measured: " + "; ".join(result["left_out"]), file=sys.stderr)
        return 1
    print(table(found))
    print(f"bfloat16 matmul bound: {found['matmul_flops_per_second'] / 1e12:.1f} TFLOP/s")
    for what, ratio in found["ratios"].items():
        print(f"best native / best PyTorch, {what.replace('_', ' ')}: {ratio:.2f}")
    for run_of_attention in result["runs"].get("attention", []):
        for name, value in run_of_attention.get("attention", {}).items():
            print(f"attention {name}: {value if isinstance(value, str) else f'{value:.2f} ms'}")
    for line in result["left_out"]:
        print(f"left out: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
