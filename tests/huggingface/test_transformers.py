"""transformers and the student, side by side: both versions, all families, both directions.

Needs torch and transformers (`pip install 'distill-step-by-step[hf]'`); the golden folders show the
same without them.
"""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra hf: torch and transformers")
pytest.importorskip("transformers", reason="needs the extra hf: torch and transformers")

import random_models
import torch
import transformers
from published_sizes import PUBLISHED
from random_models import FAMILIES, IS_VERSION_5, VOCAB_SIZE

from distill.config import resolve
from distill.huggingface.config_json import config_dict, read_config
from distill.huggingface.read import read_params
from distill.huggingface.safetensors_files import TensorFolder
from distill.huggingface.write import write_params
from distill.student.beam import beam_search
from distill.student.decoding import greedy
from distill.student.network import apply_student
from distill.student.relative_bias import relative_buckets

LIMIT = 1e-4
SIZES = {"d_model": 24, "d_kv": 6, "num_heads": 3, "d_ff": 20}
# Of the logits. With sharper ones, float32 rounding alone exceeds LIMIT (test_float64.py).
SPREAD = 0.3


def ours_of(folder):
    student = read_config(folder).student
    return student, read_params(folder, student)


@functools.partial(jax.jit, static_argnums=0)
def log_probabilities(student, params, inputs, prefixes):
    """Of every next token [N, T, V], of prefixes [N, T] that begin with the start token."""
    batch = {"encoder_input_tokens": inputs, "decoder_input_tokens": prefixes}
    batch["decoder_target_tokens"] = jnp.ones_like(prefixes)
    return jax.nn.log_softmax(apply_student(student, params, batch, deterministic=True))


def plain_beam_search(student, params, row, length, beam, looked_at, cut_ends):
    """Beam search without a length penalty, in the fewest lines.

    Args:
      student: its configuration.
      params: its parameters.
      row: tokens of one input.
      length: positions.
      beam: K.
      looked_at: of how many of the best 2 K continuations an EOS counts.
      cut_ends: whether the best K count as ended at the last position.
    """
    live, best = [(0.0, [])], (-np.inf, [])
    for position in range(length):
        prefixes = np.zeros((beam, length), np.int32)
        for index, (_, tokens) in enumerate(live):
            prefixes[index, 1 : 1 + position] = tokens
        inputs = np.tile(row, (beam, 1))
        log = np.asarray(log_probabilities(student, params, inputs, prefixes))[:, position]
        found = [
            (score + float(log[index, token]), [*tokens, token])
            for index, (score, tokens) in enumerate(live)
            for token in range(log.shape[-1])
        ]
        found = sorted(found, key=lambda each: -each[0])[: 2 * beam]
        is_last = cut_ends and position == length - 1
        ended = [each for each in found[:looked_at] if each[1][-1] == 1]
        best = max([best, *ended, *(found[:beam] if is_last else [])], key=lambda each: each[0])
        live = [each for each in found if each[1][-1] != 1][:beam]
        if best[0] >= live[0][0]:
            break  # no continuation can be better
    tokens = best[1] or live[0][1]
    return np.pad(np.array(tokens, np.int32), (0, length - len(tokens)))


# Settings that other families have too; test_golden_folders.py has t5's answers.
_SLOW = ("t5", "byt5", "ul2", "shared_not_scaled")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in _SLOW else n for n in FAMILIES]
)
def test_logits_greedy_and_beam(name, tmp_path):
    """On inputs longer than any distance that has a bucket of its own.

    The beam search of transformers has two rules of its own. It drops an EOS that is not among the
    best K continuations, where T5X and the student look at the best 2 K; and what is cut at the
    last position competes with what has ended. With its rules a plain search over the student's
    probabilities says what transformers says, and with T5X's what the student says.
    """
    for seed in range(2):
        folder = tmp_path / str(seed)
        model = random_models.make(name, folder, 100 + seed, SPREAD, noise=0.5, **SIZES)
        student, params = ours_of(folder)
        batch = random_models.batch(seed, 3, 300, 40, VOCAB_SIZE)
        theirs = random_models.logits(model, batch)
        ours = apply_student(student, params, batch, deterministic=True)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=LIMIT)
        inputs, length, beam = batch["encoder_input_tokens"], 12, 4
        expected = random_models.generate(model, inputs, length, 1)
        np.testing.assert_array_equal(greedy(params, student, inputs, length), expected)
        theirs = random_models.generate(model, inputs, length, beam)
        ours, _ = beam_search(params, student, inputs, length, beam, length_penalty=0.0)
        for row, by_them, by_us in zip(inputs, theirs, np.asarray(ours), strict=True):
            search = functools.partial(plain_beam_search, student, params, row, length, beam)
            np.testing.assert_array_equal(search(looked_at=beam, cut_ends=True), by_them)
            np.testing.assert_array_equal(search(looked_at=2 * beam, cut_ends=False), by_us)


@pytest.mark.parametrize("name", ["t5_1_1", pytest.param("t5", marks=pytest.mark.slow)])
def test_every_distance_up_to_2000(name, tmp_path):
    """Buckets one by one, and logits at the end of 2,000 tokens on both sides."""
    attention = transformers.models.t5.modeling_t5.T5Attention
    for is_bidirectional in (True, False):
        distances = torch.arange(-2000, 2001)
        theirs = attention._relative_position_bucket(distances, is_bidirectional, 32, 128).numpy()
        table = relative_buckets(2001, 2001, is_bidirectional)
        ours = np.concatenate([table[::-1, 0], table[0, 1:]])
        np.testing.assert_array_equal(ours, theirs)
    model = random_models.make(name, tmp_path, 7, SPREAD, noise=0.0)
    student, params = ours_of(tmp_path)
    batch = random_models.batch(0, 1, 2000, 2000, VOCAB_SIZE)
    ours = apply_student(student, params, batch, deterministic=True)
    np.testing.assert_allclose(ours, random_models.logits(model, batch), rtol=0, atol=LIMIT)


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_way_back_is_bit_exact(name, is_sharded, tmp_path):
    """transformers loads what is written and computes the same, bit by bit."""
    model = random_models.make(name, tmp_path / "a", 3, **SIZES)
    student, params = ours_of(tmp_path / "a")
    back = tmp_path / "b"
    back.mkdir()
    size = 6000 if is_sharded else 10**9
    files = write_params(params, student, back, shard_bytes=size)
    assert (len(files) > 3) == is_sharded
    kind = read_config(tmp_path / "a").model_type
    (back / "config.json").write_text(json.dumps(config_dict(student, kind)))
    loaded = random_models.load(back)
    batch = random_models.batch(1, 2, 40, 20, VOCAB_SIZE)
    expected = random_models.logits(model, batch)
    np.testing.assert_array_equal(random_models.logits(loaded, batch), expected)
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    auto = transformers.AutoModelForSeq2SeqLM.from_pretrained(back)
    np.testing.assert_array_equal(random_models.logits(auto.eval(), batch), expected)


def test_its_library_reads_and_writes_the_same_files(tmp_path):
    """Names, types, shapes and numbers of safetensors, which is not used here."""
    from safetensors.torch import load_file

    random_models.make("flan_t5", tmp_path, 1)
    folder = TensorFolder(tmp_path)
    theirs = {name: array for file in folder.files for name, array in load_file(file).items()}
    assert theirs.keys() == folder.tensors.keys()
    for name, array in theirs.items():
        rows = np.concatenate([rows for _, rows in folder.rows(name)])
        np.testing.assert_array_equal(rows, array.float().numpy())
    student, params = ours_of(tmp_path)
    (tmp_path / "own").mkdir()
    [file] = write_params(params, student, tmp_path / "own", dtype="bfloat16")
    written = load_file(file)
    assert all(torch.equal(array, written[name]) for name, array in theirs.items())


@pytest.mark.parametrize(
    ("settings", "activations"),
    [
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "silu"}, ("silu", "linear")),
        ({"feed_forward_proj": "relu", "dense_act_fn": "gelu_new"}, ("gelu",)),
        ({"feed_forward_proj": "gated-relu"}, ("relu", "linear")),
        ({"feed_forward_proj": "tanh"}, ("tanh",)),
    ],
)
def test_activations_of_config_json(settings, activations, tmp_path):
    """What config.json says twice counts as transformers takes it."""
    config = transformers.T5Config(
        **random_models.SIZES,
        vocab_size=VOCAB_SIZE,
        feed_forward_proj=settings["feed_forward_proj"],
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    model = random_models.load(tmp_path)
    student, params = ours_of(tmp_path)
    assert student.mlp_activations == activations
    batch = random_models.batch(0, 1, 9, 5, VOCAB_SIZE)
    ours = apply_student(student, params, batch, deterministic=True)
    np.testing.assert_allclose(ours, random_models.logits(model, batch), rtol=0, atol=LIMIT)


@pytest.mark.skipif(not IS_VERSION_5, reason="version 4 fills the encoder with random numbers")
def test_the_embedding_of_a_folder_without_shared_weight(tmp_path):
    """This version of transformers reads it as the student does, not from lm_head."""
    from safetensors.torch import load_file, save_file

    model = random_models.make("t5_1_1", tmp_path, 5)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["decoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    save_file(tensors, path, {"format": "pt"})
    student, params = ours_of(tmp_path)
    batch = random_models.batch(0, 2, 9, 5, VOCAB_SIZE)
    ours = apply_student(student, params, batch, deterministic=True)
    for each in (model, random_models.load(tmp_path)):
        np.testing.assert_allclose(ours, random_models.logits(each, batch), rtol=0, atol=LIMIT)


def test_published_sizes_have_the_parameters_that_transformers_counts():
    """Models without memory, from the macros of every size file."""
    for (family, size), (count, _) in PUBLISHED.items():
        names = ["tickets_finetune", f"gin/models/{family}.gin", f"gin/sizes/{size}.gin"]
        vocabulary = () if family in ("mt5", "byt5") else ("VOCAB_SIZE=32128",)
        student = resolve.resolve(names, ("VOCABULARY_PATH=a.model", *vocabulary)).run.student
        kind = "mt5" if family == "mt5" else "t5"
        settings = config_dict(student, kind)
        config = transformers.AutoConfig.for_model(**settings)
        with torch.device("meta"):
            model = transformers.AutoModelForSeq2SeqLM.from_config(config)
        found = sum(parameter.numel() for parameter in model.parameters())
        if IS_VERSION_5 and not student.tie_embeddings:
            found += student.vocab_size * student.embed_dim  # it ties until it reads lm_head.weight
        assert found == count, (family, size)
