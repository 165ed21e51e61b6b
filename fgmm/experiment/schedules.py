"""Learning rates over a run: ``config.optimizer.schedule``."""

import jax.numpy as jnp
import optax

from fgmm.config import Config, ConfigError

# Schedules that fall to ``end`` without a cooldown.
_DECAYING = ("cosine", "linear")


def schedule(options: Config, peak: float | int, steps: int) -> optax.Schedule:
    """The learning rate as a function of finished steps.

    A linear warmup from 0 at step 0 to the peak at step w = ``warmup``, then by ``name``:

    - ``cosine``: half a period of a cosine, from the peak at w to ``end`` times the peak at
      ``steps``;
    - ``linear``: a straight line between the same points;
    - ``constant``: the peak;
    - ``rsqrt``: the peak times sqrt(max(w, 1) / max(t, w, 1)) at step t (Vaswani et al., arXiv
      1706.03762, section 5.3).

    The last two are multiplied by a line from 1 to ``end`` over the last ``cooldown`` steps.

    Args:
      options: ``config.optimizer.schedule``.
      peak: the highest learning rate.
      steps: steps of the run.

    Raises:
      ConfigError: warmup and cooldown do not fit in the run, are neither whole steps nor a share
        below 1, or an option has no meaning for this schedule.
    """
    name, end = options["name"], options["end"]
    key = "optimizer.schedule"
    warmup = steps_of(options["warmup"], steps, f"{key}.warmup")
    if warmup >= steps:
        raise ConfigError(f"{key}.warmup={options['warmup']} must be below steps={steps}")
    cooldown = steps_of(options["cooldown"], steps, f"{key}.cooldown")
    if options["cooldown"] and name in _DECAYING:
        raise ConfigError(
            f"{key}.cooldown={options['cooldown']} must be 0 for {name}, which comes down to "
            f"{key}.end by itself; constant and rsqrt have a cooldown"
        )
    if end and not options["cooldown"] and name not in _DECAYING:
        raise ConfigError(f"{key}.end={end} needs {key}.cooldown: {name} has no end of its own")
    if warmup + cooldown > steps:
        raise ConfigError(
            f"{key}.warmup={options['warmup']} and {key}.cooldown={options['cooldown']} are "
            f"{warmup} and {cooldown} steps, together more than steps={steps}"
        )
    if name == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, peak * end)
    after = {
        "linear": lambda t: peak * (1 - (1 - end) * t / (steps - warmup)),
        "constant": lambda t: peak,
        "rsqrt": lambda t: peak * jnp.sqrt(max(warmup, 1) / jnp.maximum(t + warmup, 1)),
    }[name]
    rising = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
    if not cooldown:
        return rising
    return lambda t: rising(t) * (1 - (1 - end) * jnp.clip((t - steps) / cooldown + 1, 0, 1))


def steps_of(value: float | int, steps: int, key: str) -> int:
    """A number of steps. A value of 1 or more is returned as it is; a value below 1 is a share of
    ``steps``, rounded, and at most ``steps - 1``.

    Raises:
      ConfigError: the value is above 1 and not a whole number.
    """
    if value < 1:
        return min(round(value * steps), steps - 1)
    if value != int(value):
        raise ConfigError(f"{key}={value} must be whole steps, or a share of steps below 1")
    return int(value)
