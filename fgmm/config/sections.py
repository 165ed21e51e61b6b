"""The options of every config, section by section.

The parts that name components, ``data.source``, ``model``, ``objective.terms``, ``evals`` and
``loggers``, are open: their options are declared by the components, and by ``Space``,
``Classifier``, ``TermPlace``, ``LabelTermPlace``, ``EvaluationPlace`` and ``PartPlace`` below.
"""

import dataclasses
from collections.abc import Mapping

from fgmm.config.optimizer import OptimizerSection
from fgmm.config.option import option


@dataclasses.dataclass(frozen=True)
class MeshSection:
    """How devices share the work."""

    fsdp: int = option(
        1,
        low=1,
        help="Devices that share one copy of the parameters and the optimizer's state. All devices "
        "share the batch.",
    )
    rules: tuple = option(
        (), help="(regex, spec) on how arrays are shared; see fgmm/train/sharding.py."
    )
    fsdp_minimum: int = option(
        65536,
        low=1,
        help="Arrays of fewer numbers are held by every device, unless a rule matches.",
    )


@dataclasses.dataclass(frozen=True)
class DataSection:
    """The corpus, the sizes of a batch, and how batches are read."""

    source: Mapping = option(
        {"name": "narrated_shapes", "split": "train"}, help="The corpus; see fgmm/data/sources."
    )
    frames: int = option(8, low=1, help="T, frames of a clip.")
    height: int = option(64, low=1, help="Rows of a frame.")
    width: int = option(64, low=1, help="Columns of a frame.")
    resize: str = option(
        "crop",
        choices=("crop", "cover", "stretch"),
        help="How pictures of another aspect are brought to that size: the middle is cut out "
        "before they are resized (crop) or after (cover, as CLIP), or nothing is cut off (stretch, "
        "as SigLIP).",
    )
    resize_filter: str = option(
        "bilinear", choices=("bilinear", "bicubic"), help="Of pictures that are resized."
    )
    resize_ratio: float = option(
        1.0,
        low=1,
        help="How much larger than the batch's pictures are made before the middle is cut out, as "
        "256 / 224 for DINOv2; not for stretch.",
    )
    features: int = option(
        0,
        low=0,
        help="E, channels of stored features, whose map has the frames, rows and columns above; 0 "
        "for pictures. See fgmm/data/features.py.",
    )
    seconds: float = option(
        2.0,
        low=0,
        help="Length of a window, of pictures and sound; see fgmm/data/opening.py. 0 takes whole "
        "recordings, without sound.",
    )
    sample_rate: int = option(8000, low=1, help="Of the sound, in Hz.")
    captions: int = option(1, low=1, help="K captions are drawn from those that a clip has.")
    phrases: int = option(8, low=1, help="P, phrases of a caption.")
    tokens: int = option(48, low=1, help="L, tokens of a caption.")
    join_captions: bool = option(
        False, help="All captions of a clip are one caption, in order of time."
    )
    tokenizer: str = option(
        "narrated_shapes",
        operational=True,  # Its fingerprint identifies it, whatever its path is.
        help="A shipped model's name or a file.",
    )
    tokenizer_fingerprint: str = option("", help="Filled in when the tokenizer is read.")
    segmenter: str = option(
        "function_words", help="What finds the phrases of a caption; see fgmm/data/text/phrases.py."
    )
    label: str = option(
        "",
        help="The kind of label that a batch carries for supervised terms, one of the source's "
        "classes, such as action; empty for none.",
    )
    accept_changes: bool = option(
        False,
        operational=True,
        help="Whether a run goes on with a corpus that has changed since its checkpoint.",
    )
    cache: bool = option(
        False,
        operational=True,
        help="Decoded frames stay in memory: for small corpora of images.",
    )
    time_limit: float = option(
        60.0,
        low=0,
        operational=True,
        help="Seconds to read the video or the sound of a clip. What takes longer is masked. 0 for "
        "no limit.",
    )
    workers: int = option(
        0,
        low=0,
        operational=True,
        help="Worker processes; 0 reads in threads of the main process.",
    )
    threads: int = option(2, low=1, operational=True, help="Reading threads of a process.")
    prefetch: int = option(
        4, low=1, operational=True, help="Batches read ahead; each worker holds five or more."
    )
    device_prefetch: int = option(
        2, low=1, operational=True, help="Batches on the device ahead of the step that takes them."
    )


@dataclasses.dataclass(frozen=True)
class TransformsSection:
    """Transforms on the device, inside the step. Augmentation happens in training only."""

    flip: bool = option(False, help="Half of the clips are mirrored left to right.")
    crop_area: float = option(
        1.0, above=0, high=1, help="Least share of the picture in a random crop; 1.0 for no crop."
    )
    crop_aspect: float = option(
        0.75,
        above=0,
        high=1,
        help="Least width : height of the crop relative to the picture's; the greatest is its "
        "inverse.",
    )
    brightness: float = option(0.0, low=0, high=1, help="Greatest change; see colour.drawn.")
    contrast: float = option(0.0, low=0, high=1, help="Greatest change; see colour.drawn.")
    saturation: float = option(0.0, low=0, high=1, help="Greatest change; see colour.drawn.")
    hue: float = option(0.0, low=0, high=0.5, help="Greatest change; see colour.drawn.")
    colour_chance: float = option(0.8, low=0, high=1, help="Share of clips with changed colours.")
    grey_chance: float = option(0.0, low=0, high=1, help="Share of clips without colours.")
    time_masks: int = option(0, low=0, help="SpecAugment: stretches of time hidden.")
    time_mask: float = option(0.2, low=0, high=1, help="The longest, as a share of the axis.")
    band_masks: int = option(0, low=0, help="SpecAugment: stretches of frequency hidden.")
    band_mask: float = option(0.2, low=0, high=1, help="The longest, as a share of the axis.")
    mel_window: float = option(0.032, above=0, help="Window of the spectrogram, in seconds.")
    mel_hop: float = option(0.016, above=0, help="From window to window, in seconds.")
    mel_bands: int = option(40, low=1, help="F, frequency bands.")
    mel_filterbank: str = option(
        "htk",
        choices=("htk", "kaldi"),
        help="How they are computed; see fgmm/data/augmentation/spectrogram.py.",
    )
    mel_length: int = option(
        0,
        low=0,
        help="T, to which the spectrogram is cut, or filled up with zeros before it is normalised; "
        "0 for as many windows as there are.",
    )
    mel_mean: float = option(-2.0, help="Subtracted from its logarithms.")
    mel_spread: float = option(
        4.0, above=0, help="Divisor after that, for about unit variance around 0."
    )
    pixel_mean: tuple[float, float, float] = option(
        (127.5, 127.5, 127.5), help="Subtracted from red, green and blue, 0..255."
    )
    pixel_spread: tuple[float, float, float] = option(
        (64.0, 64.0, 64.0), above=0, help="Divisors after that, for about unit variance around 0."
    )


@dataclasses.dataclass(frozen=True)
class Space:
    """A space of the model, an entry of ``config.model.spaces``."""

    modalities: tuple[str, ...] = option(help="Those that take part in it.")
    width: int = option(low=1, help="D, of its embeddings.")
    hidden: int | Mapping = option(
        0,
        help="Width of a hidden layer in its heads, 0 for linear ones; or a dict of widths by "
        "modality.",
    )
    pool: str = option(
        "mean",
        choices=("mean", "max", "gate", "own"),
        help="Over a clip's or a caption's features; gate is a mean with the weights of the "
        "space's gate, own the encoder's own coarse feature, such as CLIP's class token. A space "
        "that is reached through another has the pool of that one.",
    )
    gate: str = option(
        "none",
        choices=("none", "linear", "hidden"),
        help="Learned weights of local embeddings and phrases, linear or with a hidden layer. "
        "Terms use them with weighting=learned, coarse embeddings with pool=gate.",
    )
    bias: bool = option(False, help="Whether linear heads have one.")
    unit_length: bool = option(
        True, help="Whether embeddings have unit length: products are then cosines."
    )
    dtype: str = option(
        "float32",
        choices=("float32", "bfloat16"),
        help="Of the embeddings as the loss receives them. Projection, scaling and the sums of "
        "losses are float32.",
    )
    through: str = option(
        "",
        help="Another space. Modalities of both spaces are projected from there, by one shared "
        "projection; see fgmm/models/heads.py.",
    )


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A classifier of the model, an entry of ``config.model.classifiers``."""

    modality: str = option(
        choices=("video", "audio"), help="Whose encoder's features it tells classes from."
    )
    classes: tuple[str, ...] = option(help="Their names, in the order of the source's labels.")
    pool: str = option(
        "mean",
        choices=("mean", "max", "own"),
        help="Over a clip's features; own is the encoder's own coarse feature.",
    )
    dropout: float = option(
        0.0, low=0, below=1, help="Share of the pooled feature's channels dropped in training."
    )


@dataclasses.dataclass(frozen=True)
class TermPlace:
    """The options of an entry of ``config.objective.terms`` besides those of its term."""

    pair: str = option(
        choices=("video_text", "video_audio", "audio_text"), help="What is compared with what."
    )
    space: str = option(help="The space of the model in which they are compared.")
    level: str = option(
        "fine",
        choices=("fine", "coarse"),
        help="Local embeddings with phrases, or clips with captions.",
    )
    weight: float = option(1.0, low=0, help="Factor of the loss in the sum.")


@dataclasses.dataclass(frozen=True)
class LabelTermPlace:
    """The same for a supervised term: the options of its entry besides those of the term."""

    classifier: str = option(
        help="Of model.classifiers, whose logits are compared with the labels."
    )
    weight: float = option(1.0, low=0, help="Factor of the loss in the sum.")


@dataclasses.dataclass(frozen=True)
class EvaluationPlace:
    """The options of an entry of ``config.evals`` besides those of its evaluation."""

    every: int = option(0, low=0, help="Steps between evaluations; 0 for the end alone.")


@dataclasses.dataclass(frozen=True)
class PartPlace:
    """The options of a part of a mixture besides those of its source."""

    weight: float = option(above=0, help="Its share of a batch is this over the sum of all; or 1.")


@dataclasses.dataclass(frozen=True)
class ObjectiveSection:
    """The objective of training, and the score by which evaluations rank."""

    terms: Mapping = option({}, help="Losses by name, whose weighted sum is the objective.")
    score: str = option(
        "sum",
        choices=("sum", "fine", "coarse"),
        help="What evaluations rank by: fine or coarse scores, or their sum, each divided by the "
        "temperature of its loss; of a pair that has one level alone, the score of that.",
    )


@dataclasses.dataclass(frozen=True)
class InitFromSection:
    """Parameters to start with; see ``fgmm.train.init_from``."""

    path: str = option("", help="A run's folder or converted weights; empty for random parameters.")
    step: str = option("latest", help="Which checkpoint: latest, best or a step.")
    weights: str = option(
        "", choices=("", "ema", "last"), help="Empty for ema where the checkpoint has them."
    )
    rules: tuple = option((), help="(regex, action) on names of arrays.")
    also: Mapping = option(
        {}, help="Further runs to take arrays from, by any names: path, step, weights and rules."
    )


@dataclasses.dataclass(frozen=True)
class LoraSection:
    """Low-rank updates beside frozen kernels; see ``fgmm.experiment.lora``."""

    rules: tuple = option((), help="(regex, rank) on kernels, such as model/.*/kernel.")
    alpha: float = option(16.0, above=0, help="An update of rank r counts alpha / r times.")


@dataclasses.dataclass(frozen=True)
class CheckpointSection:
    """When checkpoints are saved, and which are kept."""

    every_steps: int = option(500, low=0, help="Steps between checkpoints; 0 for none by steps.")
    every_minutes: float = option(10.0, low=0, help="Minutes between them; 0 for none by time.")
    keep_last: int = option(2, low=1, help="How many of the latest are kept.")
    keep_best: int = option(1, low=0, help="How many of the best are kept.")
    best_metric: str = option(
        "",
        help="A number that an evaluation in evals reports, such as "
        "retrieval/fine/text_to_video/r@10; empty keeps no best.",
    )
    best_mode: str = option("max", choices=("min", "max"), help="Which values of it are better.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The keys of a config."""

    seed: int = option(0, low=0, help="Of parameters, data order and augmentation.")
    steps: int = option(1000, low=1, help="Updates of the whole run.")
    batch_size: int = option(32, low=1, help="Clips over all devices and processes.")
    grad_cache: int = option(
        1,
        low=1,
        help="Micro-batches in which a batch too large for memory is embedded. The gradient is "
        "that of the whole batch: every clip still meets every other. 1 for none.",
    )
    accumulate: int = option(
        1,
        low=1,
        help="Micro-batches, each with a loss of its own, whose gradients are averaged; see "
        "fgmm/train/accumulation.py. 1 for none.",
    )
    mesh: MeshSection = option(operational=True)
    exchange: str = option(
        "gather",
        choices=("gather", "ring"),
        operational=True,
        help="How embeddings reach other devices: all at once (all_gather), or around a ring "
        "(ppermute) with less memory; see fgmm/losses/exchange.py.",
    )
    deterministic: bool = option(
        False, help="Bit-identical runs on GPU, at some cost in speed. On CPU they always are."
    )
    data: DataSection = option()
    transforms: TransformsSection = option()
    model: Mapping = option(
        {"spaces": {"joint": {"modalities": ("video", "audio", "text"), "width": 64}}},
        help="An encoder for each of video, audio and text, the spaces of their embeddings, and "
        "classifiers, if there are labels.",
    )
    objective: ObjectiveSection = option()
    init_from: InitFromSection = option()
    lora: LoraSection = option()
    optimizer: OptimizerSection = option(open=True)
    checkpoint: CheckpointSection = option(operational=True)
    patience_nonfinite: int = option(
        10,
        low=1,
        operational=True,
        help="Updates skipped in a row, for a loss or gradient that is not finite, before the run "
        "stops.",
    )
    watchdog_seconds: float = option(
        3600.0,
        low=0,
        operational=True,
        help="Seconds in which no step, evaluation or restore completes (compilation and saves "
        "included) before the process ends with the stack of every thread; 0 for no limit.",
    )
    progress: bool = option(True, operational=True, help="Whether a bar shows the progress.")
    evals: Mapping = option({}, operational=True, help="Evaluations inside training, by name.")
    loggers: Mapping = option(
        {},
        operational=True,
        help="Where metrics go beside metrics.jsonl and TensorBoard, by name; see "
        "fgmm/train/loggers. A flag makes an entry: --config.loggers.wandb.name=wandb.",
    )
