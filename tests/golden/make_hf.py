"""Writes tests/golden/hf: folders of random models and what transformers makes of them.

    PYTHONPATH=.:tests/huggingface python tests/golden/make_hf.py

in an environment with torch and transformers, of version 4 (hf/v4) or 5 (hf/v5).
"""

from __future__ import annotations

import pathlib
import shutil
from functools import partial

import numpy as np
import random_models

ROOT = pathlib.Path(__file__).parent / "hf"
LONG = 2000  # tokens: beyond the largest distance that has a bucket of its own


def main() -> None:
    version = "v5" if random_models.IS_VERSION_5 else "v4"
    shutil.rmtree(ROOT / version, ignore_errors=True)
    for number, name in enumerate(random_models.FAMILIES):
        folder = ROOT / version / name
        seeds = range(1000 * number, 1000 * (number + 1))
        seed, values = next(each for each in map(partial(one, name, folder), seeds) if each)
        np.savez_compressed(folder / "values.npz", **values)
        print(folder, seed, values["beam_1"].tolist(), values["beam_4"].tolist())


def one(name: str, folder: pathlib.Path, seed: int) -> tuple[int, dict[str, np.ndarray]] | None:
    """A folder and its values; None where greedy and beam search say the same or do not end."""
    shutil.rmtree(folder, ignore_errors=True)
    model = random_models.make(name, folder, seed)
    tokens = random_models.batch(seed, 2, 160, 9, random_models.VOCAB_SIZE)
    values = {key: array.astype(np.uint8) for key, array in tokens.items()}
    for beams in (1, 4):
        found = random_models.generate(model, tokens["encoder_input_tokens"], 16, beams)
        values[f"beam_{beams}"] = found.astype(np.uint8)
        if not (found == 1).any(axis=1).all() or not (found > 1).any(axis=1).all():
            return None
    if np.array_equal(values["beam_1"], values["beam_4"]):
        return None
    values["logits"] = random_models.logits(model, tokens)
    if name in ("t5", "t5_1_1"):
        far = random_models.batch(seed, 1, LONG, LONG, random_models.VOCAB_SIZE)
        far["encoder_input_tokens"][:] = np.arange(LONG) % 40 + 2
        values |= {f"far_{key}": array.astype(np.uint8) for key, array in far.items()}
        values["far_logits"] = random_models.logits(model, far)[:, -2:]
    return seed, values


if __name__ == "__main__":
    main()
