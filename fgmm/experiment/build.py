"""Builds the objects of a run from its config, for training and evaluation."""

import dataclasses
import functools
import itertools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import ScalarLike

from fgmm import components, xla_flags
from fgmm.config import (
    Config,
    ConfigError,
    as_dict,
    check_keys,
    complete_model,
    completed,
    tuples,
)
from fgmm.config.option import declared
from fgmm.config.sections import TransformsSection
from fgmm.data import pipeline
from fgmm.data.augmentation.transforms import Transforms
from fgmm.data.opening import check_lengths, open_source
from fgmm.data.schema import CROPPED, BatchShape
from fgmm.data.text import phrases, tokenizers
from fgmm.data.text.tokenizers import Tokenizer
from fgmm.experiment import (
    init_rules,
    layer_decay,
    lora,
    objective_entries,
    optimizer,
    outputs,
)
from fgmm.experiment.state import TrainState
from fgmm.losses.objective import Objective
from fgmm.models import classifiers, spaces
from fgmm.models.classifiers import ClassifierHead
from fgmm.models.multimodal import MODALITIES, MultiModal

# Parts of ``config.model`` beside the encoders. No space may be named ``classifiers``, because a
# model returns logits under that name.
_OTHER_PARTS = ("spaces", "classifiers")

# The keys of the fields of ``Resizing``, in their order.
_RESIZING = ("data.resize", "data.resize_filter", "data.resize_ratio")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a config describes, without its corpora.

    Attributes:
      config: the resolved config: with every default and with the tokenizer's fingerprint.
      shape: shape of a batch in training.
      tokenizer: the tokenizer; None without text.
      model, transforms, objective, optimizer: pure functions and modules.
      adapters: low-rank updates of the model's kernels. ``apply`` adds them; ``model`` does not.
      embeddings_folder: where evaluations store the embeddings of corpora; see
        ``fgmm.eval.corpus_embeddings``. None to store none.
    """

    config: ml_collections.FrozenConfigDict
    shape: BatchShape
    tokenizer: Tokenizer | None
    model: MultiModal
    transforms: Transforms
    objective: Objective
    optimizer: optimizer.Optimizer
    adapters: lora.Adapters
    embeddings_folder: pathlib.Path | None = None

    def source(self, entry: Config, key: str) -> Any:
        """Opens a corpus.

        Args:
          entry: ``{"name": ..., option: value, ...}``.
          key: where the entry stands in the config, for errors.

        Raises:
          ConfigError: the name or an option is wrong, or the corpus cannot be opened.
        """
        return open_source(entry, key, self.config.data.seconds)

    def training_source(self) -> Any:
        """Opens the corpus to train on.

        Raises:
          ConfigError: its windows are not as long as ``data.seconds``, it cannot be opened, or its
            classes are not those of the classifiers.
        """
        data = self.config.data
        check_lengths(data.source, "data.source", data.seconds)
        source = self.source(data.source, "data.source")
        if data.label:
            classifiers.check_classes(self.config.model.classifiers, source, data.label)
        return source

    def assembler(
        self, source: Any, *, training: bool = False, **changes: Any
    ) -> pipeline.Assembler:
        """Assembles batches of a source on the host.

        Args:
          source: the corpus.
          training: whether batches carry the labels of ``data.label``. Evaluations read labels from
            the clips.
          changes: sizes that replace those of ``shape``.
        """
        data = self.config.data
        label = data.label if training else ""
        return pipeline.Assembler(
            source=source,
            shape=dataclasses.replace(self.shape, **{"label": label, **changes}),
            tokenizer=self.tokenizer,
            segmenter=data.segmenter,
            join_captions=data.join_captions,
            cache=data.cache,
            time_limit=data.time_limit,
        )

    def with_room(self, phrases: int = 0, tokens: int = 0) -> "Experiment":
        """The same experiment with another P and L.

        Args:
          phrases, tokens: the most phrases and tokens of a caption; 0 for as many as now.

        Raises:
          ConfigError: the text encoder does not take so many tokens.
        """
        room = {"phrases": phrases or self.shape.phrases, "tokens": tokens or self.shape.tokens}
        shape = dataclasses.replace(self.shape, **room)
        if shape == self.shape:
            return self
        text = self.model.encoders["text"].clone(phrases=shape.phrases)
        model = self.model.clone(encoders={**self.model.encoders, "text": text})
        roomy = dataclasses.replace(self, shape=shape, model=model)
        _check_sizes(roomy)
        return roomy

    def blank_batch(self, batch_size: int = 2) -> dict[str, np.ndarray]:
        """A batch of zeros with the shapes that the model receives; nothing is masked."""
        batch = self.shape.zeros(batch_size)
        received = {k: v for k, v in batch.items() if k not in pipeline.HOST_ONLY}
        return {k: np.ones_like(v) if v.dtype == bool else v for k, v in received.items()}

    def init(self, seed: ScalarLike) -> TrainState:
        """The state before the first step. It depends on the seed only."""
        init_key, run_key = jax.random.split(jax.random.key(seed))
        inputs = self.transforms(jax.tree.map(jnp.asarray, self.blank_batch()))
        variables = dict(self.model.init(init_key, inputs))
        of_model = self.adapters.added(variables.pop("params"), init_key)
        params = {"model": of_model, "objective": self.objective.init()}
        return TrainState.create(
            params,
            variables,
            self.optimizer.init(params),
            run_key,
            average=bool(self.optimizer.ema),
        )

    def apply(self, variables: Mapping[str, Any], *inputs: Any, **options: Any) -> Any:
        """``model.apply``, with adapters merged into the kernels."""
        params = self.adapters.merged(variables["params"])
        return self.model.apply({**variables, "params": params}, *inputs, **options)

    @functools.cached_property
    def _traced_init(self):
        """``init`` jitted: one trace serves for the shapes of a state and for its values."""
        return jax.jit(self.init)

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        """The shapes and dtypes of a state. Computes nothing."""
        return jax.eval_shape(self._traced_init, self.config.seed)

    def initial_state(self, shardings: Any = None) -> TrainState:
        """The state before the first step, computed.

        Args:
          shardings: the shardings of its arrays; by default all are on the first device.
        """
        quickly = xla_flags.compiled_quickly() if jax.default_backend() == "cpu" else {}
        init = jax.jit(self._traced_init, out_shardings=shardings, compiler_options=quickly)
        return init(self.config.seed)

    @functools.cached_property
    def embed(self):
        """``embed(state, batch) -> embeddings[space][modality]``, jitted. Nothing is augmented.

        Embeddings are float32, with values rounded to the dtype of their space.
        """

        def embed(params, statistics, batch):
            variables = {"params": params, **statistics}
            embeddings = self.apply(variables, self.transforms(batch), train=False)
            return jax.tree.map(lambda x: x if x.dtype == bool else jnp.float32(x), embeddings)

        return _of_state(embed)

    @functools.cached_property
    def represent(self):
        """``represent(state, batch, local)``: ``outputs.of_batch`` for a state, jitted."""
        return _of_state(functools.partial(outputs.of_batch, self), static_argnums=3)

    @functools.cached_property
    def represent_untrained(self):
        """``represent_untrained(seed, batch)``: ``outputs.of_untrained``, jitted. It computes only
        the parts of the state that are needed.
        """
        # The seed is an argument: if it were a constant, XLA would spend long on folding constants.
        return jax.jit(functools.partial(outputs.of_untrained, self))

    @functools.cached_property
    def encode(self):
        """``encode(state, batch) -> tokens[modality]``: the outputs of the encoders, before any
        head, for the modalities of ``batch``. Jitted; nothing is augmented.
        """

        def encode(params, statistics, batch):
            variables = {"params": params, **statistics}
            inputs = self.transforms(batch)
            return self.apply(variables, inputs, train=False, method="encode")

        return _of_state(encode)


def _of_state(function: Callable, **options: Any) -> Callable:
    """A function of the model's parameters and statistics, and more, as one of a state; jitted."""
    jitted = jax.jit(function, **options)
    return lambda state, *rest: jitted(state.params["model"], state.statistics, *rest)


def build(config: Config, tokenizer_path: pathlib.Path | None = None) -> Experiment:
    """Checks a whole config and builds what it describes. Compiles nothing.

    Args:
      config: a config with the keys of ``fgmm.config.defaults``.
      tokenizer_path: a tokenizer stored beside a checkpoint; None for the one the config names.

    Raises:
      ConfigError: something in the config is wrong, or the tokenizer does not have the fingerprint
        that the config states.
    """
    config = completed(config)
    check_keys(config)
    config = ml_collections.ConfigDict(tuples(as_dict(config)))
    modalities = tuple(name for name in MODALITIES if name in config.model)
    for name in config.model:
        if name not in (*MODALITIES, *_OTHER_PARTS):
            allowed = ", ".join((*MODALITIES, *_OTHER_PARTS))
            raise ConfigError(f"model.{name} is unknown; allowed: {allowed}")
    config.model.spaces = config.model.get("spaces", {})
    if not config.model.spaces and not config.model.get("classifiers"):
        raise ConfigError("model.spaces is empty; name at least one space")
    if "classifiers" in config.model.spaces:
        raise ConfigError("model.spaces.classifiers: no space can have that name; give another")
    tokenizer = None
    if "text" in modalities:
        phrases.find(config.data.segmenter, "data.segmenter")
        tokenizer = tokenizers.load(tokenizer_path or tokenizers.path_of(config.data.tokenizer))
        expected = config.data.tokenizer_fingerprint
        if expected and expected != tokenizer.fingerprint:
            raise ConfigError(
                f"data.tokenizer={config.data.tokenizer!r} has fingerprint "
                f"{tokenizer.fingerprint[:12]}, but the config was made with {expected[:12]}: "
                "give the tokenizer that the checkpoint was trained with"
            )
        config.data.tokenizer_fingerprint = tokenizer.fingerprint
    _check_best_metric(config.checkpoint, config.evals)
    complete_model(config.model)
    init_rules.from_config(config.init_from)
    config.optimizer.update(optimizer.own_options(config.optimizer))
    shape = pipeline.batch_shape(config.data, modalities)
    model = _model(config, modalities, tokenizer, shape)
    objective = objective_entries.objective(config)
    shape = objective_entries.with_labels(config, shape, objective)
    transforms = _transforms(config, shape)
    adapters = lora.Adapters()
    if config.lora.rules:
        adapters = lora.from_config(config.lora, _blank_parameters(model, transforms, shape))
    experiment = Experiment(
        config=ml_collections.FrozenConfigDict(config),
        shape=shape,
        tokenizer=tokenizer,
        model=model,
        transforms=transforms,
        objective=objective,
        optimizer=optimizer.from_config(
            *(config.optimizer, config.steps, lambda: _layers(model, transforms, shape)),
            held=adapters.held,
        ),
        adapters=adapters,
    )
    _check_sizes(experiment)
    return experiment


def _check_best_metric(options: Config, evals: Config) -> None:
    metric = options["best_metric"]
    name = metric.partition("/")[0]
    if metric and name not in evals:
        there = f"evals has {', '.join(evals)}" if evals else "evals is empty"
        raise ConfigError(
            f"checkpoint.best_metric={metric!r} is a number of the evaluation {name!r}, and "
            f"{there}; name a number of an evaluation that is there, or set "
            "--config.checkpoint.best_metric= to keep no best checkpoint"
        )


def _model(config, modalities, tokenizer, shape) -> MultiModal:
    encoders = {}
    for modality in modalities:
        fixed = {}
        if modality == "text":
            fixed = {"vocabulary": tokenizer.vocabulary_size, "phrases": shape.phrases}
        encoders[modality] = components.build(
            f"models.{modality}",
            config.model[modality],
            key=f"model.{modality}",
            **fixed,
        )
        if modality == "video":
            _check_input(config, encoders[modality], shape)
    checked = spaces.checked(config.model.spaces, modalities)
    for name, space in checked.items():
        for modality in space["modalities"] if space["pool"] == "own" else ():
            if not getattr(encoders[modality], "gives_coarse", False):
                raise ConfigError(
                    f"model.spaces.{name}.pool='own' needs a coarse feature of each encoder's own, "
                    f"and model.{modality}.name={config.model[modality].name!r} gives none; take "
                    "mean, max or gate"
                )
    heads = {}
    found = classifiers.checked(config.model.get("classifiers", {}), modalities)
    for name, options in found.items():
        modality = options["modality"]
        if options["pool"] == "own" and not getattr(encoders[modality], "gives_coarse", False):
            raise ConfigError(
                f"model.classifiers.{name}.pool='own' needs a coarse feature of the encoder's own, "
                f"and model.{modality}.name={config.model[modality].name!r} gives none; take mean "
                "or max"
            )
        heads[name] = ClassifierHead(**{**options, "classes": len(options["classes"])})
    return MultiModal(encoders=encoders, spaces=checked, phrases=shape.phrases, classifiers=heads)


def _check_input(config: Config, encoder: nn.Module, shape: BatchShape) -> None:
    """Raises ConfigError if a video encoder for pixels is given features, or the reverse."""
    if getattr(encoder, "takes_features", False) == bool(shape.features):
        return
    given = (
        f"takes pixels, and data.features={shape.features} gives it stored features; set that to "
        "0, or take the encoder 'features'"
        if shape.features
        else "takes stored features, and data.features=0 gives it pixels; set that to the channels "
        "of the features"
    )
    raise ConfigError(f"model.video.name={config.model.video.name!r} {given}")


def _blank_parameters(
    model: MultiModal,
    transforms: Transforms,
    shape: BatchShape,
    look: Callable[[Mapping[str, Any]], None] = lambda params: None,
) -> Mapping[str, Any]:
    """The shapes of a model's parameters, by tracing its initialisation.

    ``look`` is called with the parameters inside the trace, where modules stand in the order of
    application. Outside the trace JAX has sorted them by name.
    """

    def init(key, batch):
        params = model.init(key, transforms(batch))["params"]
        look(params)
        return params

    batch = {k: v for k, v in shape.zeros(2).items() if k not in pipeline.HOST_ONLY}
    return jax.eval_shape(init, jax.random.key(0), batch)


def _layers(model: MultiModal, transforms: Transforms, shape: BatchShape):
    """The ``layer_decay.layers`` of a model."""
    found = {}
    _blank_parameters(
        model, transforms, shape, lambda params: found.update(layer_decay.layers(params))
    )
    return found


def _check_sizes(experiment: Experiment) -> None:
    """Traces the encoders on inputs of the shapes that they will receive. Computes nothing.

    Raises:
      ConfigError: an encoder does not take the shape of its input.
    """
    data, transforms = experiment.config.data, experiment.config.transforms
    inputs = jax.eval_shape(experiment.transforms, experiment.blank_batch())
    settings = {
        "video": ("video", f"{data.frames=}, {data.height=} and {data.width=}"),
        "audio": (
            "log_mel",
            f"{data.seconds=}, {transforms.mel_hop=} and {transforms.mel_bands=}",
        ),
        "text": ("tokens", f"data.tokens={experiment.shape.tokens}"),
    }
    for modality, (name, sizes) in settings.items():
        if modality not in experiment.model.encoders:
            continue
        encoder = experiment.model.encoders[modality]
        shape = inputs[name].shape
        why = _refusal(encoder, shape, modality == "text")
        if why:
            fitting = _fitting(encoder, shape) if modality == "video" else None
            raise ConfigError(
                f"model.{modality}.name={experiment.config.model[modality].name!r} cannot take "
                f"{sizes}: {why}"
                + (f"; {' x '.join(map(str, fitting))} would do" if fitting else "")
            )


@functools.cache
def _refusal(encoder: nn.Module, shape: tuple[int, ...], text: bool = False) -> str:
    """Why an encoder cannot take inputs of a shape, in one line; empty if it can."""
    inputs = (
        (jax.ShapeDtypeStruct(shape, jnp.int32),) * 2
        if text
        else (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape[:1], bool))
    )
    arguments = (jax.eval_shape(lambda: jax.random.key(0)), *inputs)
    try:
        jax.eval_shape(lambda key, x, mask: encoder.init(key, x, mask, False), *arguments)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return ""


def _fitting(encoder: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The smallest T, H and W that an encoder takes, among the sizes of ``shape`` rounded up to
    multiples of powers of two; None if it takes none of these.
    """
    batch, *sizes, colours = shape
    steps = [2**power for power in range(6)]
    larger = {
        (-(-sizes[0] // time) * time, *(-(-size // space) * space for size in sizes[1:]))
        for time, space in itertools.product(steps, steps)
    }
    for candidate in sorted(larger, key=lambda sizes: (math.prod(sizes), sizes)):
        if not _refusal(encoder, (batch, *candidate, colours)):
            return candidate
    return None


def _transforms(config, shape: BatchShape) -> Transforms:
    transforms = Transforms(sample_rate=config.data.sample_rate, **config.transforms)
    if "audio" in config.model and shape.samples < transforms.window:
        raise ConfigError(
            f"data.seconds={config.data.seconds} is shorter than "
            f"transforms.mel_window={transforms.mel_window}"
        )
    if shape.features:
        _check_no_pixels(config, shape.features)
    return transforms


def _check_no_pixels(config: Config, features: int) -> None:
    of_pixels = {
        f"transforms.{name}": option.default
        for name, option in declared(TransformsSection).items()
        if not name.startswith(("mel_", "time_", "band_"))
    }
    of_pixels |= dict(zip(_RESIZING, CROPPED, strict=True))
    for key, default in of_pixels.items():
        section, _, name = key.partition(".")
        value = config[section][name]
        if value != default:
            raise ConfigError(
                f"{key}={value!r} changes pixels, and data.features={features} has stored features "
                f"in their place; set it to {default!r}"
            )
