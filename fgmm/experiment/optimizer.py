"""The optimizer of ``config.optimizer``: an optax chain, its schedule, and what it freezes.

::

    config.optimizer.update(
        name="lion",  # of fgmm.experiment.factories; its options, such as b1, lie beside it
        learning_rate=1e-4,
        schedule={"name": "constant", "warmup": 0.05, "cooldown": 0.2},
        clip_norm=1.0,
        weight_decay=((".*bias", 0.0), (".*", 0.1)),
        learning_rate_scale=((".*video.*", "frozen"), ("model/heads_.*", 3.0)),
        layer_decay=0.8,
        ema=0.9995,
    )

A parameter follows the first rule (regex, value) whose regex matches its whole path, such as
``model/encoders_video/Conv_0/kernel``. A step sets the gradients of frozen parameters to 0, clips
the global norm, lets optax make an update, adds weight decay, and scales the result by
``learning_rate_scale``, by ``layer_decay`` and by the schedule.

``"frozen"`` keeps parameters and running statistics unchanged. Paths of statistics are like those
of the parameters of their layer (``.../BatchNorm_0/mean``); see ``fgmm.experiment.freezing``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from fgmm.config import Config
from fgmm.config.optimizer import OptimizerSection
from fgmm.config.option import declared
from fgmm.config.regex_rules import checked_rules, number
from fgmm.experiment import factories, layer_decay, schedules
from fgmm.experiment.freezing import Freezing
from fgmm.experiment.rules import by_rule, check_matches, paths_of

Rules = Sequence[tuple[str, float]]

FROZEN = "frozen"
_SCALE = "optimizer.learning_rate_scale"
_DECAY = "optimizer.weight_decay"


class Optimizer(NamedTuple):
    """An optax transformation, and what else a step needs.

    Attributes:
      init: makes the optimizer's state from parameters, as in optax.
      update: as in optax. It takes clipped gradients. The step multiplies its updates by minus the
        learning rate.
      schedule: maps the number of finished steps to the learning rate.
      clip_norm: the global norm that gradients are clipped to; 0 for no limit.
      frozen: the parameters and statistics that do not change.
      ema: decay of the moving average of parameters; 0 for none.
      scales: the rules of ``learning_rate_scale`` as the config gives them.
      decay: the rules of ``weight_decay``.
    """

    init: Callable
    update: Callable
    schedule: optax.Schedule
    clip_norm: float
    frozen: Freezing
    ema: float
    scales: tuple[tuple[str, float | str], ...]
    decay: tuple[tuple[str, float], ...]

    def average(self, average: Any, params: Any, step: Array) -> Any:
        """The moving average of the parameters after a step: ``d * average + (1 - d) * params``,
        with d = min(ema, (1 + t) / (10 + t)), so that the first steps do not dominate (as in
        TensorFlow's ``ExponentialMovingAverage``).

        Args:
          average: the average before the step; None if there is none.
          params: the parameters after the step.
          step: t, the number of steps finished before it.
        """
        if not self.ema:
            return None
        decay = jnp.minimum(self.ema, (1.0 + step) / (10.0 + step))
        return jax.tree.map(lambda a, p: a + (1 - decay).astype(p.dtype) * (p - a), average, params)

    def check_matches(self, params: Any, statistics: Mapping[str, Any]) -> None:
        """Checks that every rule of ``learning_rate_scale`` and of ``weight_decay`` matches
        something. Default rules need not.

        Raises:
          ConfigError: a rule matches no parameter or, for ``learning_rate_scale``, statistic.
        """
        trees = [params, *({"model": collection} for collection in statistics.values())]
        check_matches(self.scales, [path for tree in trees for path in paths_of(tree)], _SCALE)
        usual = declared(OptimizerSection)["weight_decay"].default
        given = [rule for rule in self.decay if rule not in usual]
        check_matches(given, paths_of(params), _DECAY)


def from_config(
    options: Config,
    steps: int,
    layers: Callable[[], Mapping[str, list[list[str]]]] = dict,
    held: frozenset[str] = frozenset(),
) -> Optimizer:
    """Makes the optimizer that ``config.optimizer`` describes, for a run of ``steps``.

    Args:
      options: ``config.optimizer``.
      steps: steps of the run.
      layers: returns the ``layer_decay.layers`` of the model; called only if ``layer_decay`` is not
        1.
      held: paths of parameters that are frozen in any case.

    Raises:
      ConfigError: the optimizer, its schedule or an option is unknown, a number is out of bounds or
        a rule is not (regex, value).
    """
    schedule = schedules.schedule(options["schedule"], options["learning_rate"], steps)
    decay = checked_rules(options["weight_decay"], _DECAY, _decay, "number")
    scales = checked_rules(options["learning_rate_scale"], _SCALE, _scale, "number or 'frozen'")
    # A frozen rule needs a scale too: as the first match it must hide the rules after it.
    factors = tuple((regex, 1.0 if value == FROZEN else value) for regex, value in scales)
    frozen = Freezing(tuple((regex, value == FROZEN) for regex, value in scales), held)
    by_layer = ()
    if options["layer_decay"] != 1:
        by_layer = layer_decay.scale_rules(layers(), options["layer_decay"])

    add_decay = _stateless(
        lambda updates, params: jax.tree.map(
            lambda u, p, rate: u + rate * p, updates, params, by_rule(params, decay, 0.0)
        )
    )
    scale = _stateless(
        lambda updates, params: jax.tree.map(
            lambda u, *by: u * math.prod(by),
            updates,
            by_rule(params, factors, 1.0),
            by_rule(params, by_layer, 1.0),
        )
    )
    parts = factories.parts(options["name"], own_options(options), add_decay)
    last = [scale]
    if frozen:
        # The optimizer keeps no moments for frozen parameters.
        parts = [part if part is add_decay else optax.masked(part, frozen.moving) for part in parts]
        last.append(optax.masked(optax.set_to_zero(), frozen.mask))
    chain = optax.chain(*parts, *last)
    return Optimizer(
        *(chain.init, chain.update, schedule, options["clip_norm"], frozen, options["ema"]),
        *(scales, decay),
    )


def own_options(options: Config) -> dict[str, Any]:
    """The options of the optimizer that ``config.optimizer`` names, with defaults, without those
    of ``OptimizerSection``.

    Raises:
      ConfigError: an option is unknown or wrong.
    """
    section = declared(OptimizerSection)
    given = {name: value for name, value in options.items() if name not in section}
    return factories.checked(options["name"], given)


def _decay(value: Any) -> float:
    if number(value) < 0:
        raise ValueError("it must be a number of at least 0")
    return float(value)


def _scale(value: Any) -> float | str:
    if value == FROZEN:
        return FROZEN
    if isinstance(value, str) or number(value) < 0:
        raise ValueError("it must be a number of at least 0, or 'frozen'")
    return float(value)


def _stateless(update: Callable[[Any, Any], Any]) -> optax.GradientTransformation:
    return optax.GradientTransformation(
        lambda params: optax.EmptyState(),
        lambda updates, state, params: (update(updates, params), state),
    )
