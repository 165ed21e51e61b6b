"""Reads a folder or a file of published weights, and finds out its layout."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from fgmm.config import ConfigError
from fgmm.convert import weights

HUGGING_FACE, OPEN_CLIP, STATE_DICT = "Hugging Face", "open_clip", "state dict"
# In the order in which they are looked for.
_WEIGHTS = {
    HUGGING_FACE: ("model.safetensors", "pytorch_model.bin"),
    OPEN_CLIP: ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
_CONFIGS = {HUGGING_FACE: "config.json", OPEN_CLIP: "open_clip_config.json"}


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedModel:
    """A published model.

    Attributes:
      layout: ``"Hugging Face"``, ``"open_clip"`` or ``"state dict"``, one without a config.
      config: the contents of the layout's config file; empty without one.
      arrays: by name, as published.
      folder: where the files are.
      files: the files that were read.
    """

    layout: str
    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    folder: pathlib.Path
    files: tuple[pathlib.Path, ...]

    def is_of_type(self, *model_types: str) -> bool:
        """Whether it is in Hugging Face's layout and its config names one of these types."""
        return self.layout == HUGGING_FACE and self.config.get("model_type") in model_types

    def beside(self, name: str) -> dict[str, Any]:
        """The contents of a JSON file in the folder; empty if the file is missing.

        Raises:
          ConfigError: it is damaged.
        """
        return read_json(self.folder / name) if (self.folder / name).exists() else {}


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The contents of a JSON file of options.

    Raises:
      ConfigError: it cannot be read, or is no JSON object.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds {type(found).__name__}, not a JSON object")
    return found


def read(path: pathlib.Path) -> PublishedModel:
    """Opens published weights.

    Args:
      path: a folder in Hugging Face's layout (``config.json`` and ``model.safetensors``, sharded or
        not, or ``pytorch_model.bin``) or in open_clip's (``open_clip_config.json`` and its
        weights); or a file of weights, with or without the config of either beside it.

    Raises:
      ConfigError: it is none of these, or a file is missing or damaged.
    """
    if not path.exists():
        raise ConfigError(f"--from={path} is not there")
    if path.is_file():
        for layout in (OPEN_CLIP, HUGGING_FACE):
            if (config := path.parent / _CONFIGS[layout]).exists():
                return _opened(layout, config, [path])
        return PublishedModel(STATE_DICT, {}, weights.read_all([path]), path.parent, (path,))
    for layout, name in _CONFIGS.items():
        if (path / name).exists() and (files := _weight_files(path, _WEIGHTS[layout])):
            return _opened(layout, path / name, files)
    wanted = "; or ".join(
        f"{name} and {' or '.join(_WEIGHTS[layout])}" for layout, name in _CONFIGS.items()
    )
    raise ConfigError(f"--from={path} holds no published model: it needs {wanted}")


def _opened(layout: str, config: pathlib.Path, files: list[pathlib.Path]) -> PublishedModel:
    options = read_json(config)
    found = weights.read_all(files)
    return PublishedModel(layout, options, found, config.parent, (config, *files))


def _weight_files(folder: pathlib.Path, names: tuple[str, ...]) -> list[pathlib.Path]:
    for name in names:
        if (folder / name).exists():
            return [folder / name]
        if (index := folder / f"{name}.index.json").exists():
            return weights.shards(index)
    return []
