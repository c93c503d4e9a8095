"""Folders that transformers writes: the first loss is transformers', and training goes on."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `hf`")
transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pretrained import GOLDEN, train  # noqa: E402

SIZES = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_heads": 2,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "decoder_start_token_id": 0,
}
FAMILIES = {
    "t5": {"feed_forward_proj": "relu"},
    "flan": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mt5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "vocab_size": 100},
    "byt5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "vocab_size": 384},
}
ROWS = [json.loads(line) for line in (GOLDEN / "rows.jsonl").read_text().splitlines()]


# tests/huggingface reads the network of t5; the others are as flan, with other tokens
_SLOW = ("t5", "mt5", "byt5")


@pytest.fixture(
    params=[pytest.param(n, marks=pytest.mark.slow) if n in _SLOW else n for n in FAMILIES]
)
def family(request):
    return request.param


@pytest.fixture
def folder(family, tmp_path):
    """What transformers writes, with files of the family's tokenizer."""
    torch.manual_seed(1)
    settings = {"vocab_size": 88, **SIZES, **FAMILIES[family]}
    is_mt5 = family == "mt5"
    config = (transformers.MT5Config if is_mt5 else transformers.T5Config)(**settings)
    kind = "MT5" if is_mt5 else "T5"
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    if "tie_word_embeddings" in settings:
        shape = model.lm_head.weight.shape
        model.lm_head.weight = torch.nn.Parameter(torch.randn(shape) * 0.3)
    model.save_pretrained(tmp_path / "hf", max_shard_size="20KB" if family == "flan" else "5GB")
    if family == "byt5":
        transformers.ByT5Tokenizer().save_pretrained(tmp_path / "hf")
    else:
        content = (GOLDEN / "spiece.model").read_bytes()
        (tmp_path / "hf" / "spiece.model").write_bytes(content)
    return tmp_path / "hf"


def loss_of(folder, family, task: str) -> float:
    """The mean over rows of transformers' loss, a row at a time."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    if family == "byt5":
        tokenizer = transformers.ByT5Tokenizer.from_pretrained(folder)

        def encode(text):
            return tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        import sentencepiece

        pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
        encode = pieces.EncodeAsIds
    losses = []
    for row in ROWS:
        inputs = torch.tensor([[*encode(f"[{task}] {row['input']}"), 1]])
        targets = torch.tensor([[*encode(row[task]), 1]])
        with torch.no_grad():
            losses.append(float(model(input_ids=inputs, labels=targets).loss))
    return sum(losses) / len(losses)


def test_the_loss_before_the_first_step_is_that_of_transformers(family, folder, tmp_path):
    if family == "flan":
        assert len(list(folder.glob("*.safetensors"))) > 1
    first, *_, last = train(folder, tmp_path / "run")
    for task in ("label", "rationale"):
        assert first[f"loss_{task}"] == pytest.approx(loss_of(folder, family, task), abs=1e-4)
    assert last["loss"] < first["loss"]
