import dataclasses
import functools
import json
from typing import ClassVar

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.data.schema import Clip
from fgmm.eval import corpus_embeddings, passes
from fgmm.eval.corpus_embeddings import Network
from fgmm.experiment import build as experiments
from fgmm.train import mesh as meshes
from tests.shrunken import shrunken

SOURCE = {"name": "narrated_shapes", "split": "train", "clips": 11, "size": 32, "frames": 4}
_ALONE = {
    "video": {"samples": 0, "tokens": 0},
    "audio": {"frames": 0, "tokens": 0},
    "text": {"frames": 0, "samples": 0},
}


@functools.cache
def built(pair):
    """A small experiment with two modalities, and its state."""
    config = shrunken(quickstart.get_config(), pair=pair)
    experiment = experiments.build(components.complete(config))
    return experiment, jax.jit(experiment.init)(0)


@pytest.fixture
def experiment():
    return built("video_text")[0]


@pytest.fixture
def state():
    return built("video_text")[1]


def assembler_of(experiment, modality, source=SOURCE):
    opened = experiment.source(source, "source") if isinstance(source, dict) else source
    return experiment.assembler(opened, **_ALONE[modality])


def on(state, devices):
    """A state on the first devices."""
    if devices == 1:
        return state
    return jax.device_put(state, meshes.everywhere(meshes.make_mesh(jax.devices()[:devices])))


@pytest.mark.parametrize(
    "modality",
    [
        "video",
        pytest.param("text", marks=pytest.mark.long),
        pytest.param("audio", marks=pytest.mark.long),
    ],
)
def test_embeddings_are_the_same_whatever_the_batch_and_the_devices(modality):
    """So that metrics, functions of them alone, are."""
    experiment, state = built("audio_text" if modality == "audio" else "video_text")
    assembler = assembler_of(experiment, modality)
    found = {}
    for batch_size, devices in ((1, 1), (3, 1), (8, 1), (1, 8), (3, 8), (8, 8)):
        placed = on(state, devices)
        network = corpus_embeddings.trained(experiment, placed, local=True)
        (embedded,) = corpus_embeddings.of_corpus(
            experiment, placed, assembler, network, batch_size=batch_size
        )
        found[batch_size, devices] = embedded.arrays
    first = found[1, 1]
    assert first["joint/local"].shape[0] == 11
    assert np.ptp(first["joint/coarse"], axis=0).max() > 0.01
    if modality != "text":
        bank = embedded.bank("joint", [str(i) for i in range(11)])
        # Nothing is nearer to a clip than itself.
        nearest = bank.search(embedded.embeddings("joint"), 1)
        np.testing.assert_allclose(nearest.scores, 1, atol=1e-5)
    for arrays in found.values():
        assert arrays.keys() == first.keys()
        for name, values in arrays.items():
            np.testing.assert_allclose(values, first[name], atol=1e-6, err_msg=name)


def test_every_device_has_clips_of_its_own(experiment, state):
    assembler, seen = assembler_of(experiment, "text"), []

    def compute(state, batch):
        seen.append(batch["tokens"].sharding)
        return batch["tokens"]

    found = list(passes.batches(assembler, 3, on(state, 8), compute))
    assert [count for *_, count in found] == [8, 3]
    assert isinstance(seen[0], NamedSharding)
    assert len(seen[0].device_set) == 8
    assert not seen[0].is_fully_replicated
    records = np.concatenate([batch["record"][:count] for batch, _, count in found])
    assert records.tolist() == list(range(11))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures that tell their number, and how often each was read."""

    clips: int = 9
    version: int = 0
    broken: bool = False

    read: ClassVar[list[int]] = []
    report: ClassVar[dict[str, int]] = {}

    def __len__(self):
        return self.clips

    def __getitem__(self, index):
        def frames():
            self.read.append(int(index))
            return np.full((2, 16, 16, 3), index, np.uint8)

        return Clip(clip_id=f"{self.version}/{index}", video=frames)


def brightness(identity="a", fail_after=99, local=False):
    """A network that gives the brightness of pictures, and is killed at a batch."""
    batches = []

    def compute(state, batch):
        del state
        if len(batches) == fail_after:
            raise KeyboardInterrupt
        batches.append(len(batch["video"]))
        return {"joint/coarse": np.asarray(batch["video"], np.float32).mean(axis=(1, 2, 3, 4))}

    return Network(lambda: {"step": 7, "parameters": identity}, compute, local)


@pytest.fixture
def keeping(experiment, tmp_path):
    """Embeds pictures with a folder for that; returns embeddings and the numbers that were read."""
    folder = tmp_path / "embeddings"
    owner = dataclasses.replace(experiment, embeddings_folder=folder)

    def embed(*networks, source=Pictures(), **changes):
        Pictures.read.clear()
        assembler = dataclasses.replace(assembler_of(owner, "video", source), **changes)
        found = corpus_embeddings.of_corpus(owner, None, assembler, *networks, batch_size=2)
        values = [np.array(of_network.arrays["joint/coarse"]) for of_network in found]
        return values, list(Pictures.read)

    embed.folder = folder
    return embed


def test_a_corpus_is_read_once_for_a_checkpoint(keeping):
    (first,), read = keeping(brightness())
    assert read == list(range(9))
    assert first.tolist() == list(range(9))
    (again,), read = keeping(brightness(fail_after=0))
    assert read == []
    assert again.tolist() == first.tolist()
    (folder,) = keeping.folder.iterdir()
    assert folder.name.startswith("video-7-")
    key = json.loads((folder / "key.json").read_text())
    assert key["options"] == {"clips": 9, "version": 0, "broken": False}


@pytest.mark.parametrize(
    "change",
    [
        {"network": brightness("b")},
        {"source": Pictures(version=1)},
        {"source": Pictures(clips=8)},
        {"source": Pictures(broken=True)},
        {"time_limit": 3.0},
    ],
)
def test_what_the_outputs_depend_on_is_in_the_key(keeping, change):
    keeping(brightness())
    network = change.pop("network", None) or brightness()
    _, read = keeping(network, **change)
    assert len(read) == change.get("source", Pictures()).clips


def test_the_code_of_a_source_within_others_is_in_the_key(experiment, monkeypatch):
    monkeypatch.setattr(corpus_embeddings.provenance, "code_digest", lambda *paths: paths)
    inner = {"name": "tests.eval.labelled_fixture", "recordings": 4}
    wrong = {"name": "wrong_captions", "share": 0.5, "source": inner}
    assembler = assembler_of(experiment, "video", {"name": "mixture", "sources": {"a": wrong}})
    key = corpus_embeddings._key(experiment, assembler, brightness())
    names = {path.name for path in key["code"]}
    assert {"labelled_fixture.py", "wrong_captions.py", "mixture.py"} <= names


def test_after_a_kill_it_goes_on(keeping, monkeypatch):
    monkeypatch.setattr(corpus_embeddings, "_NOTE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        keeping(brightness(fail_after=3))
    noted = json.loads(next(keeping.folder.glob("*/progress.json")).read_text())
    # The third batch was being computed while the second was written.
    assert noted["done"] == 4
    (found,), read = keeping(brightness())
    assert read == list(range(4, 9))
    assert found.tolist() == list(range(9))


def test_two_networks_share_a_pass(keeping):
    keeping(brightness("a"))
    values, read = keeping(brightness("a", fail_after=0), brightness("b"), brightness("c"))
    assert sorted(read) == list(range(9))
    assert [of_network.tolist() for of_network in values] == [list(range(9))] * 3


def test_outputs_with_local_embeddings_serve_who_needs_none(keeping):
    keeping(brightness(local=True))
    _, read = keeping(brightness(local=False))
    assert read == []
    _, read = keeping(brightness("b"))
    _, read = keeping(brightness("b", local=True))
    assert len(read) == 9


def test_damaged_files_are_computed_anew(keeping, capsys):
    keeping(brightness())
    path = next(keeping.folder.glob("*/joint.coarse.npy"))
    path.write_bytes(path.read_bytes()[:40])
    (found,), read = keeping(brightness())
    assert len(read) == 9
    assert found.tolist() == list(range(9))
    assert "is damaged and computed anew" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(keeping):
    keeping.folder.write_text("a file")
    with pytest.raises(ConfigError, match="--embeddings=none keeps nothing"):
        keeping(brightness())


def test_without_a_folder_nothing_is_written(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assembler = assembler_of(experiment, "video", Pictures())
    for _ in range(2):
        Pictures.read.clear()
        corpus_embeddings.of_corpus(experiment, None, assembler, brightness(), batch_size=4)
        assert len(Pictures.read) == 9
    assert not list(tmp_path.iterdir())
