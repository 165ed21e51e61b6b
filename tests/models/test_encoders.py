"""What every encoder promises, whatever its family: each is found by name in its room."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm import components
from tests.models.small import abstract, build, variables_of

INPUTS = {
    "video": lambda key: jax.random.normal(key, (3, 4, 32, 32, 3)),
    "audio": lambda key: jax.random.normal(key, (3, 40, 16)),
}
ENCODERS = [(room, name) for room in INPUTS for name in components.names(f"models.{room}")]
TOKENS = jnp.array([[[5, 6, 7, 8, 0, 0]], [[9, 5, 6, 7, 8, 9]], [[4, 4, 4, 0, 0, 0]]], jnp.int32)
PHRASES = jnp.array([[[1, 1, 2, 2, 0, 0]], [[1, 2, 2, 3, 3, 3]], [[1, 1, 1, 0, 0, 0]]], jnp.int32)
EVERY = ENCODERS + [("text", name) for name in components.names("models.text")]


def arguments(room):
    if room == "text":
        return TOKENS, PHRASES
    return INPUTS[room](jax.random.key(0)), jnp.ones(3, bool)


@functools.cache
def make(room, name):
    encoder = build(room, name)
    run = jax.jit(
        lambda variables, *given: encoder.apply(variables, *given, True, mutable=["batch_stats"])
    )
    return run, variables_of(encoder, *arguments(room)), arguments(room)[0]


@pytest.mark.parametrize(("room", "name"), ENCODERS)
def test_the_grid_spans_the_local_features(room, name):
    run, variables, inputs = make(room, name)
    tokens, _ = run(variables, inputs, jnp.ones(3, bool))
    assert len(tokens.grid) == {"video": 3, "audio": 2}[room]
    assert tokens.local.shape[:2] == (3, np.prod(tokens.grid)) == tokens.mask.shape
    assert tokens.mask.all()


@pytest.mark.parametrize(("room", "name"), ENCODERS)
def test_a_masked_clip_changes_no_other(room, name):
    run, variables, inputs = make(room, name)
    mask = jnp.array([True, True, False])
    results = []
    for garbage in (0.0, 100.0):
        tokens, updates = run(variables, inputs.at[2].set(garbage), mask)
        results.append((tokens.local[:2], updates))
        np.testing.assert_array_equal(tokens.mask.all(axis=1), mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *results)


@pytest.mark.parametrize(("room", "name"), ENCODERS)
def test_a_batch_without_a_valid_clip_is_finite(room, name):
    run, variables, inputs = make(room, name)
    out = run(variables, inputs, jnp.zeros(3, bool))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))


@pytest.mark.parametrize("name", components.names("models.video"))
def test_an_image_is_a_clip_of_one_frame(name):
    run, variables, inputs = make("video", name)
    tokens, _ = run(variables, inputs[:, :1], jnp.ones(3, bool))
    assert tokens.grid[0] == 1
    assert np.isfinite(tokens.local).all()


@pytest.mark.parametrize(("room", "name"), EVERY)
def test_activations_of_half_precision(room, name):
    run, variables, _ = make(room, name)
    encoder = build(room, name, dtype="bfloat16")
    shapes = abstract(encoder, *arguments(room))[2]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} <= {jnp.dtype("float32")}
    exact = run(variables, *arguments(room))[0].local
    rough = jax.jit(
        lambda *given: encoder.apply(variables, *given, True, mutable=["batch_stats"])[0].local
    )(*arguments(room))
    assert rough.dtype == jnp.float32
    error = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.1


@pytest.mark.parametrize(
    ("room", "name", "block"),
    [
        ("video", "resnet2plus1d", "Block_0"),
        ("video", "s3d", "mixed_3b"),
        ("video", "tsm_resnet50", "layer1_0"),
        ("video", "r2plus1d18", "layer1_0"),
        ("video", "vivit", "block_0"),
        ("audio", "resnet", "ConvBlock2D_1"),
        ("audio", "resnet18", "layer1_0"),
        ("audio", "resnet50", "layer1_0"),
        ("audio", "ast", "block_0"),
        ("text", "phrase_transformer", "Block_0"),
        ("text", "phrase_bag", "fc1"),
    ],
)
def test_blocks_that_are_computed_again_have_the_same_parameters(room, name, block):
    def traced(**options):
        encoder = build(room, name, **options)
        variables = abstract(encoder, *arguments(room))[2]
        jaxpr = jax.make_jaxpr(lambda v, *given: encoder.apply(v, *given, False).local)(
            variables, *arguments(room)
        )
        names = [equation.primitive.name for equation in jaxpr.eqns]
        return variables, sum("remat" in name or "checkpoint" in name for name in names)

    plain, none = traced()
    again, one = traced(remat=((block, "nothing_saveable"), (".*", "everything_saveable")))
    assert (none, one) == (0, 1)
    assert jax.tree.structure(plain) == jax.tree.structure(again)


# One encoder of each kind of block, with what chance decides in training. Blocks of S3D and of the
# larger residual networks are called as those of ``resnet2plus1d``, AST's are those of the text.
@pytest.mark.parametrize(
    ("room", "name", "options"),
    [
        ("video", "resnet2plus1d", {"widths": (8,), "temporal_strides": (1,)}),
        ("video", "vivit", {"dropout": 0.2, "depth": 1}),
        ("audio", "resnet", {"widths": (8,)}),
        ("text", "phrase_transformer", {"dropout": 0.2}),
        ("text", "phrase_bag", {"dropout": 0.2}),
    ],
)
def test_what_is_computed_again_has_the_same_gradients(room, name, options):
    inputs = arguments(room)
    variables = variables_of(build(room, name, **options), *inputs)

    def gradient(variables, policy):
        encoder = build(room, name, **options, remat=((".*", policy),))

        def loss(params):
            tokens, updates = encoder.apply(
                {**variables, "params": params},
                *(*inputs, True),
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            return jnp.sum(jnp.sin(tokens.local)), updates

        return jax.grad(loss, has_aux=True)(variables["params"])

    policies = ("everything_saveable", "nothing_saveable", "dots_saveable")
    found = jax.jit(lambda variables: [gradient(variables, policy) for policy in policies])(
        variables
    )
    for again in found[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found[0], again
        )
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(found[0][0])) > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype='int8' is unknown; allowed: float32, bfloat16"),
        (
            {"remat": ((".*", "some"),)},
            r"remat holds .*: 'some' is unknown; allowed: nothing_saveable",
        ),
        (
            {"remat": (("(", "nothing_saveable"),)},
            r"model\.\w+: remat holds \('\(', 'nothing_saveable'\): missing \)",
        ),
        ({"temporal_padding": "same"}, "temporal_padding='same' is unknown; allowed: zeros, edge"),
        ({"image_frames": 0}, "image_frames=0 must be at least 1"),
    ],
)
@pytest.mark.parametrize("name", ["s3d", "tsm_resnet50", "r2plus1d18"])
def test_wrong_options_of_video_encoders(name, options, message):
    with pytest.raises(ValueError, match=message):
        build("video", name, **options)


@pytest.mark.parametrize(
    ("room", "name", "options", "message"),
    [
        ("video", "s3d", {"stem": "5x5"}, "stem='5x5' is unknown; allowed: space_to_depth, 7x7"),
        ("video", "s3d", {"final_endpoint": "mixed_6a"}, "allowed: mixed_3b, mixed_3c"),
        ("video", "s3d", {"norm": "layer"}, "norm='layer' is unknown; allowed: batch, group"),
        ("video", "s3d", {"width_multiplier": 0.0}, "width_multiplier=0.0 must be above 0"),
        ("video", "tsm_resnet50", {"shift": 1}, "shift=1 must be from 2 to width=8"),
        ("video", "tsm_resnet50", {"version": 3}, "version=3 is unknown; allowed: 1"),
        ("video", "r2plus1d18", {"blocks": ()}, r"blocks=\(\) must hold at least one number"),
        ("audio", "resnet18", {"blocks": (1, 0)}, r"blocks=\(1, 0\) must be at least 1"),
        ("video", "vivit", {"heads": 3}, "width=32 must be a multiple of 2 x heads=3"),
        ("text", "phrase_transformer", {"heads": 32}, "must be a multiple of 2 x heads=32"),
        ("text", "clip", {"heads": 3}, "width=32 must be a multiple of heads=3"),
        ("video", "vivit", {"drop_token": 1.0}, "drop_token=1.0 must be at least 0 and below 1"),
        (
            "video",
            "vivit",
            {"stochastic_depth": 1.0},
            "stochastic_depth=1.0 must be at least 0 and",
        ),
        ("video", "vivit", {"tubelet": 0}, "tubelet=0 must be at least 1"),
        ("audio", "ast", {"stride": (0, 8)}, r"stride=\(0, 8\) must be at least 1"),
        ("audio", "ast", {"drop_token": -0.1}, "drop_token=-0.1 must be at least 0 and below 1"),
        ("text", "phrase_bag", {"hidden": -1}, "hidden=-1 must be at least 0"),
        ("text", "phrase_transformer", {"depth": 0}, "depth=0 must be at least 1"),
    ],
)
def test_wrong_options(room, name, options, message):
    with pytest.raises(ValueError, match=message):
        build(room, name, **options)


def test_only_rotary_positions_need_pairs_of_channels():
    encoder = build("text", "clip", width=6, heads=2)
    tokens = jnp.zeros((2, 1, 5), jnp.int32)
    _, shape, _ = abstract(encoder, tokens, tokens)
    assert shape[-1] == 6


def test_siglip_says_that_captions_end_elsewhere():
    encoder = build("text", "siglip")
    assert encoder.note((1, 3, 64)) == ""
    assert encoder.note((1, 3, 32)).startswith("the feature of a caption is the state at token 32;")
