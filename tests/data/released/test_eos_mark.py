"""RAW_FORM = 'released': an EOS token within the input, the same for training and prediction."""

import json

import numpy as np
import pytest

from distill.config.data import DataSpec
from distill.data import cache as caches
from distill.data import ragged
from distill.data.batching import packing
from distill.errors import UserError
from tasks import esnli

PREMISE, HYPOTHESIS = "a man plays the guitar", "a man sleeps"


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "esnli/llm").mkdir(parents=True)
    rows = [
        {"premise": f"{PREMISE} {i}", "hypothesis": HYPOTHESIS, "label": i % 3} for i in range(40)
    ]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "esnli/esnli_valid.json").write_text(lines)
    texts = json.dumps(["He plays. So the answer is contradiction."] * 40)
    (tmp_path / "esnli/llm/valid_CoT_0.json").write_text(texts)

    def make(form: str, **settings: object) -> DataSpec:
        options = {"raw_dir": str(tmp_path), "raw_split": "valid", "test_fraction": 0.3}
        return DataSpec(
            "esnli",
            "step_by_step",
            input_length=64,
            dataset_options=options | {"raw_form": form},
            **settings,
        )

    return make


def _vocabularies():
    from distill.data.vocabularies import make_vocabulary

    words = make_vocabulary("words", words=f"[label] {PREMISE} {HYPOTHESIS}".split())
    return {"words": words, "bytes": make_vocabulary("bytes")}


def test_graph_and_python_give_the_same_ids():
    from distill.data.seqio_vocabularies import encode_input_tf, to_seqio
    from distill.data.vocabularies import encode_input

    texts = ("a man", "[label] a man</s>a man sleeps", "</s>a</s></s>man", "")
    for vocabulary in _vocabularies().values():
        for text in texts:
            ids = encode_input(vocabulary, text, mark="</s>")
            assert ids.count(1) == text.count("</s>") + 1
            found = encode_input_tf(to_seqio(vocabulary), text, "</s>")
            assert found.numpy().tolist() == ids[:-1]


def test_without_the_setting_a_mark_is_text():
    from distill.data.vocabularies import encode_input

    vocabulary = _vocabularies()["bytes"]
    assert encode_input(vocabulary, "a</s>b") == [*vocabulary.encode("a</s>b"), 1]


def test_sentencepiece_parts_are_those_of_the_parts_alone(shared_dir):
    from distill.data.seqio_vocabularies import encode_input_tf, to_seqio
    from distill.data.vocabularies import encode_input, make_vocabulary

    (model,) = (
        list(shared_dir.rglob("*100extra*model*"))[:1] or list(shared_dir.rglob("*.model"))[:1]
    )
    vocabulary = make_vocabulary("sentencepiece", str(model))
    ids = encode_input(vocabulary, f"predict: {PREMISE}</s>{HYPOTHESIS}", mark="</s>")
    parts = [vocabulary.encode(text) for text in (f"predict: {PREMISE}", HYPOTHESIS)]
    assert ids == [*parts[0], 1, *parts[1], 1]
    text = f"predict: {PREMISE}</s>{HYPOTHESIS}"
    assert encode_input_tf(to_seqio(vocabulary), text, "</s>").numpy().tolist() == ids[:-1]


def test_tokens_of_both_tasks_hold_the_eos_and_so_does_prediction(spec):
    from distill.config.student import T5Config
    from distill.inference.evaluator import Evaluator
    from distill.training.assets import of_data

    released = spec("released")
    cache = caches.load_cache(released)
    row = cache.rows["train"][0]
    premise, hypothesis = row.input.split("</s>")
    assert premise.startswith(PREMISE) and hypothesis == HYPOTHESIS
    sizes = {
        "embed_dim": 8,
        "num_heads": 1,
        "head_dim": 8,
        "mlp_dim": 8,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
    }
    evaluator = Evaluator(
        released, T5Config(vocab_size=64, **sizes), of_data(released, cache.words), 4
    )
    words = evaluator.vocabulary
    for task, prefix in (("label", "[label] "), ("rationale", "[rationale] ")):
        ids = cache.tokens["train", task, "inputs"][0]
        wanted = [*words.encode(prefix + premise), 1, *words.encode(hypothesis), 1]
        assert ids.tolist() == wanted and 2 not in wanted
        assert evaluator._inputs(prefix, [row])[0].tolist() == wanted


def test_packing_keeps_what_follows_an_eos_within_an_input(spec):
    cache = caches.load_cache(spec("released"))
    inputs, targets = (cache.tokens["train", "label", side] for side in ragged.FEATURES)
    sequences = [packing.TrainSequence(inputs[i], targets[i], 0, 1.0) for i in range(6)]
    rows = packing.assign_rows(sequences, 64, 32)
    batch = packing.pack(sequences, rows, len(rows), 64, 32)
    tokens, segments = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    assert np.count_nonzero(tokens) == np.count_nonzero(segments) == inputs.lengths[:6].sum()
    for row, members in enumerate(rows):
        for segment, member in enumerate(members, start=1):
            assert tokens[row][segments[row] == segment].tolist() == inputs[member].tolist()


def test_the_prefixed_form_stays_and_others_are_refused(spec):
    train, test = esnli.DATASET.load(spec("prefixed"))
    assert all(row.input.startswith(f"premise: {PREMISE}") for row in [*train, *test])
    other_train, other_test = esnli.DATASET.load(spec("released"))
    assert [row.id for row in other_train] == [row.id for row in train] and len(other_test)
    with pytest.raises(UserError, match=r"RAW_FORM.*closest: released"):
        esnli.DATASET.load(spec("releasd"))
