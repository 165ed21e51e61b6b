"""Forward mode of what has reverse mode alone is an error that says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from fgmm.losses import info_nce, pooled_similarity, sharded, temperature_from_logit_scale
from fgmm.losses.reverse_mode import reverse_mode_only

X = jnp.float32(np.random.default_rng(0).normal(size=(8, 40, 4)))
Y = jnp.float32(np.random.default_rng(1).normal(size=(8, 30, 4)))
DIRECTION = jnp.cos(jnp.arange(X.size)).reshape(X.shape)
ADVICE = r"'blockwise', the default above 256 KiB .* pass implementation='dense'"


@pytest.fixture(autouse=True)
def forgotten():
    """Of a forward mode that failed JAX keeps pieces, over which the next one stumbles."""
    jax.clear_caches()


def similarity(x, y=Y, temperature=0.1, **options):
    return pooled_similarity(x, y, pool="softmax", temperature=temperature, **options).values.sum()


FORWARD = {
    "jvp": lambda f: jax.jvp(f, (X,), (X,)),
    "jvp in a jit": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(X),
    "jvp of a jit": lambda f: jax.jvp(jax.jit(f), (X,), (X,)),
    "jacfwd": lambda f: jax.jacfwd(lambda t: f(X, temperature=t))(0.1),
    "linearize": lambda f: jax.linearize(f, X)[1](X),
}


@pytest.mark.parametrize("how", FORWARD)
def test_forward_mode_of_blockwise_says_what_to_do(how):
    with pytest.raises(TypeError, match=ADVICE):
        FORWARD[how](similarity)
    FORWARD[how](lambda x, **options: similarity(x, implementation="dense", **options))
    FORWARD[how](lambda x, **options: similarity(x, Y[:, :2], **options))  # small, so dense


def test_forward_mode_of_dense_is_right():
    _, slope = jax.jvp(lambda x: similarity(x, implementation="dense"), (X,), (DIRECTION,))
    np.testing.assert_allclose(slope, jnp.sum(jax.grad(similarity)(X) * DIRECTION), rtol=1e-4)


def test_forward_over_reverse_is_allowed():
    """As ``jax.hessian`` does it."""

    def curvature(implementation):
        options = {"temperature": 1.0, "implementation": implementation}
        slope = jax.grad(lambda x: similarity(x, **options))
        return jax.jvp(slope, (X,), (DIRECTION,))[1]

    expected = curvature("dense")
    error = np.linalg.norm(curvature("blockwise") - expected)
    assert error < 1e-4 * np.linalg.norm(expected)


def test_a_clipped_temperature_says_what_to_do():
    def loss(log_scale):
        return info_nce(jnp.eye(4), temperature=temperature_from_logit_scale(log_scale))

    with pytest.raises(TypeError, match=r"clipped to its bounds .* pass jnp.exp\(-log_scale\)"):
        jax.jvp(loss, (1.0,), (1.0,))
    assert jax.grad(loss)(1.0) < 0


def test_what_travels_says_what_to_do():
    def over_mesh(x, y, exchange):
        def loss(x, y, axis_name, exchange):
            total = similarity(x, y, axis_name=axis_name, exchange=exchange, implementation="dense")
            return jax.lax.psum(total, axis_name)

        mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        return jax.jit(sharded(loss, mesh, exchange=exchange))(x, y)

    for dtype, exchange in ((jnp.float32, "ring"), (jnp.bfloat16, "gather")):
        x, y = X.astype(dtype), Y.astype(dtype)
        with pytest.raises(TypeError, match=r"travel .* pass exchange='gather' and float32"):
            jax.jvp(lambda y, x=x, how=exchange: over_mesh(x, y, how), (y,), (y,))
    _, slope = jax.jvp(lambda y: over_mesh(X, y, "gather"), (Y,), (Y,))
    assert np.isfinite(slope)


def kept(x):
    return jnp.sum(jnp.sin(reverse_mode_only({"x": x, "none": None}, "no")["x"]))


REVERSE = {
    "grad": jax.grad(kept),
    "grad of a jit": jax.grad(jax.jit(kept)),
    "grad of a remat": jax.grad(jax.checkpoint(kept)),
    "vmap of a grad": lambda x: jax.vmap(jax.grad(kept))(x[None])[0],
    "grad of a vmap": lambda x: jax.grad(lambda x: jax.vmap(kept)(x[:, None]).sum())(x),
    "grad of a scan": jax.grad(
        lambda x: jax.lax.scan(lambda total, x: (total + kept(x), None), 0.0, x[:, None])[0]
    ),
    "pmap of a grad": lambda x: jax.pmap(jax.grad(kept))(x[:, None])[:, 0],
    "grad of a shard_map": jax.grad(
        jax.shard_map(
            lambda x: jax.lax.psum(kept(x), "data"),
            mesh=jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)),
            in_specs=PartitionSpec("data"),
            out_specs=PartitionSpec(),
        )
    ),
}


@pytest.mark.parametrize("how", REVERSE)
def test_reverse_mode_is_untouched(how):
    x = jnp.arange(8.0)
    np.testing.assert_allclose(REVERSE[how](x), jnp.cos(x), rtol=1e-6)
    assert "reverse_mode" not in jax.jit(jax.grad(kept)).lower(x).as_text()
