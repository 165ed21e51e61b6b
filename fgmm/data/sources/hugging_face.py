"""A dataset of Hugging Face's package ``datasets``: a folder that it saved, or a name on the hub.

::

    flickr30k/                   root="flickr30k", as save_to_disk wrote it
        dataset_dict.json        {"splits": ["train", "test"]}, if there are several
        train/state.json         {"_data_files": [{"filename": "data-00000-of-00002.arrow"}, ...]}
        train/dataset_info.json  {"features": {"label": {"names": ["cat", ...]}, ...}}
        train/data-00000-of-00002.arrow

    root="nlphuji/flickr30k"     or what the package loads by this name, if it is installed

Files are read where they lie, memory-mapped. A folder needs no package but pyarrow.
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import allowed, option
from fgmm.data.corpora import files, lists, narrations
from fgmm.data.corpora.arrow_batches import ArrowBatches
from fgmm.data.corpora.pairs import Pair, PairSource, of_file
from fgmm.data.corpora.ranges import Ranges
from fgmm.data.fingerprint import Fingerprint, digest

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
# A split, and rows of it: train, train[:90%], train[1000:2000].
_SPLIT = re.compile(r"([^\[\]]+)(?:\[(\d+%?)?:(\d+%?)?\])?")
# Rows whose captions are in a fingerprint.
_SAMPLED = 64


class Dataset(NamedTuple):
    """A split on disk.

    Attributes:
      files: in order.
      features: what the package notes of each column, by name.
      folder: that paths are relative to.
    """

    files: tuple[ArrowBatches, ...]
    features: Mapping[str, Any]
    folder: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(PairSource):
    """A clip is a row: a picture, a video or a sound, and its captions. Kinds of files are known by
    their first bytes, or the ending of their path.

    Attributes:
      classes: names of the classes of the kind ``label``, if that option is set.
      report: empty. Media that cannot be read are noticed when a clip is read.
    """

    root: str = option(help="The folder that save_to_disk wrote, or a name on the hub.")
    split: str = option("train", help="Or a part of it: train[:90%], train[1000:2000].")
    media: str = option("image", help="The column of pictures, videos or sounds, or of paths.")
    caption: str = option("caption", help="The column of captions, or of lists of them.")
    label: str = option("", help="A column of classes; a class below 0 is no label; empty: none.")
    configuration: str = option("", help="Of a dataset loaded by name that has several.")
    folder: str = option("", help="That paths are relative to; empty: the folder of the data.")

    @classmethod
    def is_there(cls, root: str) -> bool:
        """Whether there is such a folder, or ``root`` may be a name on the hub."""
        return os.path.exists(root) or bool(_NAME.fullmatch(root))

    @classmethod
    def splits(cls, root: str) -> tuple[str, ...]:
        """All splits that the dataset has."""
        if os.path.isdir(root):
            return _saved_splits(pathlib.Path(root)) or ("train",)
        try:
            return tuple(_package(root).get_dataset_split_names(root))
        except ConfigError:
            raise
        except Exception as error:  # it raises nearly anything: no network, several configurations
            raise ConfigError(
                f"root={root!r}: the package datasets cannot list its splits ({_one_line(error)}); "
                "name them with --splits"
            ) from error

    def listed(self) -> Dataset:
        """Finds the batches of the split's files."""
        found = _SPLIT.fullmatch(self.split)
        if not found:
            raise ConfigError(
                f"split={self.split!r} must be a name, or a part such as train[:90%] or train[5:10]"
            )
        if os.path.exists(self.root):
            if self.configuration:
                raise ConfigError(
                    f"configuration={self.configuration!r} is of datasets loaded by name, and "
                    f"root={self.root!r} is a folder; leave it out"
                )
            return _saved(pathlib.Path(self.root), found[1])
        return _loaded(self.root, self.configuration, found[1])

    def open(self) -> None:
        """Checks the columns."""
        columns = lists.Columns(self.media, self.caption)
        for file in self._listed.files:
            lists.check_columns(f"root={self.root!r}", columns, file.schema)
            if self.label and not self.classes["label"]:
                raise ConfigError(
                    f"label={self.label!r} is no column of class labels of {self.root!r}; "
                    + allowed(self.label, _labels(self._listed.features))
                )
        if not len(self):
            raise ConfigError(f"root={self.root!r} has no row in split={self.split!r}")

    @property
    def report(self) -> collections.Counter[str]:
        return collections.Counter()

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        names = _labels(self._listed.features).get(self.label, ())
        return {"label": tuple(names)} if self.label else {}

    @functools.cached_property
    def _rows(self) -> Ranges:
        """The rows of each file."""
        return Ranges(len(file.rows) for file in self._listed.files)

    @functools.cached_property
    def _numbers(self) -> range:
        """The rows of the split, or of the part of it that is asked for."""
        rows = len(self._rows)
        first, past = (_bound(text, rows) for text in _SPLIT.fullmatch(self.split).groups()[1:])
        return range(rows)[first:past]

    def __len__(self) -> int:
        return len(self._numbers)

    def name(self, index: int) -> str:
        """The split, and the number of the row in it."""
        return f"{_SPLIT.fullmatch(self.split)[1]}/{self._numbers[index]}"

    def pair(self, index: int) -> Pair:
        """The row of a number."""
        name = self.name(index)
        columns = filter(None, (self.media, self.caption, self.label))
        row = self._row(self._numbers[index], *columns)
        texts = row[self.caption] if isinstance(row[self.caption], list) else [row[self.caption]]
        problems = files.Report()
        captions = narrations.untimed((text for text in texts if text is not None), problems)
        label = row.get(self.label)
        path, contents = lists.path_and_contents(row[self.media])
        return of_file(
            *(name, path, contents, self.folder or self._listed.folder),
            captions,
            labels={} if label is None or label < 0 else {"label": label},
            problems=problems,
        )

    def fingerprint(self) -> Fingerprint:
        """The number of clips; digests of the files' names and rows, of some captions, and of the
        sizes of the files.
        """
        named = [f"{file.path.name} {len(file.rows)}" for file in self._listed.files]
        sampled = np.unique(np.linspace(0, len(self) - 1, min(len(self), _SAMPLED)).astype(int))
        said = (self._row(self._numbers[int(i)], self.caption)[self.caption] for i in sampled)
        return {
            "clips": len(self),
            "ids": digest([self.split, *named]),
            "texts": digest(map(str, said)),
            "sizes": digest(str(file.path.stat().st_size) for file in self._listed.files),
        }

    def _row(self, number: int, *columns: str) -> dict[str, Any]:
        found, place = self._rows.find(number)
        file = self._listed.files[found]
        return file.row(*file.rows.find(place), *columns)


def _bound(text: str | None, rows: int) -> int | None:
    """A bound of a part, as a number of rows; percentages are rounded as the package does it."""
    if text is None:
        return None
    return round(int(text[:-1]) * rows / 100) if text.endswith("%") else int(text)


def _labels(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The names of the classes of columns that have some."""
    return {
        name: tuple(map(str, feature["names"]))
        for name, feature in features.items()
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel"
    }


def _saved_splits(folder: pathlib.Path) -> tuple[str, ...]:
    """The splits of a folder that has several; empty for a folder that is itself a split."""
    listing = folder / "dataset_dict.json"
    if not listing.exists():
        return ()
    found = _read_json(listing).get("splits")
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ConfigError(f'{str(listing)!r} is not of the form {{"splits": [...]}}; save it again')
    return tuple(found)


def _saved(folder: pathlib.Path, split: str) -> Dataset:
    """A split that ``save_to_disk`` wrote."""
    known = _saved_splits(folder)
    if known or split != "train":
        if split not in known:
            only = "; a folder of one split has train alone" if not known else ""
            choices = allowed(split, known or ("train",))
            raise ConfigError(f"split={split!r} is unknown to {str(folder)!r}; {choices}{only}")
        folder = folder / split
    state = folder / "state.json"
    if not state.exists():
        raise ConfigError(
            f"root={str(folder)!r} has no state.json; give a folder that save_to_disk of the "
            "package datasets wrote, or read Parquet files with the source pair_list"
        )
    content, info = _read_json(state), _read_json(folder / "dataset_info.json")
    if content.get("_indices_files"):
        raise ConfigError(
            f"{str(state)!r} has rows in another order than its files; call flatten_indices() "
            "before save_to_disk"
        )
    try:
        names = [str(entry["filename"]) for entry in content["_data_files"]]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{str(state)!r} lists no _data_files; save it again") from error
    files = tuple(_open(folder / name) for name in names)
    return Dataset(files, info.get("features") or {}, str(folder))


def _loaded(name: str, configuration: str, split: str) -> Dataset:
    """A split that the package loads by its name."""
    package = _package(name)
    try:
        loaded = package.load_dataset(name, configuration or None, split=split)
    except Exception as error:  # it raises nearly anything: no network, no such name or split
        raise ConfigError(
            f"root={name!r}, split={split!r}: the package datasets cannot load it "
            f"({_one_line(error)})"
        ) from error
    files = tuple(_open(pathlib.Path(file["filename"])) for file in loaded.cache_files)
    rows = sum(len(file.rows) for file in files)
    if rows != len(loaded):
        raise ConfigError(
            f"root={name!r}: its files have {rows} rows, the split {len(loaded)}; save it with "
            "save_to_disk and give that folder"
        )
    folder = str(files[0].path.parent) if files else ""
    return Dataset(files, loaded.features.to_dict(), folder)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _package(name: str) -> Any:
    """The package ``datasets``."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"root={name!r} does not exist; to load a dataset by its name, install the package "
            "datasets: pip install 'fgmm[datasets]'"
        ) from error
    return datasets


def _open(path: pathlib.Path) -> ArrowBatches:
    try:
        return ArrowBatches(path, check=True)
    except OSError as error:
        raise ConfigError(f"{error}; it is missing, damaged or cut off, save it again") from error


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read ({error}); save it again") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{str(path)!r} holds no object; save it again")
    return found
