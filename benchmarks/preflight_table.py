"""The typical results of docs/preflight.md, one process each: what preflight says and costs.

    python benchmarks/preflight_table.py --out table.jsonl [--only base] [--estimate] [--decoding]

Each case is a process of its own, whose CPU seconds and peak memory are the system's figures for
it. Cases that --out has already are not run again. At the end the table is printed.
With --decoding, that of 128 labels is compiled after the step; its peak is the last column.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

COMMON = (
    "--gin_file=gin/experiments/esnli_mini_step_by_step.gin",
    "--gin.RAW_DIR=none",
    "--gin.VOCABULARY_PATH=none",
    "--gin.INPUT_LENGTH=1024",
    "--gin.TARGET_LENGTH=256",
    "--gin.OPTIMIZER=adamw",
    "--gin.EMBED_INIT=1.0",
    "--gin.DROPOUT_RATE=0.1",
)
# Size, slice, mesh file, pairs a batch, parts of a batch, recomputation (None: the mesh file's).
CASES = (
    ("base", "v5e:2x2", "v5e_host", 64, 8, None),
    ("large", "v5e:4x4", "v5e_slice", 64, 1, None),
    ("large", "v4:2x2x2", "v4_slice", 64, 1, None),
    ("xl", "v5p:2x2x2", "v5p_slice", 64, 1, None),
    ("xl", "v6e:4x4", "v6e_slice", 64, 1, None),
    ("xxl", "v4:4x4x4", "v4_slice", 32, 1, None),
    ("xxl", "v5p:4x4x4", "v5p_slice", 32, 1, None),
    ("xxl", "v6e:8x8", "v6e_slice", 32, 1, None),
    ("xxl", "v7:2x2x4", "v7_slice", 32, 1, None),
)


def command(case: tuple, *flags: str) -> list[str]:
    """The command line of a case."""
    size, topology, mesh, pairs, parts, remat = case
    arguments = [
        sys.executable,
        "-m",
        "distill.cli",
        "preflight",
        *COMMON,
        f"--size={size}",
        f"--topology={topology}",
        f"--gin.BATCH_SIZE={pairs}",
        f"--gin.MICROBATCHES={parts}",
    ]
    # The mesh file comes after the experiment's own.
    arguments.insert(5, f"--gin_file=gin/meshes/{mesh}.gin")
    if remat:
        arguments.append(f"--gin.REMAT={remat}")
    return [*arguments, "--json", *flags]


def measure(case: tuple, *flags: str) -> dict[str, object]:
    """Runs a case: what it printed, its CPU seconds and peak memory."""
    child = subprocess.Popen(command(case, *flags), stdout=subprocess.PIPE)
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{case}: exit status {status}")
    found = json.loads(out)
    return found | {
        "case": list(case),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "host_gib": usage.ru_maxrss / 2**20,
    }


def row(found: dict) -> str:
    """A line of the table."""
    size, topology, _, pairs, parts, _ = found["case"]
    own = found["settings"]
    return (
        f"| {size}, {topology} | {pairs} | {parts}, {own['REMAT']} | "
        f"{'yes' if found['fits'] else 'no'} | {found['peak_bytes_per_chip'] / 2**30:.1f} of "
        f"{found['hbm_bytes_per_chip'] / 2**30:.1f} | {found['flops_per_chip'] / 1e12:.1f} | "
        f"{found['hbm_traffic_per_chip'] / 1e9:.0f} | "
        f"{found['collective_bytes_per_chip'] / 1e9:.1f} | {found['step_seconds_bound']:.2f} | "
        f"{found['bound_by']} | {found['cpu_seconds']:.0f} | {found['host_gib']:.1f} |"
        + (
            f" {found['decoding']['peak_bytes_per_chip'] / 2**30:.1f} |"
            if "decoding" in found
            else ""
        )
    )


def main() -> None:
    """Runs what is missing, prints all."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--out", required=True)
    parser.add_argument("--only", default="", help="cases whose 'size, slice' starts with this")
    parser.add_argument("--estimate", action="store_true")
    parser.add_argument("--decoding", action="store_true")
    options = parser.parse_args()
    flags = [] if options.decoding else ["--no_decoding"]
    flags += ["--estimate"] if options.estimate else []
    path = pathlib.Path(options.out)
    lines = path.read_text().splitlines() if path.exists() else []
    done = {tuple(json.loads(line)["case"]): json.loads(line) for line in lines}
    for case in CASES:
        if case in done or not ", ".join(case[:2]).startswith(options.only):
            continue
        done[case] = measure(case, *flags)
        with path.open("a") as file:
            file.write(json.dumps(done[case]) + "\n")
        print(row(done[case]), file=sys.stderr, flush=True)
    print("\n".join(row(done[case]) for case in CASES if case in done))


if __name__ == "__main__":
    main()
