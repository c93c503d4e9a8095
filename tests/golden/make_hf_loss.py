"""Writes tests/golden/hf_loss: a tiny Hugging Face folder, rows, and transformers' loss of them.

    python tests/golden/make_hf_loss.py        (needs the extra `hf`, and sentencepiece)

The folder is made by transformers from random numbers. `rows.jsonl` has a label and a rationale for
each input. `loss.json` has the loss of both tasks, of all rows and of the first one: the mean over
rows of the mean over the target tokens, without dropout.
"""

from __future__ import annotations

import io
import json
import pathlib

import sentencepiece
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent / "hf_loss"
ROWS = [
    ("where is my blender , it was sent a week ago", "shipping", "asks where something sent is"),
    ("my kettle arrived broken", "refund", "the kettle is broken"),
    ("the driver left my fan in the rain", "shipping", "the driver is to blame"),
    ("i want my money back for this lamp", "refund", "asks for money"),
    ("no parcel today", "shipping", "a parcel is late"),
    ("it burnt", "refund", "it is broken"),
]
PREFIXES = {"label": "[label] ", "rationale": "[rationale] "}


def train_pieces(texts: list[str], size: int) -> bytes:
    """A SentencePiece model with T5's special ids."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=size,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        hard_vocab_limit=False,
        normalization_rule_name="identity",  # the table of another takes 240 kB
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


def losses(folder: pathlib.Path, rows: list[dict]) -> dict[str, float]:
    """transformers' loss of each task, a row at a time."""
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    found = {}
    for task, prefix in PREFIXES.items():
        of_rows = []
        for row in rows:
            inputs = [*pieces.EncodeAsIds(prefix + row["input"]), 1]
            targets = [*pieces.EncodeAsIds(row[task]), 1]
            with torch.no_grad():
                answer = model(input_ids=torch.tensor([inputs]), labels=torch.tensor([targets]))
            of_rows.append(float(answer.loss))
        found[task] = sum(of_rows) / len(of_rows)
    return found


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    fields = ("input", "label", "rationale")
    rows = [dict(zip(fields, row, strict=True)) for row in ROWS]
    (FOLDER / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [text for row in ROWS for text in row] + list(PREFIXES.values())
    (FOLDER / "spiece.model").write_bytes(train_pieces(texts * 4, 80))
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=88,
        d_model=16,
        d_kv=4,
        num_heads=3,
        d_ff=24,
        num_layers=2,
        num_decoder_layers=1,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        initializer_factor=0.5,
    )
    model = transformers.T5ForConditionalGeneration(config)
    # An output matrix of its own, as T5 v1.1 and Flan-T5 have; transformers 5 makes none.
    model.lm_head.weight = torch.nn.Parameter(torch.randn(88, 16) * 0.5)
    model.save_pretrained(FOLDER)
    # As in the published folders, so that every version of transformers reads the same model.
    content = json.loads((FOLDER / "config.json").read_text())
    content = {**content, "tie_word_embeddings": False}
    del content["scale_decoder_outputs"]
    (FOLDER / "config.json").write_text(json.dumps(content, indent=1) + "\n")
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
    (FOLDER / "generation_config.json").unlink(missing_ok=True)
    found = {
        "all_rows": losses(FOLDER, rows),
        "first_row": losses(FOLDER, rows[:1]),
        "transformers": transformers.__version__,
    }
    (FOLDER / "loss.json").write_text(json.dumps(found, indent=1) + "\n")
    print(found)


if __name__ == "__main__":
    main()
