"""METHOD = 'answer_first': one target a row, weighted as the two tasks are."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill import cli
from distill.config import resolve
from distill.config.weighting import Weighting
from distill.data import cache as caches
from distill.data.batching.batches import FLAT, PACKED, BatchStream
from distill.data.counts.data_line import data_lines, summarize_data
from distill.engines import native
from distill.errors import UserError
from distill.student.network import T5
from distill.student.params import init_params
from distill.training.step import loss_fn

NORMALIZATIONS = ("per_sequence", "per_token", "per_token_batch")
ROWS = 10
QUICK = {"xla_backend_optimization_level": 0}  # each program runs a few times
SETTINGS = (
    *("VOCABULARY=bytes", "VOCAB_SIZE=264", "INPUT_LENGTH=40", "TARGET_LENGTH=40"),
    *("LABELS=()", "NUM_LABELS=0", "VALIDATION_FRACTION=0.0", "DROPOUT_RATE=0.0", "BATCH_SIZE=8"),
)


@pytest.fixture(scope="module")
def resolve_rows(micro, tmp_path_factory):
    """(method, settings) -> the configuration on rows of many lengths, some without a rationale."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [
        {"input": f"ticket {'x' * n}", "label": "no" if n % 2 else "refund it"}
        | ({"rationale": f"since {'y' * (2 * n)}"} if n % 4 else {})
        for n in range(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = f"TRAIN_FILE={path}", f"TEST_FILE={path}"

    def resolved(method="answer_first", *settings):
        names = ["jsonl_step_by_step", f"gin/methods/{method}.gin"]
        tiny = [text for text in micro if not text.startswith(("NUM_ROWS", "NUM_TEST"))]
        return resolve.resolve(names, (*tiny, *SETTINGS, *files, *settings)).run

    return resolved


def plain_batch(run, cache, rows, normalization):
    """Each row by itself: its input, its target, and the weights as docs/weighting.md has them."""
    width = run.data.target_length
    batch = {
        "encoder_input_tokens": np.zeros((len(rows), run.data.input_length), np.int32),
        "decoder_target_tokens": np.zeros((len(rows), width), np.int32),
    }
    weights = np.zeros((len(rows), width))
    targets = {
        task: [cache.tokens["train", task, "targets"][row] for row in rows]
        for task in ("label", "rationale")
    }
    for number, row in enumerate(rows):
        inputs, start = cache.tokens["train", "label", "inputs"][row], 0
        batch["encoder_input_tokens"][number, : len(inputs)] = inputs
        for task, task_weight in (("label", 0.3), ("rationale", 0.7)):
            part = targets[task][number]
            divisor = {
                "per_sequence": len(part),
                "per_token": cache.mean_target_tokens(task),
                "per_token_batch": sum(map(len, targets[task])) / len(rows),
            }[normalization]
            end = start + len(part)
            batch["decoder_target_tokens"][number, start:end] = part
            if len(part):
                weights[number, start:end] = np.float32(1 / divisor) * np.float64(task_weight)
            start = end
    shifted = np.pad(batch["decoder_target_tokens"], ((0, 0), (1, 0)))[:, :-1]
    return batch | {"decoder_input_tokens": shifted}, weights


@pytest.fixture(scope="module")
def functions(resolve_rows):
    """Loss and gradient in float64: of the plain objective, and of a training step's batch."""
    config = dataclasses.replace(resolve_rows().student, dtype="float64")

    def plain(params, batch, weights):
        logits = T5(config).apply({"params": params}, batch, deterministic=True)
        chosen = jnp.take_along_axis(
            jax.nn.log_softmax(logits), batch["decoder_target_tokens"][..., None], axis=-1
        )
        return -jnp.sum(chosen[..., 0] * weights) / len(weights)

    def trained(params, batch):
        return loss_fn(params, batch, jax.random.key(0), config, (0.3, 0.7), 8.0)

    with jax.enable_x64(True):
        yield (
            jax.tree.map(np.float64, init_params(resolve_rows().student, jax.random.key(0))),
            jax.jit(jax.value_and_grad(plain), compiler_options=QUICK),
            jax.jit(jax.value_and_grad(trained, has_aux=True), compiler_options=QUICK),
        )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_gradient_is_that_of_both_losses_in_either_layout(
    resolve_rows, functions, normalization
):
    run, (params, plain, trained) = resolve_rows(), functions
    cache, weighting = caches.load_cache(run.data), Weighting(0.3, 0.7, normalization)
    streams = [
        BatchStream(cache, run.data, weighting, 8, 0, layout=layout) for layout in (PACKED, FLAT)
    ]
    rows = streams[0].rows(0).tolist()
    lengths = cache.tokens["train", "rationale", "targets"].lengths[rows]
    assert 0 in lengths and len(set(lengths.tolist())) > 3
    want, want_grads = plain(params, *plain_batch(run, cache, rows, normalization))
    for stream in streams:
        (loss, losses_K), grads = trained(params, stream.batch(0))
        assert float(loss) == pytest.approx(float(want), rel=1e-12)
        assert float(losses_K @ np.array([0.3, 0.7])) == pytest.approx(float(loss), rel=1e-12)
        for got, wanted in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
            assert np.linalg.norm(got - wanted) <= 1e-12 * np.linalg.norm(wanted)


def test_a_row_is_one_sequence_in_either_scheme(resolve_rows):
    """Mixture rates draw nothing here: there is one sequence a row."""
    run = resolve_rows()
    cache = caches.load_cache(run.data)
    paired, drawn = (
        BatchStream(cache, run.data, Weighting(0.3, 0.7, scheme=scheme), 8, seed=0)
        for scheme in ("paired_batches", "mixture_rates")
    )
    for step in range(3):
        batch, other = paired.batch(step), drawn.batch(step)
        assert batch.keys() == other.keys()
        assert all(np.array_equal(batch[name], other[name]) for name in batch)
        assert (batch["encoder_positions"] == 0)[batch["encoder_segment_ids"] > 0].sum() == 8
    assert paired.steps_per_epoch == ROWS / 8


def test_targets_are_those_of_the_two_tasks_end_to_end(resolve_rows):
    run, two = resolve_rows(), resolve_rows("step_by_step")
    joined, apart = (
        BatchStream(caches.load_cache(each.data), each.data, Weighting(0.3, 0.7), 8, seed=0)
        for each in (run, two)
    )
    ends = [len(one.targets) for one in joined._sequences(1)]
    assert sum(ends) == sum(len(one.targets) for one in apart._sequences(1))
    parts = {task: [] for task in (0, 1)}
    for one in apart._sequences(1):
        parts[one.task].append(one)
    rationales = iter(parts[1])
    for one, label in zip(joined._sequences(1), parts[0], strict=True):
        assert one.inputs.tolist() == label.inputs.tolist()
        size = len(label.targets)
        assert one.targets[:size].tolist() == label.targets.tolist()
        assert set(one.weight[:size]) == {label.weight}
        if len(one.targets) > size:
            rationale = next(rationales)
            assert one.targets[size:].tolist() == rationale.targets.tolist()
            assert set(one.weight[size:]) == {rationale.weight}
    assert next(rationales, None) is None


def test_a_rationale_is_cut_to_what_the_label_leaves(resolve_rows):
    run = resolve_rows("answer_first", "TARGET_LENGTH=20")
    cache = caches.load_cache(run.data)
    labels, rationales = (cache.tokens["train", task, "targets"] for task in ("label", "rationale"))
    rows = cache.rows["train"]
    whole = [len(row.rationale) + 1 if row.rationale else 0 for row in rows]
    for index, row in enumerate(rows):
        size = len(row.label) + 1
        assert labels[index].tolist()[-1] == 1 and len(labels[index]) == size
        assert len(rationales[index]) == min(whole[index], 20 - size)
        assert not whole[index] or rationales[index][-1] == 1
    counts = cache.meta["tasks"]["rationale"]["targets"]
    room = [whole[i] + len(row.label) + 1 for i, row in enumerate(rows)]
    cut = sum(w > 0 and n > 20 for w, n in zip(whole, room, strict=True))
    assert counts["cut"] == 2 * cut  # the test rows are the same ones
    assert 0 < counts["cut"] < counts["sequences"] and counts["longest"] == max(room)
    _, *warnings = data_lines(run.data, summarize_data(run.data, cache.meta))
    assert any(
        f"{counts['cut']} of {counts['sequences']} rationales" in text
        and "longer than TARGET_LENGTH = 20 tokens together with the label before it" in text
        and f"TARGET_LENGTH = {max(room)} would fit all" in text
        for text in warnings
    )
    mean = cache.mean_target_tokens("rationale")
    assert mean == np.mean([len(each) for each in rationales if len(each)])


def test_a_label_that_leaves_no_room_is_refused(resolve_rows):
    run = resolve_rows("answer_first", "TARGET_LENGTH=11")
    with pytest.raises(UserError, match="leave no room for a rationale in TARGET_LENGTH = 11 tok"):
        caches.load_cache(run.data)
    with pytest.raises(UserError, match=r"TARGET_LENGTH = 9 .*; TARGET_LENGTH = 12 would fit all"):
        caches.load_cache(resolve_rows("answer_first", "TARGET_LENGTH=9").data)
    caches.load_cache(resolve_rows("answer_first", "TARGET_LENGTH=12").data)


@pytest.mark.slow
def test_a_run_is_trained_and_its_folder_answers_alike(micro, tmp_path, capsys):
    few = "TRAIN_STEPS=2", "WARMUP_STEPS=1", "EVAL_PERIOD=0"
    names = ["tickets_step_by_step", "gin/methods/answer_first.gin"]
    resolved = resolve.resolve(names, (*micro, *few))
    lines: list[str] = []
    results = native.train(resolved, tmp_path / "run", lines.append)
    assert results["method"] == "answer_first" and 0 <= results["ranked_accuracy"] <= 1
    assert any("no input, label or rationale cut" in line for line in lines)
    (metrics,) = (json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open())
    weighted = 0.5 * metrics["loss_label"] + 0.5 * metrics["loss_rationale"]
    assert metrics["loss"] == pytest.approx(weighted, rel=1e-6)
    tested = [json.loads(line) for line in (tmp_path / "run" / "predictions_test.jsonl").open()]
    texts = [row["input"] for row in tested[:3]]
    assert cli.main(["predict", f"--run_dir={tmp_path / 'run'}", "--json", *texts]) == 0
    answers = json.loads(capsys.readouterr().out)["predictions"]
    for name in ("prediction", "ranked_label"):
        assert [row[name] for row in answers] == [row[name] for row in tested[:3]]


@pytest.mark.parametrize("method", ["answer_first", "step_by_step"])
def test_the_rationales_of_a_row_share_its_weight_if_all_have_as_many(
    method, resolve_rows, tmp_path
):
    """An epoch's token weights are those of the rows, with 1/m for each of m rationales."""
    path = tmp_path / "several.jsonl"
    rows = [
        {"input": f"row {n}", "label": "no", "rationale": [f"so {n}{'x' * k}" for k in (1, 4, 9)]}
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = resolve_rows(method, f"TRAIN_FILE={path}")
    cache = caches.load_cache(run.data)
    assert cache.meta["counts"]["train"] == 4 and len(cache.rows["train"]) == 12
    stream = BatchStream(cache, run.data, Weighting(0.3, 0.7), 12, seed=0)
    by_part: dict[tuple, float] = {}
    for one in stream._sequences(0):
        tasks = np.broadcast_to(one.task, len(one.targets))
        weights = np.broadcast_to(one.weight, len(one.targets))
        row = bytes(token - 3 for token in one.inputs[:-1]).decode().split("] ")[1]
        for task in (0, 1):
            if (tasks == task).any():
                text = one.targets[tasks == task]
                key = row, task, tuple(text.tolist())
                by_part[key] = by_part.get(key, 0.0) + float(weights[tasks == task].sum()) / 12
    labels = [weight for (_, task, _), weight in by_part.items() if task == 0]
    rationales = [weight for (_, task, _), weight in by_part.items() if task == 1]
    assert labels == pytest.approx([1 / 4] * 4) and rationales == pytest.approx([1 / 12] * 12)
