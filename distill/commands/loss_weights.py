"""`distill loss-weights`: what a configuration's weights, rates and normalization amount to."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, NotRequired, TypedDict

from distill.commands import arguments
from distill.common import table
from distill.common.progress import Stage
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.config.run import RunConfig
    from distill.config.student import T5Config
    from distill.data.cache import TokenCache

TEXT = "convert between loss weights, mixture rates and token weights"
_LARGE = 50_000_000  # parameters from which gradients are those of a smaller student
# A label that weighs less than this in the naive mixture is as good as not trained.
_STARVED = 0.25


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `weights`."""
    command = arguments.add(commands, "loss-weights", TEXT, configured=True)
    command.add_argument(
        "--cache_dir",
        help="folder for tokenized data; default $DISTILL_CACHE_DIR or ~/.cache/distill",
    )
    command.add_argument(
        "--lambda",
        dest="rationale_lambda",
        type=float,
        metavar="L",
        help="print the macros for the paper's lambda (L_label + lambda * L_rationale)",
    )
    command.add_argument(
        "--pairs",
        type=int,
        default=64,
        help="number of pairs (label and rationale of a row) used to estimate the variance of the "
        "gradient with paired_batches and with mixture_rates; 0: no estimate",
    )

    def run(options: argparse.Namespace) -> LossWeights:
        from distill.common.devices import check_devices
        from distill.config.resolve import resolve
        from distill.config.weighting import weights_from_lambda
        from distill.convert.sizes import adopt_sizes
        from distill.data import cache

        config = resolve(
            arguments.gin_files(options), options.overrides, options.engine, adopt_sizes
        ).run
        if config.data.is_joined:
            raise UserError(
                f"got METHOD = {config.data.method!r}, which has label and rationale in one target "
                "and needs no mixture rates: LABEL_WEIGHT and RATIONALE_WEIGHT are the weights of "
                "the two losses as they are; expected 'step_by_step'"
            )
        if len(config.data.tasks) < 2:
            raise UserError(
                f"got METHOD = {config.data.method!r}, which trains one task and has no loss "
                "weights; expected 'step_by_step'"
            )
        lambda_weights = None
        if options.rationale_lambda is not None:
            lambda_weights = weights_from_lambda(options.rationale_lambda)
        if options.pairs < 0 or options.pairs == 1:
            raise UserError(f"got --pairs {options.pairs}, expected 0 or at least 2")
        prepared = cache.prepare(config.data, config.student.vocab_size)
        check_devices()
        tokens = cache.load_cache(config.data, prepared.digests, rows=prepared.rows)
        result = describe_weights(config, tokens, options.pairs)
        if lambda_weights is not None:
            names = ("LABEL_WEIGHT", "RATIONALE_WEIGHT")
            result["lambda"] = dict(zip(names, lambda_weights, strict=True))
        return result

    command.set_defaults(run=run, show=lambda result: print(render_weights(result)))


class GradientVariance(TypedDict):
    """How noisy a batch's gradient is under each weighting scheme."""

    paired_batches: float
    mixture_rates: float
    ratio: float
    normalization: str
    measured_on: str
    pairs: int


class TaskLengths(TypedDict):
    """`TaskStatistics` of a task."""

    rows: int
    share: float
    inputs: dict[str, float]
    targets: dict[str, float]
    mean_target_tokens: float


LossWeights = TypedDict(
    "LossWeights",
    {
        "tasks": dict[str, TaskLengths],
        "weights": dict[str, float],
        "normalization": str,
        "weighting": str,
        "rates": dict[str, dict[str, float]],
        "naive_label_weight": float,
        "effective_label_weight": float,
        "epochs": dict[str, float],
        "gradient_variance": NotRequired[GradientVariance],
        "warnings": NotRequired[list[str]],  # always there in the end
        "lambda": NotRequired[dict[str, float]],
    },
)


def describe_weights(config: RunConfig, cache: TokenCache, pairs: int) -> LossWeights:
    """The numbers behind a configuration's weighting.

    Args:
      config: of a method with two tasks.
      cache: its tokens.
      pairs: sample for the gradient's variance; 0 leaves it out.

    Returns:
      The object that `--json` prints: tasks, rates by normalization, naive and effective
      label weight, epochs of each task, gradient_variance (of this batch size), warnings.
    """
    from distill.config.weighting import mixture_rates, naive_weights
    from distill.training.statistics import task_statistics

    statistics = task_statistics(cache, config.data)
    means = {task: s.targets.mean for task, s in statistics.items()}
    weighting = config.weighting
    weights = {"label": weighting.label_weight, "rationale": weighting.rationale_weight}
    rates = {name: mixture_rates(weights, name, means) for name in ("per_token", "per_sequence")}
    share = statistics["rationale"].share if weighting.scheme == "paired_batches" else 1.0
    effective = weights["label"] / (weights["label"] + weights["rationale"] * share)
    used = rates.get(weighting.normalization, {})
    sequences = config.train.train_steps * config.train.batch_size
    epochs = {
        task: sequences / len(cache.rows["train"])
        if weighting.scheme == "paired_batches"
        else sequences * 2 * used[task] / statistics[task].rows
        for task in weights
    }
    result: LossWeights = {
        "tasks": {
            task: {
                "rows": s.rows,
                "share": s.share,
                "inputs": dataclasses.asdict(s.inputs),
                "targets": dataclasses.asdict(s.targets),
                "mean_target_tokens": means[task],
            }
            for task, s in statistics.items()
        },
        "weights": weights,
        "normalization": weighting.normalization,
        "weighting": weighting.scheme,
        "rates": rates,
        "naive_label_weight": naive_weights(means)["label"],
        "effective_label_weight": effective,
        "epochs": epochs,
    }
    if pairs:
        result["gradient_variance"] = _variance(config, cache, rates, pairs)
    result["warnings"] = _warnings(result, statistics["rationale"].share)
    return result


def _variance(
    config: RunConfig, cache: TokenCache, rates: dict[str, dict[str, float]], pairs: int
) -> GradientVariance:
    from distill.training import gradient_noise

    name = config.weighting.normalization
    name = "per_token" if name == "per_token_batch" else name
    student, measured_on = _small(config.student)
    pairs = gradient_noise.sample_size(cache, config.data, pairs)
    with Stage(f"measuring the gradients of {pairs:,} pairs"):
        noise = gradient_noise.measure(cache, config.data, student, name, pairs, config.train.seed)
    weights = config.weighting.task_weights(config.data.tasks)
    batch = config.train.batch_size
    paired_variance = noise.paired(weights, batch)
    rates_variance = noise.drawn(weights, [rates[name][task] for task in config.data.tasks], batch)
    return {
        "paired_batches": paired_variance,
        "mixture_rates": rates_variance,
        "ratio": rates_variance / paired_variance,
        "normalization": name,
        "measured_on": measured_on,
        "pairs": pairs,
    }


def _small(student: T5Config) -> tuple[T5Config, str]:
    from distill.student.params import param_count

    if param_count(student) <= _LARGE:
        return student, "the configured student at its initial parameters"
    small = dataclasses.replace(
        student,
        embed_dim=128,
        mlp_dim=256,
        num_heads=4,
        head_dim=32,
        num_encoder_layers=2,
        num_decoder_layers=2,
        scan_layers=False,
    )
    return (
        small,
        "a student of width 128 with 2 + 2 layers at its initial parameters, because the "
        "configured student is large",
    )


def _warnings(result: LossWeights, share: float) -> list[str]:
    warnings = []
    naive, intended = result["naive_label_weight"], result["weights"]["label"]
    if naive < min(_STARVED, 0.8 * intended):
        warnings.append(
            f"a 1:1 mixture with pooled tokens would give the label task weight {naive:.3f} "
            f"instead of {intended:g}: do not replace the mixture rates with 1:1 in T5X or SeqIO"
        )
    if share < 0.95 and result["weighting"] == "paired_batches":
        warnings.append(
            f"{1 - share:.1%} of the rows have no rationale; their rationale term is "
            f"dropped, so the label's effective weight is {result['effective_label_weight']:.3f}"
        )
    few = {task: n for task, n in result["epochs"].items() if 0 < n < 1}
    warnings += [
        f"the run sees only {n:.0%} of the {task} sequences: raise TRAIN_STEPS"
        for task, n in few.items()
    ]
    many = result["epochs"]
    if result["weighting"] == "mixture_rates" and max(many.values()) > 3 * min(many.values()) > 0:
        warnings.append(
            f"the tasks' epochs differ: label {many['label']:.1f}, rationale "
            f"{many['rationale']:.1f}; WEIGHTING = 'paired_batches' sees every row of both tasks "
            "once per epoch"
        )
    if result["weights"]["label"] == 0:
        warnings.append("LABEL_WEIGHT is 0: the student will not learn to answer")
    return warnings


def render_weights(result: LossWeights) -> str:
    """The result as text for people."""
    header = ("target tokens (EOS included)", "mean", "variance", "maximum", "rows")
    tokens = [
        (
            f"  {task}",
            f"{s['targets']['mean']:.2f}",
            f"{s['targets']['variance']:.2f}",
            str(s["targets"]["maximum"]),
            str(s["rows"]),
        )
        for task, s in result["tasks"].items()
    ]
    rates = [
        (f"  {name}", f"{rates['label']:.3f}", f"{rates['rationale']:.3f}")
        for name, rates in result["rates"].items()
    ]
    label_weights = [
        ("effective label weight", f"{result['effective_label_weight']:.3f}"),
        ("label weight of a 1:1 mixture, pooled tokens", f"{result['naive_label_weight']:.3f}"),
    ]
    weights = result["weights"]
    lines = [
        table.render_columns(header, tokens, "<>>>>"),
        table.render_columns(("mixture rates", "label", "rationale"), rates, "<>>"),
        f"configured: LABEL_WEIGHT {weights['label']:g}, RATIONALE_WEIGHT "
        f"{weights['rationale']:g}, {result['normalization']}, {result['weighting']}",
        table.render_columns((), label_weights),
        f"epochs of the run: label {result['epochs']['label']:.2f}, rationale "
        f"{result['epochs']['rationale']:.2f}",
    ]
    if "gradient_variance" in result:
        v = result["gradient_variance"]
        lines.append(
            f"gradient variance ({v['normalization']}): mixture_rates / paired_batches = "
            f"{v['ratio']:.2f} ({v['pairs']:,} pairs, {v['measured_on']})"
        )
    if "lambda" in result:
        macros = ", ".join(f"{name} = {value:g}" for name, value in result["lambda"].items())
        lines.append(f"the paper's lambda: {macros}")
    return "\n".join([*lines, *(f"warning: {text}" for text in result["warnings"])])
