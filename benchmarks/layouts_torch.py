"""The PyTorch process of layouts.py: T5 of transformers, two padded passes a step.

    python3 benchmarks/layouts_torch.py FOLDER

FOLDER holds batches.npz and settings.json. For each line `FIRST STEPS` on standard input it trains
so many steps and prints their mean seconds, by the clock and of the CPU. Needs torch, transformers
and numpy alone.
"""

import json
import pathlib
import sys
import time

import numpy as np

IGNORED = -100


def main() -> None:
    """Serves lines until standard input ends."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder = pathlib.Path(sys.argv[1])
    settings = json.loads((folder / "settings.json").read_text())
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=settings["vocab_size"],
            d_model=settings["embed_dim"],
            d_kv=settings["head_dim"],
            d_ff=settings["mlp_dim"],
            num_heads=settings["num_heads"],
            num_layers=settings["num_encoder_layers"],
            num_decoder_layers=settings["num_decoder_layers"],
            dropout_rate=settings["dropout_rate"],
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=settings["tie_embeddings"],
            decoder_start_token_id=0,
            use_cache=False,
        )
    ).train()
    # A small rate, so that the loss stays finite; the time of a step does not depend on it.
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"] / 100)
    arrays = {name: torch.from_numpy(a) for name, a in np.load(folder / "batches.npz").items()}

    def step(number: int) -> None:
        loss = torch.zeros(())
        for task, weight in enumerate(settings["task_weights"]):
            inputs, targets = (arrays[f"{number}.{task}.{side}"] for side in ("inputs", "targets"))
            labels = targets.masked_fill(targets == 0, IGNORED)
            output = model(input_ids=inputs, attention_mask=(inputs > 0).long(), labels=labels)
            loss = loss + weight * output.loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for line in sys.stdin:
        first, steps = map(int, line.split())
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(first, first + steps):
            step(number % settings["steps"])
        print((time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps, flush=True)


if __name__ == "__main__":
    main()
