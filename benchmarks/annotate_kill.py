"""kill -9 at random moments of one `distill annotate` job against the loopback endpoint.

  python benchmarks/annotate_kill.py --kills 20

Every process but the last is killed when a random number of further answers is stored. At
the end the set of (id, digest, sample, completion) is compared with that of a job nobody
disturbed, and the server's log is searched for requests whose answer was already stored
when the process that sent them started.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from distill.data.examples import write_jsonl
from distill.teacher.storage.store import Store
from distill.tickets import generator, server
from distill.tickets.faults import FaultPlan

_DISTILL = [sys.executable, "-m", "distill.cli"]


KINDS = ("plain", "stream", "n_refused")


def _command(url: str, rows: Path, output: Path, samples: int, kind: str) -> list[str]:
    return [
        *_DISTILL,
        "annotate",
        f"--input={rows}",
        "--prompt=tickets",
        f"--base_url={url}",
        f"--model={server.MODEL}",
        f"--output={output}",
        f"--samples={samples}",
        "--temperature=0.7",
        "--sample_seed=0",
        "--progress_seconds=0",
        "--json",
        *(["--stream"] if kind == "stream" else []),
    ]


def _stored(folder: Path) -> int:
    """Lines in the shards, a torn one aside."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("shard-*.jsonl"))


def _answers(folder: Path) -> set[tuple[object, ...]]:
    with Store(folder) as store:
        records = list(store.records())
    return {(r["id"], r["digest"], r["sample"], r["completion"]) for r in records}


def _stored_samples(folder: Path, ticket_of: dict[str, str]) -> set[tuple[str, int]]:
    """(ticket, sample) of every stored answer, as the server's log names them."""
    if not folder.exists():
        return set()
    with Store(folder, read_only=True) as store:
        return {(ticket_of[r["id"]], r["sample"]) for r in store.records()}


def measure(
    folder: Path,
    rows: int,
    samples: int,
    kill_at: Sequence[int],
    latency: float,
    kind: str = "plain",
) -> dict[str, object]:
    """Runs the job with kills and without.

    Args:
      folder: where files go.
      rows: tickets of the job.
      samples: answers a ticket.
      kill_at: numbers of stored answers at which the process is killed, rising.
      latency: seconds before the server answers.
      kind: "plain", "stream" (streamed answers) or "n_refused" (one sample a request).
    """
    tickets = generator.generate("natural", rows, 0, "train")
    ticket_of = {row.id: row.input for row in tickets}
    write_jsonl(folder / "rows.jsonl", tickets)
    asked: list[tuple[str, int]] = []  # (ticket, first sample) of every request
    plan = FaultPlan(always={"n_refused": 1.0} if kind == "n_refused" else {})
    endpoint = server.Endpoint(server.tickets_teacher("natural", 0.8), plan, latency)

    def log(prompt: str, seed: int, _: str) -> None:
        asked.append((prompt.rsplit("Ticket:", 1)[1].split("\n")[0].strip(), seed))

    endpoint.log = log
    killed = folder / "killed.store"
    kills = again = lost = 0
    with server.background(endpoint) as url:
        command = _command(url, folder / "rows.jsonl", folder / "killed.jsonl", samples, kind)
        for point in [*kill_at, None]:
            before, start = _stored_samples(killed, ticket_of), len(asked)
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                while point is not None and process.poll() is None and _stored(killed) < point:
                    time.sleep(0.002)
                if point is not None and process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
                said = process.stdout.read()
            # A request of one process asks for `first` and, in this protocol, those after it;
            # the first sample of a request must not have been stored before it started.
            again += sum(request in before for request in asked[start:])
            lost += len(before - _stored_samples(killed, ticket_of))
        result = json.loads(said)
        requests = len(asked)
        undisturbed = _command(url, folder / "rows.jsonl", folder / "whole.jsonl", samples, kind)
        subprocess.run(undisturbed, check=True, stdout=subprocess.PIPE)
    whole = _answers(folder / "whole.store")
    return {
        "kills": kills,
        "answers": len(whole),
        "same_set": _answers(killed) == whole,
        "asked_again_though_stored": again,
        "lost": lost,
        "requests": requests,
        "requests_undisturbed": len(asked) - requests,
        "rows_written": result["written"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, default="plain")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    points = sorted(draw.sample(range(1, options.rows * options.samples - 40), options.kills))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.rows, options.samples, points, 0.01, options.kind)
    print(json.dumps(found, indent=1))
    good = found["same_set"] and not found["asked_again_though_stored"] and not found["lost"]
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
