"""What the t5x engine refuses before T5X starts, and what it says in one line instead."""

from __future__ import annotations

from collections.abc import Mapping

from distill.config.data import DataSpec
from distill.config.run import RunConfig
from distill.data.cache import TokenCache
from distill.errors import UserError, unknown

_OWN_FACTOR = "keep LOSS_NORMALIZING_FACTOR = None, the constant that the weighting needs"
_POOLED = {"NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS"}
_FACTORS = ("AVERAGE_PER_SEQUENCE", *sorted(_POOLED))


def check_t5x_run(config: RunConfig, macros: Mapping[str, object]) -> list[str]:
    """Looks for settings that T5X does not have, or takes to mean something else.

    Args:
      config: of the run.
      macros: every macro's value, those of gin/engines/t5x.gin among them.

    Returns:
      Lines that say what a setting will mean where that is not what it looks like.

    Raises:
      UserError: a setting that would silently mean something else.
    """
    if config.weighting.normalization == "per_token_batch":
        raise UserError(
            "got NORMALIZATION = 'per_token_batch' with the t5x engine, expected 'per_sequence' or "
            "'per_token': T5X divides the loss by one number, not by each task's tokens in the "
            "batch; or use --engine=native"
        )
    if config.student.tie_embeddings and not config.student.scale_tied_logits:
        raise UserError(
            "got SCALE_TIED_LOGITS = False with TIE_EMBEDDINGS = True and the t5x engine: T5X "
            "always divides tied logits by sqrt(EMBED_DIM); use --engine=native"
        )
    for macro in ("ACTIVATION_PARTITIONING_DIMS", "PARAMETER_PARTITIONING_DIMS"):
        if macros[macro] not in (1, 2):
            raise UserError(f"got {macro} = {macros[macro]!r}, expected 1 or 2")
    for macro in ("PACK", "USE_CACHED"):
        if not isinstance(macros[macro], bool):
            raise UserError(f"got {macro} = {macros[macro]!r}, expected True or False")
    submesh = macros["MODEL_PARALLEL_SUBMESH"]
    if submesh is not None and (
        not isinstance(submesh, tuple)
        or len(submesh) != 4
        or not all(isinstance(n, int) and n > 0 for n in submesh)
    ):
        raise UserError(
            f"got MODEL_PARALLEL_SUBMESH = {submesh!r}, expected None or four integers such as (2, "
            "2, 1, 1)"
        )
    lines = _check_factor(config, macros["LOSS_NORMALIZING_FACTOR"], bool(macros["PACK"]))
    if config.student.scan_layers:
        lines.append(
            "SCAN_LAYERS has no effect with T5X: it runs the same layers one by one, which takes "
            "longer to compile"
        )
    return lines


def check_rationales(spec: DataSpec, cache: TokenCache) -> None:
    """Refuses rows with different numbers of rationales, whose training rows need weights.

    Raises:
      UserError: names the settings that can train on them.
    """
    if cache.rationales is not None:
        most = int(cache.rationales.max())
        raise UserError(
            f"got rows with {int(cache.rationales.min())} to {most} rationales for METHOD = "
            f"{spec.method!r} with the t5x engine, expected the same number for all rows: T5X "
            "would count a row once for each of its rationales. Use --engine=native, which counts "
            f"all rows the same, or give every row {most}"
        )


def _check_factor(config: RunConfig, factor: object, pack: bool) -> list[str]:
    """See `check_t5x_run`; the reasons are measured in docs/weighting.md."""
    if factor is None:
        return []
    got = f"got LOSS_NORMALIZING_FACTOR = {factor!r}"
    if isinstance(factor, int | float) and not isinstance(factor, bool):
        if not 0 < factor < float("inf"):
            raise UserError(f"{got}, expected more than 0; {_OWN_FACTOR}")
        return [f"the loss is divided by {factor}, which scales it: {_OWN_FACTOR}"]
    if not isinstance(factor, str) or factor not in _FACTORS:
        raise unknown("divisor", str(factor), _FACTORS, "macro LOSS_NORMALIZING_FACTOR")
    weighting = config.weighting
    if config.data.is_joined:
        raise UserError(
            f"{got} with METHOD = {config.data.method!r}, which puts the loss weights on the "
            "tokens of one target: T5X would divide by the number of tokens or by the sum of their "
            f"weights; {_OWN_FACTOR}"
        )
    if len(config.data.tasks) == 2 and weighting.scheme == "paired_batches":
        raise UserError(
            f"{got} with WEIGHTING = 'paired_batches', which puts the task weights on the tokens: "
            "T5X would divide by the sum of these weights, so that they cancel or vary from batch "
            f"to batch; {_OWN_FACTOR}"
        )
    if factor == "NUM_TOTAL_TARGET_TOKENS":
        raise UserError(
            f"{got}: T5X would count padding in the divisor, which gives the loss an arbitrary "
            f"scale; {_OWN_FACTOR}"
        )
    right = {"AVERAGE_PER_SEQUENCE": "per_sequence", "NUM_REAL_TARGET_TOKENS": "per_token"}[factor]
    if weighting.normalization != right:
        raise UserError(
            f"{got} with NORMALIZATION = {weighting.normalization!r}, whose mixture rates need "
            f"another divisor: the tasks would get other weights than configured; {_OWN_FACTOR}"
        )
    if config.train.microbatches > 1:
        raise UserError(
            f"{got} with MICROBATCHES = {config.train.microbatches}: T5X divides each microbatch "
            "by its own count and adds them up, which is not the gradient of the batch; "
            f"{_OWN_FACTOR}"
        )
    if right == "per_sequence":
        nearly = "nearly (within about 0.2%)" if pack else "exactly"
        return [f"AVERAGE_PER_SEQUENCE is {nearly} the configured loss"]
    return [
        "each batch is divided by its own number of tokens, which biases the gradient by about 2/B "
        "to 3/B for B sequences per batch"
    ]
