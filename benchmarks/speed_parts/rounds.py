"""Rounds of benchmarks/speed.py: every engine takes its turn, and the order turns as well."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.speed_parts.protocol import Failed, Fields, Worker

_PACKAGE = "benchmarks.speed_parts"
SLOW = 4  # T5X takes a fourth of the steps of a round: its batches have one shape
Rounds = dict[str, list[Fields]]  # by engine
Bounds = list[dict[str, float]]  # by library, of each round


@dataclasses.dataclass(frozen=True)
class Engine:
    """A process to measure.

    Attributes:
      name: what the tables call it.
      python: its interpreter.
      module: of benchmarks/speed_parts.
      arguments: after the folder.
    """

    name: str
    python: str
    module: str
    arguments: tuple[str, ...]


def training_engines(native: str, torch: str | None, t5x: str | None) -> list[Engine]:
    """All settings of all engines that train.

    Args:
      native: the interpreter of the native engine.
      torch: one with torch and transformers; None leaves them out.
      t5x: one that imports T5X; None leaves it out.
    """
    engines = [
        Engine(f"native {layout}", native, "native_worker", ("train", layout))
        for layout in ("flat", "packed")
    ]
    if torch:
        engines += [_of("torch", setting, torch) for setting in ("padded", "sdpa", "sorted")]
    if t5x:
        engines += [_of("t5x", setting, t5x) for setting in ("packed", "scanned", "padded")]
    if torch:
        engines.append(_of("torch", "compile", torch))  # last: it takes minutes to start
    return engines


def _of(kind: str, setting: str, python: str) -> Engine:
    return Engine(f"{kind} {setting}", python, f"{kind}_worker", ("train", setting))


@contextlib.contextmanager
def running(
    engines: Sequence[Engine], folder: Path, failures: list[str], limit: float | None = None
) -> Iterator[dict[str, Worker]]:
    """Starts the engines' processes one after the other; ends them afterwards.

    Args:
      engines: what to start.
      folder: of the workload.
      failures: takes a line for each process that did not start.
      limit: seconds in which each has to be ready.
    """
    workers: dict[str, Worker] = {}
    try:
        for engine in engines:
            print(f"starting {engine.name}", file=sys.stderr, flush=True)
            log = folder / f"{engine.name.replace(' ', '_')}.log"
            arguments = [str(folder), *engine.arguments]
            try:
                workers[engine.name] = Worker(
                    engine.python, f"{_PACKAGE}.{engine.module}", arguments, log, limit
                )
            except Failed as error:
                failures.append(f"{engine.name}: {error}")
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def turn(names: Sequence[str], number: int) -> list[str]:
    """The order of a round, so that none always follows another."""
    shift = number % max(len(names), 1)
    return [*names[shift:], *names[:shift]]


def train(
    workers: dict[str, Worker],
    rounds: int,
    steps: int,
    matmul: int,
    failures: list[str],
    after_round: Callable[[Rounds, Bounds], None] = lambda found, bounds: None,
) -> tuple[Rounds, Bounds]:
    """Alternating rounds of training steps.

    Args:
      workers: by name; one that fails is removed.
      rounds: how many.
      steps: of a round: all batches once.
      matmul: size of the matrices of the bound, which is measured in every round.
      failures: takes a line for each process that failed.
      after_round: takes what there is after each round.

    Returns:
      For each engine and round seconds of a step (wall, cpu), loss, peak_bytes; for each round
      the bound's operations a second, by library.
    """
    found: Rounds = {name: [] for name in workers}
    bounds: Bounds = []
    for number in range(rounds):
        bounds.append(measure_bounds(workers, matmul))
        for name in turn([*workers], number):
            count = max(1, steps // SLOW) if name.startswith("t5x") else steps
            try:
                reply = workers[name].call("train", first=0, count=count)
            except Failed as error:
                failures.append(f"{name}: {error}")
                del workers[name], found[name]
                continue
            reply |= {kind: reply[kind] / count for kind in ("wall", "cpu")}
            found[name].append(reply)
            shown = f"round {number + 1} {name}: {reply['wall']:.3f} s/step"
            print(f"{shown}, {reply['cpu']:.3f} CPU seconds", file=sys.stderr, flush=True)
        after_round(found, bounds)
    return found, bounds


def measure_bounds(workers: Mapping[str, Worker], matmul: int) -> dict[str, float]:
    """Operations a second of the bound, by library."""
    ways = (("jax", "native"), ("torch", "torch"))
    found = {}
    for library, prefix in ways:
        name = next((name for name in workers if name.startswith(prefix)), None)
        if name is not None:
            found[library] = workers[name].call("bound", size=matmul)["flops_per_second"]
    return found


def inference_engines(
    native: str, torch: str | None, run_dir: Path, exports: Mapping[str, Path]
) -> list[Engine]:
    """All engines that answer.

    Args:
      native: the interpreter of the native engine.
      torch: one with torch, transformers and ctranslate2, or None.
      run_dir: the student.
      exports: its exported folders: "hf", "float32" and "int8", those that there are.
    """
    engines = [Engine("native", native, "native_worker", ("infer", str(run_dir)))]
    if torch and "hf" in exports:
        source = str(exports["hf"])
        engines.append(Engine("transformers", torch, "torch_worker", ("infer", source)))
    for kind in ("float32", "int8"):
        if torch and kind in exports:
            arguments = ("infer", str(exports[kind]))
            name = f"ctranslate2 {kind}"
            engines.append(Engine(name, torch, "ctranslate2_worker", arguments))
    return engines


def infer(
    workers: dict[str, Worker], rounds: int, batches: Sequence[int], failures: list[str]
) -> tuple[dict[str, dict[str, list[Fields]]], dict[str, dict[str, int]]]:
    """Alternating rounds of answers to all rows.

    Args:
      workers: by name.
      rounds: how many.
      batches: rows of a batch.
      failures: takes a line for each process that failed.

    Returns:
      For each batch size, engine and round the seconds of all rows. Native has further entries:
      whole predictions without a ranking, with one, and from the ranking alone. And for each
      batch size and engine how many answers are the tokens of native's.
    """
    found: dict[str, dict[str, list[Fields]]] = {}
    equal: dict[str, dict[str, int]] = {}
    for batch in batches:
        calls = {name: (name, "decode", {"answers": False}) for name in workers}
        if "native" in workers:
            for kind in ("decode", "decode_ranked", "rank"):
                calls[f"native {kind}"] = ("native", "answer", {"kind": kind})
        answers = {}
        for name, (worker, action, fields) in calls.items():  # compiles
            told = {"answers": True} if action == "decode" else fields
            try:
                reply = workers[worker].call(action, batch=batch, **told)
            except Failed as error:
                failures.append(f"{name} at batch {batch}: {error}")
                continue
            if "answers" in reply:
                answers[name] = reply["answers"]
        native = answers.get("native")
        if native is not None:
            equal[str(batch)] = {
                name: sum(a == b for a, b in zip(found_of, native, strict=True))
                for name, found_of in answers.items()
            }
        of_batch: dict[str, list[Fields]] = {name: [] for name in calls}
        for number in range(rounds):
            for name in turn([*calls], number):
                worker, action, fields = calls[name]
                with contextlib.suppress(Failed):
                    of_batch[name].append(workers[worker].call(action, batch=batch, **fields))
        found[str(batch)] = of_batch
        for name, rounds_of in of_batch.items():
            if rounds_of:
                seconds = min(one["wall"] for one in rounds_of)
                print(f"batch {batch} {name}: {seconds:.2f} s", file=sys.stderr, flush=True)
    return found, equal
