"""5,000 rows against an endpoint that does everything wrong; every row has to end once.

  python benchmarks/annotate_faults.py

Each attempt goes wrong with probability .33 in one of eleven ways; a few prompts go wrong
for ever. Checked: each sample of each row is stored exactly once, failed ones with a typed
reason that fits the lasting fault; every answer is the one that a sound endpoint gives;
concurrency and requests a minute, as the server saw them, keep their limits.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
import time

from distill.teacher import annotate, prompts
from distill.teacher.endpoint.client import Client
from distill.teacher.sampling import Sampling
from distill.teacher.storage.store import Store
from distill.tickets import generator, server
from distill.tickets.faults import REASONS, TRANSIENT, FaultPlan

SAMPLES, CONCURRENCY, PER_MINUTE = 2, 32, 1_500


def most_in_a_minute(times: list[float]) -> int:
    """Most events within any 60 seconds."""
    most = first = 0
    for last, time_ in enumerate(times):
        while times[first] <= time_ - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5000)
    options = parser.parse_args()
    rows = generator.generate("natural", options.rows, 0, "train")
    lasting = dict.fromkeys(
        ("500", "drop", "truncated_json", "empty_choices", "wrong_model"), 0.002
    )
    plan = FaultPlan(dict.fromkeys(TRANSIENT, 0.03), lasting, retry_after=0.2, stall_seconds=60)
    teacher = server.tickets_teacher("natural", 0.8)
    endpoint = server.Endpoint(teacher, plan)
    times: list[float] = []
    endpoint.log = lambda *_: times.append(time.monotonic())
    prompt = prompts.load_prompt("tickets")
    sampling = Sampling(server.MODEL, temperature=0.7, max_tokens=60, stops=prompt.stops, seed=0)
    settings = annotate.Settings(
        samples=SAMPLES,
        concurrency=CONCURRENCY,
        requests_per_minute=PER_MINUTE,
        max_attempts=8,
        backoff_base=0.05,
        progress_seconds=30,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        server.background(endpoint) as url,
        Store(folder) as store,
    ):
        client = Client(url, "none", 10.0, CONCURRENCY)
        job = annotate.Job(rows, prompt, sampling, settings, store, client)
        annotate.run_job(job)
        records = list(store.records())
        lines = sum(p.read_bytes().count(b"\n") for p in store.path.glob("shard-*"))
    ends = collections.Counter((r["id"], r["sample"]) for r in records)
    wrong = reasons_wrong = 0
    by_id = {row.id: row for row in rows}
    for record in records:
        question = prompt.question(by_id[record["id"]])
        if record["ok"]:
            wrong += record["completion"] != teacher(question, record["sample"])
        else:
            # A row may also fail by eight passing faults in turn; then the plan has no lasting one.
            fault = plan.draw(question) if question in plan_lasting(plan, [question]) else None
            reasons_wrong += fault is not None and record["failure"] != REASONS[fault]
    found = {
        "rows": len(rows),
        "samples_stored_once": sum(count == 1 for count in ends.values()),
        "lines": lines,
        "rows_answered": job.stats.answered,
        "rows_failed": dict(sorted((str(k), n) for k, n in job.stats.reasons.items())),
        "rows_with_lasting_faults": len(plan_lasting(plan, [prompt.question(r) for r in rows])),
        "completions_unlike_a_sound_endpoint": wrong,
        "reasons_that_do_not_fit": reasons_wrong,
        "requests": len(times),
        "faults_seen": dict(sorted(endpoint.counts.items())),
        "most_at_once": endpoint.max_at_once,
        "most_in_a_minute": most_in_a_minute(times),
        "seconds": round(job.stats.seconds, 1),
    }
    print(json.dumps(found, indent=1))
    good = (
        len(ends) == lines == found["samples_stored_once"] == SAMPLES * len(rows)
        and job.stats.answered + job.stats.failed == len(rows)
        and not wrong
        and not reasons_wrong
        and found["most_in_a_minute"] <= PER_MINUTE
        and set(endpoint.counts) == {*TRANSIENT, "answered"}
    )
    sys.exit(0 if good else 1)


def plan_lasting(plan: FaultPlan, questions: list[str]) -> set[str]:
    """The prompts that go wrong for ever."""
    only = FaultPlan({}, plan.always, plan.seed)
    return {question for question in questions if only.draw(question)}


if __name__ == "__main__":
    main()
