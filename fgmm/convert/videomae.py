"""VideoMAE (arXiv 2203.12602) in Hugging Face's form: pre-trained, or fine-tuned as a classifier.

The model becomes a run without a loss, whose head starts as the identity. Coarse embeddings are the
mean of all features, scaled to unit length. With a fine-tuned model, the mean first goes through
the layer norm of the classifier. Decoder and classifier are left out.
"""

import dataclasses

import numpy as np

from fgmm.convert import towers, vit
from fgmm.convert.converted import Conversion, Take, as_is, zeros
from fgmm.convert.published import PublishedModel

MODEL = "VideoMAE"
_USUAL = towers.Pictures((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "cover", "bilinear")
# On Kinetics: every fourth of 30 frames a second. The files do not say it.
_FRAMES_A_SECOND = 7.5
_BIASES = tuple(f"encoder.layer.{{}}.attention.attention.{part}_bias" for part in "qv")


def _tubelets(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel from (out, colours, time, rows, columns) to (time rows columns colours, out)."""
    fits = array.ndim == 5 and array[0].size == shape[0]
    return array.transpose(2, 3, 4, 1, 0).reshape(shape[0], -1) if fits else array


def _without_keys(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Biases of queries and values, with zeros for those of keys, by head."""
    if 3 * array.size != 2 * np.prod(shape):
        return array
    queries, values = np.split(array, 2)
    return np.concatenate([queries, np.zeros_like(queries), values]).reshape(shape)


_OTHERS = {
    "embedding/kernel": Take(("embeddings.patch_embeddings.projection.weight",), _tubelets),
    "embedding/bias": Take(("embeddings.patch_embeddings.projection.bias",), as_is),
}


def recognises(published: PublishedModel) -> bool:
    """Whether a published model is a VideoMAE."""
    return published.is_of_type("videomae")


def as_run(published: PublishedModel, modality: str = "") -> Conversion:
    """A published VideoMAE as a run of no steps.

    Args:
      published: the model.
      modality: ``"video"``, the only one, or empty.

    Raises:
      ConfigError: see ``towers.run``; or its activation is not supported.
    """
    config, given = published.config, published.arrays
    options = towers.transformer(config, 768, 3072, 12, 12, "gelu", 1e-12)
    size, frames = config.get("image_size", 224), config.get("num_frames", 16)
    patch, tubelet = config.get("patch_size", 16), config.get("tubelet_size", 2)
    norm = "features"
    if config.get("use_mean_pooling", True):
        norm = "mean" if "fc_norm.weight" in given else "none"
    encoder = {
        "name": "videomae",
        "tubelet": tubelet,
        "patch": patch,
        "positions": (frames // tubelet, size // patch, size // patch),
        "norm": norm,
        **options,
    }
    usual = dataclasses.replace(_USUAL, frames=frames, seconds=frames / _FRAMES_A_SECOND)
    found = towers.Description(
        model=MODEL,
        towers={"video": encoder},
        width=options["width"],
        take=_take_of(norm, config.get("qv_bias", config.get("qkv_bias", True))),
        size=size,
        pictures=towers.preprocessor(published.beside("preprocessor_config.json"), usual),
    )
    print(f"frames a second: {_FRAMES_A_SECOND}, as on Kinetics; the files do not say")
    # Newer files name these biases as those of layers.
    arrays = {
        name.replace("attention.query.bias", "attention.q_bias").replace(
            "attention.value.bias", "attention.v_bias"
        ): array
        for name, array in given.items()
    }
    # The layer norm of the mean belongs to the classifier, so its name lacks the encoder's prefix.
    arrays = {
        f"videomae.{name}" if name.startswith("fc_norm.") else name: array
        for name, array in arrays.items()
    }
    renamed = dataclasses.replace(published, arrays=arrays)
    return towers.run(vit.encoder_alone(renamed, "videomae."), found, modality)


def _take_of(norm: str, bias: bool):
    """Where arrays come from.

    Args:
      norm: the last normalisation: of the features, of their mean, or none.
      bias: whether attention has a bias.
    """
    name = {"features": "layernorm", "mean": "fc_norm"}.get(norm, "")
    norms = {
        "norm/scale": Take((f"{name}.weight",), as_is),
        "norm/bias": Take((f"{name}.bias",), as_is),
    }
    usual = vit.take_of("video", vit.BLOCK, _OTHERS | norms)

    def take(path: str) -> Take:
        _, _, rest = path.split("/", 2)
        block, _, leaf = rest.partition("/")
        if leaf != "DenseGeneral_0/bias":
            return usual(path)
        number = int(block.removeprefix("block_"))
        names = tuple(name.format(number) for name in _BIASES) if bias else ()
        return Take(names, _without_keys if bias else zeros)

    return take
