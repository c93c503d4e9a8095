"""One process of gpu_train.py: transformers' T5 on PyTorch, trained and decoded on this device.

    PYTHONPATH=. python3 benchmarks/gpu_torch.py --size base --setting sdpa --out torch.json

The step is the paper's: a pass over the padded label sequences and one over the padded rationale
sequences of a batch of pairs, half of each loss, one backward pass, AdamW. bfloat16 by autocast.
Settings: `eager` and `sdpa` name transformers' attention; `compile` is sdpa under torch.compile,
at the longest lengths of the workload, so that one program serves all batches.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import gpu_workload as workload
from distill.config.student import T5Config
from distill.data.batching.batches import BatchStream
from distill.data.cache import TokenCache

if TYPE_CHECKING:
    import torch

SETTINGS = ("eager", "sdpa", "compile")
MULTIPLE = 8  # padded lengths are multiples of it


def make_model(config: T5Config, setting: str) -> torch.nn.Module:
    """transformers' T5 of the student's sizes, random, with output weights of its own."""
    import torch
    import transformers

    model = transformers.T5ForConditionalGeneration._from_config(
        transformers.T5Config(
            vocab_size=config.vocab_size,
            d_model=config.embed_dim,
            d_kv=config.head_dim,
            d_ff=config.mlp_dim,
            num_heads=config.num_heads,
            num_layers=config.num_encoder_layers,
            num_decoder_layers=config.num_decoder_layers,
            dropout_rate=config.dropout_rate,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            decoder_start_token_id=0,
            pad_token_id=0,
            eos_token_id=1,
        ),
        attn_implementation="eager" if setting == "eager" else "sdpa",
    )
    # transformers 5 ties them whatever the configuration says; T5 v1.1 does not.
    output = model.shared.weight.detach() * config.embed_dim**-0.5
    model.lm_head.weight = torch.nn.Parameter(output)
    return model


def padded_batches(
    options: argparse.Namespace, config: T5Config, cache: TokenCache, pin: bool
) -> tuple[list[list[dict]], list]:
    """Host batches of the rows that native's steps have, and those steps' sequences.

    Returns:
      For each step the model's arguments of the label pass and of the rationale pass; and (task,
      row) of the sequences of each step.
    """
    import torch

    run = workload.run_config(config, options.batch, 320, 112)
    stream = BatchStream(cache, run.data, run.weighting, options.batch, run.train.seed)
    steps = [stream.sequences(step) for step in range(workload.BATCHES)]
    batches = []
    for step in steps:
        passes = []
        for number, task in enumerate(workload.TASKS):
            rows = [row for of, row in step if of == number]
            longest = (None, None)
            if options.setting == "compile":
                longest = workload.INPUT_TOKENS[-1], workload.TARGET_TOKENS[task][-1]
            inputs = _padded(cache, task, "inputs", rows, 0, longest[0])
            arrays = {
                "input_ids": inputs,
                "attention_mask": (inputs != 0).astype(np.int64),
                "labels": _padded(cache, task, "targets", rows, -100, longest[1]),
            }
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            passes.append({k: v.pin_memory() if pin else v for k, v in tensors.items()})
        batches.append(passes)
    return batches, steps


def _padded(
    cache: TokenCache, task: str, side: str, rows: Sequence[int], pad: int, longest: int | None
) -> np.ndarray:
    sequences = [cache.tokens["train", task, side][row] for row in rows]
    length = -(-(longest or max(map(len, sequences))) // MULTIPLE) * MULTIPLE
    padded = np.full((len(rows), length), pad, np.int64)
    for slot, sequence in enumerate(sequences):
        padded[slot, : len(sequence)] = sequence
    return padded


def train(
    options: argparse.Namespace, config: T5Config, cache: TokenCache, model: torch.nn.Module
) -> dict:
    """Times training steps."""
    import torch

    device = torch.device(options.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    forward = torch.compile(model) if options.setting == "compile" else model
    batches, steps = padded_batches(options, config, cache, pin=device.type == "cuda")

    def loss_of(arguments: Mapping[str, torch.Tensor]) -> torch.Tensor:
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in arguments.items()}
        return forward(**moved, use_cache=False).loss

    def step(index: int) -> torch.Tensor:
        label, rationale = batches[index % len(batches)]
        bfloat16 = options.dtype == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = 0.5 * loss_of(label) + 0.5 * loss_of(rationale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    model.train()
    start = time.perf_counter()
    step(0)
    _wait(device)
    first = time.perf_counter() - start
    for index in range(1, options.warmup):
        step(index)
    _wait(device)
    times = workload.time_groups(step, lambda _: _wait(device), options.steps, options.group)
    shapes = [[p["input_ids"].shape, p["labels"].shape] for one in batches for p in one]
    positions = np.array([[np.prod(side) for side in both] for both in shapes]).sum(axis=0)
    return {
        "step_seconds": dataclasses.asdict(times),
        "first_step_seconds": first,
        "loss": float(step(0)),
        "rows": 2 * options.batch,
        "encoder_positions": float(positions[0]) / len(batches),
        "decoder_positions": float(positions[1]) / len(batches),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "peak_bytes": _peak_bytes(device),
        **workload.step_counts(cache, config, steps),
    }


def infer(options: argparse.Namespace, cache: TokenCache, model: torch.nn.Module) -> dict:
    """Times `generate`, greedy, MAX_NEW_TOKENS tokens a row, parameters in `--dtype`."""
    import torch

    device = torch.device(options.device)
    model.to(getattr(torch, options.dtype)).eval()
    with torch.no_grad():
        model.lm_head.weight[workload.ENDS] = 0.0
    batches = [
        torch.from_numpy(tokens_BxI).long()
        for tokens_BxI in workload.inference_batches(cache, options.infer_rows, options.batch)
    ]

    def decode() -> list[np.ndarray]:
        outputs = []
        for tokens in batches:
            moved = tokens.to(device)
            output = model.generate(
                input_ids=moved,
                attention_mask=(moved != 0).long(),
                max_new_tokens=workload.MAX_NEW_TOKENS,
                do_sample=False,
                num_beams=1,
            )
            outputs.append(output.cpu().numpy())
        return outputs

    with torch.inference_mode():
        return workload.time_decoding(decode, len(batches) * options.batch, options.passes)


def matmul_flops_per_second(size: int, device: str) -> float:
    """Products of bfloat16 matrices [size, size]: the best of five groups of ten."""
    import torch

    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    left @ right
    _wait(torch.device(device))
    times = workload.time_groups(
        lambda _: left @ right, lambda _: _wait(torch.device(device)), steps=50, group=10
    )
    return 2.0 * size**3 / times.least


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def _peak_bytes(device: torch.device) -> int:
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return workload.peak_host_bytes()


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and writes JSON; returns the exit code."""
    parser = workload.worker_parser(__doc__)
    parser.add_argument("--setting", default="sdpa", choices=SETTINGS)
    options = parser.parse_args(argv)
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TensorFloat32, which jax uses as well
    config = workload.student(options.size, options.dtype)
    cache = workload.synthetic_rows(workload.BATCHES * options.batch)
    on_card = options.device == "cuda"
    model = make_model(config, options.setting).to(options.device)
    report: dict = {
        "device": torch.cuda.get_device_name() if on_card else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "train": train(options, config, cache, model),
    }
    report["matmul_flops_per_second"] = matmul_flops_per_second(options.matmul, options.device)
    Path(options.out).write_text(json.dumps(report))
    if options.infer_rows:
        report["infer"] = infer(options, cache, model)
        Path(options.out).write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
