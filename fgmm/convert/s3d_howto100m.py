"""S3D trained on HowTo100M with MIL-NCE (Miech et al., CVPR 2020, arXiv 1912.06430) as a run.

The weights and the list of words that go with github.com/antoine77340/S3D_HowTo100M::

    python -m fgmm.convert.s3d_howto100m --weights=s3d_howto100m.pth --words=s3d_dict.npy \\
        --output=runs/s3d_howto100m
    python -m fgmm.eval.retrieval --workdir=runs/s3d_howto100m \\
        --config=eval/retrieval:corpus=youcook2

Weights may also be an ``.npz`` file of the same names. It writes the folder of a run of no steps.
Evaluations and ``fgmm.load`` open it, and another run can start from it with
``config.init_from.path``, with ``config.data.tokenizer`` set to the folder's ``tokenizer.model``.

Coarse embeddings are the published ones. They are not normalised; video and text are compared by
their dot product. Local embeddings apply the same linear layers to single cells and phrases; the
layers were not trained for this.
"""

import hashlib
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence

import jax
import ml_collections
import numpy as np
from absl import flags

from fgmm import command_line, components
from fgmm import config as configs
from fgmm.convert import state_dict, word_list
from fgmm.convert.converted import Conversion, Take, as_is, before_training, brought, write
from fgmm.experiment import build as experiments
from fgmm.train.checkpoint import TOKENIZER

# Words of a caption that the text tower reads.
_MAX_WORDS = 16
# Where the linear layers after pooling stand in the state dict, by head.
_LAST_LAYERS = {"heads_joint_video": "fc", "heads_joint_text": "text_module.fc2"}
_LEAVES = {"kernel": "weight", "embedding": "weight", "bias": "bias"}
_BATCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def model_config(*, frames: int = 32, size: int = 224) -> ml_collections.ConfigDict:
    """The published model's config; its tokenizer lies in the run's folder.

    Args:
      frames, size: of clips; 32 frames of 224 x 224 pixels are what its authors recommend.
    """
    config = configs.defaults()
    # A caption is one phrase, so that every word counts, as published.
    config.data.update(frames=frames, height=size, width=size, segmenter="whole", phrases=1)
    config.data.update(tokens=_MAX_WORDS, tokenizer=TOKENIZER)
    config.transforms.update(pixel_mean=(0.0,) * 3, pixel_spread=(255.0,) * 3)
    config.model.video = {"name": "s3d"}
    config.model.text = {"name": "phrase_bag", "padding_counts": True}
    config.model.spaces.joint.update(
        modalities=("video", "text"), width=512, bias=True, unit_length=False
    )
    # MIL-NCE on dot products as they are.
    config.objective.terms.coarse = {
        "name": "mil_nce",
        "pair": "video_text",
        "level": "coarse",
        "space": "joint",
        "temperature": 1.0,
        "learn_temperature": False,
    }
    return components.complete(config)


def converted(
    weights: Mapping[str, np.ndarray], words: Sequence[str], *, frames: int = 32, size: int = 224
) -> Conversion:
    """Brings published arrays into this package's form.

    Args:
      weights: by the names of the state dict; counters of batches are left out.
      words: of the dictionary. The embedding has a row for padding, then a row for each word.
      frames, size: as in ``model_config``.

    Raises:
      ConfigError: arrays are missing, unexpected, of another shape or not finite.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = pathlib.Path(folder) / "words.npy"
        np.save(listed, np.array(words))
        built = experiments.build(model_config(frames=frames, size=size), listed)
    blank = built.abstract_state
    params, statistics = brought(
        weights, (blank.params["model"], blank.statistics), _take, "S3D of HowTo100M"
    )
    params = {"model": params, "objective": built.objective.init()}
    return before_training(built, params, statistics)


def _take(path: str) -> Take:
    """Where an array of the model comes from."""
    name = _published(path)
    words = " (a row for each of the words and one for padding)" if "word_embd" in name else ""
    return Take((name,), as_is if words else _form, hint=words)


def _published(path: str) -> str:
    """The published name of an array of the model."""
    # The first part is 0 for parameters and 1 for statistics, whose paths have one level more.
    parts = path.split("/")
    parts = parts[1:] if parts[0] == "0" else parts[2:]
    tower, *layers, leaf = parts
    if tower in _LAST_LAYERS:
        return f"{_LAST_LAYERS[tower]}.{_LEAVES[leaf]}"
    if layers[-1] == "BatchNorm_0":
        name = [*layers[:-1], _BATCH_NORM[leaf]]
    else:
        name = [*layers, _LEAVES[leaf]]
    return ".".join(["text_module", *name] if tower == "encoders_text" else name)


def _form(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array as flax has it: convolutions from OIDHW to (H, W, D·I, O), or (D·I, O) where they
    see one pixel; linear layers from (out, in) to (in, out).
    """
    del shape
    if array.ndim == 5:
        array = array.transpose(3, 4, 2, 1, 0)
        space = array.shape[:2]
        return array.reshape(*(() if space == (1, 1) else space), -1, array.shape[-1])
    return array.T if array.ndim == 2 else array


def main(argv: list[str]) -> None:
    """Reads, converts and writes."""
    del argv
    weights, words, output = (
        pathlib.Path(command_line.required(name)) for name in ("weights", "words", "output")
    )
    arrays, listed = state_dict.read(weights), word_list.read(words)
    command_line.folder_to_write(output)
    found = converted(arrays, listed, frames=flags.FLAGS.frames, size=flags.FLAGS.size)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (weights, words)}
    write(found, output, {"model": "s3d_howto100m", "sha256": files})
    count = sum(leaf.size for leaf in jax.tree.leaves(found.state.params["model"]))
    print(
        f"{output}: {len(arrays)} arrays read, {count:,} parameters; its tokenizer is "
        f"{output / TOKENIZER}"
    )


if __name__ == "__main__":
    flags.DEFINE_string("weights", None, "The published state dict, .pth or .npz.")
    flags.DEFINE_string("words", None, "The published list of words, .npy.")
    flags.DEFINE_string("output", None, "The folder to write.")
    flags.DEFINE_integer("frames", 32, "Frames of a clip.", lower_bound=2)
    flags.DEFINE_integer("size", 224, "Height and width of a clip.", lower_bound=2)
    sys.exit(command_line.run(main))
