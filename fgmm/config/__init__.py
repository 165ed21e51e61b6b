"""Typed defaults, validation, the resolved config."""

import json
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from fgmm.config import optimizer
from fgmm.config.earlier_keys import brought_over

# ConfigDict is no Mapping to Python's type system.
Config = Mapping | ml_collections.ConfigDict


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line naming key, value and remedy."""


# What a space of the model holds beside its modalities and its width.
SPACE_DEFAULTS = {
    # Width of a hidden layer in its heads, 0 for linear ones; or a dict of widths by modality.
    "hidden": 0,
    # "mean", "max" or "gate", a mean with the weights of the space's gate, over a clip's or a
    # caption's features; that of the space passed through holds.
    "pool": "mean",
    # Learned weights of local embeddings and phrases: "none", "linear" or "hidden", with a hidden
    # layer. Terms use them with weighting='learned', coarse embeddings with pool='gate'.
    "gate": "none",
    # Whether linear heads have one.
    "bias": False,
    # Whether embeddings have unit length: products are then cosines.
    "unit_length": True,
    # Of the embeddings as the loss receives them, "float32" or "bfloat16". They are projected and
    # scaled in float32, and losses add up in it.
    "dtype": "float32",
    # Another space: modalities that are in it too are projected on from there, by one projection
    # that they share; see fgmm/models/heads.py.
    "through": "",
}


def defaults() -> ml_collections.ConfigDict:
    """The keys of every config with their types. A config file fills in the parts that name
    components: ``data.source``, ``model``, ``objective.terms`` and ``evals``.
    """
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "steps": 1000,
            # Clips over all devices and processes.
            "batch_size": 32,
            # Micro-batches in which a batch too large for memory is embedded, for the gradient of
            # the whole batch (no accumulation: every clip still meets every other); 1 for none.
            "grad_cache": 1,
            # Micro-batches of which each has a loss of its own, whose gradients are averaged; see
            # fgmm/train/accumulation.py. 1 for none.
            "accumulate": 1,
            "mesh": {
                # Devices that share the parameters and the optimizer's state among them; as many
                # copies are held as that goes into all devices. The batch is spread over all.
                "fsdp": 1,
                # (regex, spec) on how arrays are shared; see fgmm/train/sharding.py.
                "rules": (),
                # Arrays of fewer numbers are held by every device, unless a rule matches.
                "fsdp_minimum": 65536,
            },
            # How embeddings reach other devices: 'gather' all at once, or one after the other in a
            # 'ring', with less memory; see fgmm/losses/exchange.py.
            "exchange": "gather",
            # Bit-identical runs on GPU, at some cost in speed. On CPU they always are.
            "deterministic": False,
            "data": {
                "source": {"name": "narrated_shapes", "split": "train"},
                "frames": 8,
                "height": 64,
                "width": 64,
                # Of a window, its pictures and its sound alike; see fgmm/data/opening.py. 0 takes
                # whole recordings, without sound.
                "seconds": 2.0,
                "sample_rate": 8000,
                # K, P and L. K captions are drawn from those a clip has.
                "captions": 1,
                "phrases": 8,
                "tokens": 48,
                # All captions of a clip as one, in order of time.
                "join_captions": False,
                # A shipped model's name or a file; the fingerprint is filled in when it is read.
                "tokenizer": "narrated_shapes",
                "tokenizer_fingerprint": "",
                "segmenter": "function_words",
                # Keep decoded frames in memory: for small corpora of images.
                "cache": False,
                # Seconds for reading the video or the sound of one clip, which is masked where it
                # takes longer; 0 for any.
                "time_limit": 60.0,
                # Worker processes; 0 reads in threads of the main process.
                "workers": 0,
                "threads": 2,
                "prefetch": 4,
                # Batches on the device ahead of the step that takes them.
                "device_prefetch": 2,
            },
            # On the device, inside the step.
            "transforms": {
                "flip": False,
                # Least area of a random crop, 1.0 for none, and least width : height of it.
                "crop_area": 1.0,
                "crop_aspect": 0.75,
                # Greatest changes of colours; how many clips they happen to, and lose theirs.
                "brightness": 0.0,
                "contrast": 0.0,
                "saturation": 0.0,
                "hue": 0.0,
                "colour_chance": 0.8,
                "grey_chance": 0.0,
                # SpecAugment: stretches hidden, and the longest of them as a share of the axis.
                "time_masks": 0,
                "time_mask": 0.2,
                "band_masks": 0,
                "band_mask": 0.2,
                "mel_window": 0.032,
                "mel_hop": 0.016,
                "mel_bands": 40,
                # By which pixels 0..255 come to about unit variance around 0.
                "pixel_mean": 127.5,
                "pixel_spread": 64.0,
            },
            "model": {
                "spaces": {
                    "joint": {
                        "modalities": ("video", "audio", "text"),
                        "width": 64,
                        **SPACE_DEFAULTS,
                    }
                },
            },
            "objective": {"terms": {}},
            # Parameters to start with: a run's folder or converted weights, empty for random ones;
            # which checkpoint; "ema" or "last" weights, empty for ema where it has them;
            # (regex, action) rules. See fgmm/train/init_from.py.
            "init_from": {"path": "", "step": "latest", "weights": "", "rules": ()},
            # With the options of the optimizer named; see fgmm/experiment/optimizer.py.
            "optimizer": optimizer.section_defaults(),
            "checkpoint": {
                "every_steps": 500,
                "every_minutes": 10.0,
                "keep_last": 2,
                "keep_best": 1,
                # A number that an evaluation in `evals` reports, such as
                # "retrieval/fine/text_to_video/r@10"; empty keeps no best.
                "best_metric": "",
                "best_mode": "max",
            },
            # Updates skipped in a row, for a loss or gradient that is not finite, before it stops.
            "patience_nonfinite": 10,
            # Seconds in which no step, evaluation or restore completes (compilation and saves
            # included) before the process ends with the stack of every thread; 0 for no limit.
            "watchdog_seconds": 3600.0,
            "progress": True,
            "evals": {},
        }
    )


# Keys whose change leaves a checkpoint's run what it was; all others must be equal to resume it.
OPERATIONAL = (
    *("checkpoint", "evals", "progress", "patience_nonfinite", "watchdog_seconds"),
    *("exchange", "mesh"),
)
# The tokenizer is known by its fingerprint, wherever it lies.
OPERATIONAL_DATA = (
    *("cache", "time_limit", "workers", "threads", "prefetch", "device_prefetch"),
    "tokenizer",
)

# Least and greatest values of numbers; None for no limit.
_BOUNDS = {
    "seed": (0, None),
    "steps": (1, None),
    "patience_nonfinite": (1, None),
    "watchdog_seconds": (0, None),
    "data.frames": (1, None),
    "grad_cache": (1, None),
    "accumulate": (1, None),
    "mesh.fsdp": (1, None),
    "mesh.fsdp_minimum": (1, None),
    "data.seconds": (0, None),
    "data.height": (1, None),
    "data.width": (1, None),
    "data.sample_rate": (1, None),
    "data.captions": (1, None),
    "data.phrases": (1, None),
    "data.tokens": (1, None),
    "data.time_limit": (0, None),
    "data.workers": (0, None),
    "data.threads": (1, None),
    "data.prefetch": (1, None),
    "data.device_prefetch": (1, None),
    "transforms.time_masks": (0, None),
    "transforms.band_masks": (0, None),
    "transforms.mel_bands": (1, None),
    **optimizer.bounds(),
    "checkpoint.every_steps": (0, None),
    "checkpoint.every_minutes": (0, None),
    "checkpoint.keep_last": (1, None),
    "checkpoint.keep_best": (0, None),
}

# Sections that hold the options of what they name beside their own keys.
_NAMING = ("optimizer",)

# Keys under which any component's options may stand.
_OPEN = ("data.source", "model", "objective.terms", "evals")


def variant(argument: str | None, **allowed: Any) -> ml_collections.ConfigDict:
    """Parses what follows the colon of ``--config=configs/X.py:key=value,key=value``.

    Args:
      argument: the text after the colon, or None.
      allowed: the keys with their defaults; a value takes its default's type.

    Raises:
      ConfigError: a key is unknown or a value is of another type.
    """
    result = dict(allowed)
    for part in filter(None, (argument or "").split(",")):
        key, equals, text = part.partition("=")
        if not equals or key not in allowed:
            raise ConfigError(
                f"variant {part!r} is unknown; allowed: "
                + ", ".join(f"{name}={value}" for name, value in sorted(allowed.items()))
            )
        result[key] = _parsed(key, text, allowed[key])
    return ml_collections.ConfigDict(result)


def _parsed(key: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ConfigError(f"variant {key}={text!r} must be true or false")
    try:
        return type(default)(text)
    except ValueError as error:
        raise ConfigError(
            f"variant {key}={text!r} is not of type {type(default).__name__}"
        ) from error


def of_type(value: Any, hint: Any) -> bool:
    """Whether a config value has a type: int counts as float, bool is no int, a list is a tuple."""
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(of_type(value, part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is tuple or hint is tuple:
        parts = [part for part in typing.get_args(hint) if part is not Ellipsis]
        if not isinstance(value, tuple | list):
            return False
        if Ellipsis in typing.get_args(hint) or not parts:
            return all(of_type(item, part) for item in value for part in parts)
        return len(value) == len(parts) and all(map(of_type, value, parts))
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    kind = origin or hint
    return not isinstance(kind, type) or isinstance(value, kind)


def check_keys(config: Config) -> None:
    """Compares a config's keys and types with the defaults, and its numbers with their bounds.

    Raises:
      ConfigError: a key is unknown or missing, or a value is of another type or out of bounds.
    """

    def compare(given: Config, expected: Config, path: str) -> None:
        for name in expected:
            if name not in given:
                raise ConfigError(f"{path}{name} is missing from the config; see fgmm/config")
        for name, value in given.items():
            key = f"{path}{name}"
            if name not in expected:
                if path.rstrip(".") in _NAMING:
                    continue
                raise ConfigError(
                    f"{key}={value!r} is unknown; allowed under {path.rstrip('.') or 'config'}: "
                    + ", ".join(sorted(expected))
                )
            default = expected[name]
            if isinstance(default, Config):
                if not isinstance(value, Config):
                    raise ConfigError(f"{key}={value!r} must be a dict of keys")
                if key not in _OPEN:
                    compare(value, default, key + ".")
            elif not of_type(value, type(default)):
                raise ConfigError(f"{key}={value!r} is not of type {type(default).__name__}")

    compare(config, defaults(), "")
    for key, (low, high) in _BOUNDS.items():
        value = at(config, key)
        if not value >= low or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ConfigError(f"{key}={value!r} must be {limits}")


def with_new_keys(saved: Config) -> dict[str, Any]:
    """A config as it was saved, with the keys of today.

    The default of a new key must mean what was done before there was one.
    """

    def merged(given: Config, expected: Config, path: str) -> dict[str, Any]:
        result = plain(given)
        for name, default in expected.items():
            key = f"{path}{name}"
            if name not in given:
                result[name] = plain(default) if isinstance(default, Config) else default
            elif isinstance(default, Config) and key not in _OPEN:
                result[name] = merged(given[name], default, key + ".")
        return result

    complete = merged(brought_over(plain(saved)), defaults(), "")
    complete["model"]["spaces"] = with_space_defaults(complete["model"].get("spaces", {}))
    return complete


def with_space_defaults(spaces: Config) -> dict[str, dict[str, Any]]:
    """The spaces of a model with ``SPACE_DEFAULTS`` where an entry says nothing else.

    Raises:
      ConfigError: an entry is no dict.
    """
    for name, entry in spaces.items():
        if not isinstance(entry, Config):
            raise ConfigError(f"model.spaces.{name}={entry!r} must be a dict of keys")
    return {name: SPACE_DEFAULTS | plain(entry) for name, entry in spaces.items()}


def at(config: Config, key: str) -> Any:
    """The value of a whole key, such as ``"optimizer.learning_rate"``."""
    for part in key.split("."):
        config = config[part]
    return config


def plain(config: Config) -> dict[str, Any]:
    """The same as a dict of dicts."""
    return {k: plain(v) if isinstance(v, Config) else v for k, v in config.items()}


def as_dict(config: Config) -> dict[str, Any]:
    """A dict of dicts that is the same after a trip through JSON: tuples become lists."""
    return json.loads(json.dumps(plain(config)))


def differences(saved: Config, current: Config) -> list[str]:
    """The keys that forbid resuming ``saved`` with ``current``, as ``key: saved -> current``."""
    flat_saved, flat_current = flat(as_dict(saved)), flat(as_dict(current))
    lines = []
    for key in sorted(flat_saved.keys() | flat_current.keys()):
        parts = key.split(".")
        operational = parts[0] in OPERATIONAL or (
            parts[0] == "data" and parts[1] in OPERATIONAL_DATA
        )
        before, after = flat_saved.get(key), flat_current.get(key)
        if before != after and not operational:
            lines.append(f"{key}: {before!r} -> {after!r}")
    return lines


def flat(config: Config, path: str = "") -> dict[str, Any]:
    """The values by their whole keys, such as ``"optimizer.learning_rate"``."""
    values = {}
    for name, value in config.items():
        if isinstance(value, Config) and value:
            values |= flat(value, f"{path}{name}.")
        else:
            values[f"{path}{name}"] = value
    return values
