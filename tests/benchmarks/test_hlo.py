"""Bytes and FLOPs read from compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from benchmarks import hlo

DEVICES, TURNS = 4, 3


def collectives(x, w):
    """Each kind once, of 2 x 6 numbers on a device, and in a loop what goes around."""

    def turn(y, _):
        return jnp.tanh(
            lax.ppermute(y @ w, "i", [(i, (i + 1) % DEVICES) for i in range(DEVICES)])
        ), None

    y, _ = lax.scan(turn, x, None, TURNS)
    everyone = jnp.sin(lax.all_gather(y, "i", tiled=True))
    shared = lax.psum_scatter(everyone, "i", tiled=True)
    return lax.psum(shared, "i")


@pytest.fixture(scope="module")
def text():
    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("i",))
    by_row, whole = PartitionSpec("i"), PartitionSpec()
    step = jax.shard_map(collectives, mesh=mesh, in_specs=(by_row, whole), out_specs=whole)
    shapes = (
        jax.ShapeDtypeStruct((2 * DEVICES, 6), "float32"),
        jax.ShapeDtypeStruct((6, 6), "float32"),
    )
    return jax.jit(step).lower(*shapes).compile().as_text()


def test_bytes_are_those_of_rings(text):
    own = 4 * 2 * 6
    found = {t.kind: t for t in hlo.transfers(text)}
    expected = {
        "collective-permute": TURNS * own,
        "all-gather": (DEVICES - 1) * own,
        "reduce-scatter": (DEVICES - 1) * own,
        "all-reduce": 2 * (DEVICES - 1) * own / DEVICES,
    }
    assert {kind: t.received for kind, t in found.items()} == expected
    assert found["collective-permute"].turns == TURNS
    assert found["all-gather"].shapes == ((2 * DEVICES, 6),)
    assert "shard_map" in found["all-gather"].scope


def test_products_count_as_often_as_loops_turn(text):
    (product,) = hlo.products(text)
    assert product.flops == TURNS * 2 * 2 * 6 * 6
    assert "shard_map" in product.scope


def test_a_condition_counts_as_if_it_held():
    def turn(y, _):
        return lax.cond(y[0, 0] > 0, lambda: jnp.tanh(y @ y), lambda: y), None

    step = jax.jit(lambda y: lax.scan(turn, y, None, TURNS)[0])
    (product,) = hlo.products(step.lower(jnp.zeros((6, 6))).compile().as_text())
    assert product.flops == TURNS * 2 * 6 * 6 * 6


@pytest.mark.parametrize(
    "groups",
    ["{{0,1},{2,3}}", "[2,2]<=[4]", "mesh['a'=2,'b'=1,'c'=2], device_ids=([2,2]T(1,0)) {'c'}"],
)
def test_every_way_to_write_groups(groups):
    text = (
        "HloModule m, num_partitions=4\nENTRY %main (p: f32[3]) -> f32[6] {\n"
        f"  %all-gather = f32[6]{{0}} all-gather(%p), replica_groups={groups}, dimensions={{0}}\n}}"
    )
    (transfer,) = hlo.transfers(text)
    assert transfer.received == 12


def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="no known number of turns"):
        hlo.transfers(text.replace("known_trip_count", "unknown"))
    with pytest.raises(ValueError, match="all-gather-start is asynchronous"):
        hlo.transfers(text.replace(" all-gather(", " all-gather-start("))
