"""Parameters and FLOPs, by hand, against published ones, and in the table of docs/encoders.md."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm import components
from fgmm.models import counts
from fgmm.models.multimodal import MultiModal
from tests.models.small import abstract, build


def shapes(*sizes):
    return [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]


@pytest.mark.parametrize(
    ("function", "sizes", "expected"),
    [
        (jnp.matmul, [(4, 5), (5, 6)], 2 * 4 * 5 * 6),
        (
            functools.partial(jnp.einsum, "bnd,cpd->bcnp"),
            [(2, 3, 5), (7, 4, 5)],
            2 * 2 * 7 * 12 * 5,
        ),
        (functools.partial(jnp.einsum, "bqd,bkd->bqk"), [(2, 3, 5), (2, 4, 5)], 2 * 2 * 12 * 5),
        # Normalisation, activations and sums are left out.
        (lambda x: jnp.sum(jnp.tanh(x) ** 2), [(100,)], 0),
        (lambda x: jax.nn.relu(x @ x), [(3, 3)], 54),
        (jax.checkpoint(lambda x: x @ x), [(3, 3)], 54),
        (jax.vmap(lambda x: x @ x), [(7, 3, 3)], 7 * 54),
        (lambda x: jax.lax.scan(lambda y, _: (y @ x, None), x, length=5)[0], [(3, 3)], 5 * 54),
        (lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y @ y, lambda y: y, x), [(3, 3)], 54),
        # Another form for one platform changes nothing.
        (
            lambda x: jax.lax.platform_dependent(x, cpu=lambda x: x @ x, default=jnp.tanh),
            [(3, 3)],
            0,
        ),
        # The product itself and its two in the backward pass.
        (jax.grad(lambda x, y: jnp.sum(x @ y), (0, 1)), [(4, 5), (5, 6)], 3 * 2 * 4 * 5 * 6),
    ],
)
def test_products_by_hand(function, sizes, expected):
    assert counts.flops(function, *shapes(*sizes)) == expected


@pytest.mark.parametrize(
    ("stride", "groups", "expected"),
    [
        # Padding counts: 8 x 6 results of 3 x 3 x 4 products for each of 10 channels, in 2 clips.
        (1, 1, 2 * 2 * 8 * 6 * 10 * 9 * 4),
        (2, 1, 2 * 2 * 4 * 3 * 10 * 9 * 4),
        (1, 2, 2 * 2 * 8 * 6 * 10 * 9 * 2),
    ],
)
def test_convolutions_by_hand(stride, groups, expected):
    def convolution(x, kernel):
        return jax.lax.conv_general_dilated(
            *(x, kernel, (stride, stride), "SAME"),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    given = shapes((2, 8, 6, 4), (3, 3, 4 // groups, 10))
    assert counts.flops(convolution, *given) == expected


def test_a_loop_of_unknown_length_is_not_guessed_at():
    def loop(x):
        return jax.lax.while_loop(lambda y: y[0, 0] < 100, lambda y: y @ y, x)

    with pytest.raises(ValueError, match="unknown length"):
        counts.flops(loop, *shapes((3, 3)))


def encoder_flops(room, name, shape, **options):
    encoder = components.build(f"models.{room}", {"name": name, **options}, key="model")
    mask = jax.ShapeDtypeStruct(shape[:1], bool)
    init = functools.partial(encoder.init, train=False)
    return counts.flops(init, jax.eval_shape(lambda: jax.random.key(0)), *shapes(shape), mask)


# torchvision's stem for S3D is 1x7x7, then 7x1x1 of stride 2; ours is 3x7x7 at once.
STEM_OF_S3D = 64 * 112**2 * (16 * 3 * 7**2 + 8 * 7 * 64 - 8 * 3 * 3 * 7**2)
# Of an image's three channels, which a spectrogram has one of.
TWO_COLOURS = 64 * 112**2 * 2 * 7**2


@pytest.mark.parametrize(
    ("room", "name", "options", "shape", "elsewhere", "published"),
    [
        # torchvision's "_ops", in multiply-adds, the classifier included: 10^9 with three decimals.
        ("video", "r2plus1d18", {}, (1, 16, 112, 112, 3), 512 * 400, 40.519),
        (
            "video",
            "s3d",
            {"stem": "7x7", "gated": False},
            (1, 16, 224, 224, 3),
            STEM_OF_S3D + 1024 * 400,
            17.979,
        ),
        ("audio", "resnet18", {"version": 1}, (1, 224, 224), TWO_COLOURS + 512 * 1000, 1.814),
        ("audio", "resnet50", {"version": 1}, (1, 224, 224), TWO_COLOURS + 2048 * 1000, 4.089),
        # The same network on each of eight frames.
        (
            "video",
            "tsm_resnet50",
            {"version": 1},
            (1, 8, 224, 224, 3),
            8 * 2048 * 1000,
            8 * 4.08914,
        ),
    ],
)
def test_flops_are_those_published(room, name, options, shape, elsewhere, published):
    multiply_adds = encoder_flops(room, name, shape, **options) / 2 + elsewhere
    assert multiply_adds / 1e9 == pytest.approx(published, abs=6e-4)


def small_model(**options):
    space = {"modalities": ("video", "audio", "text"), "width": 8, "through": "", "pool": "mean"}
    space |= {"hidden": dict.fromkeys(space["modalities"], 0), "bias": False, "unit_length": True}
    space |= {"gate": "none", "dtype": "float32"}
    encoders = {
        "video": build("video", "s3d", **options),
        "audio": build("audio", "resnet"),
        "text": build("text", "phrase_bag"),
    }
    return MultiModal(encoders=encoders, spaces={"joint": space}, phrases=3)


def inputs(clips):
    arrays = {
        "video": ((clips, 4, 32, 32, 3), jnp.float32),
        "video_mask": ((clips,), bool),
        "log_mel": ((clips, 40, 16), jnp.float32),
        "audio_mask": ((clips,), bool),
        "tokens": ((clips, 2, 6), jnp.int32),
        "phrase_ids": ((clips, 2, 6), jnp.int32),
    }
    return {name: jax.ShapeDtypeStruct(*array) for name, array in arrays.items()}


def test_encoders_go_by_their_names_in_a_config():
    class Elsewhere(type(small_model().encoders["video"])):
        pass

    model = small_model()
    model = model.copy(encoders={**model.encoders, "video": Elsewhere()})
    name, *_ = counts._names(model).values()
    assert name == f"video, {__name__}:{Elsewhere.__qualname__}"


def test_parts_of_a_model():
    model = small_model()
    video, audio, text, heads = counts.parts(model, inputs(1))
    names = ["video, s3d", "audio, resnet", "text, phrase_bag", "heads"]
    assert [part.name for part in (video, audio, text, heads)] == names
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs(1))
    whole = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    assert video.parameters + audio.parameters + text.parameters + heads.parameters == whole
    # Two projections, local and coarse, of each encoder's features to a space of 8.
    grid, (_, cells, width), _ = abstract(
        model.encoders["video"], jnp.zeros((1, 4, 32, 32, 3)), jnp.ones(1, bool)
    )
    assert grid == (2, 4, 4)
    assert heads.parameters == 2 * 8 * (width + 32 + 64)
    # What an encoder takes by itself, and a word of 32 numbers to 64 for each of 2 x 6 tokens.
    assert video.flops == counts.flops(
        functools.partial(model.encoders["video"].init, train=False),
        jax.random.key(0),
        *shapes((1, 4, 32, 32, 3)),
        jnp.ones(1, bool),
    )
    assert text.flops == 2 * 2 * 6 * 32 * 64
    assert audio.flops > 0
    assert heads.flops > 2 * 8 * (cells + 1) * width
    assert counts.parts(model, inputs(3)) == [video, audio, text, heads]


def test_what_is_computed_again_is_counted_once():
    again = small_model(remat=((".*", "nothing_saveable"),))
    assert counts.parts(again, inputs(1)) == counts.parts(small_model(), inputs(1))


def test_the_table():
    parts = counts.parts(small_model(), inputs(1))
    lines = counts.table(small_model(), inputs(1)).splitlines()
    assert [line.partition("|")[0].strip() for line in lines] == [
        "",
        *(part.name for part in parts),
        "all",
    ]
    assert f"{sum(part.parameters for part in parts):,}" in lines[-1]
    assert len({len(line) for line in lines}) == 1


def page_rows(repository):
    """The rows of the table of docs/encoders.md: what it says of an encoder, by its name."""
    page = (repository / "docs" / "encoders.md").read_text()
    row = r"^\| (video|audio|text) \| `(\w+)` \| ([\d,]+) \| ([\d.]+) \| ([\d x]+) \| ([\d,]+) \|"
    return {
        (room, name): (int(n.replace(",", "")), float(flops), grid, int(width.replace(",", "")))
        for room, name, n, flops, grid, width in re.findall(row, page, re.M)
    }


# Of the table, and of the speed that stands beside: T x H x W, T x F and K x L.
PAGE_INPUTS = {"video": (1, 16, 112, 112, 3), "audio": (1, 200, 80), "text": (1, 4, 24)}


def test_the_page_has_every_encoder(repository):
    every = {(room, name) for room in PAGE_INPUTS for name in components.names(f"models.{room}")}
    # Stored features have no network of their own.
    assert page_rows(repository).keys() == every - {("video", "features")}


@pytest.mark.parametrize(
    "room",
    [
        # Its encoders are many and large.
        pytest.param(room, marks=[pytest.mark.long] * (room == "video"))
        for room in PAGE_INPUTS
    ],
)
def test_the_page_is_right(repository, room):
    for (of, name), said in page_rows(repository).items():
        if of != room:
            continue
        fixed = {"vocabulary": 32_000, "phrases": 6} if room == "text" else {}
        encoder = components.build(f"models.{room}", {"name": name}, key="model", **fixed)
        shape = PAGE_INPUTS[room]
        given = (jnp.zeros(shape), jnp.ones(1, bool))
        if room == "text":
            given = (jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))
        grid, (_, _, width), variables = abstract(encoder, *given)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        flops = counts.flops(functools.partial(encoder.apply, train=False), variables, *given)
        gflop = np.format_float_positional(flops / 1e9, precision=3, fractional=False, trim="-")
        found = (parameters, float(gflop), " x ".join(map(str, grid)), width)
        assert said == found, (room, name, found)


UNMEASURED = {"efficientnet_lite0", "clip", "siglip", "dinov2", "videomae"}


def test_the_speed_of_every_encoder_was_measured(repository):
    """Each has one row for each pass in docs/measured/encoders.md, beside PyTorch's."""
    page = (repository / "docs" / "measured" / "encoders.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (forward|forward and backward) \| fgmm \| ", page, re.M)
    every = {name for room, name in page_rows(repository) if room != "text"} - UNMEASURED
    assert all(f"`{name}` was not measured" in page for name in UNMEASURED)
    passes = ("forward", "forward and backward")
    assert sorted(rows) == sorted((name, of) for name in every for of in passes)
