"""The CTranslate2 process of benchmarks/speed.py.

    python3 -m benchmarks.speed_parts.ctranslate2_worker FOLDER infer MODEL_FOLDER

Answers rows greedily with an exported student. With several rows at once, it uses the faster of
two ways to divide the cores: one batch on all of them, or a batch on each.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time

from benchmarks.speed_parts import protocol

LAP = protocol.Lap()

import ctranslate2  # noqa: E402  the time of the imports is measured
import numpy as np  # noqa: E402


def infer(folder: pathlib.Path, source: str) -> None:
    """Serves `translate_batch`."""
    LAP.done("imports")
    settings = json.loads((folder / "settings.json").read_text())
    saved = np.load(folder / "inputs.npz")
    cores = len(os.sched_getaffinity(0))
    threads = {(1, cores), (cores, 1)}
    translators = {
        both: ctranslate2.Translator(
            source, device="cpu", inter_threads=both[0], intra_threads=both[1]
        )
        for both in sorted(threads)
    }
    names = json.loads((pathlib.Path(source) / "shared_vocabulary.json").read_text())
    ids = {name: index for index, name in enumerate(names)}
    inputs = [
        [names[token] for token in row] for row in np.split(saved["values"], saved["offsets"][1:-1])
    ]
    LAP.done("data")
    chosen: dict[int, tuple[int, int]] = {1: (1, cores)}

    def translate(batch: int, both: tuple[int, int]) -> list[list[int]]:
        parts = [inputs] if batch > 1 else [[row] for row in inputs]
        results = [
            result
            for part in parts
            for result in translators[both].translate_batch(
                part,
                max_batch_size=batch,
                beam_size=1,
                max_decoding_length=settings["max_new_tokens"],
                min_decoding_length=0,
                max_input_length=0,
            )
        ]
        return [[ids[name] for name in result.hypotheses[0]] for result in results]

    def decode(batch: int, answers: bool) -> protocol.Fields:
        if batch not in chosen:
            seconds = {}
            for both in translators:
                translate(batch, both)
                start = time.perf_counter()
                translate(batch, both)
                seconds[both] = time.perf_counter() - start
            chosen[batch] = min(seconds, key=lambda both: seconds[both])
        found = translate(batch, chosen[batch])
        return {"answers": found, "threads": chosen[batch]} if answers else {}

    start = time.perf_counter()
    decode(1, False)
    facts = {"seconds": LAP.seconds, "first_pass": time.perf_counter() - start}
    protocol.serve(facts, {"decode": decode})


if __name__ == "__main__":
    infer(pathlib.Path(sys.argv[1]), sys.argv[3])
