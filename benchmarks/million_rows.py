"""What a long JSONL file costs: making the cache, opening it again, reading rows, checking them.

    python benchmarks/million_rows.py --rows 100000 1000000 --vocabulary bytes
    python benchmarks/million_rows.py --rows 100000 1000000 --parts check

Each part runs in a process of its own, so that its peak of memory is its own. `build` and
`open` begin with a process that has imported everything (its memory is shown as `before`). `check`
is `distill data check`; where it is the only part, no two rows have the same input or rationale.
Memory is the peak of the resident set without mapped file pages, which the system may take
back at any time (VmHWM would count them): the highest RssAnon of samples every 10 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence

PARTS = ("build", "open", "check")
BATCH_SIZE = 16
MINI_STEPS_PER_SECOND = 1.5
ITEMS = ("fan", "coat", "lamp", "cheese", "kettle", "scarf", "radio", "bread", "drill", "shirt")
FAULTS = ("burnt", "torn", "ugly", "broken", "dull", "loud", "cracked", "boring")
TIMES = ("yesterday", "in march", "last week", "two years ago", "this morning")
LABELS = ("replace", "repair", "refund", "refuse")


def write(path: pathlib.Path, rows: int, distinct: bool = False) -> None:
    """Writes rows of invented tickets with labels and rationales, about 150 bytes each."""
    generator = random.Random(rows)
    with path.open("w") as file:
        for number in range(rows):
            item, fault, when = map(generator.choice, (ITEMS, FAULTS, TIMES))
            ticket, why = (number, f" , case {number}") if distinct else (number % 5000, "")
            fields = {
                "input": f"ticket {ticket} my {item} seems {fault} . i bought it {when} .",
                "label": generator.choice(LABELS),
                "rationale": f"{item} with {fault} , bought {when}{why}",
            }
            file.write(json.dumps(fields) + "\n")


def resident(field: str = "RssAnon") -> float:
    """MB of this process."""
    status = pathlib.Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def peak_during(work: Callable[[], object]) -> tuple[object, float, float]:
    """Result of `work`, its seconds, and the highest memory in MB while it ran."""
    highest, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            highest.append(max(highest.pop(), resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        result = work()
    finally:
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    return result, seconds, max(highest[0], resident())


def part(name: str, folder: pathlib.Path, vocabulary: str) -> dict[str, float]:
    """One of the parts, in this process."""
    if name == "check":
        return check(folder)
    began = time.perf_counter()
    import tasks  # noqa: F401  registers the datasets
    from distill.config.data import DataSpec
    from distill.config.weighting import Weighting
    from distill.data import cache, datasets
    from distill.data.batching.batches import BatchStream

    options = {"train_file": str(folder / "train.jsonl"), "test_file": str(folder / "test.jsonl")}
    spec = DataSpec(
        "jsonl",
        "step_by_step",
        validation_fraction=0.01,
        vocabulary=vocabulary,
        input_length=160,
        target_length=96,
        dataset_options={**options, "labels": LABELS},
    )
    imports, before = time.perf_counter() - began, resident()
    if name == "build":
        _, seconds, peak = peak_during(lambda: cache.load_cache(spec))
        return {"build_s": seconds, "before_mb": before, "peak_mb": peak}

    def start() -> tuple[cache.TokenCache, BatchStream]:
        tokens = cache.load_cache(spec)
        cache.vocabulary_of(spec)
        weighting = Weighting(0.5, 0.5, "per_sequence", "paired_batches")
        return tokens, BatchStream(tokens, spec, weighting, BATCH_SIZE, seed=0)

    began = time.perf_counter()
    datasets.content_digest(spec)
    digest = time.perf_counter() - began
    (tokens, stream), seconds, peak = peak_during(start)
    found = {
        "imports_s": imports,
        "open_s": seconds,
        "digest_s": digest,
        "open_peak_mb": peak - before,
    }
    rows = tokens.rows["train"]
    order = stream._permute(0)[:20_000]
    began = time.perf_counter()
    for index in order:
        _ = rows[int(index)]
    found["rows_per_s"] = len(order) / (time.perf_counter() - began)
    began = time.perf_counter()
    for step in range(2000):
        stream.batch(step)
    found["pairs_per_s"] = 2000 * BATCH_SIZE / (time.perf_counter() - began)
    found["times_mini"] = found["pairs_per_s"] / (MINI_STEPS_PER_SECOND * BATCH_SIZE)
    return found


def check(folder: pathlib.Path) -> dict[str, float]:
    """`distill data check` on rows of files."""
    from distill import cli

    argv = ["data", "check", f"--input={folder / 'train.jsonl'}", "--json"]
    argv += [f"--test_input={folder / 'test.jsonl'}"]
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        code, seconds, peak = peak_during(lambda: cli.main(argv))
    if code:
        sys.exit("the check failed")
    cpu = time.process_time() - began
    return {"check_s": seconds, "check_cpu_s": cpu, "check_peak_mb": peak}


def measure(
    rows: int, parts: Sequence[str], vocabulary: str, folder: pathlib.Path
) -> dict[str, float]:
    """Parts for one number of rows, each in a process of its own."""
    write(folder / "train.jsonl", rows, distinct=parts == ["check"])
    write(folder / "test.jsonl", 200)
    found: dict[str, float] = {
        "rows": rows,
        "file_mb": (folder / "train.jsonl").stat().st_size / 1e6,
    }
    environment = os.environ | {"DISTILL_CACHE_DIR": str(folder / "cache")}
    for name in parts:
        command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
        done = subprocess.run(
            [*command, "--vocabulary", vocabulary], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints a line of JSON for each number of rows."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--vocabulary", default="bytes", choices=("bytes", "words"))
    parser.add_argument("--parts", nargs="+", default=["build", "open"], choices=PARTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(part(options.part, options.folder, options.vocabulary)))
        return
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(rows, options.parts, options.vocabulary, pathlib.Path(folder))
        print(json.dumps({name: round(value, 2) for name, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
