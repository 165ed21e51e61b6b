"""Losses of clips that are spread over devices are those of all clips on one device."""

import functools
import json
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from fgmm.losses import (
    clip_similarity,
    fine_grained_nce,
    info_nce,
    matched_weights,
    mil_nce,
    pooled_similarity,
    sharded,
    sigmoid,
    sparc,
)
from fgmm.losses.dense import POOLS
from fgmm.losses.exchange import EXCHANGES, x_travels
from tests import compilation
from tests.losses.loss_definition import pool_options

DEVICES = 8
B, N, P, D = 16, 3, 2, 4


def mesh():
    return Mesh(np.array(jax.devices()[:DEVICES]), ("data",))


def inputs(dtype, clips=B, seed=0):
    """Clips 6 and 7, all of device 3, have nothing valid; clip 9 has no caption, clip 12 no x."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(clips, N, D)), rng.normal(size=(clips, P, D))
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    x_mask, y_mask = rng.random((clips, N)) < 0.7, rng.random((clips, P)) < 0.7
    x_mask[[6, 7, 12]] = y_mask[[6, 7, 9]] = False
    given = {
        "x": jnp.asarray(x, dtype),
        "y": jnp.asarray(y, dtype),
        "weights": jnp.asarray(rng.random((clips, P)), dtype),
        # How much each similarity and each clip's loss count.
        "cotangent": jnp.asarray(rng.normal(size=(clips, clips)), dtype),
    }
    masks = {
        "x_mask": jnp.asarray(x_mask),
        "y_mask": jnp.asarray(y_mask),
        "ids": jnp.asarray(rng.integers(0, 12, (clips, P)), jnp.int32),
    }
    return given, masks


def parameters(dtype):
    values = {"attention": 0.2, "phrases": 0.3, "contrast": 0.1, "bias": -2.0, "null": 0.1}
    names = (*POOLS, "matched", "given", "sigmoid", "mil_nce", "once", "info_nce", "local", "sparc")
    names += ("noisy",)
    return {name: {k: jnp.asarray(v, dtype) for k, v in values.items()} for name in names}


def all_losses(parameters, given, masks, *, axis_name=None, exchange="gather", swapped=False):
    """Every pool, in all directions, and every loss; each with temperatures of its own.

    Over devices the pools take turns with exchanges and implementations, and ``swapped`` the other.
    """
    del exchange
    x, y, weights, cotangent = (given[k] for k in ("x", "y", "weights", "cotangent"))
    x_mask, y_mask, ids = (masks[k] for k in ("x_mask", "y_mask", "ids"))
    valid = x_mask.any(1) & y_mask.any(1)
    across = {"axis_name": axis_name}

    def options(k):
        if axis_name is None:
            return {"implementation": "dense"}
        exchange = EXCHANGES[(k + swapped) % 2]
        implementation = ("dense", "blockwise")[(k // 2 + swapped) % 2]
        return {**across, "exchange": exchange, "implementation": implementation}

    def total(v):
        return v.sum() if axis_name is None else jax.lax.psum(v.sum(), axis_name)

    given_to_all = x, y, x_mask, y_mask
    values, scores = {}, {}
    for k, pool in enumerate(POOLS):
        own = parameters[pool]
        scores[pool] = clip_similarity(
            *given_to_all,
            **pool_options(pool, own["attention"]),
            direction="symmetric",
            weighting="softmax",
            phrase_temperature=own["phrases"],
            **options(k),
        )
        assert scores[pool].values.shape == cotangent.shape
        values[pool] = total(cotangent * scores[pool].values)

    of = {name: own["contrast"] for name, own in parameters.items()}
    s = pooled_similarity(
        *given_to_all, pool="softmax", temperature=parameters["matched"]["attention"], **options(1)
    )
    own = parameters["matched"]
    turned_down = matched_weights(s, temperature=own["phrases"], null_score=own["null"], **across)
    values["matched"] = fine_grained_nce(
        s, temperature=of["matched"], weights=turned_down, phrase_ids=ids, **across
    )
    given_masks = {"mask": y_mask, **across}
    values["given"] = fine_grained_nce(
        s.values, temperature=of["given"], weights=weights, **given_masks
    )
    values["mil_nce"] = mil_nce(s, temperature=of["mil_nce"], **across)
    values["once"] = mil_nce(
        s.values,
        temperature=of["once"],
        mask=y_mask,
        count_positives_twice=False,
        valid=valid,
        **across,
    )
    S = scores["max"]
    values["info_nce"] = info_nce(S, temperature=of["info_nce"], **across)
    own = parameters["noisy"]
    noisy = info_nce(S, temperature=own["contrast"], noise_rate=own["null"], **across)
    values["noisy"] = noisy + fine_grained_nce(
        s, temperature=own["phrases"], noise_rate=own["null"], phrase_ids=ids, **across
    )
    own = parameters["sigmoid"]
    values["sigmoid"] = sigmoid(S, temperature=own["contrast"], bias=own["bias"], **across)
    local = info_nce(S.values, temperature=of["local"], reduction="none", **across)
    assert local.shape == (len(x),)
    values["local"] = total(cotangent[:, 0] * local)
    values["sparc"] = sparc(x, y, x_mask, y_mask, temperature=of["sparc"], **across)
    return values


def value_and_gradients(losses):
    """Every loss, and the gradients of their sum with unequal weights."""

    def weighted(parameters, given, masks):
        values = losses(parameters, given, masks)
        in_order = enumerate(sorted(values.items()))
        return sum((k + 1) * value for k, (_, value) in in_order), values

    def compute(parameters, given, masks):
        (_, values), gradients = jax.value_and_grad(weighted, argnums=(0, 1), has_aux=True)(
            parameters, given, masks
        )
        return values, gradients

    return jax.jit(compute)


def check_equal(found, expected, tolerance):
    """All numbers, and arrays relative to their norm."""
    leaves, structure = jax.tree.flatten_with_path(expected)
    others = structure.flatten_up_to(found)
    for (path, leaf), other in zip(leaves, others, strict=True):
        error = np.linalg.norm(np.asarray(other, np.float64) - np.asarray(leaf))
        scale = max(np.linalg.norm(leaf), 1e-3)
        assert error <= tolerance * scale, (jax.tree_util.keystr(path), error / scale)


@functools.cache
def on_one_device():
    with jax.enable_x64(True):
        found = value_and_gradients(all_losses)(parameters(jnp.float64), *inputs(jnp.float64))
        return jax.device_get(found)


@pytest.mark.parametrize(
    ("dtype", "swapped"),
    [(jnp.float64, False), pytest.param(jnp.float32, True, marks=pytest.mark.long)],
)
def test_every_loss_and_pool_is_that_of_one_device(dtype, swapped):
    expected = on_one_device()
    with jax.enable_x64(dtype == jnp.float64):
        losses = functools.partial(all_losses, swapped=swapped)
        over_mesh = sharded(losses, mesh(), replicated=(0,))
        found = value_and_gradients(over_mesh)(parameters(dtype), *inputs(dtype))
    check_equal(found, expected, 1e-10 if dtype == jnp.float64 else 1e-5)
    gradient_of_x = np.asarray(found[1][1]["x"])
    assert found[1][1]["x"].dtype == dtype
    assert np.abs(gradient_of_x[0]).sum() > 0
    np.testing.assert_array_equal(gradient_of_x[[6, 7, 12]], 0)


def one_loss(temperature, x, y, masks, *, axis_name=None, exchange="gather"):
    pooling = {"pool": "softmax", "temperature": temperature}
    s = pooled_similarity(x, y, *masks, **pooling, axis_name=axis_name, exchange=exchange)
    return fine_grained_nce(s, temperature=temperature, axis_name=axis_name)


def given_to_one_loss():
    given, masks = inputs(jnp.float32)
    return jnp.float32(0.1), given["x"], given["y"], (masks["x_mask"], masks["y_mask"])


@functools.cache
def one_loss_on_one_device():
    compute = jax.jit(jax.value_and_grad(one_loss, argnums=(0, 1, 2)))
    return compute(*given_to_one_loss())


def test_gradients_in_pmap_are_to_be_averaged():
    """In pmap and without check_vma they are of the sum over devices of the one loss."""
    arguments = given_to_one_loss()
    expected = one_loss_on_one_device()

    def local(*arguments):
        loss = functools.partial(one_loss, axis_name="i", exchange="ring")
        value, (dt, *along) = jax.value_and_grad(loss, argnums=(0, 1, 2))(*arguments)
        return value, (jax.lax.pmean(dt, "i"), *(v / DEVICES for v in along))

    temperature, *clips = arguments
    shares = jax.tree.map(lambda v: v.reshape(DEVICES, -1, *v.shape[1:]), clips)
    value, (dt, *along) = jax.pmap(local, "i", in_axes=(None, 0, 0, 0))(temperature, *shares)
    np.testing.assert_allclose(value, np.full(DEVICES, expected[0]), rtol=1e-6)
    joined = [v.reshape(B, *v.shape[2:]) for v in along]
    check_equal((value[0], (dt[0], *joined)), expected, 1e-5)

    by_clip, whole = PartitionSpec("i"), PartitionSpec()
    unchecked = jax.shard_map(
        local,
        mesh=Mesh(np.array(jax.devices()), ("i",)),
        in_specs=(whole, by_clip, by_clip, by_clip),
        out_specs=(whole, (whole, by_clip, by_clip)),
        check_vma=False,
    )
    check_equal(jax.jit(unchecked)(*arguments), expected, 1e-5)


def test_local_losses_have_gradients_to_be_summed():
    """Within a shard_map of one's own, of two axes as one, whether it checks or not."""
    given, _ = inputs(jnp.float32)
    x, y, factors = given["x"], given["y"], given["cotangent"][:, 0]

    def loss(temperature, x, y, factors, axis_name=None):
        S = clip_similarity(x, y, pool="logsumexp", temperature=0.2, axis_name=axis_name)
        each = info_nce(S, temperature=temperature, reduction="none", axis_name=axis_name)
        return jnp.sum(factors * each)

    def local(*arguments):
        compute = functools.partial(loss, axis_name=("a", "b"))
        dt, dx, dy = jax.grad(compute, argnums=(0, 1, 2))(*arguments)
        return jax.lax.psum(dt, ("a", "b")), dx, dy

    arguments = jnp.float32(0.1), x, y, factors
    expected = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arguments)
    by_clip, whole = PartitionSpec(("a", "b")), PartitionSpec()
    unchecked = jax.shard_map(
        local,
        mesh=Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b")),
        in_specs=(whole, by_clip, by_clip, by_clip),
        out_specs=(whole, by_clip, by_clip),
        check_vma=False,
    )
    check_equal(jax.jit(unchecked)(*arguments), expected, 1e-5)


def test_axes_of_any_type_will_do():
    """A mesh with explicit axes, of which one has nothing to do with clips."""
    arguments = given_to_one_loss()
    explicit = jax.make_mesh((4, 2), ("data", "model"), (jax.sharding.AxisType.Explicit,) * 2)
    over_mesh = sharded(one_loss, explicit, axes="data", replicated=(0,))
    compute = jax.value_and_grad(over_mesh, argnums=(0, 1, 2))
    by_clip = jax.NamedSharding(explicit, PartitionSpec("data"))
    everywhere = jax.NamedSharding(explicit, PartitionSpec())
    placed = jax.device_put(arguments[0], everywhere), *jax.device_put(arguments[1:], by_clip)
    check_equal(jax.jit(compute)(*placed), one_loss_on_one_device(), 1e-5)


def test_jit_alone_spreads_a_loss_rightly():
    arguments = given_to_one_loss()
    compute = jax.jit(jax.value_and_grad(one_loss, argnums=(0, 1, 2)))
    by_clip = jax.NamedSharding(mesh(), PartitionSpec("data"))
    placed = jax.device_put(arguments[1:], by_clip)
    check_equal(compute(arguments[0], *placed), one_loss_on_one_device(), 1e-5)


def test_any_loss_will_do():
    """Those of this package, with their options and masks by name, and those of others."""
    given, masks = inputs(jnp.float32)
    x, y, valid = given["x"], given["y"], masks["x_mask"].any(1)
    S = x[:, 0] @ y[:, 0].T
    s = jnp.einsum("bd,cpd->bcp", x[:, 0], y)
    of_phrases = {"mask": masks["y_mask"], "phrase_ids": masks["ids"]}
    for loss, arguments, named in [
        (info_nce, (S,), {"temperature": 0.1, "valid": valid}),
        (sigmoid, (S,), {"temperature": jnp.float32(0.1), "bias": -1.0}),
        (mil_nce, (s,), {"mask": masks["y_mask"], "count_positives_twice": False}),
        (fine_grained_nce, (s,), {"temperature": 0.1, "valid": None, **of_phrases}),
        (functools.partial(sparc, temperature=0.1), (x, y, masks["x_mask"]), {"valid": valid}),
        (lambda x, **across: one_loss(0.1, x, y=x, masks=(None, None), **across), (x,), {}),
    ]:
        over_mesh = functools.partial(sharded(loss, mesh()), **named)
        value, gradient = jax.jit(jax.value_and_grad(over_mesh))(*arguments)
        expected = jax.value_and_grad(functools.partial(loss, **named))(*arguments)
        check_equal((value, gradient), expected, 1e-5)
        assert value > 0


def test_what_is_no_loss_over_devices_is_refused():
    S = jnp.eye(B)
    with pytest.raises(ValueError, match="loss must take axis_name and hand it on, or negatives"):
        sharded(lambda s: info_nce(s, temperature=0.1), mesh())
    with pytest.raises(ValueError, match="exchange 'ring' needs a loss that takes exchange"):
        sharded(info_nce, mesh(), exchange="ring")
    with pytest.raises(ValueError, match=r"scalars, as with reduction 'mean'; got \(2,\)"):
        sharded(info_nce, mesh())(S, temperature=0.1, reduction="none")
    with pytest.raises(ValueError, match="temperature must be a finite number above 0; got 0"):
        sharded(info_nce, mesh())(S, temperature=0)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="exchange must be one of gather, ring; got 'swap'"):
        sharded(one_loss, mesh(), exchange="swap")
    with pytest.raises(ValueError, match="axes of the mesh must be one of data; got 'model'"):
        sharded(one_loss, mesh(), axes="model")
    with pytest.raises(ValueError, match="exchange must be one of gather, ring; got 'swap'"):
        one_loss(*given_to_one_loss(), exchange="swap")
    with pytest.raises(ValueError, match="must be equal; got 1 on each of 8 devices and 2"):
        sharded(info_nce, mesh())(jnp.ones((8, 2)), temperature=1.0)


def test_the_gradient_of_narrow_embeddings_is_summed_in_float32():
    """Eight parts of which a sum in bfloat16 would keep the first alone."""
    small = 2.0**-9
    x = jnp.full((DEVICES, 1, 1), small, jnp.bfloat16).at[0].set(1)
    y = jnp.ones((DEVICES, 1, 1), jnp.bfloat16)

    def total(x, y, *, axis_name, exchange):
        s = pooled_similarity(x, y, pool="mean", axis_name=axis_name, exchange=exchange)
        return jax.lax.psum(s.values.sum(), axis_name)

    for exchange in EXCHANGES:
        over_mesh = sharded(total, mesh(), exchange=exchange)
        gradient = jax.jit(jax.grad(over_mesh, argnums=1))(x, y)
        assert gradient.dtype == jnp.bfloat16
        np.testing.assert_array_equal(gradient, jnp.bfloat16(1 + 7 * small))


def test_x_travels_where_it_is_smaller():
    """One embedding a clip against several captions, as of a coarse term."""
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(B, n, 16)), jnp.float32) for n in (1, 5))
    assert x_travels({"x": x[:2], "y": y[:2]}, returned=5)
    assert not x_travels({"x": y[:2], "y": x[:2]}, returned=1)
    masks = jnp.asarray(rng.random((B, 1)) < 0.9), jnp.asarray(rng.random((B, 5)) < 0.7)

    def compute(loss):
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(jnp.float32(1.0), x, y, masks)

    check_equal(compute(sharded(one_loss, mesh())), compute(one_loss), 1e-5)


PROCESS = """
import json, sys
import jax
rank, port = int(sys.argv[1]), sys.argv[2]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from fgmm.losses import sharded
from tests.losses.test_sharded import given_to_one_loss, one_loss
assert jax.process_count() == 2 and len(jax.devices()) == 8
mesh = Mesh(np.array(jax.devices()), ("data",))
temperature, *clips = given_to_one_loss()
place = NamedSharding(mesh, PartitionSpec("data"))
clips = jax.tree.map(
    lambda v: jax.make_array_from_callback(v.shape, place, lambda i: np.asarray(v)[i]), clips
)
found = {}
for exchange in ("gather", "ring"):
    loss = sharded(one_loss, mesh, replicated=(0,), exchange=exchange)
    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(temperature, *clips)
    whole = multihost_utils.process_allgather(gradients, tiled=True)
    found[exchange] = [float(value), [np.asarray(v).tolist() for v in whole]]
print("FOUND" + json.dumps(found))
"""


def test_two_processes_find_the_same(repository):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **{"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(repository), "PATH": ""},
        **{"XLA_FLAGS": compilation.flags(devices=4), "PJRT_NPROC": "16"},
    }
    command = [sys.executable, "-c", PROCESS]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([*command, str(rank), port], cwd=repository, env=environment, **streams)
        for rank in range(2)
    ]
    try:
        ended = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    value, gradients = one_loss_on_one_device()
    for process, (out, errors) in zip(processes, ended, strict=True):
        assert process.returncode == 0, errors[-2000:]
        (line,) = (line for line in out.splitlines() if line.startswith("FOUND"))
        for found_value, found_gradients in json.loads(line[len("FOUND") :]).values():
            found = (np.array(found_value), tuple(np.array(v) for v in found_gradients))
            check_equal(found, (value, gradients), 1e-5)
