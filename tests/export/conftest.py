"""Students whose answers differ from row to row, of every family and every kind of vocabulary."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import random
import subprocess
import sys
from collections.abc import Callable

import jax
import numpy as np
import pytest
import sentencepiece

from distill.config.student import T5Config
from distill.data.examples import Example
from distill.data.vocabularies import PieceVocabulary
from distill.inference.load import LoadedRun, load_run
from distill.student.params import param_shapes
from distill.training.assets import Assets

WORDS = (
    *("my", "fan", "seems", "burnt", ".", "i", "bought", "it", "in", "march", "after", "the"),
    *("naïve", "sale", ",", "ﬁne", "½", "price"),
)
FAMILIES = {
    "t5": {"mlp_activations": ("relu",), "tie_embeddings": True},
    "t5_1_1": {"mlp_activations": ("gelu", "linear"), "tie_embeddings": False},
    "tied_unscaled": {"tie_embeddings": True, "scale_tied_logits": False, "scan_layers": True},
    "byt5_depths": {"tie_embeddings": False, "num_encoder_layers": 3, "head_dim": 12},
    "deep_decoder": {"tie_embeddings": True, "num_decoder_layers": 3},
}


def text_of(draw: random.Random, words) -> str:
    return " ".join(draw.choices(words, k=draw.randint(1, 60)))


def random_params(student: T5Config, seed: int) -> dict:
    """Parameters whose answers differ from input to input; nothing is compiled."""
    draw = np.random.default_rng(seed)

    def leaf(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        is_embedding = path[-1].key == "embedding"  # small: else each token follows itself
        scale = 0.3 if is_embedding else 1 / np.sqrt(shape.shape[0])
        return draw.normal(0, scale, shape.shape).astype(np.float32) + (shape.ndim == 1)

    return jax.tree.map_with_path(leaf, param_shapes(student))


def piece_model(path: pathlib.Path, sentinels: int, has_bytes: bool = False) -> bytes:
    """Trains a small model with T5's special ids, and puts sentinels at its end as T5's has."""
    draw = random.Random(0)
    lines = [text_of(draw, WORDS) for _ in range(300)]
    special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(path.with_suffix("")),
        vocab_size=300 if has_bytes else 44,
        byte_fallback=has_bytes,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
        **special,
    )
    model = path.read_bytes()
    for index in reversed(range(sentinels)):
        name = f"▁<extra_id_{index}>".encode()
        piece = b"\x0a" + bytes([len(name)]) + name + b"\x15" + np.float32(0).tobytes()
        model += b"\x0a" + bytes([len(piece)]) + piece
    path.write_bytes(model)
    return model


@dataclasses.dataclass(frozen=True)
class PieceAssets(Assets):
    """Assets with a vocabulary of pieces that is not T5's."""

    def vocabulary(self):
        return PieceVocabulary(self.path)


@pytest.fixture(scope="session", name="random_params")
def random_params_of() -> Callable[[T5Config, int], dict]:
    """`random_params`."""
    return random_params


@pytest.fixture(scope="session")
def run(run_dir) -> LoadedRun:
    """The micro run with random parameters: one of twelve steps gives one answer to all rows."""
    loaded = load_run(run_dir)
    params = random_params(loaded.config.student, 1)
    return dataclasses.replace(loaded, params=params)


@pytest.fixture(scope="session")
def texts(run) -> list[str]:
    """Inputs of one to sixty words."""
    draw = random.Random(0)
    return [text_of(draw, run.assets.words) for _ in range(24)]


@pytest.fixture(scope="session")
def texts_of() -> Callable[[LoadedRun], list[str]]:
    """Inputs of words that each of the vocabularies of `with_vocabulary` covers."""

    def make(run: LoadedRun) -> list[str]:
        draw = random.Random(2)
        return [text_of(draw, run.assets.words or WORDS) for _ in range(24)]

    return make


@pytest.fixture(scope="session")
def answers_of(texts) -> Callable[[LoadedRun], list[str]]:
    """What the student of a run answers to the texts, as `distill predict` does."""

    def answers(run: LoadedRun, rows=texts) -> list[str]:
        examples = [Example(id=str(index), input=text) for index, text in enumerate(rows)]
        return [row.prediction for row in run.evaluator().texts(run.params, examples)]

    return answers


@pytest.fixture(scope="session")
def family(run) -> Callable[[str], LoadedRun]:
    """The run with a random student of a family."""

    def make(name: str) -> LoadedRun:
        student = dataclasses.replace(run.config.student, **FAMILIES[name])
        config = dataclasses.replace(run.config, student=student)
        params = random_params(student, 3)
        return dataclasses.replace(run, config=config, params=params)

    return make


@pytest.fixture(scope="session")
def with_vocabulary(run, tmp_path_factory) -> Callable[[str], LoadedRun]:
    """The run with a random student of another kind of vocabulary."""

    def make(kind: str) -> LoadedRun:
        path, cls = "", Assets
        if kind in ("sentencepiece", "byte_fallback"):
            path, cls = str(tmp_path_factory.mktemp("pieces") / "pieces.model"), PieceAssets
            has_bytes, kind = kind == "byte_fallback", "sentencepiece"
            piece_model(pathlib.Path(path), 0 if has_bytes else 4, has_bytes)
        words = WORDS if kind == "words" else ()
        assets = cls(kind, path, words, (), run.assets.rule, "")
        size = assets.vocabulary().vocab_size
        # No rows for ids that no token has, which random parameters would answer with.
        student = dataclasses.replace(run.config.student, vocab_size=size)
        data = dataclasses.replace(run.config.data, vocabulary_path=path, vocabulary=kind)
        config = dataclasses.replace(run.config, student=student, data=data)
        params = random_params(student, 4)
        return dataclasses.replace(run, config=config, params=params, assets=assets)

    return make


@pytest.fixture(scope="session")
def labels_of_card() -> Callable[[str, pathlib.Path, list[str]], list[str]]:
    """(model card, folder, texts) -> what the card's own lines answer, in a new process."""

    def labels(card: str, folder: pathlib.Path, texts: list[str]) -> list[str]:
        (code,) = [part for part in card.split("```") if part.startswith("python\n")]
        code = code.removeprefix("python\n").replace("FOLDER", str(folder))
        code = code.replace('["..."]', repr(texts))
        script = folder.with_suffix(".py")
        script.write_text(f"{code}\nimport json\nprint(json.dumps(labels))\n")
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, check=True
        )
        answers: list[str] = json.loads(done.stdout.splitlines()[-1])
        return answers

    return labels
