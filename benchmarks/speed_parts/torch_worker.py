"""The PyTorch process of benchmarks/speed.py: T5 of transformers.

    python3 -m benchmarks.speed_parts.torch_worker FOLDER train SETTING
    python3 -m benchmarks.speed_parts.torch_worker FOLDER infer HF_FOLDER

A step is the paper's: a pass over the padded label sequences and one over the padded rationale
sequences, their weighted losses, one backward pass, clipping, fused AdamW. The settings:

  padded   eager attention; pairs in the order that native draws them
  sdpa     transformers' SDPA attention instead
  sorted   sdpa, and the same pairs in batches of about one length
  compile  sorted, and torch.compile with dynamic shapes

Needs torch, transformers and numpy alone.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time

from benchmarks.speed_parts import protocol

LAP = protocol.Lap()

import numpy as np  # noqa: E402  the time of the imports is measured
import torch  # noqa: E402
from transformers import T5Config, T5ForConditionalGeneration  # noqa: E402

SETTINGS = ("padded", "sdpa", "sorted", "compile")
IGNORED = -100


def bound(size: int) -> protocol.Fields:
    """The fastest of a few products of float32 matrices."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return {"flops_per_second": 2.0 * size**3 / min(seconds[1:])}


def make_model(settings: dict, attention: str) -> T5ForConditionalGeneration:
    """transformers' T5 of the student's sizes, with random parameters."""
    student = settings["student"]
    config = T5Config(
        vocab_size=student["vocab_size"],
        d_model=student["embed_dim"],
        d_kv=student["head_dim"],
        d_ff=student["mlp_dim"],
        num_heads=student["num_heads"],
        num_layers=student["num_encoder_layers"],
        num_decoder_layers=student["num_decoder_layers"],
        dropout_rate=student["dropout_rate"],
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=student["tie_embeddings"],
        decoder_start_token_id=0,
        use_cache=False,
    )
    return T5ForConditionalGeneration._from_config(config, attn_implementation=attention)


def train(folder: pathlib.Path, setting: str) -> None:
    """Serves training steps."""
    LAP.done("imports")
    settings = json.loads((folder / "settings.json").read_text())
    torch.manual_seed(0)
    model = make_model(settings, "eager" if setting == "padded" else "sdpa").train()
    forward = torch.compile(model, dynamic=True) if setting == "compile" else model
    own = settings["optimizer"]
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=own["learning_rate"],
        betas=(own["b1"], own["b2"]),
        weight_decay=own["weight_decay"],
        fused=True,
    )
    order = "sorted." if setting in ("sorted", "compile") else ""
    arrays = {name: torch.from_numpy(a) for name, a in np.load(folder / "batches.npz").items()}
    LAP.done("data")

    def step(number: int) -> torch.Tensor:
        loss = torch.zeros(())
        for task, weight in enumerate(settings["task_weights"]):
            name = f"{order}{number % settings['steps']}.{task}"
            inputs, targets = (arrays[f"{name}.{side}"] for side in ("inputs", "targets"))
            labels = targets.masked_fill(targets == 0, IGNORED)
            output = forward(input_ids=inputs, attention_mask=(inputs > 0).long(), labels=labels)
            loss = loss + weight * output.loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), own["clip_norm"] or float("inf"))
        optimizer.step()
        return loss.detach()

    def take(first: int, count: int) -> protocol.Fields:
        for number in range(first, first + count):
            loss = step(number)
        return {"loss": float(loss)}

    step(0)
    LAP.done("first step")
    if setting == "compile":  # other shapes may compile again
        take(1, settings["steps"])
        LAP.done("compile")
    positions = {
        side: np.mean(
            [
                sum(
                    arrays[f"{order}{number}.{task}.{side}"].numel()
                    for task in range(len(settings["tasks"]))
                )
                for number in range(settings["steps"])
            ]
        )
        for side in ("inputs", "targets")
    }
    facts = {
        "seconds": LAP.seconds,
        "encoder_positions": float(positions["inputs"]),
        "decoder_positions": float(positions["targets"]),
        "parameters": sum(one.numel() for one in model.parameters()),
    }
    protocol.serve(facts, {"train": take, "bound": bound})


def infer(folder: pathlib.Path, source: str) -> None:
    """Serves `generate`, greedy, on tokens in batches of about one length."""
    LAP.done("imports")
    settings = json.loads((folder / "settings.json").read_text())
    saved = np.load(folder / "inputs.npz")
    inputs = np.split(saved["values"], saved["offsets"][1:-1])
    model = T5ForConditionalGeneration.from_pretrained(source).eval()
    LAP.done("data")

    @torch.inference_mode()
    def decode(batch: int, answers: bool) -> protocol.Fields:
        order = sorted(range(len(inputs)), key=lambda index: -len(inputs[index]))
        decoded = [[0]] * len(inputs)
        for start in range(0, len(order), batch):
            indices = order[start : start + batch]
            tokens = np.zeros((len(indices), len(inputs[indices[0]])), np.int64)
            for row, index in zip(tokens, indices, strict=True):
                row[: len(inputs[index])] = inputs[index]
            output = model.generate(
                input_ids=torch.from_numpy(tokens),
                attention_mask=torch.from_numpy((tokens > 0).astype(np.int64)),
                max_new_tokens=settings["max_new_tokens"],
                do_sample=False,
                num_beams=1,
            )
            for index, found in zip(indices, output[:, 1:].tolist(), strict=True):
                decoded[index] = found[: found.index(1)] if 1 in found else found
        return {"answers": decoded} if answers else {}

    start = time.perf_counter()
    decode(1, False)
    facts = {"seconds": LAP.seconds, "first_pass": time.perf_counter() - start}
    protocol.serve(facts, {"decode": decode, "bound": bound})


if __name__ == "__main__":
    {"train": train, "infer": infer}[sys.argv[2]](pathlib.Path(sys.argv[1]), sys.argv[3])
