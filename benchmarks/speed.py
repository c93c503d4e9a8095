"""Speed of training, inference and start-up, beside PyTorch, CTranslate2 and stock T5X.

    PYTHONPATH=. python3 benchmarks/speed.py --raw_dir DATA --vocabulary_path MODEL --out speed.json
    PYTHONPATH=. python3 benchmarks/speed.py --experiment tickets_step_by_step --out speed.json
    PYTHONPATH=. python3 benchmarks/speed.py --random_rows 1 --only train --out speed.json

Every engine trains on the same pairs with the same sizes, dropout and optimizer, in float32, and
answers the same rows with the same parameters, which are exported from a run that is trained
first (--run_dir takes an existing one). Each engine has a process of its own. Rounds alternate
between the engines; in each the fastest product of float32 matrices is measured as well, in JAX
and in PyTorch, which bounds what the machine gave in these minutes. Tables show medians over
rounds, the least and the most in brackets, and ratios within rounds. Tokens and FLOPs are those
of the unpadded sequences. CPU seconds are those of all cores, and vary less than seconds where
other processes run. All engines use huge pages where the system leaves that to programs, as
`distill train` does.

--torch names a Python with torch, transformers and ctranslate2 (default: this one, if it has
them), --t5x one that imports T5X. --vary repeats training for each value of a macro.
--random_rows needs no data: it trains on random tokens with the lengths of CommonsenseQA's rows.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.speed_parts import rounds, start, tables, workload
from distill.common import huge_pages
from distill.errors import UserError

PARTS = ("train", "infer", "start")
VERSIONS = "jax", "flax", "torch", "transformers", "ctranslate2"
PIPELINE_BATCHES = 50


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    made.add_argument("--out", type=pathlib.Path, required=True, help="the JSON file to write")
    made.add_argument("--experiment", default="cqa_mini_step_by_step", help="a native gin file")
    made.add_argument("--raw_dir", help="the released data (macro RAW_DIR)")
    made.add_argument("--vocabulary_path", help="SentencePiece model (VOCABULARY_PATH)")
    made.add_argument(
        "--random_rows", type=float, metavar="SCALE", help="lengths of random rows (1: CQA's)"
    )
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--batches", type=int, default=8, help="training batches of a round")
    made.add_argument("--rows", type=int, default=512, help="test rows to answer")
    made.add_argument("--infer_batches", type=int, nargs="+", default=[1, 64])
    made.add_argument("--run_dir", type=pathlib.Path, help="a trained run, for inference")
    made.add_argument("--train_steps", type=int, default=60, help="of the run, if there is none")
    made.add_argument("--matmul", type=int, default=2048, help="size of the bound's matrices")
    made.add_argument("--torch", help="a Python with torch, transformers and ctranslate2")
    made.add_argument("--t5x", help="a Python that imports T5X")
    made.add_argument(
        "--cache_dir", type=pathlib.Path, help="tokens and compiled programs (default: a new one)"
    )
    made.add_argument(
        "--start_limit", type=float, default=1200.0, help="seconds in which a process has to start"
    )
    made.add_argument("--engines", nargs="+", help="names of engines; default: all")
    made.add_argument(
        "--vary", nargs="+", action="append", default=[], metavar="X", help="MACRO VALUE VALUE ..."
    )
    made.add_argument("macros", nargs="*", metavar="NAME=value", help="later wins")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes the JSON and prints the tables; returns the exit code."""
    flags = parser()
    options = flags.parse_args(arguments)
    if options.random_rows and (*options.only,) != ("train",):
        flags.error("argument --random_rows: expected --only train: only training takes such rows")
    if options.torch is None and importlib.util.find_spec("torch"):
        options.torch = sys.executable
    macros = ["TIE_EMBEDDINGS=True", "BATCH_SIZE=32", "OPTIMIZER=adamw", "LEARNING_RATE=1e-3"]
    macros += [f"RAW_DIR={options.raw_dir}"] if options.raw_dir else []
    macros += [f"VOCABULARY_PATH={options.vocabulary_path}"] if options.vocabulary_path else []
    macros += ["VOCABULARY=bytes", "RAW_DIR=none"] if options.random_rows else []
    macros += options.macros
    os.environ |= huge_pages.environment(os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        # A new one, so that the first compilation is one.
        os.environ["DISTILL_CACHE_DIR"] = str(options.cache_dir or folder / "cache")
        result: dict = {"machine": describe_machine(options), "left_out": []}
        rows = options.rows if "infer" in options.only else 0
        try:
            result["settings"] = workload.write(
                folder, options.experiment, macros, options.batches, rows, options.random_rows
            )
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
        if "train" in options.only:
            measure_training(options, folder, result)
            save(options, result)
        for name, *values in options.vary:
            measure_curve(options, folder, macros, name, values, result)
            save(options, result)
        if "infer" in options.only or "start" in options.only:
            measure_answers(options, folder, macros, result)
    save(options, result)
    print(tables.render(result))
    return 0


def save(options: argparse.Namespace, result: dict) -> None:
    """Writes what there is so far."""
    result["machine"]["load_after"] = os.getloadavg()
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def describe_machine(options: argparse.Namespace) -> dict:
    """Cores, processor and versions."""
    model = [
        line.partition(": ")[2].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    versions = {}
    for name in VERSIONS:
        for python in filter(None, [sys.executable, options.torch]):
            code = f"import importlib.metadata as m; print(m.version({name!r}))"
            done = subprocess.run([python, "-c", code], capture_output=True, text=True)
            if not done.returncode:
                versions.setdefault(name, done.stdout.strip())
    return {
        "processor": model[0] if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
        "distill": importlib.metadata.version("distill-step-by-step"),
        "load_before": os.getloadavg(),
        "date": time.strftime("%Y-%m-%d"),
    }


def chosen(options: argparse.Namespace, engines: Sequence[rounds.Engine]) -> list[rounds.Engine]:
    """The engines that --engines names, or all."""
    wanted = options.engines
    return [one for one in engines if wanted is None or one.name in wanted]


def measure_training(options: argparse.Namespace, folder: pathlib.Path, result: dict) -> None:
    """Adds training of all engines, and the input pipeline, to the result; saves each round."""
    every = rounds.training_engines(sys.executable, options.torch, options.t5x)
    left_out = result["left_out"]
    if not options.t5x:
        left_out.append("t5x: no --t5x")
    if not options.torch:
        left_out.append("torch: no --torch")
    pipeline: dict[str, list] = {}
    with rounds.running(chosen(options, every), folder, left_out, options.start_limit) as workers:
        hello = {name: worker.hello for name, worker in workers.items()}

        def keep(found: rounds.Rounds, bounds: rounds.Bounds) -> None:
            train = {"hello": hello, "rounds": found, "bounds": bounds}
            result.update({"train": train, "pipeline": pipeline})
            save(options, result)

        rounds.train(workers, options.rounds, options.batches, options.matmul, left_out, keep)
        for name, worker in workers.items():
            if name.startswith("native"):
                pipeline[name] = [
                    worker.call("batches", count=PIPELINE_BATCHES) for _ in range(options.rounds)
                ]
    warm = [one for one in every if one.name == tables.REFERENCE]
    with rounds.running(chosen(options, warm), folder, left_out) as workers:
        hello |= {f"{name}, again": worker.hello for name, worker in workers.items()}


def measure_curve(
    options: argparse.Namespace,
    folder: pathlib.Path,
    macros: Sequence[str],
    name: str,
    values: Sequence[str],
    result: dict,
) -> None:
    """Training for each value of a macro, added to the result; failures are left out."""
    points = result.setdefault("curves", {"points": []})["points"]
    every = rounds.training_engines(sys.executable, options.torch, None)
    for value in values:
        own = folder / f"{name}-{value}"
        own.mkdir()
        setting = f"{name}={value}"
        settings = workload.write(
            own, options.experiment, [*macros, setting], options.batches, 0, options.random_rows
        )
        with rounds.running(
            chosen(options, every), own, result["left_out"], options.start_limit
        ) as workers:
            found, bounds = rounds.train(
                workers, options.rounds, options.batches, options.matmul, result["left_out"]
            )
        point = {"setting": setting, "rounds": found, "bounds": bounds, "settings": settings}
        points.append(point)


def measure_answers(
    options: argparse.Namespace, folder: pathlib.Path, macros: Sequence[str], result: dict
) -> None:
    """Trains a run if none is given, exports it, and measures inference and start-up."""
    run_dir = options.run_dir
    if run_dir is None:
        run_dir = folder / "run"
        settings = [f"--gin.{one}" for one in macros]
        settings += [
            f"--gin.{name}={options.train_steps}" for name in ("TRAIN_STEPS", "SAVE_PERIOD")
        ]
        settings += [f"--gin.LOG_PERIOD={options.train_steps}", "--gin.EVAL_PERIOD=0"]
        settings += ["--gin.WARMUP_STEPS=10", "--gin.LAYOUT=auto", "--gin.CHECKPOINT=last"]
        command = ["train", f"--gin_file={options.experiment}", f"--run_dir={run_dir}", *settings]
        result["distill train"] = step(start.distill(sys.executable, *command), result["left_out"])
    if "infer" in options.only:
        exports = export(options, run_dir, folder, result["left_out"])
        engines = rounds.inference_engines(sys.executable, options.torch, run_dir, exports)
        with rounds.running(chosen(options, engines), folder, result["left_out"]) as workers:
            hello = {name: worker.hello for name, worker in workers.items()}
            found, equal = rounds.infer(
                workers, options.rounds, options.infer_batches, result["left_out"]
            )
        result["infer"] = {"hello": hello, "rounds": found, "equal": equal}
    if "start" in options.only:
        text = "what can be found in a library"
        result["start"] = start.measure(sys.executable, run_dir, text, options.rounds)


def step(command: Sequence[str], left_out: list[str]) -> dict:
    """Runs a command that later ones need."""
    print(" ".join(command[2:5]), file=sys.stderr, flush=True)
    found = start.timed(command)
    if found["code"]:
        left_out.append(f"{' '.join(command[2:5])}: {''.join(found['error'])}")
    return found


def export(
    options: argparse.Namespace, run_dir: pathlib.Path, folder: pathlib.Path, left_out: list[str]
) -> dict[str, pathlib.Path]:
    """The student as folders of transformers and CTranslate2."""
    if not options.torch:
        return {}
    exports = {}
    for name, flags in (
        ("hf", ["--to=hf"]),
        ("float32", ["--to=ctranslate2", "--quantization=float32"]),
        ("int8", ["--to=ctranslate2", "--quantization=int8"]),
    ):
        output = folder / f"export-{name}"
        command = ["export", *flags, f"--run_dir={run_dir}", f"--output={output}"]
        if not step(start.distill(options.torch, *command), left_out)["code"]:
            exports[name] = output
    return exports


if __name__ == "__main__":
    sys.exit(main())
