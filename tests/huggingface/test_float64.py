"""How far float32 logits are from float64 ones, the student's and those of transformers.

Needs torch and transformers (`pip install 'distill-step-by-step[hf]'`).
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra hf: torch and transformers")
pytest.importorskip("transformers", reason="needs the extra hf: torch and transformers")

import random_models
import torch
import transformers
from random_models import FAMILIES, VOCAB_SIZE

from distill.huggingface.config_json import read_config
from distill.huggingface.read import read_params
from distill.student.network import apply_student

LIMIT = 1e-4
SIZES = {"d_model": 24, "d_kv": 6, "num_heads": 3, "d_ff": 20}
# The orders of sums differ. Over 4 models of each family and both versions of transformers, the
# root mean square of the student's errors was 0.58 to 0.84 of that of transformers, its largest
# error 0.27 to 1.04.
TYPICAL_FACTOR, LARGEST_FACTOR = 1.2, 2.0


@dataclasses.dataclass
class Logits:
    """Of one batch: float32 of both, and float64 of both."""

    ours: np.ndarray
    theirs: np.ndarray
    ours64: np.ndarray
    theirs64: np.ndarray


@functools.partial(jax.jit, static_argnums=0)
def student_logits(student, params, batch):
    return apply_student(student, params, batch, deterministic=True)


def all_logits(folder, model, seed):
    student = read_config(folder).student
    params = read_params(folder, student)
    batch = random_models.batch(seed, 3, 300, 40, VOCAB_SIZE)
    ours = student_logits(student, params, batch)
    with jax.enable_x64(True):
        double = dataclasses.replace(student, dtype="float64")
        ours64 = np.asarray(student_logits(double, params, batch))
    theirs, theirs64 = random_models.logits(model, batch), random_models.logits64(model, batch)
    found = Logits(np.asarray(ours), theirs, ours64, theirs64)
    assert (found.ours.dtype, theirs.dtype) == (np.float32, np.float32)
    assert (found.ours64.dtype, theirs64.dtype) == (np.float64, np.float64)
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_as_close_to_float64_as_transformers(name, tmp_path):
    """On models whose attention and logits are as uneven as in a trained model, and uneven more."""
    ours, theirs = [], []
    for seed in range(2):
        folder = tmp_path / str(seed)
        model = random_models.make(name, folder, 100 + seed, **SIZES)
        found = all_logits(folder, model, seed)
        # Both compute the same function.
        np.testing.assert_allclose(found.ours64, found.theirs64, rtol=0, atol=1e-11)
        ours.append(np.abs(found.ours - found.theirs64).ravel())
        theirs.append(np.abs(found.theirs - found.theirs64).ravel())
    ours, theirs = np.concatenate(ours), np.concatenate(theirs)
    assert np.sqrt(np.mean(ours**2)) <= TYPICAL_FACTOR * np.sqrt(np.mean(theirs**2))
    assert ours.max() <= LARGEST_FACTOR * theirs.max()


@pytest.mark.parametrize("name", FAMILIES)
def test_as_transformers_initializes(name, tmp_path):
    """Logits of the two are within LIMIT, and far from constant."""
    family = FAMILIES[name]
    kind = "MT5" if family.is_mt5 else "T5"
    settings = {"vocab_size": VOCAB_SIZE, "decoder_start_token_id": 0} | family.settings
    config = getattr(transformers, f"{kind}Config")(**random_models.SIZES | SIZES | settings)
    torch.manual_seed(0)
    cls = getattr(transformers, f"{kind}ForConditionalGeneration")
    cls(config).save_pretrained(tmp_path)
    found = all_logits(tmp_path, random_models.load(tmp_path, cls), 0)
    np.testing.assert_allclose(found.ours, found.theirs, rtol=0, atol=LIMIT)
    assert np.std(found.theirs) > 0.5
