"""AdamW with warmup and cosine; weight decay and learning rates by (regex, value) rules."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import optax

from fgmm.config import Config, ConfigError
from fgmm.experiment.frozen import NOTHING, Frozen
from fgmm.experiment.rules import by_rule, checked_rules, number

Rules = Sequence[tuple[str, float]]


class Optimizer(NamedTuple):
    """An optax transformation with what a step wants to know besides.

    Attributes:
      init: parameters to the optimizer's state.
      update: as optax has it; it wants gradients that are already clipped, and its updates are
        still to be scaled by minus the learning rate.
      schedule: finished steps to learning rate.
      clip_norm: the global norm that gradients are clipped to; 0 for no limit.
      frozen: the parameters that get no update.
    """

    init: Callable
    update: Callable
    schedule: optax.Schedule
    clip_norm: float
    frozen: Frozen


def from_config(options: Config, steps: int, frozen: Frozen = NOTHING) -> Optimizer:
    """Makes the optimizer that ``config.optimizer`` describes, for a run of ``steps``.

    Raises:
      ConfigError: a number is out of range or a rule is no (regex, number).
    """
    if options["warmup_steps"] >= steps:
        raise ConfigError(
            f"optimizer.warmup_steps={options['warmup_steps']} must be below steps={steps}"
        )
    peak = options["learning_rate"]
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=peak,
        warmup_steps=options["warmup_steps"],
        decay_steps=steps,
        end_value=peak * options["final_fraction"],
    )
    decay, scale = (
        checked_rules(options[name], f"optimizer.{name}", number, "number")
        for name in ("weight_decay", "learning_rate_scale")
    )
    adam = optax.scale_by_adam(options["beta1"], options["beta2"], options["epsilon"])
    parts = [adam, _add_decayed(decay), _scaled(scale)]
    if frozen.rules:
        # No moments of what never moves.
        held = optax.masked(optax.set_to_zero(), frozen.mask)
        parts = [optax.masked(adam, frozen.moving), *parts[1:], held]
    chain = optax.chain(*parts)
    return Optimizer(chain.init, chain.update, schedule, options["clip_norm"], frozen)


def _add_decayed(rules: Rules) -> optax.GradientTransformation:
    def update(updates, state, params):
        rates = by_rule(params, rules, 0.0)
        return jax.tree.map(lambda u, p, rate: u + rate * p, updates, params, rates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scaled(rules: Rules) -> optax.GradientTransformation:
    def update(updates, state, params):
        scales = by_rule(params, rules, 1.0)
        return jax.tree.map(lambda u, scale: u * scale, updates, scales), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
