"""Runs of earlier versions open in ``fgmm.load``, with the embeddings that they gave then.

Each archive of ``earlier_runs`` is the folder of a run of a shrunken config, with ``expected.npz``:
inputs, and what the version that trained it made of them.
"""

import pathlib
import tarfile

import numpy as np
import pytest

import fgmm

ARCHIVES = sorted((pathlib.Path(__file__).parent / "earlier_runs").glob("*.tar.xz"))
CAPTIONS = ["a red ball rolls", "a man walks a dog"]


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def run(request, tmp_path) -> pathlib.Path:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / request.param.name.partition(".")[0]


def first_space(model, modality: str) -> str:
    return next(name for name, sides in model.spaces.items() if modality in sides)


def test_an_earlier_run_gives_the_embeddings_of_its_time(run):
    model = fgmm.load(run, batch_size=4)
    expected = np.load(run / "expected.npz")
    given = {}
    if "video" in model.modalities:
        clips = model.embed_video(
            expected["video_in"], local=True, space=first_space(model, "video")
        )
        given |= {"video": clips.coarse, "video_local": clips.local}
    if "audio" in model.modalities:
        rate = model.experiment.config.data.sample_rate
        space = first_space(model, "audio")
        given["audio"] = model.embed_audio(expected["audio_in"], rate=rate, space=space)
    if "text" in model.modalities:
        texts = model.embed_text(CAPTIONS, local=True, space=first_space(model, "text"))
        given |= {"text": texts.coarse, "text_local": texts.local}
    assert given.keys() == {name for name in expected if not name.endswith("_in")}
    for name, array in given.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5, err_msg=name)
