"""The optimizers of optax that ``config.optimizer.name`` may name, and their options.

The options are the arguments of optax's factory with its defaults. Exceptions are learning rate,
weight decay and masks, for which the config has rules, and dtypes. Every factory gets the learning
rate 1; the training step applies the schedule afterwards. So momentum accumulates updates before
they are scaled by the learning rate, as in PyTorch. Optax's own ``rmsprop``, ``lars`` and
``adafactor`` accumulate them after that.

Weight decay is added to the update, decoupled from the gradient (Loshchilov and Hutter, arXiv
1711.05101), and scaled with the learning rate. In ``lamb`` and ``lars`` it is added before the
trust ratio, as in optax.

Not included are optimizers that need more than a gradient (``sophia``, ``lbfgs``, ``polyak_sgd``),
that are evaluated at other parameters than those they train (``schedule_free``), or that draw
random numbers.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax
import optax.contrib

from fgmm.config import Config, ConfigError
from fgmm.config.option import Option, allowed, check_given
from fgmm.experiment.kernels import input_axes, is_kernel
from fgmm.experiment.rules import path_of

FACTORIES: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adafactor": optax.adafactor,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "ademamix": optax.contrib.ademamix,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "lion": optax.lion,
    "muon": optax.contrib.muon,
    "nadamw": optax.nadamw,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}
# Arguments that other options of the config set, or that are not plain values.
_FIXED = {
    *("learning_rate", "adam_learning_rate", "mask", "muon_weight_dimension_numbers"),
    *("weight_decay", "weight_decay_mask", "weight_decay_rate", "adam_weight_decay"),
    *("trust_ratio_mask", "mu_dtype", "dtype_momentum", "accumulator_dtype", "seed", "key"),
    "ns_coeffs",
}
# Defaults that differ from optax's.
_DEFAULTS = {"adamw": {"b2": 0.98}}
# The choices of options that are strings.
_CHOICES = {"preconditioning": ("frobenius", "spectral", "aol", "schatten")}
# Options that are decay rates; they lie from 0 to 1. The first are those of averages: at 1 an
# average would never move, and to correct its bias would be to divide by zero.
_OF_AVERAGES = {"b1", "b2", "b3", "beta", "decay", "adam_b1", "adam_b2"}
_RATES = {"momentum", "decay_rate"}


def declared(name: str) -> dict[str, Option]:
    """The options of an optimizer.

    Raises:
      ConfigError: the optimizer is unknown.
    """
    if name not in FACTORIES:
        raise ConfigError(f"optimizer.name={name!r} is unknown; {allowed(name, FACTORIES)}")
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(FACTORIES[name]).parameters.values()
        if parameter.name not in _FIXED
    }
    return {
        option: Option(
            type=float | None if default is None else type(default),
            default=default,
            # Without eps, an update where all gradients were 0 would be 0 / 0.
            **({"above": 0} if option == "eps" and default else {"low": 0}),
            high=1 if option in _RATES else None,
            below=1 if option in _OF_AVERAGES else None,
            choices=_CHOICES.get(option, ()),
        )
        for option, default in (defaults | _DEFAULTS.get(name, {})).items()
    }


def checked(name: str, given: Config) -> dict[str, Any]:
    """The given options, checked, with defaults for the others.

    Raises:
      ConfigError: the optimizer or an option is unknown, or a value is of another type or out of
        bounds.
    """
    options = declared(name)
    check_given(options, given, key="optimizer")
    return {option: found.default for option, found in options.items()} | dict(given)


def parts(
    name: str, given: Config, decay: optax.GradientTransformation
) -> list[optax.GradientTransformation]:
    """The transformations from a clipped gradient to an update, which the step subtracts from the
    parameters.

    Args:
      name: name of an optimizer.
      given: its options.
      decay: the transformation that adds weight decay to an update.

    Raises:
      ConfigError: as in ``checked``.
    """
    known = checked(name, given)
    if name == "adamw":
        return [optax.scale_by_adam(**known), decay]
    if name == "lamb":
        return [optax.scale_by_adam(**known), decay, optax.scale_by_trust_ratio()]
    if name == "lars":
        momentum = optax.trace(known.pop("momentum"), known.pop("nesterov"))
        return [decay, optax.scale_by_trust_ratio(**known), momentum]
    fixed = {"learning_rate": 1.0}
    if "weight_decay" in inspect.signature(FACTORIES[name]).parameters:
        fixed["weight_decay"] = 0.0
    if name == "muon":
        fixed["muon_weight_dimension_numbers"] = matrices
    # Updates of optax's factories are added to parameters; those here are subtracted.
    return [optax.chain(FACTORIES[name](**known, **fixed), optax.scale(-1.0)), decay]


def matrices(params: Any) -> Any:
    """How muon reads each parameter as a matrix; None for parameters that Adam trains.

    Kernels are matrices of inputs by outputs; see ``fgmm.experiment.kernels``. Adam trains
    embeddings, vectors and scalars (Jordan, github.com/KellerJordan/Muon).
    """

    def as_matrix(at, leaf):
        if not is_kernel(path_of(at), leaf.shape):
            return None
        axes, inputs = tuple(range(leaf.ndim)), input_axes(leaf.shape)
        return optax.contrib.MuonDimensionNumbers(axes[:inputs], axes[inputs:])

    return jax.tree_util.tree_map_with_path(as_matrix, params)
