"""The kernels, interpreted on a CPU: as defined, without races; and they lower for CUDA."""

import functools
import math
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from fgmm.losses import clip_similarity, info_nce, pooled_similarity
from fgmm.losses.kernels import hopper
from fgmm.losses.pools import Pooling
from fgmm.losses.similarity import choose_implementation
from fgmm.losses.terms import info_nce as info_nce_term
from tests.losses import loss_definition as definition
from tests.losses.kernels.interpreter import interpreted
from tests.losses.loss_definition import pool_options

# B, N, C, P, D. In the first case a clip takes two steps forward, and what one step backward sees
# is of two clips; in the second a thread block has rows of three; in the third a clip is filled up.
CASES = {
    "softmax": (2, 140, 1, 3, 64),
    "logsumexp": (3, 70, 2, 65, 40),
    "softmax, short": (2, 3, 1, 1, 8),
}


def inputs(B, N, C, P, D):
    """Unit vectors in bfloat16, and masks; if there are three clips, one has nothing valid."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(B, N, D)), rng.normal(size=(C, P, D))
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    x_mask, y_mask = rng.random((B, N)) < 0.7, rng.random((C, P)) < 0.7
    x_mask[:, 1] = y_mask[:, 0] = True
    x_mask[2:] = False
    return jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16), x_mask, y_mask


@functools.partial(jax.jit, static_argnames="pool")
def value_and_gradients(cotangent, x, y, temperature, x_mask, y_mask, pool):
    def similarity(x, y, temperature):
        options = {"pool": pool, "temperature": temperature, "implementation": "kernel"}
        return pooled_similarity(x, y, x_mask, y_mask, **options).values

    s, gradients = jax.vjp(similarity, x, y, temperature)
    return s, *gradients(cotangent)


def assert_as_defined(cotangent, x, y, temperature, x_mask, y_mask, pool):
    # What is masked may be anything.
    hidden_x = jnp.where(x_mask[:, :, None], x, jnp.nan)
    hidden_y = jnp.where(y_mask[:, :, None], y, jnp.inf)
    with interpreted():
        found = value_and_gradients(
            *(jnp.float32(cotangent), hidden_x, hidden_y, jnp.float32(temperature)),
            *(x_mask, y_mask, pool),
        )
    arguments = np.float64(x), np.float64(y), x_mask, y_mask, pool, temperature
    expected = (
        definition.pooled_similarity(*arguments),
        *definition.pooled_similarity_gradients(cotangent, *arguments),
    )
    # Gradients of embeddings are rounded to bfloat16, and so is what they are sums of.
    tolerances = {"s": 1e-5, "dx": 5e-3, "dy": 5e-3, "dt": 1e-3}
    for (name, tolerance), actual, wanted in zip(tolerances.items(), found, expected, strict=True):
        assert actual.dtype == ("bfloat16" if name in ("dx", "dy") else "float32")
        error = np.linalg.norm(np.float64(actual) - wanted)
        assert error <= tolerance * max(np.linalg.norm(wanted), 1e-9), (name, error)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("softmax", marks=pytest.mark.long),
        pytest.param("logsumexp", marks=pytest.mark.long),
        "softmax, short",
    ],
)
def test_values_and_gradients_are_as_defined(case):
    pool, (B, N, C, P, D) = case.split(",")[0], CASES[case]
    x, y, x_mask, y_mask = inputs(B, N, C, P, D)
    cotangent = 1.5 + np.cos(np.arange(B * C * P)).reshape(B, C, P)
    for temperature in (1e-3, 0.1, 1e3):
        assert_as_defined(cotangent, x, y, temperature, x_mask, y_mask, pool)
    everything = np.ones_like(x_mask), np.ones_like(y_mask)
    assert_as_defined(cotangent, x, y, 0.1, *everything, pool)


def test_a_gate_of_phrases_has_its_gradient():
    """Which takes the similarities out of the kernel; dense is the definition."""
    x, y, x_mask, y_mask = inputs(2, 3, 2, 3, 8)
    gate = jnp.float32(np.random.default_rng(1).normal(size=(2, 3)))

    def total(x, y, gate, implementation):
        pooling = {"pool": "logsumexp", "temperature": 0.2, "implementation": implementation}
        S = clip_similarity(x, y, x_mask, y_mask, **pooling, y_gate=gate)
        return jnp.sum(jnp.cos(jnp.arange(4.0)).reshape(2, 2) * S.values)

    compute = jax.jit(jax.value_and_grad(total, (0, 1, 2)), static_argnums=3)
    with interpreted():
        value, gradients = compute(x, y, gate, "kernel")
    expected, wanted = compute(*(jnp.float32(v) for v in (x, y)), gate, "dense")
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients[2], wanted[2], rtol=1e-4, atol=1e-6)
    assert np.any(gradients[2])
    for found, of_dense in zip(gradients[:2], wanted[:2], strict=True):
        error = np.linalg.norm(np.float32(found) - of_dense)
        assert error <= 5e-3 * np.linalg.norm(of_dense)


def test_it_runs_without_races():
    """Between copies, loads and stores, that is: the interpreter does not time products."""
    x, y, *_ = inputs(2, 3, 1, 1, 8)
    options = {"pool": "logsumexp", "temperature": 0.1, "implementation": "kernel"}

    def total(x, y):
        return pooled_similarity(x, y, **options).values.sum()

    with interpreted(detect_races=True) as kernels:
        jax.block_until_ready(jax.jit(jax.grad(total, (0, 1)))(x, y))
    assert [kernel.races_found for kernel in kernels] == [False] * 3


def test_it_may_be_vmapped():
    x, y, x_mask, y_mask = inputs(2, 3, 1, 1, 8)
    temperatures = jnp.float32([0.1, 1])

    @jax.jit
    def scores(temperatures):
        return jax.vmap(
            lambda temperature: (
                pooled_similarity(
                    *(x, y), pool="softmax", temperature=temperature, implementation="kernel"
                ).values
            )
        )(temperatures)

    with interpreted():
        found = scores(temperatures)
    everything = np.ones_like(x_mask), np.ones_like(y_mask)
    for s, temperature in zip(found, (0.1, 1.0), strict=True):
        arguments = np.float64(x), np.float64(y), *everything, "softmax", temperature
        np.testing.assert_allclose(s, definition.pooled_similarity(*arguments), atol=1e-6)


def step(x, y, temperature):
    options = {"pool": "softmax", "implementation": "kernel"}
    S = clip_similarity(x, y, temperature=temperature, **options)
    return info_nce(S, temperature=0.07)


def lowered(function, B, N, C, P, D):
    sides = [jax.ShapeDtypeStruct(shape, "bfloat16") for shape in ((B, N, D), (C, P, D))]
    exported = jax.export.export(jax.jit(function), platforms=["cuda"])(*sides, jnp.float32(0.1))
    return exported.mlir_module(), [(out.shape, out.dtype) for out in exported.out_avals]


@pytest.mark.parametrize(("N", "D"), [(196, 256), (1568, 256), (128, 96), (7, 64)])
def test_it_lowers_for_cuda_without_a(N, D):
    """Value and gradients are three kernels, and no array is near the size of a."""
    B, P = 512, 16
    program, outputs = lowered(jax.value_and_grad(step, argnums=(0, 1, 2)), B, N, B, P, D)
    dtypes = ["float32", "bfloat16", "bfloat16", "float32"]
    assert outputs == list(zip([(), (B, N, D), (B, P, D), ()], dtypes, strict=True))
    assert len(re.findall(r"custom_call @mosaic_gpu", program)) == 3
    shapes = re.findall(r"tensor<((?:\d+x)+)(?:f32|bf16)>", program)
    largest = max(math.prod(map(int, shape[:-1].split("x"))) for shape in shapes)
    embeddings, scores = B * 1.3 * max(N, 64) * max(D, 64), B * B * P
    assert largest <= max(embeddings, 4 * scores) < N * scores


def test_it_lowers_for_cuda_within_shard_map():
    mesh = jax.make_mesh((8,), ("clips",), axis_types=(jax.sharding.AxisType.Auto,))
    clips = PartitionSpec("clips")

    def loss(x, y, temperature):
        options = {"pool": "softmax", "implementation": "kernel", "axis_name": "clips"}
        s = pooled_similarity(x, y, temperature=temperature, **options)
        return jax.lax.psum(jnp.sum(s.values), "clips")

    sharded = jax.shard_map(
        loss, mesh=mesh, in_specs=(clips, clips, PartitionSpec()), out_specs=PartitionSpec()
    )
    program, _ = lowered(jax.grad(sharded, argnums=(0, 1, 2)), 64, 49, 64, 16, 64)
    assert len(re.findall(r"custom_call @mosaic_gpu", program)) == 3


def similarity(x, y, **options):
    options |= pool_options(options["pool"], 0.1)
    return clip_similarity(x, y, implementation="kernel", **options)


def test_what_it_does_not_support_is_said():
    x, y, *_ = inputs(2, 3, 2, 3, 64)
    supported = r"implementation 'kernel' supports pools softmax and logsumexp .* capability 9; "
    for reason, sides, options in [
        ("the pool is max", (x, y), {"pool": "max"}),
        ("the direction is symmetric", (x, y), {"direction": "symmetric"}),
        ("the direction is x_to_y", (x, y), {"direction": "x_to_y"}),
        ("the direction is symmetric", (x, y), {"direction": "symmetric", "x_gate": x[:, :, 0]}),
        ("x is float32 and y is bfloat16", (jnp.float32(x), y), {}),
        ("D is 320", (jnp.tile(x, 5), jnp.tile(y, 5)), {}),
        (r"y has shape \(2, 0, 64\)", (x, y[:, :0]), {}),
        (r"block is \(1, 1\)", (x, y), {"block": (1, 1)}),
    ]:
        with pytest.raises(ValueError, match=supported + ".*" + reason):
            similarity(*sides, **{"pool": "softmax"} | options)


def test_on_a_cpu_it_is_an_error():
    x, y, *_ = inputs(2, 3, 2, 3, 64)
    with pytest.raises(ValueError, match="CPU"):
        similarity(x, y, pool="softmax")


@pytest.fixture
def device(monkeypatch):
    """Makes the default device a GPU of some compute capability."""

    def pretend(capability):
        gpu = SimpleNamespace(compute_capability=capability, device_kind=f"GPU {capability}")
        monkeypatch.setattr(hopper.jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(hopper.jax, "devices", lambda: [gpu])

    return pretend


@pytest.mark.parametrize("capability", ["8.0", "9.0"])
def test_it_is_used_on_request_only(device, capability):
    device(capability)
    x, y = (jnp.zeros((64, entries, 256), jnp.bfloat16) for entries in (196, 16))
    assert choose_implementation(x, y) == "blockwise"


def test_a_term_is_refused_where_it_cannot_run(device):
    fits, symmetric = (
        info_nce_term.Term(implementation="kernel", direction=direction)
        for direction in ("y_to_x", "symmetric")
    )
    with pytest.raises(ValueError, match="capability 9; the device is cpu"):
        fits.check_embeddings(64, "bfloat16")
    device("8.0")
    with pytest.raises(ValueError, match=r"capability 9; the device is GPU 8\.0"):
        fits.check_embeddings(64, "bfloat16")
    device("9.0")
    with pytest.raises(ValueError, match="x is float32 and y is float32"):
        fits.check_embeddings(64, "float32")
    with pytest.raises(ValueError, match="D is 320"):
        fits.check_embeddings(320, "bfloat16")
    gated = {"implementation": "kernel", "weighting": "learned"}
    for term in (symmetric, info_nce_term.Term(direction="symmetric", **gated)):
        with pytest.raises(ValueError, match="the direction is symmetric"):
            term.check_embeddings(64, "bfloat16")
    fits.check_embeddings(64, "bfloat16")
    info_nce_term.Term(**gated).check_embeddings(64, "bfloat16")
    symmetric.with_implementation(None).check_embeddings(320, "float32")


def test_another_gpu_is_an_error(device):
    device("8.0")
    pooling = Pooling("softmax", True, None, None)
    x, y, *_ = inputs(2, 3, 2, 3, 64)
    with pytest.raises(ValueError, match=r"capability 9; the device is GPU 8\.0"):
        hopper.similarities(x, y, None, None, jnp.float32(0.1), None, pooling=pooling)
