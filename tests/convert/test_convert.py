"""What published weights are is found out; what is wrong with them is one line, nothing written."""

import json
import os
import pathlib
import pickle
import re

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tokenizers as library

from fgmm.config import ConfigError
from fgmm.convert import clip, published, published_tokenizers, towers
from fgmm.convert.families import family_of
from fgmm.data.text import phrases, tokenizers
from fgmm.train import checkpoint
from tests import compilation, programs
from tests.convert import published_folders as folders
from tests.data.flickr8k_fixture import write_flickr8k


@pytest.fixture
def folder(tmp_path):
    """A small CLIP in Hugging Face's layout."""
    folders.write_clip(tmp_path / "clip")
    return tmp_path / "clip"


def converted(path, **options):
    found = published.read(path)
    return family_of(found).as_run(found, **options)


def change_config(folder, **options):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | options))


def in_openai_layout(arrays):
    """The same arrays by OpenAI's names."""
    found = {}
    for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
        for number in range(2):
            before = f"{tower}.encoder.layers.{number}."
            after = f"{prefix}transformer.resblocks.{number}."
            for kind in ("weight", "bias"):
                parts = [arrays[f"{before}self_attn.{part}_proj.{kind}"] for part in "qkv"]
                found[f"{after}attn.in_proj_{kind}"] = np.concatenate(parts)
                for old, new in (
                    ("self_attn.out_proj", "attn.out_proj"),
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    found[f"{after}{new}.{kind}"] = arrays[f"{before}{old}.{kind}"]
    for old, new in (
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("logit_scale", "logit_scale"),
    ):
        found[new] = arrays[old]
    for old, new in (
        ("vision_model.pre_layrnorm", "visual.ln_pre"),
        ("vision_model.post_layernorm", "visual.ln_post"),
        ("text_model.final_layer_norm", "ln_final"),
    ):
        found |= {f"{new}.{kind}": arrays[f"{old}.{kind}"] for kind in ("weight", "bias")}
    found["visual.proj"] = arrays["visual_projection.weight"].T.copy()
    found["text_projection"] = arrays["text_projection.weight"].T.copy()
    return found


OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "patch_size": 8,
            "head_width": 16,
            "mlp_ratio": 1.5,
        },
        "text_cfg": {
            "context_length": 20,
            "vocab_size": len(folders.clip_vocabulary()),
            "width": 16,
            "heads": 2,
            "layers": 2,
            "mlp_ratio": 2.5,
        },
    },
    "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "resize_mode": "squash"},
}


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.state.params, other.state.params)
    for name, encoder in one.experiment.model.encoders.items():
        assert encoder == other.experiment.model.encoders[name]


def test_layouts_of_one_model_give_one_run(folder, tmp_path, capsys):
    expected = converted(folder)
    assert (
        "preprocessor_config.json is missing: pictures as the family has" in capsys.readouterr().out
    )
    config = expected.experiment.config
    assert config.data.tokens == 20
    assert (config.data.resize, config.data.resize_filter) == ("cover", "bicubic")
    np.testing.assert_allclose(config.transforms.pixel_mean[0], 255 * 0.48145466)
    term = config.objective.terms.published
    np.testing.assert_allclose(term.temperature, np.exp(-2.3), rtol=1e-6)
    np.testing.assert_array_equal(
        expected.state.params["objective"]["published"]["log_temperature"], np.float32(-2.3)
    )

    # open_clip's layout, with its config.
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    other = tmp_path / "open_clip"
    other.mkdir()
    folders.write_clip_tokenizer(other)
    (other / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP))
    safetensors.numpy.save_file(in_openai_layout(arrays), other / "open_clip_model.safetensors")
    found = converted(other)
    same(found, expected)
    assert found.experiment.config.data.resize == "stretch"
    np.testing.assert_allclose(found.experiment.config.transforms.pixel_spread, [51, 76.5, 102])

    # Two shards, names with a prefix, and a file of preprocessing.
    names = sorted(arrays)
    where = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for part in sorted(set(where.values())):
        held = {f"module.model.{name}": arrays[name] for name in names if where[name] == part}
        safetensors.numpy.save_file(held, folder / part)
    index = {"weight_map": {f"module.model.{name}": part for name, part in where.items()}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    options = {"size": 32, "resample": 2, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(options))
    found = converted(folder)
    same(found, expected)
    assert found.experiment.config.data.resize_filter == "bilinear"
    assert found.experiment.config.transforms.pixel_spread == (255.0, 255.0, 255.0)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(ConfigError, match=r"index.json lists no files"):
        converted(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"lists files that are not there: part-1.safetensors"):
        converted(folder)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_half_weights_become_float32(folder, capsys, kind):
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    half = {name: array.astype(kind) for name, array in arrays.items()}
    safetensors.numpy.save_file(half, folder / "model.safetensors")
    found = converted(folder, modality="text")
    words = found.state.params["model"]["encoders_text"]["words"]["embedding"]
    name = "text_model.embeddings.token_embedding.weight"
    np.testing.assert_array_equal(words, half[name].astype(np.float32))
    assert words.dtype == np.float32
    said = capsys.readouterr().out
    assert f"{np.dtype(kind).name}, as float32" in said
    assert re.search(r"left out: \d+ arrays of video", said)
    assert tuple(found.experiment.model.encoders) == ("text",)
    assert not found.state.params["objective"]


def test_everything_that_is_wrong_with_arrays_is_listed(folder, capsys):
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    names = [name for name in arrays if ".layers.1.mlp." in name]
    assert len(names) == 8
    for name in names:
        del arrays[name]
    arrays |= {"lora.a": np.zeros(2), "visual_projection.weight": np.zeros((24, 31), np.float32)}
    arrays["text_model.final_layer_norm.bias"][0] = np.nan
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(
        ConfigError, match=r"is no CLIP: missing .* and 3 more; unexpected lora.a; "
    ):
        converted(folder)
    said = capsys.readouterr().out
    for name in names:
        assert f"missing    {name}\n" in said
    assert "unexpected lora.a\n" in said
    assert re.search(r"visual_projection.weight has shape \(24, 31\), or \(31, 24\) in", said)
    assert "text_model.final_layer_norm.bias holds values that are not finite" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "blip"}, r"has model_type 'blip', which is not supported; allowed: AST"),
        ({"model_type": "siglip2"}, r"SigLIP 2 for any aspect ratio \(NaFlex\), which is not"),
        ({"vision_config": {"hidden_act": "relu"}}, "hidden_act='relu' is unknown; allowed: quick"),
        ({"vision_config": [1]}, "vision_config=.* must hold options"),
    ],
)
def test_other_architectures(folder, options, message):
    change_config(folder, **options)
    with pytest.raises(ConfigError, match=message):
        converted(folder)


def test_a_tokenizer_of_another_vocabulary(folder):
    vocabulary = folders.clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"more": len(vocabulary)}))
    with pytest.raises(ConfigError, match=r"has 521 ids and text_model.* 520 rows: they belong"):
        converted(folder)
    (folder / "vocab.json").unlink()
    with pytest.raises(ConfigError, match=r"has no tokenizer: it needs tokenizer.json, or vocab"):
        converted(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer.json is no tokenizer"):
        converted(folder)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("model.safetensors", b"<!DOCTYPE html><html>", "is a web page, not weights"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1", "pointer of Git LFS"),
        ("model.safetensors", b"12345678", r"is damaged or no .safetensors file"),
        ("model.safetensors", b"", "is empty"),
        ("pytorch_model.bin", pickle.dumps({"a": Evil()}), "is refused|is damaged"),
    ],
)
def test_files_that_are_no_weights(folder, monkeypatch, tmp_path, name, data, message):
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        converted(folder)
    assert not pathlib.Path("executed").exists()


def test_a_folder_without_weights_says_what_it_needs(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"needs config.json and model.safetensors or pytorch"):
        published.read(folder)
    with pytest.raises(ConfigError, match=r"--from=.*gone is not there"):
        published.read(tmp_path / "gone")


def test_a_state_dict_does_not_say_its_activation(folder, tmp_path):
    arrays = in_openai_layout(safetensors.numpy.load_file(folder / "model.safetensors"))
    np.savez(tmp_path / "clip.npz", **arrays)
    with pytest.raises(ConfigError, match=r"does not say its activation: give --activation=quick"):
        converted(tmp_path / "clip.npz")
    sizes = clip._openai_entries(published.read(tmp_path / "clip.npz"), "gelu")
    video, text = sizes["towers"]["video"], sizes["towers"]["text"]
    assert (sizes["size"], sizes["width"], video["positions"]) == (32, 24, (4, 4))
    assert (video["width"], video["depth"], video["activation"]) == (32, 2, "gelu")
    assert (text["width"], text["depth"], text["length"]) == (16, 2, 20)
    config = OPEN_CLIP["model_cfg"]
    with pytest.raises(ConfigError, match=r"that are not supported: vision_cfg.timm_model_name"):
        clip._open_clip_towers(config | {"vision_cfg": {"timm_model_name": "vit"}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample": 1}, r"resample=1 is unknown; allowed: 2 \(bilinear\), 3 \(bicubic\)"),
        ({"size": {"shortest_edge": 9}, "do_center_crop": False}, "pictures of different sizes"),
        ({"image_mean": [0.5]}, "image_mean=.* must be three numbers"),
        ({"do_resize": False}, "do_resize=False is not supported"),
        ({"do_rescale": False}, "do_rescale=False is not supported"),
        ({"rescale_factor": 1.0}, "rescale_factor=1.0 is not supported; allowed: 1/255"),
        ({"size": {"height": 32, "width": 9}}, "size=.* is not square"),
        ({"size": {"longest_edge": 32}}, "size=.* is not square"),
        (
            {"size": {"height": 36, "width": 36}, "do_center_crop": True, "crop_size": 32},
            "crop_size=32 of size=.* is not supported",
        ),
    ],
)
def test_pictures_that_no_option_describes(folder, options, message):
    (folder / "preprocessor_config.json").write_text(json.dumps(options))
    with pytest.raises(ConfigError, match=message):
        converted(folder)


def test_pictures_as_a_file_says():
    usual = towers.Pictures((0.5,) * 3, (0.2,) * 3, "cover", "bicubic", ratio=256 / 224, size=224)
    published_files = {"do_resize": True, "do_rescale": True, "rescale_factor": 0.00392156862745098}
    square = {"height": 518, "width": 518}
    found = towers.preprocessor({**published_files, "size": square}, usual)
    assert (found.resize, found.size, found.ratio) == ("stretch", 518, 1.0)
    crops = {"do_center_crop": True, "crop_size": 518}
    assert towers.preprocessor({"size": square, **crops}, usual) == found
    found = towers.preprocessor({"do_normalize": False, "image_mean": [0.1] * 3}, usual)
    assert (found.mean, found.spread) == ((0.0,) * 3, (1.0,) * 3)


def test_tokenizers_say_how_captions_are_padded(tmp_path):
    """SigLIP's as SentencePiece itself spells what SigLIP leaves of a caption."""
    (tmp_path / "spiece.model").write_bytes(folders.sentencepiece_model(30))
    path = tmp_path / "tokenizer.model"
    path.write_bytes(published_tokenizers.read(tmp_path, "siglip"))
    found = tokenizers.load(path)
    spelled = tokenizers.sentencepiece.SentencePieceProcessor(str(tmp_path / "spiece.model"))
    whole = lambda text: [(0, len(text))]  # noqa: E731
    for caption in ("A red CAT!  rolls,", "it's on the grass"):
        left = re.sub(r"[^\w\s]", "", caption).lower()
        expected = [*spelled.encode(" ".join(left.split())), 1]
        tokens, _ = found.encode(caption, segmenter=whole, tokens=40, phrases=1)
        assert tokens.tolist() == expected + [1] * (40 - len(expected))
    assert found.unknown("xyz")[0] > 0
    assert found.unknown_id == 2


def test_a_tokenizer_does_what_its_config_says(tmp_path):
    """SigLIP 2's tokenizer.json keeps capitals; the file beside it says how captions end."""
    words = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "a": 4, "cat": 5}
    found = library.Tokenizer(library.models.WordLevel(words, unk_token="<unk>"))
    found.pre_tokenizer = library.pre_tokenizers.Whitespace()
    found.save(str(tmp_path / "tokenizer.json"))
    options = {"add_bos_token": False, "add_eos_token": True, "eos_token": "<eos>"}
    options |= {"pad_token": {"content": "<pad>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
    (tmp_path / "tokenizer.model").write_bytes(published_tokenizers.read(tmp_path, "siglip"))
    tokenizer = tokenizers.load(tmp_path / "tokenizer.model")
    given = {"segmenter": phrases.function_words, "phrases": 2}
    tokens, phrase_ids = tokenizer.encode("A CAT meows", tokens=6, **given)
    assert tokens.tolist() == [4, 5, 3, 1, 0, 0]
    assert phrase_ids.tolist() == [1, 1, 1, 0, 0, 0]
    # The end stays where there is no room for all.
    assert tokenizer.encode("a cat a cat", tokens=3, **given)[0].tolist() == [4, 5, 1]
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.fingerprint == tokenizer.fingerprint
    assert (again.unknown_id, again.unknown("a dog")) == (3, (1, 2))


def test_other_families_are_found_out_too(tmp_path):
    arrays = {"_conv_stem.weight": np.zeros((32, 3, 3, 3), np.float32)}
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(ConfigError, match=r"--modality='text' is not in EfficientNet-Lite0; allo"):
        converted(tmp_path / "weights.npz", modality="text")
    np.savez(tmp_path / "weights.npz", other=np.zeros(3))
    with pytest.raises(ConfigError, match=r"has arrays such as other, which is not supported; al"):
        converted(tmp_path / "weights.npz")


def test_readme_starts_from_a_small_clip(repository, tmp_path, monkeypatch):
    section = (repository / "README.md").read_text().partition("### Start from CLIP")[2]
    shell, code = re.search(r"```bash\n(.*?)```\s+```python\n(.*?)```", section, re.S).groups()
    assert len([*shell.splitlines(), *code.splitlines()]) <= 15
    folders.write_clip(tmp_path / "clip-vit-base-patch32")
    write_flickr8k(tmp_path / "my_images", 8, 0)
    (tmp_path / "my_clip.py").write_text(code)
    monkeypatch.setenv("XLA_FLAGS", compilation.flags(devices=1))
    few = ("--config.steps=3", "--config.batch_size=4", "--config.data.phrases=3")
    few += ("--config.data.height=40", "--config.data.width=40")
    for command in shell.splitlines():
        python, _, module, *words = command.split()
        assert python == "python"
        changes = few if module == "fgmm.main" else ()
        ran = programs.run(module, *words, *changes, cwd=tmp_path, timeout=300)
        assert ran.returncode == 0, ran.stderr
    assert "init_from runs/clip, step 0" in ran.stdout
    assert "positions are interpolated, 4 x 4 to 5 x 5" in ran.stdout
    assert "checkpoint_manager" not in ran.stderr
    assert (tmp_path / "runs" / "mine" / "checkpoints" / "3").is_dir()


def test_a_config_starts_from_a_run_that_is_there(tmp_path):
    with pytest.raises(ConfigError, match=r"gone holds no checkpoints; give the folder of a run"):
        checkpoint.config_of(tmp_path / "gone")
    (tmp_path / "checkpoints" / "3" / "config").mkdir(parents=True)
    (tmp_path / "checkpoints" / "3" / "config" / "metadata").write_text("{")
    with pytest.raises(ConfigError, match=r"3/config/metadata is missing or damaged"):
        checkpoint.config_of(tmp_path)
