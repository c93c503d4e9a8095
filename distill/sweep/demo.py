"""The demonstration: does distilling step-by-step beat fine-tuning on `tickets`?

  python -m distill.sweep.demo {smoke,demo,full} --out DIR

Every run is `distill train` with an experiment file of gin/experiments; nothing here trains.
The students of the noisy teacher train on the JSONL files that `distill annotate` writes here.
Runs that are finished are not trained again, so a stopped demo resumes. Exit codes are those of
`distill`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

from distill.common.progress import PERIOD, Stage, to_stderr
from distill.errors import Stopped, UserError
from distill.sweep import charts, report
from distill.sweep.findings import findings
from distill.sweep.results import group, results_table
from distill.sweep.workers import available_cores, train, workers

SEEDS = (11, 12, 13)
TICKET = "my fan seems burnt . i bought it in march ."


# Settings of an experiment that gin/data/jsonl.gin would replace by its own
KEPT = ("NUM_LABELS", "VOCABULARY", "VOCAB_SIZE", "INPUT_LENGTH", "TARGET_LENGTH")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: an experiment and what is set on top of it.

    Attributes:
      name: what the table calls it.
      experiment: a file of gin/experiments.
      overrides: `NAME=value` texts.
      annotated: whether it trains on the files of `annotate_noisy_runs`.
    """

    name: str
    experiment: str
    overrides: tuple[str, ...]
    annotated: bool = False

    def configuration(self, out: Path, seed: int) -> tuple[list[str], tuple[str, ...]]:
        """Gin files and overrides of one seed's run."""
        from distill.config.resolve import read_macros
        from distill.tickets import generator

        gin_files = [f"gin/experiments/{self.experiment}.gin"]
        overrides = (*self.overrides, f"SEED={seed}")
        if not self.annotated:
            return gin_files, overrides
        macros, *_ = read_macros(gin_files, overrides)
        train, test = annotated_files(out, seed)
        settings = {name: macros.value(name) for name in KEPT} | {
            "LABELS": generator.LABELS,
            "TRAIN_FILE": str(train),
            "TEST_FILE": str(test),
        }
        more = (f"{name}={value!r}" for name, value in settings.items())
        return [*gin_files, "gin/data/jsonl.gin"], (*overrides, *more)

    @functools.cached_property
    def policy(self) -> str:
        """The returns policy of its tickets."""
        from distill.config.resolve import read_macros

        macros, *_ = read_macros([f"gin/experiments/{self.experiment}.gin"], self.overrides)
        return macros.value("POLICY")

    def title(self, seed: int) -> str:
        """What progress calls one seed's run."""
        return " ".join((self.name, *self.overrides, f"seed {seed}"))

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
    rows += [
        Row(f"{method}, noisy teacher", f"tickets_noisy_{method}", (), annotated=True)
        for method in ("distill_labels", "step_by_step")
    ]
    return rows, SEEDS


def run_all(rows: Sequence[Row], seeds: Sequence[int], out: Path) -> Iterator[tuple[Row, dict]]:
    """Trains every row with every seed, a process a core; yields results as they come."""
    cores = available_cores()
    (out / "runs").mkdir(parents=True, exist_ok=True)
    # Long runs first, so that no core idles at the end.
    jobs = [(row, seed) for row in reversed(rows) for seed in seeds]
    to_stderr(
        f"{len(jobs)} runs, one per core on {len(cores)} cores; the logs are {out / 'runs'}/*.log"
    )
    began, started, done, turn = time.monotonic(), time.time(), 0, 0
    with workers(cores) as pool:
        futures = {
            pool.submit(train, *row.configuration(out, seed), str(row.run_dir(out, seed))): (
                row,
                seed,
            )
            for row, seed in jobs
        }
        left = set(futures)
        while left:
            ready, left = wait(left, PERIOD, FIRST_COMPLETED)
            for future in ready:
                row, seed = futures[future]
                result, done = future.result(), done + 1
                to_stderr(
                    f"{done}/{len(jobs)} runs done after {time.monotonic() - began:.0f} s: "
                    f"{row.title(seed)}: accuracy {result['accuracy']:.3f}"
                )
                yield row, result | {"policy": row.policy}
            running = [log for f in left if (log := _newest_line(*futures[f], out, started))]
            if not ready:
                turn += 1
                to_stderr(f"  {running[turn % len(running)] if running else 'starting'}")


def _newest_line(row: Row, seed: int, out: Path, since: float) -> str | None:
    """The newest line of a run's log; None if nothing was written after the time `since`."""
    log = Path(f"{row.run_dir(out, seed)}.log")
    try:
        lines = log.read_text(errors="replace").splitlines()
        return f"{row.title(seed)}: {lines[-1]}" if log.stat().st_mtime >= since else None
    except (OSError, IndexError):
        return None


def annotated_files(out: Path, seed: int) -> tuple[Path, Path]:
    """Where `annotate_noisy_runs` writes the training and the test tickets of a seed."""
    folder = out.resolve() / "annotated"
    return folder / f"train-seed{seed}.jsonl", folder / f"test-seed{seed}.jsonl"


def annotate_noisy_runs(row: Row, seeds: Sequence[int], out: Path) -> float:
    """Writes the files that the noisy teacher's students train on, and are tested on.

    `distill annotate` writes the training tickets with what the simulated teacher says about
    them. The test tickets have gold labels alone.

    Args:
      row: one of the students, whose macros say which tickets and how good a teacher.
      seeds: of the runs; each has tickets of its own.
      out: the demo's folder.

    Returns:
      The teacher's mean accuracy over the seeds.

    Raises:
      SystemExit: `distill annotate` failed.
    """
    from distill import cli
    from distill.config.resolve import resolve
    from distill.data.examples import read_jsonl, teacher_accuracy, write_jsonl
    from distill.tickets import generator

    accuracies = []
    for seed in seeds:
        overrides = (*row.overrides, f"SEED={seed}")
        spec = resolve([f"gin/experiments/{row.experiment}.gin"], overrides).run.data
        policy = str(spec.option("policy"))
        train, test = annotated_files(out, seed)
        flags = [
            f"--policy={policy}",
            f"--rows={spec.option('num_rows')}",
            f"--seed={spec.data_seed}",
            f"--teacher_accuracy={spec.option('teacher_accuracy')}",
            f"--output={train}",
        ]
        print(f"$ distill annotate {' '.join(flags)}", flush=True)
        if cli.main(["annotate", *flags]):
            raise SystemExit(2)
        tickets = generator.generate(
            policy, spec.number("num_test", whole=True), spec.data_seed, "test"
        )
        write_jsonl(test, tickets)
        accuracies.append(teacher_accuracy(read_jsonl(train, "train")))
    return sum(accuracies) / len(accuracies)


def answer_ticket(row: Row, run_dir: Path, result: dict[str, object]) -> report.Worked:
    """The student's rationale and answer for TICKET.

    Args:
      row: of the table, whose policy gives the right answer.
      run_dir: the student's run folder.
      result: of that run.
    """
    from distill.data.examples import Example
    from distill.inference.predictor import Predictor
    from distill.tickets import generator

    (answer,) = Predictor(run_dir, rationale=True)([Example(id="ticket", input=TICKET)])
    return report.Worked(
        TICKET,
        f"{row.name} trained on {result['labels']:,} labels",
        str(answer.rationale),
        answer.prediction,
        generator.policy(row.policy)[generator.parse_ticket(TICKET)],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("smoke", "demo", "full"))
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        with Stage("running the demonstration", delay=PERIOD):
            return _demonstrate(options)
    except UserError as error:
        to_stderr(f"distill: {error}")
        return 2
    except (KeyboardInterrupt, Stopped) as end:
        to_stderr("distill: stopped; finished runs are kept, and the same command resumes")
        return 128 + (end.number if isinstance(end, Stopped) else signal.SIGINT)


def _stop(number: int, frame: object) -> None:
    del frame
    raise Stopped(number)


def _demonstrate(options: argparse.Namespace) -> int:
    began = time.monotonic()
    rows, seeds = rows_of(options.kind)
    noisy = next((row for row in rows if row.annotated), None)
    teacher = annotate_noisy_runs(noisy, seeds, options.out) if noisy else None
    results: dict[Row, list[dict]] = {row: [] for row in rows}
    for row, result in run_all(rows, seeds, options.out):
        results[row].append(result)
    groups = [group(row.name, sorted(rs, key=lambda r: r["seed"])) for row, rs in results.items()]

    from distill.inference import load

    student = next(row for row in reversed(rows) if row.name == "step_by_step")
    student_dir = student.run_dir(options.out, seeds[0])
    with Stage("timing the student's answers"):
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
    worked = answer_ticket(student, student_dir, results[student][0])
    page = report.page("Distilling step-by-step on tickets", groups, sentences, worked, teacher)
    (options.out / "report.html").write_text(page)
    (options.out / "figure.svg").write_text(charts.figure(charts.make_charts(groups, teacher)))
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
