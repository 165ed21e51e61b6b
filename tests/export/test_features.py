"""Features computed by a run's encoder and stored, whatever interrupts it."""

import collections
import dataclasses

import jax
import numpy as np
import pytest

from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.convert.converted import Conversion, write
from fgmm.data.pipeline import Draw
from fgmm.data.preparation.disk import OutputFailed, sole_writer
from fgmm.data.schema import REASONS
from fgmm.data.sources.features import Source
from fgmm.experiment import build as experiments
from fgmm.export import features
from fgmm.train import checkpoint
from tests import programs
from tests.data.flickr8k_fixture import write_flickr8k

IMAGES = 10


def write_run(folder, width=8, **data):
    """A run of no steps whose video encoder is small."""
    config = configs.defaults()
    config.data.update(frames=1, height=16, width=16, **data)
    config.model.video = {
        "name": "resnet2plus1d",
        "widths": (width,),
        "temporal_strides": (1,),
    }
    config.model.spaces.joint.update(modalities=("video",), width=4)
    experiment = experiments.build(components.complete(config))
    write(Conversion(experiment, jax.jit(experiment.init)(0)), folder, {})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("features") / "run")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Of the ten images of the train split one is missing and one is damaged."""
    root = write_flickr8k(tmp_path_factory.mktemp("features") / "corpus", 3 * IMAGES, 0)
    names = (root / "Flickr_8k.trainImages.txt").read_text().split()[:IMAGES]
    (root / "Flickr_8k.trainImages.txt").write_text("\n".join(names) + "\n")
    (root / "Flicker8k_Dataset" / names[3]).unlink()
    (root / "Flicker8k_Dataset" / names[6]).write_bytes(b"no image")
    return root


def open_extraction(run, corpus, output, **options):
    options = {"batch_size": 2, "shard_clips": 4, **options}
    return features.open_extraction(
        run, "latest", "flickr8k:split=train", str(corpus), output, **options
    )


@pytest.fixture(scope="module")
def written(run, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("features") / "output"
    extraction = open_extraction(run, corpus, output)
    return extraction, extraction.write()


def test_stored_features_are_what_the_encoder_gives(written, run):
    extraction, problems = written
    assert problems == {"missing_file": 1, "unreadable_video": 1}
    source = Source(root=str(extraction.output))
    corpus = extraction.assembler.source
    assert len(source) == len(corpus) == IMAGES
    experiment, state = checkpoint.load(run)
    batch = extraction.assembler.batch([*map(Draw, range(IMAGES))])
    tokens = experiment.encode(state, {k: batch[k] for k in ("video", "video_mask")})["video"]
    expected = np.asarray(tokens.local).reshape(IMAGES, *tokens.grid, -1)
    assert source.feature_shape == expected.shape[1:] == extraction.listing.shape
    for index in range(IMAGES):
        clip = source[index]
        assert (clip.clip_id, clip.captions) == (corpus[index].clip_id, corpus[index].captions)
        if index not in (3, 6):
            # Convolutions of other batch sizes may differ in the last bit.
            np.testing.assert_allclose(clip.video.values, expected[index], rtol=2e-3, atol=1e-5)
    assert source[3].video.reason == "missing_file"
    assert source[6].video.reason == "unreadable_video"


def test_of_several_reasons_the_first_is_stored(run, corpus, tmp_path, monkeypatch):
    reasons = collections.Counter(reversed(REASONS))
    monkeypatch.setattr(features.pipeline, "count_problems", lambda _: collections.Counter(reasons))
    extraction = open_extraction(run, corpus, tmp_path / "output")
    zeros = np.zeros((2, *extraction.listing.shape), np.float16)
    dataclasses.replace(extraction, encode=lambda batch: zeros).write()
    assert Source(root=str(extraction.output))[3].video.reason == REASONS[-1]


def test_what_is_finished_stays(written, run, corpus, tmp_path):
    stopped = open_extraction(run, corpus, tmp_path / "again")
    seen = []

    def encode(batch):
        seen.append(len(batch["video"]))
        if len(seen) > 3:
            raise KeyboardInterrupt
        return stopped.encode(batch)

    with pytest.raises(KeyboardInterrupt):
        dataclasses.replace(stopped, encode=encode).write()
    whole = stopped.listing.path(stopped.output, 0)
    time = whole.stat().st_mtime_ns
    assert not stopped.listing.path(stopped.output, 1).exists()
    with pytest.raises(ConfigError, match=r"00001-of-00003.array_record is missing or damaged"):
        Source(root=str(stopped.output))
    # What a kill leaves behind.
    (stopped.output / "unfinished" / "left").write_bytes(b"half")
    open_extraction(run, corpus, tmp_path / "again").write()
    assert whole.stat().st_mtime_ns == time
    assert not [*(stopped.output / "unfinished").iterdir()]
    extraction, _ = written
    for shard in range(3):
        one, other = (
            found.listing.path(found.output, shard).read_bytes() for found in (extraction, stopped)
        )
        assert one == other


def test_other_features_are_not_mixed_in(written, run, corpus, tmp_path):
    extraction, _ = written
    other = write_run(tmp_path / "other", width=16)
    with pytest.raises(ConfigError, match=r"holds features of another shape"):
        open_extraction(other, corpus, extraction.output).write()
    with pytest.raises(ConfigError, match=r"holds features of another shard_clips"):
        open_extraction(run, corpus, extraction.output, shard_clips=5).write()
    listing = dataclasses.replace(
        extraction.listing, origin={**extraction.listing.origin, "weights": "others"}
    )
    with pytest.raises(ConfigError, match=r"holds features of another origin"):
        dataclasses.replace(extraction, listing=listing).write()


def test_two_programs_do_not_write_one_folder(run, corpus, tmp_path):
    extraction = open_extraction(run, corpus, tmp_path)
    with sole_writer(tmp_path, ("unfinished",)), pytest.raises(ConfigError, match="another prog"):
        extraction.write()


def test_features_that_float16_cannot_hold_are_named(run, corpus, tmp_path):
    extraction = open_extraction(run, corpus, tmp_path)
    for factor in (1e6, np.nan):
        large = dataclasses.replace(
            extraction, encode=lambda batch, factor=factor: factor * extraction.encode(batch)
        )
        with pytest.raises(ConfigError, match=r"features of .*jpg reach .*float16 ends at 65504"):
            large.write()


def test_a_shard_that_cannot_be_written_is_named(run, corpus, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fgmm.data.corpora.stored_features.to_disk", full)
    with pytest.raises(OutputFailed, match=r"00000-of-00003.*cannot be written: No space left"):
        open_extraction(run, corpus, tmp_path).write()


def test_the_program(run, corpus, tmp_path, repository):
    def program(*given):
        return programs.run(
            "fgmm.data.features", f"--weights={run}", *given, cwd=repository, timeout=240
        )

    output = f"--output={tmp_path / 'out'}"
    source = "--source=flickr8k:split=train"
    done = program(source, f"--input={corpus}", output)
    assert done.returncode == 0, done.stderr
    assert "bad input, missing_file: 1 clips" in done.stdout
    assert "out: 10 clips, T x H x W x E = 1 x " in done.stdout
    wrong = program("--source=gone", output)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --source='gone' is unknown")
    assert len(wrong.stderr.splitlines()) == 1
