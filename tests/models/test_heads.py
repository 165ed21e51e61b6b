import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm import config
from fgmm.models import spaces
from fgmm.models.embeddings import Tokens
from fgmm.models.heads import normalise, pooled, segmented
from fgmm.models.multimodal import MultiModal


def test_normalise_is_safe_at_zero():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]])
    np.testing.assert_allclose(normalise(x)[0], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(normalise(x)[1], [0.0, 0.0])
    gradient = jax.grad(lambda x: normalise(x)[:, 0].sum())(x)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], [0.0, 0.0])
    assert np.isnan(normalise(jnp.array([jnp.nan, 1.0]))).all()


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_is_over_valid_features(pool):
    x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    mask = jnp.array([[True, False, True, True, False], [False] * 5])
    expected = getattr(np.asarray(x[0])[[0, 2, 3]], pool)(axis=0)
    result = pooled(x.at[0, 1].set(1e9), mask, pool)
    np.testing.assert_allclose(result[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(result[1], np.zeros(3))


def test_segments_of_audio_are_means_over_stretches_of_time():
    local = jnp.arange(2 * 6 * 2, dtype=jnp.float32).reshape(2, 12, 1)
    mask = jnp.array([[True] * 12, [False] * 12])
    segments = segmented(Tokens(local, mask, (6, 2)), 3)
    assert segments.grid == (1, 3)
    np.testing.assert_allclose(segments.local[0, :, 0], [1.5, 5.5, 9.5])
    np.testing.assert_array_equal(segments.mask, [[True] * 3, [False] * 3])
    assert segmented(Tokens(local, mask, (6, 2)), 100).grid == (1, 6)


def test_segments_are_means_over_valid_patches():
    local = np.random.default_rng(0).standard_normal((2, 12, 3)).astype(np.float32)
    mask = np.ones((2, 12), bool)
    mask[0, [1, 2, 3, 4, 5, 8, 9]] = False
    given = jnp.asarray(np.where(mask[:, :, None], local, np.nan))
    segments = segmented(Tokens(given, jnp.asarray(mask), (6, 2)), 4)
    # The steps of a segment: 0 and 1, 2, 3 and 4, 5.
    np.testing.assert_array_equal(segments.mask, [[True, False, True, True], [True] * 4])
    expected = [local[0, 0], np.zeros(3), local[0, [6, 7]].mean(0), local[0, [10, 11]].mean(0)]
    np.testing.assert_allclose(segments.local[0], expected, rtol=1e-5)
    expected = [local[1, cells].mean(0) for cells in (range(4), [4, 5], range(6, 10), [10, 11])]
    np.testing.assert_allclose(segments.local[1], expected, rtol=1e-5)


class Given(nn.Module):
    """In the place of an encoder: what comes in are the features."""

    grid: tuple[int, ...]

    def __call__(self, x, mask, train):
        del train
        return Tokens(x, mask, self.grid)


GRIDS = {"video": (2, 2, 1), "audio": (4, 2), "text": (2, 3)}
FEATURES = {"video": 6, "audio": 5, "text": 7}


def given(clips=3):
    """Features of each modality, some of them not valid."""
    names = {"video": "video", "audio": "log_mel", "text": "tokens"}
    masks = {"video": "video_mask", "audio": "audio_mask", "text": "phrase_ids"}
    generator, inputs = np.random.default_rng(0), {}
    for modality, grid in GRIDS.items():
        count = int(np.prod(grid))
        features = generator.normal(size=(clips, count, FEATURES[modality])) + 0.3
        inputs[names[modality]] = jnp.asarray(features, jnp.float32)
        inputs[masks[modality]] = (
            jnp.asarray(generator.random((clips, count)) < 0.8).at[:, 0].set(True)
        )
    return inputs


def model_of(**entries):
    encoders = {modality: Given(grid) for modality, grid in GRIDS.items()}
    checked = spaces.checked(config.with_space_defaults(entries), tuple(GRIDS))
    return MultiModal(encoders=encoders, spaces=checked, phrases=4)


# The published graph of MMV, made small.
FINE_AND_COARSE = {
    "va": {"modalities": ("video", "audio"), "width": 8, "hidden": {"video": 9}, "bias": True},
    "vat": {
        "modalities": ("video", "audio", "text"),
        "width": 4,
        "through": "va",
        "bias": True,
        "pool": "max",
    },
}


def variables_of(model, inputs):
    """Parameters of any values, the biases as well, so that they count."""
    generator = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda x: jnp.asarray(generator.normal(size=x.shape), x.dtype), shapes)


def run(model, inputs):
    variables = variables_of(model, inputs)
    return jax.device_get((jax.jit(model.apply)(variables, inputs), variables["params"]))


@pytest.mark.parametrize("hidden", [0, 7])
@pytest.mark.parametrize("unit_length", [True, False])
def test_embeddings_are_projections_of_unit_length_or_any(hidden, unit_length):
    entry = {"modalities": ("video", "text"), "width": 4, "hidden": hidden}
    model = model_of(joint={**entry, "unit_length": unit_length})
    inputs = given()
    found, weights = run(model, inputs)
    embeddings = found["joint"]
    text = embeddings["text"]
    assert (text.local.shape, text.coarse.shape) == ((3, 2, 3, 4), (3, 2, 4))
    assert embeddings["video"].coarse.shape == (3, 4)
    for found in embeddings.values():
        for part in (found.local, found.coarse):
            length = np.linalg.norm(part, axis=-1)
            assert np.allclose(length, 1, rtol=1e-5) == unit_length
    if not hidden:
        weights = weights["heads_joint_video"]
        expected = np.asarray(inputs["video"]) @ weights["local"]["kernel"]
        if unit_length:
            expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
        np.testing.assert_allclose(embeddings["video"].local, expected, atol=1e-5)
        assert set(weights["local"]) == {"kernel"}


def test_embeddings_are_rounded_last():
    """In bfloat16 they are those of float32, scaled to unit length there."""
    entry = {"modalities": ("video", "text"), "width": 4}
    inputs, found = given(), {}
    for dtype in ("float32", "bfloat16"):
        found[dtype], _ = run(model_of(joint={**entry, "dtype": dtype}), inputs)
    for whole, rounded in zip(*map(jax.tree.leaves, found.values()), strict=True):
        assert rounded.dtype == (bool if whole.dtype == bool else jnp.bfloat16)
        np.testing.assert_array_equal(rounded, whole.astype(rounded.dtype))


def test_gates_are_logits_of_features_and_start_at_zero():
    everything = {"modalities": ("video", "audio", "text"), "width": 4}
    inputs = given()
    without = model_of(joint=everything)
    assert not any(name.startswith("gates") for name in variables_of(without, inputs)["params"])
    for found in run(without, inputs)[0]["joint"].values():
        assert found.gates is None
    for gate in ("linear", "hidden"):
        model = model_of(joint={**everything, "gate": gate})
        found, weights = run(model, inputs)
        shapes = {name: x.gates.shape for name, x in found["joint"].items()}
        masks = {name: x.mask.shape for name, x in found["joint"].items()}
        assert shapes == masks
        x, layers = np.asarray(inputs["log_mel"]), weights["gates_joint_audio"]
        segments = segmented(model.apply({}, inputs, method="encode")["audio"], model.phrases)
        for name, features in (("audio", x), ("audio_segments", np.asarray(segments.local))):
            if gate == "hidden":
                features = relu(dense(features, layers["hidden_layer"]))
            expected = (features @ layers["logit"]["kernel"])[..., 0]
            gates = found["joint"][name].gates
            np.testing.assert_allclose(gates, expected.reshape(gates.shape), rtol=1e-4, atol=1e-5)
        start = model.init(jax.random.key(0), inputs)
        for found in model.apply(start, inputs)["joint"].values():
            assert not np.any(found.gates)


def test_the_pool_gate_is_a_mean_with_the_weights_of_the_gate():
    entry = {"modalities": ("video", "text"), "width": 4, "gate": "linear", "pool": "gate"}
    inputs = given()
    found, weights = run(model_of(joint=entry), inputs)
    x, mask = np.asarray(inputs["video"]), np.asarray(inputs["video_mask"])
    e = np.where(mask, np.exp((x @ weights["gates_joint_video"]["logit"]["kernel"])[..., 0]), 0)
    share = e / np.maximum(e.sum(1, keepdims=True), 1e-30)
    mean = np.einsum("bn,bne->be", share, x)
    expected = unit(mean @ weights["heads_joint_video"]["coarse"]["kernel"])
    np.testing.assert_allclose(found["joint"]["video"].coarse, expected, atol=1e-5)


def test_weights_of_a_pool_gate_are_over_valid_features():
    x, mask = (
        jnp.array([[1.0, 5.0, jnp.nan], [1, 2, 3]]),
        jnp.array([[True, True, False], [False] * 3]),
    )
    gates = jnp.array([[0.0, 0.0, 1e4], [1, 2, 3]])
    found, gradient = jax.value_and_grad(
        lambda gates: pooled(x[..., None], mask, "gate", gates).sum()
    )(gates)
    assert found == 3
    np.testing.assert_array_equal(gradient, [[-1, 1, 0], [0, 0, 0]])


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def relu(x):
    return np.maximum(x, 0)


def unit(x):
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length == 0, 1, length)


def test_the_coarse_space_is_reached_through_the_fine_one():
    model, inputs = model_of(**FINE_AND_COARSE), given()
    found, weights = run(model, inputs)
    heads = {"heads_va_video", "heads_va_audio", "heads_va_to_vat", "heads_vat_text"}
    assert set(weights) == heads

    def fine(modality, level, x):
        layers = weights[f"heads_va_{modality}"][level]
        if modality == "video":
            return dense(relu(dense(x, layers["layers_0"])), layers["layers_2"])
        return dense(x, layers)

    for modality, name in (("video", "video"), ("audio", "log_mel")):
        x, mask = np.asarray(inputs[name]), np.asarray(inputs[f"{modality}_mask"])
        # Pooled as the fine space says.
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        for level, features in (("local", x), ("coarse", mean)):
            raw = fine(modality, level, features)
            coarser = dense(relu(raw), weights["heads_va_to_vat"][level])
            ours = [getattr(found[space][modality], level) for space in ("va", "vat")]
            np.testing.assert_allclose(ours[0], unit(raw), atol=1e-5)
            np.testing.assert_allclose(ours[1], unit(coarser), atol=1e-5)
    assert found["vat"]["audio_segments"].local.shape == (3, 1, 4, 4)

    x = np.asarray(inputs["tokens"]).reshape(3, 2, 3, -1)
    mask = np.asarray(inputs["phrase_ids"]).reshape(3, 2, 3, 1)
    text = weights["heads_vat_text"]
    np.testing.assert_allclose(found["vat"]["text"].local, unit(dense(x, text["local"])), atol=1e-5)
    largest = np.where(mask, x, -np.inf).max(2)
    largest = np.where(np.isfinite(largest), largest, 0)
    np.testing.assert_allclose(
        found["vat"]["text"].coarse, unit(dense(largest, text["coarse"])), atol=1e-5
    )


@pytest.mark.parametrize("level", ["local", "coarse"])
def test_a_loss_in_the_coarse_space_trains_the_fine_heads(level):
    model, inputs = model_of(**FINE_AND_COARSE), given()
    variables = variables_of(model, inputs)

    def loss(params):
        found = model.apply({"params": params}, inputs)["vat"]
        video, text = getattr(found["video"], level), getattr(found["text"], level)
        return jnp.vdot(video.reshape(-1, 4).mean(0), text.reshape(-1, 4).mean(0))

    gradient = jax.device_get(jax.jit(jax.grad(loss))(variables["params"]))

    def reached(head, level):
        return [bool(np.abs(leaf).max() > 0) for leaf in jax.tree.leaves(gradient[head][level])]

    other = {"local": "coarse", "coarse": "local"}[level]
    for head in ("heads_va_video", "heads_va_to_vat", "heads_vat_text"):
        assert all(reached(head, level)), head
        assert not any(reached(head, other)), head
    assert not any(reached("heads_va_audio", level))


def test_spaces_in_a_chain_and_beside_each_other():
    model = model_of(
        # In any order.
        top={"modalities": ("video", "text"), "width": 2, "through": "vat"},
        **FINE_AND_COARSE,
        simple={"modalities": ("audio", "text"), "width": 3},
    )
    inputs = given()
    found, weights = run(model, inputs)
    assert set(weights) == {
        *("heads_va_video", "heads_va_audio", "heads_va_to_vat", "heads_vat_text"),
        *("heads_vat_to_top", "heads_simple_audio", "heads_simple_text"),
    }
    x = np.asarray(inputs["tokens"]).reshape(3, 2, 3, -1)
    text = relu(dense(x, weights["heads_vat_text"]["local"]))
    text = text @ weights["heads_vat_to_top"]["local"]["kernel"]
    np.testing.assert_allclose(found["top"]["text"].local, unit(text), atol=1e-5)
    assert set(found["top"]) == {"video", "text"}


def test_a_missing_modality_is_left_out_everywhere():
    model, inputs = model_of(**FINE_AND_COARSE), given()
    variables = variables_of(model, inputs)
    del inputs["tokens"], inputs["log_mel"]
    found = jax.jit(model.apply)(variables, inputs)
    assert {space: list(members) for space, members in found.items()} == {
        "va": ["video"],
        "vat": ["video"],
    }


class Own(Given):
    """An encoder with a coarse feature of its own: the first local one, whether valid or not."""

    def __call__(self, x, mask, train):
        tokens = super().__call__(x, mask, train)
        # Of text, one for each caption.
        own = x[:, :: self.grid[1]] if self.grid == GRIDS["text"] else x[:, 0]
        return tokens.replace(coarse=own)


def test_a_space_may_take_the_encoders_own_coarse_feature():
    entry = {"modalities": ("video", "audio", "text"), "width": 4, "pool": "own"}
    model = model_of(joint={**entry, "unit_length": False})
    model = model.copy(encoders={modality: Own(grid) for modality, grid in GRIDS.items()})
    inputs = given()
    inputs["video_mask"] = inputs["video_mask"].at[2].set(False)
    found, weights = run(model, inputs)
    joint = found["joint"]
    kernels = {m: weights[f"heads_joint_{m}"]["coarse"]["kernel"] for m in GRIDS}
    expected = np.asarray(inputs["video"])[:2, 0] @ kernels["video"]
    np.testing.assert_allclose(joint["video"].coarse[:2], expected, atol=1e-5)
    # A clip without anything valid has none.
    np.testing.assert_array_equal(joint["video"].coarse[2], 0)
    captions = np.asarray(inputs["tokens"])[:, ::3] @ kernels["text"]
    valid = np.asarray(inputs["phrase_ids"]).reshape(3, 2, 3).any(axis=2)
    np.testing.assert_allclose(joint["text"].coarse, captions * valid[..., None], atol=1e-5)
    # Segments of sound have that of their clip.
    segments, whole = joint["audio_segments"].coarse, joint["audio"].coarse
    np.testing.assert_allclose(segments[:, 0], whole, atol=1e-5)
