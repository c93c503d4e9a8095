"""T5 v1.1 XXL on 64, 256 and 1,024 chips of v5p, on paper: steps, input, checkpoints, lost work.

    python benchmarks/scaling.py --out scaling.jsonl [--estimate] [--only v5p:4x4x4]
    python benchmarks/scaling.py --predict_rows 64

The second command compiles the decoding of so many rows on one chip, as `distill predict` runs it.

Each case is compiled by `distill preflight`, in a process of its own (`preflight_table.measure`).
Cases that --out has already are not run again. The tables at the end are computed from the
reports and from the assumptions, which are flags:

- A step takes the minimum that preflight computes. A real one takes longer, so a host needs fewer
  pairs per second than the table says, and an optimum in steps is fewer steps.
- Every host prepares the whole batch; --pairs_per_core is what benchmarks/feed_rate.py measures.
- Hosts write equal shares of a checkpoint, each at --bandwidth, all together at --bucket_bandwidth.
  Training is assumed to stop meanwhile; in fact it stops only while the state is copied to the
  host's memory. With INIT_FROM every host reads all parameters, at the same two rates.
- Preemptions come at random, once in --mean_hours on average. One loses half a save period and
  --restart_minutes. The optimum is that of J. W. Young, "A first order approximation to the optimum
  checkpoint interval", Communications of the ACM 17(9), 1974, doi:10.1145/361147.361115.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys

from benchmarks import preflight_table
from distill.common import table

# As in preflight_table: size, slice, mesh file, pairs a batch, parts of a batch, recomputation.
# First 4 rows a chip, then the same batch on all slices.
CASES = (
    ("xxl", "v5p:4x4x4", "v5p_slice", 128, 1, None),
    ("xxl", "v5p:4x8x8", "v5p_slice", 512, 1, None),
    ("xxl", "v5p:8x8x16", "v5p_slice", 2048, 1, None),
    ("xxl", "v5p:4x4x4", "v5p_slice", 512, 4, None),
    ("xxl", "v5p:8x8x16", "v5p_slice", 512, 1, None),
)
CHIPS_OF_HOST = 4
GB, GIB = 1e9, 2**30


def optimum(save_seconds: float, mean_seconds: float) -> float:
    """Young's time between two checkpoints, in seconds.

    Args:
      save_seconds: that a checkpoint stops training for.
      mean_seconds: between two preemptions.
    """
    return math.sqrt(2 * save_seconds * mean_seconds)


def lost_share(
    period: float, save_seconds: float, mean_seconds: float, restart_seconds: float
) -> float:
    """The share of the time that checkpoints and preemptions take, to first order.

    Args:
      period: seconds between two checkpoints.
      save_seconds: that a checkpoint stops training for.
      mean_seconds: between two preemptions.
      restart_seconds: from a preemption to the next step.
    """
    return save_seconds / period + (period / 2 + restart_seconds) / mean_seconds


def state_bytes(found: dict) -> float:
    """Bytes of a checkpoint; arrays that are not split count once a chip, which is little."""
    memory = found["bytes_per_chip"]
    return found["chips"] * (memory["parameters"] + memory["optimizer"])


def transfer_seconds(each: float, hosts: int, options: argparse.Namespace) -> float:
    """Seconds in which every host moves `each` bytes from or to a bucket."""
    return max(each / options.bandwidth, hosts * each / options.bucket_bandwidth) / GB


def step_row(found: dict, pairs_per_core: float) -> list[str]:
    """Cells of the first table."""
    pairs = found["case"][3]
    rate = pairs / found["step_seconds_bound"]
    return [
        f"{found['chips']:,}",
        f"{pairs:,}",
        f"{found['batch']['rows'] / found['chips']:g}",
        f"{found['peak_bytes_per_chip'] / GIB:.1f}",
        f"{found['step_seconds_bound']:.2f}" + (" (estimate)" if found["estimate"] else ""),
        found["bound_by"],
        f"{rate:,.0f}",
        f"{rate / pairs_per_core:.2f}",
    ]


def loss_rows(found: dict, options: argparse.Namespace) -> list[list[str]]:
    """Cells of the second table, a row for each of --mean_hours."""
    total, hosts = state_bytes(found), found["chips"] // CHIPS_OF_HOST
    parameters = found["chips"] * found["bytes_per_chip"]["parameters"]
    save = transfer_seconds(total / hosts, hosts, options)
    first = transfer_seconds(parameters, hosts, options)
    rows = []
    for hours in options.mean_hours:
        period = optimum(save, hours * 3600)
        lost = lost_share(period, save, hours * 3600, options.restart_minutes * 60)
        rows.append(
            [
                f"{found['chips']:,}",
                f"{total / GB:.0f}",
                f"{total / hosts / GB:.2f}",
                f"{save:.1f}",
                f"{first:.0f}",
                f"{hours:g}",
                f"{period / 60:.1f}",
                f"{period / found['step_seconds_bound']:,.0f}",
                f"{period / 120 + options.restart_minutes:.1f}",
                f"{lost:.1%}",
            ]
        )
    return rows


def render(reports: list[dict], options: argparse.Namespace) -> str:
    """Both tables."""
    first: dict[int, dict] = {}
    for found in reports:
        first.setdefault(found["chips"], found)
    steps = table.render_columns(
        ("chips", "pairs", "rows/chip", "GiB/chip", "s/step", "bound by", "pairs/s", "cores"),
        [step_row(found, options.pairs_per_core) for found in reports],
        ">>>>>",
    )
    losses = table.render_columns(
        (
            "chips",
            "GB",
            "GB/host",
            "write s",
            "init s",
            "mean h",
            "save min",
            "steps",
            "lost min",
            "lost",
        ),
        [row for found in first.values() for row in loss_rows(found, options)],
        ">" * 10,
    )
    return f"{steps}\n\n{losses}"


def predict_on_one_chip(rows: int) -> str:
    """What a chip of v5p needs to decode labels with the whole student."""
    from distill.config.resolve import resolve
    from distill.preflight import chips
    from distill.preflight import compile as compiling
    from distill.training.mesh import make_mesh
    from distill.training.program import make_program

    words = preflight_table.command(CASES[0])
    files = [word.partition("=")[2] for word in words if word.startswith("--gin_file=")]
    macros = [word.removeprefix("--gin.") for word in words if word.startswith("--gin.")]
    files.append("gin/sizes/xxl.gin")
    config = resolve(files, [*macros, f"EVAL_BATCH_SIZE={rows}"]).run
    devices = compiling.topology_devices(chips.topology("v5p:2x2x1"))[:1]
    program = make_program(config, make_mesh(1, devices))
    compiled = compiling.compile_decoding(config, program, config.data.target_length)
    verdict = "fit" if compiled.fits else "do not fit"
    return f"{rows} rows {verdict} on a chip of v5p: {compiled.peak_bytes / GIB:.1f} of 95 GiB"


def main() -> None:
    """Runs what is missing, prints both tables."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--out", default="scaling.jsonl")
    parser.add_argument("--predict_rows", type=int, help="compile this instead")
    parser.add_argument("--only", default="", help="the slice of the cases to run")
    parser.add_argument("--estimate", action="store_true", help="do not compile")
    parser.add_argument("--bandwidth", type=float, default=1.0, help="GB/s of a host")
    parser.add_argument("--bucket_bandwidth", type=float, default=25.0, help="GB/s of all hosts")
    parser.add_argument("--mean_hours", type=float, nargs="+", default=[1.0, 6.0, 24.0])
    parser.add_argument("--restart_minutes", type=float, default=15.0)
    parser.add_argument("--pairs_per_core", type=float, default=24_000.0)
    options = parser.parse_args()
    if options.predict_rows:
        print(predict_on_one_chip(options.predict_rows))
        return
    flags = ["--estimate"] if options.estimate else ["--no_decoding"]
    path = pathlib.Path(options.out)
    lines = path.read_text().splitlines() if path.exists() else []
    done = {tuple(json.loads(line)["case"]): json.loads(line) for line in lines}
    for case in CASES:
        if case in done or (options.only and case[1] != options.only):
            continue
        done[case] = preflight_table.measure(case, *flags)
        with path.open("a") as file:
            file.write(json.dumps(done[case]) + "\n")
        print(f"{case}: {done[case]['cpu_seconds']:.0f} CPU s", file=sys.stderr, flush=True)
    print(render([done[case] for case in CASES if case in done], options))


if __name__ == "__main__":
    main()
