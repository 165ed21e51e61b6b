"""Folders of stored features, made up."""

import pathlib

import numpy as np

from fgmm.data.corpora.stored_features import Listing, serialised, write_shard
from fgmm.data.schema import Caption, Clip

CAPTIONS = ("A dog runs over the grass.", "A brown animal on a green field.")


def feature_map(index: int, shape: tuple[int, ...]) -> np.ndarray:
    """That of the clip of an index."""
    return np.random.default_rng(index).standard_normal(shape).astype(np.float16)


def write_features(
    folder: pathlib.Path,
    clips: int,
    shape: tuple[int, int, int, int] = (1, 3, 3, 8),
    shard_clips: int = 4,
) -> pathlib.Path:
    """Clips named by their index, the captions of each with its number; of the second clip no
    picture could be read.
    """
    folder.mkdir(parents=True)
    listing = Listing(
        shape=shape,
        clips=clips,
        shard_clips=shard_clips,
        origin={"weights": "made up"},
        classes={"number": ("even", "odd")},
        report={"malformed_line": 1},
    )
    listing.write(folder)
    for shard, indices in enumerate(listing.shards):
        write_shard(
            listing.path(folder, shard),
            [
                serialised(
                    Clip(
                        clip_id=f"image{index}.jpg",
                        captions=tuple(
                            Caption(f"{text[:-1]}, number {index}.") for text in CAPTIONS
                        ),
                        labels={"number": index % 2},
                        group=f"group{index}",
                    ),
                    None if index == 1 else feature_map(index, shape),
                    "unreadable_video" if index == 1 else "",
                )
                for index in indices
            ],
        )
    return folder
