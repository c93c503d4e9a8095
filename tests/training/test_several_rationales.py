"""Rows with different numbers of rationales count the same, in both losses (docs/methods.md)."""

from __future__ import annotations

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from distill.config import resolve
from distill.config.weighting import Weighting
from distill.data import cache as caches
from distill.data.batching import packing
from distill.data.batching.batches import FLAT, PACKED, BatchStream
from distill.data.counts.data_line import data_lines, summarize_data
from distill.engines.t5x import check as t5x_check
from distill.engines.t5x import mixtures
from distill.errors import UserError
from distill.student.network import T5
from distill.student.params import init_params
from distill.training import provenance
from distill.training.statistics import task_statistics
from distill.training.step import accumulated, loss_fn

COUNTS = (1, 3, 0, 2, 5, 1)  # rationales of each row
ROWS = [
    {
        "input": f"row {'x' * (3 * n)}",
        "label": ("no", "refund")[n % 2],
        "rationale": [f"so {'y' * (4 * k + n)}" for k in range(count)],
    }
    for n, count in enumerate(COUNTS)
]
N, S = 13, 6  # training rows, rows
QUICK = {"xla_backend_optimization_level": 0}  # each program runs a few times
SETTINGS = (
    *("VOCABULARY=bytes", "VOCAB_SIZE=264", "INPUT_LENGTH=40", "TARGET_LENGTH=48"),
    *("LABELS=()", "NUM_LABELS=0", "VALIDATION_FRACTION=0.0", "DROPOUT_RATE=0.0", "BATCH_SIZE=13"),
)
WEIGHTS = {"step_by_step": (0.3, 0.7), "answer_first": (0.3, 0.7), "single_task": (1.0, 0.0)}


@pytest.fixture(scope="module")
def resolve_rows(micro, tmp_path_factory):
    """(method, settings, rows) -> the configuration on a file of these rows."""

    @functools.cache
    def written(text):
        path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
        path.write_text(text)
        return path

    def resolved(method="step_by_step", settings=(), rows=ROWS, engine="native"):
        path = written("".join(json.dumps(row) + "\n" for row in rows))
        tiny = [text for text in micro if not text.startswith(("NUM_ROWS", "NUM_TEST"))]
        files = f"TRAIN_FILE={path}", f"TEST_FILE={path}"
        names = ["jsonl_step_by_step", f"gin/methods/{method}.gin"]
        return resolve.resolve(names, (*tiny, *SETTINGS, *files, *settings), engine)

    return resolved


def ids(text: str) -> list[int]:
    return [byte + 3 for byte in text.encode()] + [1]


def sequences_of(row: dict, rationale: str | None, method: str) -> list[tuple]:
    """Sequences of a row with one of its rationales: input, and the target's part of each task."""
    inputs, label = ids(f"[label] {row['input']}"), ids(row["label"])
    if method == "single_task":
        return [(inputs, [ids(f"{rationale or ''} [label] {row['label']}".strip()), []])]
    reasons = ids(rationale) if rationale else []
    if method == "answer_first":
        return [(inputs, [label, reasons])]
    both = [(inputs, [label, []]), (ids(f"[rationale] {row['input']}"), [[], reasons])]
    return both if rationale else both[:1]


def objective(method: str, normalization: str, per_drawn: bool = False) -> list[tuple]:
    """L as a list of input, target and weight of each target token, summed over rows and their m.

    Weights are rounded as those of a batch are: to float32, before task weights and divisor.

    Args:
      method: METHOD.
      normalization: NORMALIZATION.
      per_drawn: whether L_rationale is the mean over rows that have a rationale, as with rates.
    """
    terms = [
        (max(len(row["rationale"]), 1), inputs, parts)
        for row in ROWS
        for rationale in row["rationale"] or [None]
        for inputs, parts in sequences_of(row, rationale, method)
    ]
    # Tokens and rows of each task, a row's rationales counting 1/m each.
    tokens = [sum(len(parts[task]) / m for m, _, parts in terms) for task in (0, 1)]
    rows = [sum(1 / m for m, _, parts in terms if parts[task]) for task in (0, 1)]
    assert rows == pytest.approx([S, 0 if method == "single_task" else S - 1])
    found, scale = [], 1 if per_drawn else N
    for m, inputs, parts in terms:
        weights = []
        for task, part in enumerate(parts):
            if not part:
                continue
            divisor = {
                "per_sequence": len(part) * (rows[task] if per_drawn else S),
                "per_token": tokens[task] / rows[task] * (rows[task] if per_drawn else S),
                "per_token_batch": tokens[task],
            }[normalization]
            rounded = float(np.float32(scale / m / divisor)) / scale
            weights += [WEIGHTS[method][task] * rounded] * len(part)
        found.append((inputs, parts[0] + parts[1], weights))
    return found


@pytest.fixture(scope="module")
def functions(resolve_rows):
    """Loss and gradient in float64: of an objective, and of a training step's batch."""
    student = resolve_rows().run.student
    config = dataclasses.replace(student, dtype="float64")

    def loss(params, batch, weights):
        logits = T5(config).apply({"params": params}, batch, deterministic=True)
        chosen = jnp.take_along_axis(
            jax.nn.log_softmax(logits), batch["decoder_target_tokens"][..., None], axis=-1
        )
        return -jnp.sum(chosen[..., 0] * weights)

    compiled = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)

    def plain(params, terms):
        """Each sequence by itself; the first one fills up, without a weight."""
        padded = [*terms, *[(*terms[0][:2], [])] * (2 * N - len(terms))]
        inputs, targets, weights = (
            np.zeros((2 * N, width), kind)
            for width, kind in ((40, np.int32), (48, np.int32), (48, float))
        )
        for number, parts in enumerate(padded):
            for array, values in zip((inputs, targets, weights), parts, strict=True):
                array[number, : len(values)] = values
        batch = {
            "encoder_input_tokens": inputs,
            "decoder_target_tokens": targets,
            "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        }
        return compiled(params, batch, weights)

    @functools.cache
    def step(microbatches):
        def of_batch(params, batch, key, weights, divisor):
            return loss_fn(params, batch, key, config, weights, divisor)

        gradient = jax.value_and_grad(of_batch, has_aux=True)
        if microbatches > 1:
            gradient = accumulated(gradient, microbatches)
        return jax.jit(gradient, compiler_options=QUICK)

    def trained(params, batch, method, divisor=N, microbatches=1):
        settings = np.array(WEIGHTS[method]), float(divisor)
        (value, _), grads = step(microbatches)(params, batch, jax.random.key(0), *settings)
        return value, grads

    with jax.enable_x64(True):
        params = jax.tree.map(np.float64, init_params(student, jax.random.key(0)))
        yield params, plain, trained


def assert_equal(got, want, tolerance=1e-12):
    assert float(got[0]) == pytest.approx(float(want[0]), rel=tolerance)
    for one, other in zip(*map(jax.tree.leaves, (got[1], want[1])), strict=True):
        assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(other)


@pytest.mark.parametrize(
    ("method", "layout", "normalization"),
    [
        ("step_by_step", PACKED, "per_sequence"),
        ("step_by_step", FLAT, "per_token"),
        ("step_by_step", FLAT, "per_token_batch"),
        ("answer_first", FLAT, "per_sequence"),
        ("answer_first", PACKED, "per_token"),
        ("answer_first", PACKED, "per_token_batch"),
        ("single_task", PACKED, "per_token"),
        pytest.param("single_task", FLAT, "per_sequence", marks=pytest.mark.slow),
    ],
)
def test_the_gradient_of_an_epoch_is_that_of_the_mean_over_rows(
    method, layout, normalization, resolve_rows, functions
):
    """A batch of all training rows: what other batches are an unbiased estimate of."""
    run, (params, plain, trained) = resolve_rows(method).run, functions
    cache = caches.load_cache(run.data)
    weighting = Weighting(*WEIGHTS[method], normalization)
    stream = BatchStream(cache, run.data, weighting, N, 0, layout=layout)
    assert stream.num_rows == N and sorted(stream.rows(0)) == list(range(N))
    want = plain(params, objective(method, normalization))
    assert_equal(trained(params, stream.batch(0), method), want)


@pytest.mark.slow
def test_microbatches_add_up_to_it(resolve_rows, functions):
    run, (params, plain, trained) = resolve_rows().run, functions
    weighting = Weighting(0.3, 0.7)
    stream = BatchStream(caches.load_cache(run.data), run.data, weighting, N, 0, row_multiple=2)
    want = plain(params, objective("step_by_step", "per_sequence"))
    assert_equal(trained(params, stream.batch(0), "step_by_step", microbatches=2), want)


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
def test_the_expected_gradient_of_mixture_rates_is_that_of_the_mean_over_rows(
    normalization, resolve_rows, functions
):
    """Of the two draws of a pair, each has a row of task t at the rate r_t / (its rows)."""
    run, (params, plain, trained) = resolve_rows().run, functions
    cache = caches.load_cache(run.data)
    weighting = Weighting(0.3, 0.7, normalization, "mixture_rates")
    stream = BatchStream(cache, run.data, weighting, N, 0)
    drawn = {}
    for step in range(12):
        drawn |= dict(zip(stream.sequences(step), stream._sequences(step), strict=True))
    assert len(drawn) == N + N - 1  # a row has no rationale
    rates = stream._order.rates
    expected = [
        dataclasses.replace(one, weight=one.weight * 2 * rates[task] / (N, N - 1)[task])
        for (task, _), one in drawn.items()
    ]
    rows = [[index] for index in range(len(expected))]
    batch = packing.pack(expected, rows, len(rows), 40, 48)
    want = plain(params, objective("step_by_step", normalization, per_drawn=True))
    assert_equal(trained(params, batch, "step_by_step", divisor=1), want)


def test_weights_change_neither_the_order_nor_what_is_drawn(resolve_rows):
    run = resolve_rows().run
    cache = caches.load_cache(run.data)
    equal = dataclasses.replace(cache, rationales=None)
    for scheme in ("paired_batches", "mixture_rates"):
        weighting = Weighting(0.3, 0.7, scheme=scheme)
        one, other = (BatchStream(each, run.data, weighting, 4, 1) for each in (cache, equal))
        for step in (7, 2):
            assert one.sequences(step) == other.sequences(step)
            batch, plain = one.batch(step), other.batch(step)
            differing = {key for key in batch if not np.array_equal(batch[key], plain[key])}
            assert differing == {"decoder_loss_weights"}
            again = BatchStream(cache, run.data, weighting, 4, 1).batch(step)
            assert all(np.array_equal(batch[key], again[key]) for key in batch)


def test_the_cache_holds_m_only_if_it_differs(resolve_rows):
    cache = caches.load_cache(resolve_rows().run.data)
    assert cache.rationales.tolist() == [m for m in sorted_counts(cache) for _ in range(m)]
    assert cache.meta["rationales"] == {"rows": S, "several": 3, "fewest": 1, "most": 5}
    means = [np.mean([len(t) + 1 for t in row["rationale"]]) for row in ROWS if row["rationale"]]
    assert cache.mean_target_tokens("rationale") == pytest.approx(np.mean(means), rel=1e-12)
    statistics = task_statistics(cache, resolve_rows().run.data)["rationale"]
    assert statistics.targets.mean == pytest.approx(np.mean(means), rel=1e-12)
    assert (statistics.rows, statistics.share) == (N - 1, pytest.approx((S - 1) / S))
    equal = [row | {"rationale": ["a", "bc"]} for row in ROWS]
    other = caches.load_cache(resolve_rows(rows=equal).run.data)
    assert other.rationales is None and not (other.folder / "train.rationales").exists()
    assert other.meta["rationales"] == {"rows": S, "several": S, "fewest": 2, "most": 2}
    single = [row | {"rationale": "a"} for row in ROWS]
    assert "rationales" not in caches.load_cache(resolve_rows(rows=single).run.data).meta


def sorted_counts(cache) -> list[int]:
    """m of each row, in the order of the training rows."""
    by_input = {row["input"]: max(len(row["rationale"]), 1) for row in ROWS}
    inputs = dict.fromkeys(row.input for row in cache.rows["train"])
    return [by_input[text] for text in inputs]


def test_a_cache_of_an_earlier_version_is_made_again(resolve_rows):
    spec = resolve_rows().run.data
    cache = caches.load_cache(spec)
    meta = json.loads((cache.folder / "meta.json").read_text())
    for name in ("rationales", "digest"):
        del meta[name]
    meta["contents"].pop("train.rationales")
    (cache.folder / "train.rationales").unlink()
    meta["digest"] = caches._digest_of(meta)
    (cache.folder / "meta.json").write_text(json.dumps(meta))
    lines: list[str] = []
    again = caches.load_cache(spec, say=lines.append)
    assert "an earlier version wrote it, without the number of rationales" in lines[0]
    assert again.rationales.tolist() == cache.rationales.tolist()


@pytest.mark.parametrize("method", ["finetune", "distill_labels"])
def test_a_method_that_reads_no_rationales_has_each_row_once(method, resolve_rows):
    rows = [row | {"teacher_label": row["label"]} for row in ROWS]
    run = resolve_rows(method, rows=rows).run
    cache = caches.load_cache(run.data)
    assert len(cache.rows["train"]) == S and cache.rationales is None
    assert {len(row.more_rationales) for row in cache.rows["train"]} == {0, 1, 2, 4}
    stream = BatchStream(cache, run.data, run.weighting, S, seed=0)
    sums = [one.weight * len(one.targets) for one in stream._sequences(0)]
    assert sums == pytest.approx([1.0] * S)
    (line, *_) = data_lines(run.data, summarize_data(run.data, cache.meta))
    assert "several" not in line


def test_words_of_all_rationales_are_in_the_vocabulary(resolve_rows):
    rows = [row | {"rationale": ["first", f"other{n}"]} for n, row in enumerate(ROWS)]
    run = resolve_rows(settings=("VOCABULARY=words", "VOCAB_SIZE=64"), rows=rows).run
    assert {"first", *(f"other{n}" for n in range(S))} <= set(caches.load_cache(run.data).words)


def test_the_data_line_and_the_record_of_a_run(resolve_rows, tmp_path):
    resolved = resolve_rows()
    cache = caches.load_cache(resolved.run.data)
    described = provenance.describe_run(resolved, cache, steps_per_epoch=1.0)
    assert described["data"]["several"] == {"rows": S, "several": 3, "fewest": 1, "most": 5}
    line, *warnings = data_lines(resolved.run.data, described["data"])
    assert any("1 of 6 labeled rows (16.7%) has no rationale" in text for text in warnings)
    assert f"data: {N} training rows" in line
    told = "3 of 6 rows (50.0%) have several rationales (m = 1 to 5), each a training row that"
    assert f"{told} counts 1/m" in line
    provenance.write_run(epath.Path(tmp_path), described)
    provenance.check_rows(tmp_path, cache.meta)
    # A run of a version that had no weights does not go on with another objective.
    del described["data"]["several"]
    (tmp_path / "run.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"earlier version, with which a row counted once for each"):
        provenance.check_rows(tmp_path, cache.meta)


def test_t5x_is_refused_where_rows_need_weights(resolve_rows):
    message = r"got rows with 1 to 5 rationales for METHOD = 'step_by_step' with the t5x engine"
    run = resolve_rows(engine="t5x").run
    with pytest.raises(UserError, match=message):
        t5x_check.check_rationales(run.data, caches.load_cache(run.data))
    with pytest.raises(UserError, match=message):  # `python -m t5x.train` has no other check
        mixtures.rates(run.data, run.weighting)
    run = resolve_rows("finetune", engine="t5x").run
    assert mixtures.rates(run.data, run.weighting) == {"label": 1.0}
