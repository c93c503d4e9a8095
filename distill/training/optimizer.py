"""AdamW or Adafactor, with clipping and a schedule, for both engines.

Schedules: a rate for each update, s = 0, 1, ... All but 'rsqrt' rise from 0 to LEARNING_RATE
over WARMUP_STEPS updates first.

  cosine    half a cosine from LEARNING_RATE to 0 at TRAIN_STEPS
  linear    a line from LEARNING_RATE to 0 at TRAIN_STEPS
  constant  LEARNING_RATE
  rsqrt     LEARNING_RATE / sqrt(max(s, WARMUP_STEPS, 1)): level for WARMUP_STEPS updates, then
            falling. LEARNING_RATE is in rate x sqrt(updates): T5's pre-training has 1.0 and
            10,000, which is a rate of 0.01 at first (arXiv 1910.10683, section 3.1.2)

Adafactor's rates are relative to each parameter's root mean square; T5 fine-tunes at a constant
0.001. ADAM_B1 and ADAM_B2 are AdamW's alone. WEIGHT_DECAY means the same to both, that an update
takes the share rate * WEIGHT_DECAY off every parameter; T5's own is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill.config.optimizer import OptimizerConfig

if TYPE_CHECKING:
    import optax
    import t5x.optimizers


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
    """Learning rate as a function of the update's index, from 0 (see the module's table)."""
    import jax.numpy as jnp
    import optax

    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=config.learning_rate,
            warmup_steps=config.warmup_steps,
            decay_steps=config.total_steps,
        )
    if config.schedule == "rsqrt":
        level = max(config.warmup_steps, 1)
        return lambda step: config.learning_rate / jnp.sqrt(jnp.maximum(step, level))
    if config.schedule == "linear":
        after = optax.linear_schedule(
            config.learning_rate, 0.0, config.total_steps - config.warmup_steps
        )
    else:
        after = optax.constant_schedule(config.learning_rate)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.learning_rate, max(config.warmup_steps, 1)),
            after,
        ],
        [config.warmup_steps],
    )


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The optax transformation: clip by global norm, then AdamW or Adafactor.

    On parameters of rank 1 and 2, which a layer's are, optax's Adafactor takes the steps
    of t5x/adafactor.py (golden files; Shazeer & Stern 2018, arXiv 1804.04235): moments
    factored from 128 on, rates relative to the parameter's size, updates clipped at 1.
    Stacked layers are treated one by one (`layer_by_layer`).
    Both rules take rate * WEIGHT_DECAY off each parameter.
    """
    import optax

    schedule = make_schedule(config)
    if config.name == "adafactor":
        decay = (lambda step: config.weight_decay * schedule(step)) if config.weight_decay else None
        rule = layer_by_layer(optax.adafactor(schedule, weight_decay_rate=decay))
    else:
        rule = optax.adamw(schedule, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay)
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)
    return rule


def layer_by_layer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """A rule for whole parameters, applied to each layer of stacked ones by itself.

    Adafactor needs it: it factors a matrix, and takes means over a parameter. In
    t5x/adafactor.py "layers" is a batch axis for the same reason. AdamW, which treats each
    number by itself, does not.

    Args:
      rule: treats parameters independently of each other.

    Returns:
      The transformation; of stacked parameters its state is stacked along the same axis. For
      a tree without stacked layers it is the rule itself.
    """
    import jax
    import optax

    from distill.student.blocks import LAYERS_AXIS
    from distill.student.params import STACKS, stack_of

    def axes(stack: str, params: optax.Params, state: optax.OptState) -> tuple[Any, Any]:
        """For vmap: the axis of each leaf of params and state, None outside of the stack."""
        of_params = jax.tree_util.tree_map_with_path(
            lambda path, _: LAYERS_AXIS if stack_of(path) == stack else 0, params
        )
        of_state = optax.tree_map_params(
            rule, lambda _, axis: axis, state, of_params, transform_non_params=lambda _: 0
        )
        # 0 stands for None, which would not be a leaf.
        or_none = jax.tree.map(lambda axis: axis or None, (of_params, of_state))
        return or_none[0], or_none[1]

    def stacks(params: optax.Params) -> list[str]:
        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
        return [stack for stack in STACKS if any(stack_of(path) == stack for path, _ in leaves)]

    def init(params: optax.Params) -> optax.OptState:
        function: Any
        function, state = rule.init, jax.eval_shape(rule.init, params)
        for stack in stacks(params):
            of_params, of_state = axes(stack, params, state)
            function = jax.vmap(function, in_axes=(of_params,), out_axes=of_state)
        new_state: optax.OptState = function(params)
        return new_state

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        assert params is not None  # the steps of Adafactor depend on them
        function: Any = rule.update
        for stack in stacks(params):
            of_params, of_state = axes(stack, params, state)
            inputs, outputs = (of_params, of_state, of_params), (of_params, of_state)
            function = jax.vmap(function, in_axes=inputs, out_axes=outputs)
        new_updates, new_state = function(updates, state, params)
        return new_updates, new_state

    return optax.GradientTransformation(init, update)


def make_t5x_optimizer(config: OptimizerConfig) -> t5x.optimizers.OptimizerDef:
    """The same for T5X's trainer: AdamW in its optax wrapper, or T5X's own Adafactor.

    The rate of its Adafactor is `Trainer.learning_rate_fn`, which gin/engines/t5x.gin binds
    to `make_schedule`.
    """
    if config.name == "adafactor":
        from t5x import adafactor

        # T5X takes a rate of 0 together with an exponent for 1.
        decay = {"weight_decay_rate": config.weight_decay, "weight_decay_rate_lr_exponent": 1.0}
        return adafactor.Adafactor(
            decay_rate=0.8,
            step_offset=0,
            global_norm_clip_threshold=config.clip_norm or None,
            **(decay if config.weight_decay else {}),
        )
    from t5x import optimizers

    return optimizers.OptaxWrapper(make_optimizer(config))
