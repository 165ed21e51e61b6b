"""Computes features of a corpus with a run's video encoder: ``python -m fgmm.data.features``."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tqdm
from absl import flags
from jaxtyping import Float

from fgmm import command_line
from fgmm.config import ConfigError, as_dict
from fgmm.data import pipeline
from fgmm.data.corpora.stored_features import (
    LISTING,
    Listing,
    record_count,
    serialised,
    write_shard,
)
from fgmm.data.fingerprint import of_source, without_times
from fgmm.data.preparation import raw as raws
from fgmm.data.preparation.disk import OutputFailed, sole_writer
from fgmm.data.schema import Clip
from fgmm.train import checkpoint

# Clips of a shard; with 7 x 7 cells and 1,280 channels they take 32 MB.
_SHARD_CLIPS = 256
# The number of batches that are read while one is computed.
_AHEAD = 2

# Maps a batch of ``video`` [B,T,H,W,3] and ``video_mask`` [B] to feature maps.
Encode = Callable[[Mapping[str, np.ndarray]], Float[np.ndarray, "B t h w E"]]


@dataclasses.dataclass(frozen=True)
class Extraction:
    """A corpus, the function that computes its features, and their folder.

    Attributes:
      assembler: reads only the pictures of the clips.
      encode: computes their feature maps.
      listing: what the folder says of itself: shards, shape and origin of the features.
      output: the folder.
      batch_size: clips computed at a time.
    """

    assembler: pipeline.Assembler
    encode: Encode
    listing: Listing
    output: pathlib.Path
    batch_size: int

    def write(self) -> collections.Counter[str]:
        """Writes the missing shards.

        Returns:
          Problems of the clips in these shards, by reason.

        Raises:
          ConfigError: the folder holds other features, or another program writes there; features
            are too large for float16 or not finite.
          OutputFailed: writing failed; finished shards stay.
        """
        with sole_writer(self.output, ("unfinished",)):
            self._claim()
            shards = dict(enumerate(self.listing.shards))
            missing = {
                shard: clips
                for shard, clips in shards.items()
                if record_count(self.listing.path(self.output, shard)) != len(clips)
            }
            done = self.listing.clips - sum(map(len, missing.values()))
            problems: collections.Counter[str] = collections.Counter()
            shown = {"total": self.listing.clips, "initial": done, "unit": " clips"}
            with tqdm.tqdm(**shown, disable=None) as progress:
                for shard, clips in missing.items():
                    path = self.listing.path(self.output, shard)
                    write_shard(path, self._records(clips, problems, progress))
            return problems

    def _claim(self) -> None:
        """Writes the listing, or checks that the folder's listing is the same."""
        if not (self.output / LISTING).exists():
            self.listing.write(self.output)
        there = dataclasses.asdict(Listing.read(self.output))
        for name, value in json.loads(json.dumps(dataclasses.asdict(self.listing))).items():
            if json.loads(json.dumps(there[name])) != value:
                raise ConfigError(
                    f"--output={self.output} holds features of another {name} "
                    f"({there[name]}, and now {value}); give another folder"
                )

    def _records(
        self, clips: range, problems: collections.Counter[str], progress: tqdm.tqdm
    ) -> Iterator[bytes]:
        """The records of a shard; batches are read ahead."""
        starts = collections.deque(range(clips.start, clips.stop, self.batch_size))
        with concurrent.futures.ThreadPoolExecutor(_AHEAD) as pool:
            waiting: collections.deque[concurrent.futures.Future] = collections.deque()
            while starts or waiting:
                while starts and len(waiting) < _AHEAD:
                    start = starts.popleft()
                    chosen = range(start, min(start + self.batch_size, clips.stop))
                    waiting.append(pool.submit(self._read, chosen))
                found, batch = waiting.popleft().result()
                maps = self.encode({name: batch[name] for name in ("video", "video_mask")})
                for row, clip in enumerate(found):
                    reasons = pipeline.count_problems(batch["problems"][row : row + 1])
                    problems += reasons
                    if batch["video_mask"][row]:
                        yield serialised(clip, _halved(maps[row], clip), "")
                    else:
                        # A reason that came up in reading, before one that the source had noted.
                        new = [reason for reason in reasons if reason not in clip.problems]
                        why = [*new, *reasons][0]
                        yield serialised(clip, None, why)
                progress.update(len(found))

    def _read(self, chosen: range) -> tuple[list[Clip], pipeline.Batch]:
        drawn = [pipeline.Draw(record) for record in chosen]
        batch = self.assembler.batch(drawn, self.batch_size)
        return [self.assembler.source[record] for record in chosen], batch


def _halved(values: Float[np.ndarray, "t h w E"], clip: Clip) -> np.ndarray:
    halved = values.astype(np.float16)
    if not np.isfinite(halved).all():
        raise ConfigError(
            f"features of {clip.clip_id} reach {np.abs(values).max():g}, and float16 ends at "
            "65504; take an encoder whose features are normalised"
        )
    return halved


def open_extraction(
    weights: pathlib.Path,
    step: str,
    source: str,
    root: str,
    output: pathlib.Path,
    *,
    batch_size: int = 32,
    shard_clips: int = _SHARD_CLIPS,
) -> Extraction:
    """Opens a run and a corpus; writes nothing.

    Args:
      weights: the folder of the run.
      step: which checkpoint: latest, best or a number.
      source: ``NAME`` or ``NAME:option=value,option=value``.
      root: the folder or archive of the corpus; empty for a source that has none.
      output: the folder to be written.
      batch_size: clips computed at a time.
      shard_clips: of every shard.

    Raises:
      ConfigError: the run has no encoder of pixels, the corpus has no clip, or one of both cannot
        be opened.
    """
    experiment, state = checkpoint.load(weights, step)
    if "video" not in experiment.model.encoders or experiment.shape.features:
        raise ConfigError(f"--weights={weights}: the run has no video encoder that takes pixels")
    chosen = raws.choose(source, raw=False)
    entry = {"name": chosen.name, **chosen.options} | ({"root": root} if root else {})
    corpus = experiment.source(entry, "--source")
    if not len(corpus):
        raise ConfigError(f"--source={source} has no clip")
    assembler = experiment.assembler(corpus, samples=0, tokens=0)

    def feature_maps(batch: Mapping[str, jax.Array | np.ndarray]) -> jax.Array:
        tokens = experiment.encode(state, batch)["video"]
        return tokens.local.reshape(len(tokens.local), *tokens.grid, -1)

    def encode(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        return jax.device_get(feature_maps(batch))

    blank = assembler.shape.zeros(batch_size)
    given = {name: blank[name] for name in ("video", "video_mask")}
    shape = jax.eval_shape(feature_maps, given).shape[1:]
    config = experiment.config
    listing = Listing(
        shape=shape,
        clips=len(corpus),
        shard_clips=shard_clips,
        origin={
            "step": int(state.step),
            "encoder": as_dict(config.model.video),
            "weights": _digest(state.params["model"], state.statistics),
            "pixels": {
                **{
                    key: config.data[key]
                    for key in ("frames", "height", "width", "resize", "resize_filter")
                },
                # Left out if it is 1, so that listings without this key stay equal.
                **({"resize_ratio": ratio} if (ratio := config.data.resize_ratio) != 1 else {}),
                **{key: config.transforms[key] for key in ("pixel_mean", "pixel_spread")},
            },
            "source": {"name": chosen.name, **chosen.options},
            "corpus": without_times(of_source(corpus)),
        },
        classes=getattr(corpus, "classes", {}),
        report=dict(corpus.report),
    )
    return Extraction(assembler, encode, listing, output, batch_size)


def _digest(params: Mapping[str, Any], statistics: Mapping[str, Any]) -> str:
    """The first 16 hex digits of a SHA-256 of the video encoder's arrays and their paths."""
    found = hashlib.sha256()
    for tree in (params, *(statistics[name] for name in sorted(statistics))):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree.get("encoders_video", {})):
            found.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def main(argv: list[str]) -> None:
    """Runs the program."""
    del argv
    given = flags.FLAGS
    output = pathlib.Path(command_line.required("output"))
    command_line.use_compilation_cache()
    extraction = open_extraction(
        pathlib.Path(command_line.required("weights")),
        given.step,
        command_line.required("source"),
        given.input,
        output,
        batch_size=given.batch_size,
    )
    try:
        problems = extraction.write()
    except OutputFailed as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    for reason, count in sorted(problems.items()):
        print(f"bad input, {reason}: {count} clips")
    shape = " x ".join(map(str, extraction.listing.shape))
    print(f"{output}: {extraction.listing.clips} clips, T x H x W x E = {shape}")


def run() -> None:
    """Defines the flags and runs the program."""
    flags.DEFINE_string("weights", None, "The folder of the run, trained or converted.")
    flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best or a step.")
    flags.DEFINE_string(
        "source", None, "The corpus: a file's name in fgmm/data/sources; NAME:option=value,..."
    )
    flags.DEFINE_string("input", "", "The folder or archive of the corpus, if it has one.")
    flags.DEFINE_string("output", None, "The folder to be written.")
    flags.DEFINE_integer("batch_size", 32, "Clips computed at a time.", lower_bound=1)
    command_line.run(main)
