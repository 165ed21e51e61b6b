"""What converters of towers share: the run of a published model, and conventions of its input."""

import dataclasses
import math
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.convert import published_tokenizers, weights
from fgmm.convert.converted import (
    Conversion,
    Take,
    before_training,
    brought,
    linear,
    linear_of_heads,
    undone_by,
    vector,
)
from fgmm.convert.published import PublishedModel
from fgmm.data.text import tokenizers
from fgmm.experiment import build as experiments
from fgmm.experiment.build import Experiment
from fgmm.train.checkpoint import TOKENIZER

# The modalities of models of two towers.
MODALITIES = ("video", "text")
# The space of published models, by its name in a run.
SPACE = "joint"
# Published parameters of the loss.
SCALES = ("logit_scale", "logit_bias")
# Activations by their names in ``transformers``.
_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}
# Options of ``PublishedTransformer``, and their names in ``transformers``.
_OPTIONS = {
    "width": "hidden_size",
    "hidden": "intermediate_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "epsilon": "layer_norm_eps",
}
# Filters by Pillow's numbers and by open_clip's names.
_FILTERS = {2: "bilinear", 3: "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}


@dataclasses.dataclass(frozen=True)
class Pictures:
    """How a tower wants its pictures.

    Attributes:
      mean, spread: of each colour, in 0..1.
      resize, filter, ratio: as ``config.data.resize``, ``resize_filter`` and ``resize_ratio``.
      size: rows and columns, if the network does not say.
      frames, seconds: of a clip; 1 and 0.0 for a tower of single pictures.
    """

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]
    resize: str
    filter: str
    ratio: float = 1.0
    size: int = 0
    frames: int = 1
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = [
            f"mean {_listed(self.mean)}, spread {_listed(self.spread)}, {self.filter}, "
            f"{self.resize}"
        ]
        if self.ratio != 1:
            parts.append(f"{self.ratio:.4g} times as large before the middle is cut out")
        if self.seconds:
            parts.append(f"{self.frames} frames in {self.seconds:.4g} s")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Sound:
    """How a tower wants its sound, through Kaldi's filterbank with windows of 25 ms every 10 ms.

    Attributes:
      rate: in Hz.
      seconds: of a clip.
      bands, length, mean, spread: as ``config.transforms.mel_bands`` and so on.
    """

    rate: int
    seconds: float
    bands: int
    length: int
    mean: float
    spread: float

    def __str__(self) -> str:
        return (
            f"{self.rate} Hz, {self.seconds:g} s, {self.bands} bands, {self.length} steps, mean "
            f"{self.mean:g}, spread {self.spread:g}"
        )


def _listed(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


@dataclasses.dataclass(frozen=True)
class Description:
    """A published model of one or two towers, as its config describes it.

    Attributes:
      model: its name, for errors.
      towers: entries of ``config.model`` by modality.
      width: D, of the space.
      take: where arrays of encoders, heads and the term come from; see ``converted.brought``. Paths
        are such as ``model/encoders_text/words/embedding``.
      size: rows and columns of pictures; 0 for the size in ``pictures``.
      pictures, sound: how it wants them; None without a tower for them.
      family: whose tokenizer it has, ``"clip"`` or ``"siglip"``; empty without text.
      bias: whether heads have a bias.
      term: the loss that two towers were trained with, an entry of ``config.objective.terms``.
      others: prefixes of the arrays that only one tower has, by modality.
      ignored: whether to ignore the array of a name.
    """

    model: str
    towers: Mapping[str, Mapping[str, Any]]
    width: int
    take: Callable[[str], Take]
    size: int = 0
    pictures: Pictures | None = None
    sound: Sound | None = None
    family: str = ""
    bias: bool = False
    term: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    others: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    ignored: Callable[[str], bool] = lambda name: False


@dataclasses.dataclass(frozen=True)
class Layout:
    """Hugging Face's layout of a family, which ``fgmm.export`` writes.

    Attributes:
      model: its name, for errors.
      take: as in ``Description``.
      config: ``config(experiment)`` is ``config.json`` without the ids of special tokens.
      bias: as in ``Description``.
      scales: parameters of the loss.
      processor, tokenizer: classes of ``transformers`` that its files name.
    """

    model: str
    take: Callable[[str], Take]
    config: Callable[[Experiment], dict[str, Any]]
    bias: bool
    scales: tuple[str, ...]
    processor: str
    tokenizer: str


def run(published: PublishedModel, found: Description, modality: str = "") -> Conversion:
    """A published model as a run of no steps.

    Args:
      published: the model.
      found: what it is.
      modality: of the only tower to convert; empty for all.

    Raises:
      ConfigError: arrays are missing, left over, of another shape or not finite; the tokenizer is
        missing or has another vocabulary; or there is no such tower.
    """
    if modality and modality not in found.towers:
        raise ConfigError(
            f"--modality={modality!r} is not in {found.model}; allowed: {', '.join(found.towers)}"
        )
    modalities = (modality,) if modality else tuple(found.towers)
    arrays = {n: array for n, array in published.arrays.items() if not found.ignored(n)}
    for other in set(found.towers) - set(modalities):
        left_out = [name for name in arrays if name.startswith(found.others[other])]
        print(f"left out: {len(left_out)} arrays of {other}")
        arrays = {name: array for name, array in arrays.items() if name not in left_out}
    config = model_config(found, modalities)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / TOKENIZER
        if "text" in modalities:
            path.write_bytes(published_tokenizers.read(published.folder, found.family))
            _check_vocabulary(tokenizers.load(path), arrays, found)
        built = experiments.build(config, path if "text" in modalities else None)
    blank = built.abstract_state.params
    if not built.objective.terms:
        arrays = {name: array for name, array in arrays.items() if name not in SCALES}
    params = brought(
        arrays,
        {"model": blank["model"], "objective": blank["objective"]},
        found.take,
        found.model,
        flag=f"--from={published.folder}",
    )
    kinds = weights.kinds(arrays)
    print(f"arrays: {kinds}" + ("" if kinds.endswith(" float32") else ", as float32"))
    return before_training(built, params, built.abstract_state.statistics)


def _check_vocabulary(tokenizer, arrays: Mapping[str, np.ndarray], found: Description) -> None:
    (name,) = found.take("model/encoders_text/words/embedding").names
    rows = len(arrays[name]) if name in arrays and arrays[name].ndim else None
    if rows is not None and rows != tokenizer.vocabulary_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocabulary_size} ids and {name} {rows} rows: they "
            "belong to different models"
        )


def model_config(found: Description, modalities: Sequence[str]) -> ml_collections.ConfigDict:
    """The config of the run; its tokenizer lies in the run's folder."""
    config = configs.defaults()
    if "video" in modalities:
        pictures, size = found.pictures, found.size or found.pictures.size
        config.data.update(frames=pictures.frames, height=size, width=size)
        config.data.update(resize=pictures.resize, resize_filter=pictures.filter)
        config.data.update(resize_ratio=pictures.ratio)
        if pictures.seconds:
            config.data.update(seconds=pictures.seconds)
        config.transforms.pixel_mean = tuple(255.0 * mean for mean in found.pictures.mean)
        config.transforms.pixel_spread = tuple(255.0 * spread for spread in found.pictures.spread)
    if "audio" in modalities:
        sound = found.sound
        config.data.update(sample_rate=sound.rate, seconds=sound.seconds)
        config.transforms.update(mel_filterbank="kaldi", mel_window=0.025, mel_hop=0.01)
        for name in ("bands", "length", "mean", "spread"):
            config.transforms[f"mel_{name}"] = getattr(sound, name)
    if "text" in modalities:
        config.data.update(tokens=found.towers["text"]["length"], tokenizer=TOKENIZER)
    for modality in modalities:
        config.model[modality] = dict(found.towers[modality])
    config.model.spaces.joint.update(
        modalities=tuple(modalities), width=found.width, pool="own", bias=found.bias
    )
    if len(modalities) > 1:
        place = {"pair": "video_text", "level": "coarse", "space": "joint"}
        config.objective.terms.published = {**place, **found.term}
    return components.complete(config)


def block(path: str, names: Mapping[str, tuple[str, ...]], prefix: str = "") -> Take | None:
    """Where an array of a block of ``fgmm.models.transformer`` comes from; None if it is of none.

    Args:
      path: within the encoder, such as ``block_0/DenseGeneral_0/kernel``.
      names: of the published layers, by role: ``norm1``, ``attention`` (queries, keys and values,
        which are joined), ``out``, ``norm2``, ``first`` and ``second``. ``scale1`` and ``scale2``
        name the arrays of LayerScale. ``{}`` stands for the number of the block.
      prefix: of all names.
    """
    found = re.fullmatch(r"block_(\d+)/(\w+)/(\w+)", path)
    if not found:
        return None
    number, layer, leaf = found.groups()
    role = _ROLES[layer]
    layers = tuple(prefix + name.format(number) for name in names[role])
    if role.startswith("scale"):
        return Take(layers, vector)
    # PyTorch joins weight and bias to the name ``in_proj`` with an underscore.
    kinds = {"scale": "weight", "kernel": "weight", "bias": "bias"}
    published = tuple(
        name + ("_" if name.endswith("in_proj") else ".") + kinds[leaf] for name in layers
    )
    if leaf != "kernel":
        return Take(published, vector)
    return Take(published, linear_of_heads if role == "out" else linear)


# The layers of a block in Hugging Face's layout.
HUGGING_FACE_BLOCK = {
    "norm1": ("encoder.layers.{}.layer_norm1",),
    "attention": tuple(f"encoder.layers.{{}}.self_attn.{part}_proj" for part in "qkv"),
    "out": ("encoder.layers.{}.self_attn.out_proj",),
    "norm2": ("encoder.layers.{}.layer_norm2",),
    "first": ("encoder.layers.{}.mlp.fc1",),
    "second": ("encoder.layers.{}.mlp.fc2",),
}
_ROLES = {
    "LayerScale_0": "scale1",
    "LayerScale_1": "scale2",
    "LayerNorm_0": "norm1",
    "DenseGeneral_0": "attention",
    "DenseGeneral_1": "out",
    "LayerNorm_1": "norm2",
    "Dense_0": "first",
    "Dense_1": "second",
}


def options_of(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of a published config; empty if the config lacks it.

    Raises:
      ConfigError: the value is no section.
    """
    found = config.get(name) or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{name}={found!r} in the published config must hold options")
    return dict(found)


def transformer(
    options: Mapping[str, Any],
    width: int,
    hidden: int,
    depth: int,
    heads: int,
    activation: str,
    epsilon: float,
) -> dict[str, Any]:
    """Options of ``PublishedTransformer`` from those of a tower in Hugging Face's layout.

    Args:
      options: of the tower.
      width, hidden, depth, heads, activation, epsilon: values of options that are not given.

    Raises:
      ConfigError: the activation is not supported.
    """
    given = options.get("hidden_act", activation)
    if given not in _ACTIVATIONS:
        raise ConfigError(f"hidden_act={given!r} is unknown; allowed: {', '.join(_ACTIVATIONS)}")
    usual = {"width": width, "hidden": hidden, "depth": depth, "heads": heads, "epsilon": epsilon}
    found = {ours: options.get(_OPTIONS[ours], value) for ours, value in usual.items()}
    return {**found, "activation": _ACTIVATIONS[given]}


def published_transformer(encoder: Any) -> dict[str, Any]:
    """The inverse of ``transformer``: options of an encoder in Hugging Face's layout."""
    found = {theirs: getattr(encoder, ours) for ours, theirs in _OPTIONS.items()}
    activations = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    return {**found, "hidden_act": activations[encoder.activation]}


def temperature(scale: np.ndarray | None) -> dict[str, float]:
    """Options of a term for a published logit scale; empty without one.

    The exponential of the scale multiplies products, so the temperature is exp(-scale).
    """
    if scale is None:
        return {}
    value = float(np.exp(-np.float64(np.asarray(scale).reshape(-1)[0])))
    return {"temperature": value, "min_temperature": min(value, 0.01)}


@undone_by(lambda array: -array)
def negated(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A published logit scale, of shape [] or [1], as the logarithm of a temperature."""
    return np.asarray(-array.reshape(shape)) if array.size == 1 else array


def filter_named(given: Any, where: str) -> str:
    """The filter of a preprocessor.

    Raises:
      ConfigError: the filter is not supported.
    """
    if given not in _FILTERS:
        raise ConfigError(f"{where}={given!r} is unknown; allowed: 2 (bilinear), 3 (bicubic)")
    return _FILTERS[given]


def preprocessor(options: Mapping[str, Any], usual: Pictures) -> Pictures:
    """The conventions of ``preprocessor_config.json`` in Hugging Face's layout.

    Args:
      options: of the file; empty if it is missing.
      usual: conventions of the family, for what the file leaves open.

    Raises:
      ConfigError: the file asks for something that no option of this package can do.
    """
    name = "preprocessor_config.json"
    if not options:
        print(f"{name} is missing: pictures as the family has them, {usual}")
        return usual
    for key in ("do_resize", "do_rescale"):
        if not options.get(key, True):
            raise ConfigError(f"{name}: {key}={options[key]!r} is not supported")
    factor = options.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-4):
        raise ConfigError(f"{name}: rescale_factor={factor!r} is not supported; allowed: 1/255")
    if not options.get("do_normalize", True):
        options = {**options, "image_mean": (0.0,) * 3, "image_std": (1.0,) * 3}
    size, resize, ratio, crop = options.get("size"), usual.resize, usual.ratio, usual.size
    if isinstance(size, Mapping):
        resize = "cover" if "shortest_edge" in size else "stretch"
    if resize == "cover":
        if not options.get("do_center_crop", True):
            raise ConfigError(f"{name}: do_center_crop=False gives pictures of different sizes")
        if "size" in options:
            shorter = size["shortest_edge"] if isinstance(size, Mapping) else size
            crop = _edge(options.get("crop_size", shorter), f"{name}: crop_size")
            ratio = shorter / crop
            if ratio < 1:
                raise ConfigError(f"{name}: crop_size={crop} is larger than size={shorter}")
    else:
        ratio = 1.0
        if size:
            crop, cut = _edge(size, f"{name}: size"), options.get("crop_size") or size
            if options.get("do_center_crop") and _edge(cut, f"{name}: crop_size") != crop:
                raise ConfigError(f"{name}: crop_size={cut} of size={size} is not supported")
    for key in ("image_mean", "image_std"):
        if key in options and np.shape(options[key]) != (3,):
            raise ConfigError(f"{name}: {key}={options[key]!r} must be three numbers")
    return dataclasses.replace(
        usual,
        mean=tuple(map(float, options.get("image_mean", usual.mean))),
        spread=tuple(map(float, options.get("image_std", usual.spread))),
        resize=resize,
        filter=filter_named(options["resample"], f"{name}: resample")
        if "resample" in options
        else usual.filter,
        ratio=ratio,
        size=crop,
    )


def _edge(size: Any, key: str) -> int:
    """Rows and columns of a square; ``key`` is where ``size`` stands.

    Raises:
      ConfigError: it is not square.
    """
    edges = [size.get("height"), size.get("width")] if isinstance(size, Mapping) else [size] * 2
    if edges[0] != edges[1] or not isinstance(edges[0], int) or edges[0] < 1:
        raise ConfigError(f"{key}={size} is not square")
    return edges[0]


def published_preprocessor(config: Any, size: int) -> dict[str, Any]:
    """The inverse of ``preprocessor``, from a run's config; it lacks the name of the processor.

    Args:
      config: of a run.
      size: rows and columns of a picture.

    Raises:
      ConfigError: its pictures are cropped before they are resized, which the layout cannot say.
    """
    square = {"height": size, "width": size}
    covers = config.data.resize == "cover"
    if config.data.resize not in ("cover", "stretch"):
        raise ConfigError(
            f"data.resize={config.data.resize!r} has no place in the published layout; allowed: "
            "cover, stretch"
        )
    numbers = {name: number for number, name in _FILTERS.items() if isinstance(number, int)}
    return {
        "do_resize": True,
        "size": {"shortest_edge": round(config.data.resize_ratio * size)} if covers else square,
        "resample": numbers[config.data.resize_filter],
        "do_center_crop": covers,
        **({"crop_size": square} if covers else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        # A run's are for pixels from 0 to 255.
        "image_mean": _of_unit(config.transforms.pixel_mean),
        "image_std": _of_unit(config.transforms.pixel_spread),
        "do_convert_rgb": True,
    }


def _of_unit(values: Sequence[float] | float) -> list[float]:
    """Three numbers from 0 to 255 on a scale from 0 to 1, without the digits that rounding adds."""
    return [round(float(value) / 255, 10) for value in np.broadcast_to(values, 3)]
