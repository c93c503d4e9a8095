"""A large `distill annotate` job against the loopback endpoint: time, memory, resume.

  python benchmarks/annotate_scale.py --rows 200000

The endpoint is a process of its own. Of the job's process it measures the CPU time a row
(start, reading rows, asking, storing, parsing, writing: all of it), the resident memory
while it asks, and how long a resumed process takes from its start to its first request.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from distill.data.examples import write_jsonl
from distill.tickets import generator, server

_TORN = 100  # answers that are taken from the store before it is resumed


def _rss_mb(pid: int) -> float:
    """Resident memory of a process, in MB; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def _server(*arguments: str) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", "distill.tickets.server", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def _command(url: str, folder: Path, concurrency: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "distill.cli",
        "annotate",
        f"--input={folder / 'rows.jsonl'}",
        "--prompt=tickets",
        f"--model={server.MODEL}",
        f"--base_url={url}",
        f"--output={folder / 'annotated.jsonl'}",
        f"--concurrency={concurrency}",
        "--progress_seconds=30",
        "--json",
    ]


def _whole(folder: Path, concurrency: int) -> dict[str, object]:
    """Runs the job from nothing; memory is sampled twice a second."""
    endpoint, url = _server()
    samples: list[tuple[float, float]] = []
    began = time.monotonic()
    try:
        with open(folder / "said.json", "w") as out:
            process = subprocess.Popen(_command(url, folder, concurrency), stdout=out)
            store = folder / "annotated.store"
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                size = sum(path.stat().st_size for path in store.glob("shard-*"))
                samples.append((size, _rss_mb(process.pid)))
                time.sleep(0.5)
    finally:
        endpoint.terminate()
    if status:
        raise SystemExit(f"the job ended with status {status}")
    said = json.loads((folder / "said.json").read_text())
    final = samples[-1][0]
    asking = [rss for size, rss in samples if 0 < size < final]
    return {
        "rows": said["rows"],
        "answered": said["answered"],
        "seconds": time.monotonic() - began,
        "cpu_ms_per_row": 1e3 * (usage.ru_utime + usage.ru_stime) / said["rows"],
        "rss_mb_after_a_tenth": asking[len(asking) // 10],
        "rss_mb_at_the_end_of_asking": asking[-1],
        "rss_mb_peak": usage.ru_maxrss / 1024,
    }


def _resume(folder: Path, concurrency: int) -> dict[str, object]:
    """Takes the last answers away, and measures the way to the first request."""
    shard = max((folder / "annotated.store").glob("shard-*"))
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(b"".join(lines[:-_TORN]))
    log = folder / "requests.log"
    endpoint, url = _server(f"--log={log}")
    try:
        began = time.monotonic()
        process = subprocess.Popen(_command(url, folder, concurrency), stdout=subprocess.DEVNULL)
        while not log.exists() or not log.stat().st_size:
            if process.poll() is not None:
                raise SystemExit("the resumed job asked for nothing")
            time.sleep(0.01)
        first = time.monotonic() - began
        # CPU time of the process so far, for a machine that is busy with other things.
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        process.wait()
        return {
            "resume_seconds_to_first_request": first,
            "resume_cpu_seconds_to_first_request": cpu,
            "resume_requests": len(log.read_text().splitlines()),
        }
    finally:
        endpoint.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "rows.jsonl", generator.generate("natural", options.rows, 0, "train"))
        found = _whole(folder, options.concurrency) | _resume(folder, options.concurrency)
    print(
        json.dumps({k: round(v, 3) if type(v) is float else v for k, v in found.items()}, indent=1)
    )
    growth = found["rss_mb_at_the_end_of_asking"] - found["rss_mb_after_a_tenth"]
    good = (
        found["answered"] == options.rows
        and found["cpu_ms_per_row"] <= 4
        and growth < 64
        and found["resume_seconds_to_first_request"] < 5
        and found["resume_requests"] == _TORN
    )
    print(f"memory grew by {growth:.1f} MB while nine tenths of the rows were asked for")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
