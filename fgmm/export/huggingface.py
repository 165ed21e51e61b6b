"""Hugging Face's layout of CLIP and SigLIP, for runs with the towers of one of them.

It applies the tables of ``fgmm.convert`` in reverse. The layout has one projection for each tower:
that of coarse embeddings. Projections of local embeddings are left out if they differ from it, as
is everything else that has no place in the layout; notes name what is left out.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
import tokenizers
from flax.traverse_util import flatten_dict

from fgmm.config import ConfigError
from fgmm.convert.converted import given_back
from fgmm.convert.families import families
from fgmm.convert.towers import MODALITIES, SPACE, Layout, published_preprocessor
from fgmm.data.text.tokenizers import PublishedTokenizer
from fgmm.eval import pairs
from fgmm.experiment.build import Experiment
from fgmm.export.folder import Run

OPENS = """It is in Hugging Face's layout:

```python
from transformers import AutoModel, AutoTokenizer

model = AutoModel.from_pretrained("THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```"""
_OTHERWISE = "--format=safetensors has a place for everything"


class _Choice(NamedTuple):
    """What goes into the layout, arrays by paths that ``Layout.take`` knows, and what does not."""

    arrays: dict[str, np.ndarray]
    left_out: list[str]


def check(run: Run) -> None:
    """Checks that the layout can hold everything that the run's coarse embeddings are made of.

    Raises:
      ConfigError: the towers have no published layout, or it has no place for an array, an option,
        the tokenizer or the pictures of the run.
    """
    layout = _layout(run.experiment)
    _check_tokenizer(run.experiment, layout)
    found = given_back(_chosen(run, layout).arrays, layout.take)
    if missing := [name for name in layout.scales if name not in found]:
        raise ConfigError(
            f"{layout.model}'s layout needs {' and '.join(missing)}, which no coarse term on "
            f"video_text in space {SPACE} learns; {_OTHERWISE}"
        )
    published_preprocessor(run.experiment.config, _size(run.experiment))


def write(run: Run, folder: pathlib.Path) -> list[str]:
    """Writes the folder.

    Returns:
      Lines to print: what was left out, and where the run differs from the layout.
    """
    experiment, layout = run.experiment, _layout(run.experiment)
    arrays, left_out = _chosen(run, layout)
    safetensors.numpy.save_file(
        given_back(arrays, layout.take), folder / "model.safetensors", metadata={"format": "pt"}
    )
    specials = _write_tokenizer(experiment, layout, folder)
    config = layout.config(experiment)
    config["text_config"] |= {f"{name}_id": number for name, (_, number) in specials.items()}
    _write_json(folder / "config.json", {**config, "dtype": "float32"})
    pictures = published_preprocessor(experiment.config, _size(experiment))
    named = {"image_processor_type": layout.processor, **pictures}
    _write_json(folder / "preprocessor_config.json", named)
    return _notes(experiment, left_out)


def _check_tokenizer(experiment: Experiment, layout: Layout) -> None:
    tokenizer, name = experiment.tokenizer, experiment.config.data.tokenizer
    if not isinstance(tokenizer, PublishedTokenizer):
        raise ConfigError(
            f"{layout.model}'s layout has no place for data.tokenizer={name!r}, only for a "
            f"tokenizer.json; {_OTHERWISE}"
        )
    if tokenizers.Tokenizer.from_buffer(tokenizer.model).padding is None:
        raise ConfigError(
            f"data.tokenizer={name!r} has no section padding, which {layout.model}'s layout needs; "
            f"{_OTHERWISE}"
        )


def _notes(experiment: Experiment, left_out: list[str]) -> list[str]:
    notes = [f"left out, for the layout has no place for it: {name}" for name in left_out]
    shape, size = experiment.shape, _size(experiment)
    if shape.frames > 1:
        notes.append(
            f"the run embeds clips of {shape.frames} frames, as the mean of their features before "
            "the projection; the layout embeds one picture"
        )
    if (shape.height, shape.width) != (size, size):
        notes.append(
            f"the run takes pictures of {shape.height} x {shape.width}; the layout has positions "
            f"of {size} x {size}"
        )
    return notes


def _layout(experiment: Experiment) -> Layout:
    """The published layout of a run's towers.

    Raises:
      ConfigError: they have none.
    """
    known = {
        module.__name__.rpartition(".")[2]: module.LAYOUT
        for module in families()
        if hasattr(module, "LAYOUT")
    }
    model, named = experiment.model, experiment.config.model
    names = {modality: named[modality].name for modality in model.encoders}
    if set(names) != set(MODALITIES) or len(set(names.values())) > 1 or names["video"] not in known:
        towers = ", ".join(f"{modality}: {name}" for modality, name in names.items())
        raise ConfigError(
            f"--format=huggingface has no layout for a run of {towers}; it has one for video and "
            f"text of {' or of '.join(known)}; {_OTHERWISE}"
        )
    layout = known[names["video"]]
    wanted = {"pool": "own", "through": "", "unit_length": True, "bias": layout.bias}
    space = model.spaces.get(SPACE)
    key = f"model.spaces.{SPACE}"
    if space is None or set(space["modalities"]) != set(MODALITIES):
        raise ConfigError(f"{layout.model}'s layout needs {key} of video and text; {_OTHERWISE}")
    for name, value in wanted.items():
        if space[name] != value:
            raise ConfigError(
                f"{layout.model}'s layout has no place for {key}.{name}={space[name]!r}, only for "
                f"{value!r}; {_OTHERWISE}"
            )
    if any(space["hidden"].values()):
        raise ConfigError(f"{layout.model}'s layout has no place for {key}.hidden; {_OTHERWISE}")
    rows, columns = model.encoders["video"].positions
    if rows != columns:
        raise ConfigError(
            f"{layout.model}'s layout has square pictures; model.video.positions={rows, columns}"
        )
    return layout


def _size(experiment: Experiment) -> int:
    """Rows and columns of the pictures that the learned positions belong to."""
    video = experiment.model.encoders["video"]
    return video.positions[0] * video.patch


def _chosen(run: Run, layout: Layout) -> _Choice:
    """The arrays that have a place in a layout.

    Raises:
      ConfigError: an array that coarse embeddings are made of has no place.
    """
    flat = flatten_dict(jax.device_get(run.state.params), sep="/")
    term, chosen, left_out = _term(run.experiment), {}, set()
    for path, array in flat.items():
        room, part, rest = path.split("/", 2)
        encoder = part.startswith("encoders_")
        coarse = part.startswith(f"heads_{SPACE}_") and rest.startswith("coarse/")
        if room == "objective":
            path = f"objective/published/{rest}" if part == term else ""
        if (encoder or coarse or room == "objective") and _fits(path, array, layout):
            chosen[path] = array
        elif encoder or coarse:
            raise ConfigError(f"{layout.model}'s layout has no place for {path}; {_OTHERWISE}")
        # A local projection that still equals the coarse one is not lost.
        elif "/local/" not in path or not np.array_equal(
            array, flat.get(path.replace("/local/", "/coarse/"), np.nan)
        ):
            left_out.add(f"{room}/{part}/{rest}" if room == "objective" else f"{room}/{part}")
    return _Choice(chosen, sorted(left_out))


def _fits(path: str, array: np.ndarray, layout: Layout) -> bool:
    """Whether an array has a place. An array that is fixed in the layout needs its fixed value."""
    try:
        found = layout.take(path)
    except (KeyError, ValueError):
        return False
    return bool(found.names) or np.array_equal(array, found.form(array, array.shape))


def _term(experiment: Experiment) -> str:
    """The name of the coarse term whose temperature is written; empty if there is none."""
    names = pairs.terms(experiment, "video_text", "coarse", SPACE)
    return "published" if "published" in names else next(iter(names), "")


def _write_tokenizer(
    experiment: Experiment, layout: Layout, folder: pathlib.Path
) -> dict[str, tuple[str, int]]:
    """Writes the files of the tokenizer; returns its special tokens by role, each with its id."""
    model = experiment.tokenizer.model
    (folder / "tokenizer.json").write_bytes(model)
    parts = json.loads(model)["model"]
    if layout.tokenizer == "CLIPTokenizer" and parts["type"] == "BPE":
        _write_json(folder / "vocab.json", parts["vocab"], indent=None)
        pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in parts["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n", "utf-8")
    processor = tokenizers.Tokenizer.from_buffer(model)
    padding = processor.padding
    processor.no_padding()
    ends = processor.encode("").ids
    specials = {"pad_token": (padding["pad_token"], padding["pad_id"])}
    if ends:
        specials["eos_token"] = (processor.id_to_token(ends[-1]), ends[-1])
    if ends[1:]:
        specials["bos_token"] = (processor.id_to_token(ends[0]), ends[0])
    unknown = parts.get("unk_token")
    options = {
        "tokenizer_class": layout.tokenizer,
        "model_max_length": experiment.model.encoders["text"].length,
        **{name: token for name, (token, _) in specials.items()},
        **({"unk_token": unknown} if unknown else {}),
    }
    _write_json(folder / "tokenizer_config.json", options)
    return specials


def _write_json(path: pathlib.Path, options: Mapping[str, Any], indent: int | None = 2) -> None:
    path.write_text(json.dumps(options, indent=indent, ensure_ascii=False) + "\n", "utf-8")
