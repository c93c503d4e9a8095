"""Golden files of stock T5X, and one tiny student whose compiled functions the tests share."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from distill.config.student import T5Config
from distill.student.network import T5
from distill.student.params import init_params

GOLDEN_DIR = pathlib.Path(__file__).parents[1] / "golden"


class Golden:
    """One golden file: its config, and its arrays by key or as a tree below a prefix."""

    def __init__(self, name: str, folder: pathlib.Path = GOLDEN_DIR) -> None:
        self.folder = folder
        with np.load(folder / f"{name}.npz") as file:
            self.arrays = {key: file[key] for key in file.files}
        sizes = json.loads(str(self.arrays["config"]))
        self.config = T5Config(
            vocab_size=sizes["vocab_size"],
            embed_dim=sizes["emb_dim"],
            num_heads=sizes["num_heads"],
            head_dim=sizes["head_dim"],
            mlp_dim=sizes["mlp_dim"],
            num_encoder_layers=sizes["num_encoder_layers"],
            num_decoder_layers=sizes["num_decoder_layers"],
            tie_embeddings=sizes["tied"],
            dropout_rate=0.0,
        )
        self.logits = jax.jit(
            lambda params, batch: T5(self.config).apply(
                {"params": params}, batch, deterministic=True
            )
        )

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def tree(self, prefix: str) -> dict:
        """Nested dicts of the arrays whose keys start with `prefix`/."""
        tree: dict = {}
        for key, array in self.arrays.items():
            if key.startswith(prefix + "/"):
                *path, name = key[len(prefix) + 1 :].split("/")
                functools.reduce(lambda node, part: node.setdefault(part, {}), path, tree)[name] = (
                    array
                )
        return tree


@pytest.fixture(scope="session", params=["t5x_untied", "t5x_tied"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


@pytest.fixture(scope="session")
def untied_golden() -> Golden:
    return Golden("t5x_untied")


@pytest.fixture(scope="session")
def factored_golden(shared_dir: pathlib.Path) -> Golden:
    """The file of a student so wide that Adafactor factors its moments, or a skip."""
    folder = shared_dir / "golden"
    if not (folder / "t5x_factored.npz").exists():
        pytest.skip(f"no t5x_factored.npz in {folder}")
    return Golden("t5x_factored", folder)


@dataclasses.dataclass(frozen=True)
class Student:
    """A tiny student in float32: config, parameters, and its jitted forward pass."""

    config: T5Config
    params: dict

    @functools.cached_property
    def _forward(self):
        return jax.jit(
            lambda params, batch: T5(self.config).apply(
                {"params": params}, batch, deterministic=True
            )
        )

    def logits(self, batch: dict, params: dict | None = None) -> np.ndarray:
        """float32 [B, T, V], of other parameters if some are given."""
        return np.asarray(self._forward(params or self.params, batch))


@pytest.fixture(scope="session")
def student() -> Student:
    config = T5Config(
        vocab_size=40,
        embed_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=24,
        num_encoder_layers=2,
        num_decoder_layers=2,
    )
    return Student(config, init_params(config, jax.random.key(0)))


@pytest.fixture(scope="session")
def ending(student):
    """The student with a logits kernel under which rows end at different positions."""
    kernel = np.array(student.params["decoder"]["logits_dense"]["kernel"])
    rng = np.random.default_rng(5)
    kernel[:, 1] += rng.normal(0, 0.35, kernel.shape[0])
    decoder = student.params["decoder"] | {"logits_dense": {"kernel": kernel}}
    return student.params | {"decoder": decoder}


@pytest.fixture(scope="session")
def inputs() -> np.ndarray:
    """16 rows of different lengths."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 40, (16, 12))
    return np.where(np.arange(12) < rng.integers(3, 13, (16, 1)), tokens, 0).astype(np.int32)
