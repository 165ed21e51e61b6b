"""Word embeddings by themselves become a text encoder whose phrases are their means."""

import re
import shutil

import numpy as np
import pytest
import safetensors.numpy
import tokenizers

import fgmm
from fgmm.config import ConfigError
from fgmm.convert import converted, published
from fgmm.convert.families import family_of

WORDS = ("<unk>", "<s>", "a", "red", "dog", "on", "the", "grass")
EMBEDDINGS = np.random.default_rng(0).standard_normal((len(WORDS), 6)).astype(np.float16)


def write(folder, rows=8):
    """The two folders of the package, with a tokenizer that would begin a text with ``<s>``."""
    for name in ("weights", "tokenizers"):
        (folder / name).mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "<unk>"))
    model.add_special_tokens(list(WORDS[:2]))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.post_processor = tokenizers.processors.TemplateProcessing(
        "<s> $A", special_tokens=[("<s>", 1)]
    )
    model.save(str(folder / "tokenizers" / "small_tokenizer_config.json"))
    path = folder / "weights" / "small_6.safetensors"
    safetensors.numpy.save_file({"embedding.weight": EMBEDDINGS[:rows]}, path)
    return path


def convert(path):
    found = published.read(path)
    module = family_of(found)
    assert module.MODEL == "WordLlama"
    return module.as_run(found)


def test_a_phrase_is_the_mean_of_its_published_embeddings(tmp_path):
    path = write(tmp_path / "package")
    converted.write(convert(path), tmp_path / "run", {})
    model = fgmm.load(tmp_path / "run", batch_size=2)
    found = model.embed_text(["a red dog on the grass"], local=True)
    words = EMBEDDINGS.astype(np.float32)
    for phrase, ids in enumerate(([2, 3, 4], [5, 6, 7])):
        mean = words[ids].mean(axis=0)
        expected = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(found.local[0, phrase], expected, atol=1e-6)
    np.testing.assert_array_equal(found.mask[0, :3], [True, True, False])


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"the tokenizer has 8 ids and embedding.weight 7 rows"):
        convert(write(tmp_path / "rows", rows=7))
    path = write(tmp_path / "several")
    given = path.parents[1] / "tokenizers" / "small_tokenizer_config.json"
    shutil.copy(given, given.with_name("other_tokenizer_config.json"))
    with pytest.raises(
        ConfigError, match=r"several tokenizers, other_tokenizer_config.json, small"
    ):
        convert(path)
    shutil.copy(given, path.parent / "tokenizer.json")
    convert(path)
    (path.parent / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer\.json is no tokenizer: "):
        convert(path)
    path = write(tmp_path / "none")
    shutil.rmtree(path.parents[1] / "tokenizers")
    with pytest.raises(ConfigError, match=re.escape(f"{path.parent} has no tokenizer: it needs")):
        convert(path)
