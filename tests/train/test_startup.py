import contextlib
import re

import flax
import jax
import jaxlib
import ml_collections
import pytest

import fgmm
from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.train import mesh as meshes
from fgmm.train import sharding, startup
from tests.models.small import small
from tests.shrunken import shrunken


def summary(devices, **changes) -> dict[str, str]:
    """The lines by their names; nothing is computed."""
    config = ml_collections.ConfigDict(configs.plain(shrunken(quickstart.get_config())))
    config.update(batch_size=32, **changes)
    experiment = experiments.build(components.complete(config))
    mesh = meshes.make_mesh(jax.devices()[:devices], fsdp=config.mesh.fsdp)
    state = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        jax.eval_shape(experiment.init, 0),
        sharding.of_state(experiment, mesh),
    )
    lines = startup.summary(experiment, mesh, state).splitlines()
    return dict(re.split(r":? {2,}|: ", line, maxsplit=1) for line in lines if ": " in line)


def test_one_device():
    lines = summary(1)
    assert lines["devices"] == "1 x cpu in 1 process"
    assert lines["mesh"] == "data 1 x fsdp 1"
    assert lines["batch"] == "32 clips, 32 on each device"
    assert lines["negatives"] == "each clip meets 31 clips"
    assert re.fullmatch(r"\d+,\d{3}", lines["parameters"])
    for version in (
        *(f"fgmm {fgmm.__version__}", f"jax {jax.__version__}"),
        *(f"jaxlib {jaxlib.__version__}", f"flax {flax.__version__}", "Python 3."),
    ):
        assert version in lines["versions"]


@pytest.mark.parametrize(
    ("changes", "batch", "negatives"),
    [
        (
            {"grad_cache": 2},
            "32 clips, 4 on each device; embedded in 2 micro-batches",
            "each clip meets 31 clips",
        ),
        (
            {"accumulate": 4},
            "32 clips, 4 on each device; a loss each in 4 micro-batches",
            "each clip meets 7 clips",
        ),
        (
            {"data": {"captions": 3}},
            "32 clips, 4 on each device",
            "each clip meets 31 clips with up to 3 captions each",
        ),
    ],
)
def test_what_a_clip_is_compared_with_on_eight(changes, batch, negatives):
    lines = summary(8, **changes)
    assert (lines["batch"], lines["negatives"]) == (batch, negatives)


def test_parameters_that_are_shared_out():
    lines = summary(8, mesh={"fsdp": 4, "fsdp_minimum": 1})
    assert lines["mesh"] == "data 2 x fsdp 4"
    total, held = (
        int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", lines["parameters"])
    )
    assert lines["parameters"] == f"{total:,}, {held:,} on each device"
    # All that four devices can share evenly, which is nearly all.
    assert total / 4 <= held < total / 3


def text_lines(**sizes) -> list[str]:
    config = shrunken(quickstart.get_config())
    config.data.update(sizes)
    experiment = experiments.build(config)
    return startup.text_lines(experiment.assembler(experiment.training_source()), clips=16)


def test_phrases_that_do_not_fit_are_said():
    spelling, phrases = text_lines(phrases=2, tokens=48)
    assert re.fullmatch(
        r"spelling: {3}\d+\.\d% of [\d,]+ pieces of captions of 16 clips .*", spelling
    )
    found = re.fullmatch(
        r"phrases: {4}(\d+\.\d)% of those of 16 clips have no room in "
        r"data\.phrases=2 and data\.tokens=48",
        phrases,
    )
    assert 40 < float(found[1]) < 90
    assert "data.tokens=3" in text_lines(phrases=64, tokens=3)[1]


def test_nothing_is_said_where_all_phrases_fit():
    assert len(text_lines(phrases=64, tokens=512)) == 1


def test_captions_that_lack_the_token_at_which_clip_reads_them():
    config = shrunken(quickstart.get_config())
    for end, message in ((9, None), (639, r"model\.text\.end_token=639 is in no caption of data")):
        config.model.text = small("text", "clip", end_token=end)
        experiment = experiments.build(components.complete(config))
        with pytest.raises(ConfigError, match=message) if message else contextlib.nullcontext():
            startup.check_end_token(experiment)
