"""WordLlama's word embeddings as a run of no steps.

They are in the Python package ``wordllama`` (MIT; github.com/dleemiller/WordLlama): 256 numbers for
each of Llama 2's 32,000 tokens, trained so that the average over a text's tokens can be compared
with those of other texts. The tokenizer is in the package's folder ``tokenizers``, beside the
folder of the weights::

    python -m fgmm.convert --from=wordllama/weights/l2_supercat_256.safetensors \
        --output=runs/wordllama

The run's text encoder is a ``phrase_bag`` without a layer, whose phrases are means of embeddings;
its head starts as the identity. Another run with a ``phrase_bag`` of this width takes the
embeddings by ``config.init_from``.
"""

import pathlib
import tempfile

import ml_collections
import tokenizers

from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.convert.converted import Conversion, Take, as_is, before_training, brought, identity
from fgmm.convert.published import PublishedModel
from fgmm.data.text.tokenizers import PAD_ID, PublishedTokenizer
from fgmm.experiment import build as experiments
from fgmm.train.checkpoint import TOKENIZER

MODEL = "WordLlama"
_WORDS = "embedding.weight"
# Where a tokenizer may lie, from the folder of the weights.
_TOKENIZERS = ("tokenizer.json", "*_tokenizer_config.json", "../tokenizers/*_tokenizer_config.json")


def recognises(published: PublishedModel) -> bool:
    """Whether published weights are word embeddings alone."""
    return set(published.arrays) == {_WORDS}


def as_run(published: PublishedModel, modality: str = "") -> Conversion:
    """Published word embeddings as a run of no steps.

    Args:
      published: the embeddings.
      modality: ``"text"``, the only one, or empty.

    Raises:
      ConfigError: ``modality`` is another one; the tokenizer is missing, damaged, not the only one
        or has another vocabulary; the embeddings are no finite matrix.
    """
    if modality not in ("", "text"):
        raise ConfigError(f"--modality={modality!r} is not in {MODEL}; allowed: text")
    words = published.arrays[_WORDS]
    if words.ndim != 2:
        raise ConfigError(f"{_WORDS} has shape {words.shape}, not [tokens, width]")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / TOKENIZER
        path.write_bytes(_tokenizer(published.folder))
        known = PublishedTokenizer(path).vocabulary_size
        if known != len(words):
            raise ConfigError(
                f"the tokenizer has {known} ids and {_WORDS} {len(words)} rows: they "
                "belong to different models"
            )
        built = experiments.build(_config(words.shape[1]), path)
    blank, flag = built.abstract_state.params, f"--from={published.files[0]}"
    params = brought(published.arrays, blank, _take, MODEL, flag=flag)
    return before_training(built, params, built.abstract_state.statistics)


def _config(width: int) -> ml_collections.ConfigDict:
    config = configs.defaults()
    config.data.tokenizer = TOKENIZER
    config.model.text = {"name": "phrase_bag", "width": width, "hidden": 0, "pool": "mean"}
    config.model.spaces.joint.update(modalities=("text",), width=width)
    return components.complete(config)


def _tokenizer(folder: pathlib.Path) -> bytes:
    """The tokenizer as ``wordllama`` uses it: no token is added before a text.

    Raises:
      ConfigError: there is none, or several, or it is damaged.
    """
    for pattern in _TOKENIZERS:
        if found := sorted(folder.glob(pattern)):
            break
    else:
        raise ConfigError(f"{folder} has no tokenizer: it needs {' or '.join(_TOKENIZERS)}")
    if len(found) > 1:
        raise ConfigError(
            f"{found[0].parent} has several tokenizers, {', '.join(path.name for path in found)}; "
            f"copy the one that belongs to the weights beside them as {_TOKENIZERS[0]}"
        )
    try:
        model = tokenizers.Tokenizer.from_str(found[0].read_text("utf-8"))
        token = model.id_to_token(PAD_ID)
        model.post_processor = tokenizers.processors.TemplateProcessing("$A", special_tokens=[])
        model.no_truncation()
        model.enable_padding(pad_id=PAD_ID, pad_token=token)
    except Exception as error:  # damaged files raise nearly anything
        raise ConfigError(f"{found[0]} is no tokenizer: {' '.join(str(error).split())}") from error
    return model.to_str().encode("utf-8")


def _take(path: str) -> Take:
    """Where an array of the model comes from."""
    if path == "model/encoders_text/word_embd/embedding":
        return Take((_WORDS,), as_is)
    return Take((), identity)  # the kernels of the head
