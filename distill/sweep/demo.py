"""The demonstration: does distilling step-by-step beat fine-tuning on `tickets`?

  python -m distill.sweep.demo {smoke,demo,full} --out DIR

Every run is `distill train` with an experiment file of gin/experiments; nothing here
trains. Runs that are finished are not trained again, so a stopped demo goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from distill.sweep import report
from distill.sweep.results import Group, group, results_table

SEEDS = (11, 12, 13)
TICKET = "my fan seems burnt . i bought it in march ."


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: an experiment and what is set on top of it."""

    name: str
    experiment: str
    overrides: tuple[str, ...]

    def run_dir(self, out: Path, seed: int) -> Path:
        """Folder of one seed's run."""
        settings = [text.split("=")[1].lower() for text in self.overrides]
        return out / "runs" / "-".join([self.experiment, *settings, f"seed{seed}"])


def rows_of(kind: str) -> tuple[list[Row], tuple[int, ...]]:
    """The rows of a table and the seeds that each is run with.

    Args:
      kind: "smoke" (fine-tuning against step-by-step, one seed), "demo", or "full"
        (also 1,000 labels, and the hard policy).
    """
    methods = (
        ("finetune", "tickets_finetune"),
        ("finetune, stronger", "tickets_finetune_strong"),
        ("step_by_step", "tickets_step_by_step"),
    )
    if kind == "smoke":
        return [Row(n, e, ("NUM_LABELS=500",)) for n, e in (methods[0], methods[2])], SEEDS[:1]
    rows = []
    for policy in ("natural", "hard") if kind == "full" else ("natural",):
        for labels in (250, 500, 1000) if kind == "full" else (250, 500):
            chosen = (f"POLICY={policy}", f"NUM_LABELS={labels}")
            rows += [Row(name, experiment, chosen) for name, experiment in methods]
    rows.append(Row("distill_labels, noisy teacher", "tickets_noisy_distill_labels", ()))
    rows.append(Row("step_by_step, noisy teacher", "tickets_noisy_step_by_step", ()))
    return rows, SEEDS


def _pin(counter: object, cores: Sequence[int]) -> None:
    """Gives a worker one core: runs side by side are faster than one run on all cores."""
    with counter.get_lock():
        index, counter.value = counter.value, counter.value + 1
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores[index % len(cores)]})


def _train(experiment: str, overrides: tuple[str, ...], run_dir: str) -> dict[str, object]:
    from distill.config.resolve import resolve
    from distill.engines import native

    with open(f"{run_dir}.log", "a") as log:
        resolved = resolve([f"gin/experiments/{experiment}.gin"], overrides)
        return native.train(resolved, run_dir, lambda line: print(line, file=log, flush=True))


def run_all(rows: Sequence[Row], seeds: Sequence[int], out: Path) -> Iterator[tuple[Row, dict]]:
    """Trains every row with every seed, a process a core; yields results as they come."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    (out / "runs").mkdir(parents=True, exist_ok=True)
    # Long runs first, so that no core idles at the end.
    jobs = [(row, seed) for row in reversed(rows) for seed in seeds]
    began = time.monotonic()
    with ProcessPoolExecutor(len(cores), context, _pin, (counter, cores)) as pool:
        futures = {
            pool.submit(
                _train,
                row.experiment,
                (*row.overrides, f"SEED={seed}"),
                str(row.run_dir(out, seed)),
            ): (row, seed)
            for row, seed in jobs
        }
        for done, future in enumerate(as_completed(futures), start=1):
            row, seed = futures[future]
            result = future.result()
            elapsed = time.monotonic() - began
            remaining = elapsed / done * (len(jobs) - done)
            print(
                f"[{done}/{len(jobs)}] {row.name} {' '.join(row.overrides)} seed {seed}: "
                f"accuracy {result['accuracy']:.3f}   ETA {remaining / 60:.1f} min",
                flush=True,
            )
            yield row, result


def annotate_noisy_runs(rows: Sequence[Row], seeds: Sequence[int], out: Path) -> float:
    """Has the noisy runs' tickets annotated over HTTP; returns the teacher's mean accuracy.

    `distill annotate` sends the tickets, without labels, to the simulated teacher behind a
    loopback endpoint. The runs make the same tickets and annotations in memory, from the
    same seeds; that both agree is checked.

    Raises:
      SystemExit: `distill annotate` failed, or gave other rows.
    """
    from distill import cli
    from distill.config.resolve import resolve
    from distill.data.datasets import get
    from distill.data.examples import read_jsonl, teacher_accuracy, write_jsonl
    from distill.tickets import server

    noisy = next((row for row in rows if row.experiment == "tickets_noisy_step_by_step"), rows[-1])
    accuracies = []
    for seed in seeds:
        overrides = (*noisy.overrides, f"SEED={seed}")
        run = resolve([f"gin/experiments/{noisy.experiment}.gin"], overrides).run
        tickets, _ = get("tickets").load(run.data)
        stem = out / "annotated" / f"{noisy.experiment}-seed{seed}"
        unlabeled = [
            dataclasses.replace(row, label=None, teacher_label=None, rationale=None)
            for row in tickets
        ]
        write_jsonl(f"{stem}.unlabeled.jsonl", unlabeled)
        with server.background(server.Endpoint(server.row_teacher(tickets))) as url:
            flags = [
                f"--input={stem}.unlabeled.jsonl", "--prompt=tickets", f"--base_url={url}",
                f"--model={server.MODEL}", f"--output={stem}.jsonl",
            ]  # fmt: skip
            print(f"$ distill annotate {' '.join(flags)}", flush=True)
            if cli.main(["annotate", *flags]):
                raise SystemExit(2)
        annotated = read_jsonl(f"{stem}.jsonl", "train")
        if [(r.id, r.teacher_label, r.rationale) for r in annotated] != [
            (r.id, r.teacher_label, r.rationale) for r in tickets
        ]:
            raise SystemExit(f"{stem}.jsonl differs from the rows of the runs")
        accuracies.append(teacher_accuracy(tickets))
        print(f"the teacher is right on {accuracies[-1]:.1%} of them", flush=True)
    return sum(accuracies) / len(accuracies)


def findings(groups: Sequence[Group], teacher: float, latency_ms: float) -> list[str]:
    """What the numbers say, whichever way they fall."""
    by_key = {(g.name, g.policy, g.labels): g for g in groups}
    sentences = []
    for (name, policy, labels), step_by_step in by_key.items():
        if name != "step_by_step":
            continue
        rivals = [by_key.get((n, policy, labels)) for n in ("finetune, stronger", "finetune")]
        best = max((g for g in rivals if g), key=lambda g: g.mean)
        sentences.append(
            f"{policy}, {labels} labels: step_by_step {step_by_step.mean:.3f}, best fine-tuning "
            f"({best.name}) {best.mean:.3f}: {100 * (step_by_step.mean - best.mean):+.1f} points."
        )
    noisy = next((g for g in groups if g.name == "step_by_step, noisy teacher"), None)
    if noisy:
        lows = [low for low, _ in noisy.intervals]
        bounds = ", ".join(f"{low:.3f}" for low in lows)
        verdict = "every seed is above it" if min(lows) > teacher else "not every seed is above it"
        sentences.append(
            f"The noisy teacher is right on {teacher:.1%} of its tickets; Wilson lower bounds of "
            f"the student that learns from it: {bounds}: {verdict}."
        )
    sentences.append(f"Answering one ticket takes {latency_ms:.1f} ms: only the label is decoded.")
    sentences.append(
        "The tickets and rationales are generated and noiseless but for the teacher's errors; "
        "the gain is data efficiency, and shrinks as labels become plenty."
    )
    return sentences


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("smoke", "demo", "full"))
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    began = time.monotonic()
    rows, seeds = rows_of(options.kind)
    teacher = annotate_noisy_runs(rows, seeds, options.out)
    results: dict[Row, list[dict]] = {row: [] for row in rows}
    for row, result in run_all(rows, seeds, options.out):
        results[row].append(result)
    groups = [group(row.name, sorted(rs, key=lambda r: r["seed"])) for row, rs in results.items()]

    from distill.inference import load

    student = next(row for row in reversed(rows) if row.name == "step_by_step")
    student_dir = student.run_dir(options.out, seeds[0])
    latency_ms = load.label_latency_ms(student_dir, TICKET)
    sentences = findings(groups, teacher, latency_ms)
    content = {
        "kind": options.kind,
        "groups": [g.to_dict() for g in groups],
        "teacher_accuracy": teacher,
        "latency_ms": latency_ms,
        "seconds": time.monotonic() - began,
    }
    (options.out / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    page = report.page("Distilling step-by-step on tickets", groups, sentences)
    (options.out / "report.html").write_text(page)
    print(f"\n{results_table(groups)}\n")
    print("\n".join(sentences))
    print(f"\nResults: {options.out / 'results.json'}   Report: {options.out / 'report.html'}")
    print(f'\n$ distill predict --run_dir={student_dir} "{TICKET}"', flush=True)
    return _predict(student_dir)


def _predict(run_dir: Path) -> int:
    from distill import cli

    return cli.main(["predict", f"--run_dir={run_dir}", TICKET])


if __name__ == "__main__":
    sys.exit(main())
