"""Makes t5x_beam.npz: answers of T5X's own beam search, over the student of t5x_untied.npz.

    python tests/golden/make_t5x_beam.py <checkout of google-research/t5x>

Only t5x/decoding.py and t5x/binary_search.py are imported. The next token's logits come from
this project's network, which tests/student/test_golden.py holds to T5X's.
"""

from __future__ import annotations

import importlib
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np

from distill.student.decoding import encode
from distill.student.network import T5, empty_cache

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "student"))
LENGTH = 10
SETTINGS = [(beam, alpha) for beam in (2, 4) for alpha in (0.0, 0.6, 1.5)]


def t5x_decoding(checkout: str) -> types.ModuleType:
    """The module t5x.decoding, without what t5x/__init__.py would load."""
    package = types.ModuleType("t5x")
    package.__path__ = [f"{checkout}/t5x"]
    sys.modules["t5x"] = package
    return importlib.import_module("t5x.decoding")


def main(checkout: str) -> None:
    """Writes the file."""
    from conftest import Golden  # tests/student/conftest.py

    decoding = t5x_decoding(checkout)
    golden = Golden("t5x_untied")
    config, params = golden.config, golden.tree("params")
    rng = np.random.default_rng(7)
    # Without it hardly a sequence ends; some rows still have none that does.
    column = params["decoder"]["logits_dense"]["kernel"][:, 1] + rng.normal(
        0.0, 1.5, config.embed_dim
    )
    column = column.astype(np.float32)
    kernel = jnp.asarray(params["decoder"]["logits_dense"]["kernel"]).at[:, 1].set(column)
    params = params | {"decoder": params["decoder"] | {"logits_dense": {"kernel": kernel}}}
    tokens = rng.integers(2, config.vocab_size, (12, 9))
    tokens = np.where(np.arange(9) < rng.integers(2, 10, (12, 1)), tokens, 0).astype(np.int32)
    keys_values, cross_mask = encode(params, config, tokens)
    empty = empty_cache(config, len(tokens), LENGTH)
    leaves, tree = jax.tree.flatten(empty)

    def tokens_to_logits(state):
        cache = jax.tree.unflatten(tree, [state.cache[f"{i}"] for i in range(len(leaves))])
        logits, cache = T5(config).apply(
            {"params": params},
            state.cur_token[:, 0],
            state.cur_index,
            cache,
            keys_values,
            cross_mask,
            method="decode_step",
        )
        return logits, {f"{i}": leaf for i, leaf in enumerate(jax.tree.leaves(cache))}

    arrays = {"inputs": tokens, "eos_column": column}
    for beam, alpha in SETTINGS:
        sequences, scores = decoding.beam_search(
            jnp.zeros((len(tokens), LENGTH), jnp.int32),
            {f"{i}": leaf for i, leaf in enumerate(leaves)},
            tokens_to_logits,
            eos_id=1,
            num_decodes=beam,
            alpha=alpha,
        )
        best = np.asarray(sequences[:, -1]), np.asarray(scores[:, -1])  # the best is last
        arrays[f"{beam}/{alpha}/tokens"], arrays[f"{beam}/{alpha}/scores"] = best
        ended = (best[0] == 1).any(1)
        print(
            f"beam {beam} alpha {alpha}: {ended.sum()} of {len(ended)} ended,"
            f" lengths {sorted((best[0] > 0).sum(1))}"
        )
    np.savez_compressed(FOLDER / "t5x_beam.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
