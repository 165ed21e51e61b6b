"""What devices receive for a loss is what ``received_bytes`` says, by the compiled programs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from benchmarks import hlo
from fgmm.losses import (
    clip_keys,
    clip_similarity,
    fine_grained_nce,
    hardest_candidates,
    importance_candidates,
    info_nce,
    mil_nce,
    pooled_similarity,
    sharded,
    sigmoid,
    sparc,
)
from fgmm.losses.exchange import EXCHANGES, x_travels
from fgmm.losses.sharded import received_bytes
from fgmm.losses.similarity import DIRECTIONS
from tests.losses.test_sharded import DEVICES, mesh


def received(compiled):
    """Bytes that a device receives from others, scalars aside, and the shapes that are gathered."""
    total, gathered = 0, []
    for transfer in hlo.transfers(compiled.as_text()):
        if transfer.kind == "all-reduce":
            assert all(math.prod(shape) == 1 for shape in transfer.shapes), transfer
            continue
        total += transfer.received
        gathered += transfer.shapes if transfer.kind == "all-gather" else ()
    return total, gathered


def measured_loss(name, direction="y_to_x", gates=""):
    def loss(temperature, x, y, x_mask, y_mask, ids, *, axis_name, exchange):
        across = {"axis_name": axis_name, "exchange": exchange}
        given = (x, y, x_mask, y_mask)
        contrast = {"temperature": temperature, "axis_name": axis_name}
        if name == "sparc":
            return sparc(*given, **contrast)
        pooling = {"pool": "softmax", "temperature": temperature}
        if name in ("info_nce", "sigmoid"):
            gated = {f"{side}_gate": {"x": x, "y": y}[side][:, :, 0] for side in gates}
            S = clip_similarity(*given, **pooling, direction=direction, **gated, **across)
            if name == "sigmoid":
                return sigmoid(S, bias=-10.0, **contrast)
            return info_nce(S, **contrast)
        s = pooled_similarity(*given, **pooling, **across)
        if name == "mil_nce":
            return mil_nce(s, **contrast)
        return fine_grained_nce(s, phrase_ids=ids, **contrast)

    return loss


def loss_of_candidates(negatives):
    """Chosen by the first embedding of each side."""

    def loss(temperature, x, y, x_mask, y_mask, ids, *, axis_name):
        across = {"axis_name": axis_name}
        masks = x_mask.any(1, keepdims=True), y_mask.any(1, keepdims=True)
        coarse = clip_similarity(x[:, :1], y[:, :1], *masks, pool="mean", **across)
        options = {"k": 5, "temperature": temperature, **across}
        counts = None
        if negatives == "hardest":
            candidates = hardest_candidates(coarse, **options)
        else:
            keys = clip_keys(jax.random.key(0), len(x), axis_name)
            candidates, counts = importance_candidates(coarse, **options, keys=keys)
        pooling = {"pool": "softmax", "temperature": temperature, "candidates": candidates}
        S = clip_similarity(x, y, x_mask, y_mask, **pooling, **across)
        S = dataclasses.replace(S, counts=counts)
        return info_nce(S, temperature=temperature, **across)

    return loss


def compiled_step(name, exchange, clips, N, P, D, **scoring):
    """Value and gradient of a loss, compiled for ``clips`` on each device."""
    negatives = scoring.pop("negatives", "all")
    loss = measured_loss(name, **scoring) if negatives == "all" else loss_of_candidates(negatives)
    over_mesh = sharded(loss, mesh(), exchange=exchange)
    total = clips * DEVICES
    shapes = [((), float), ((total, N, D), float), ((total, P, D), float)]
    shapes += [((total, N), bool), ((total, P), bool), ((total, P), int)]
    sharding = jax.NamedSharding(mesh(), PartitionSpec("data"))
    arguments = [
        jax.ShapeDtypeStruct(
            shape,
            {float: jnp.float32, int: jnp.int32}.get(kind, kind),
            sharding=sharding if shape else jax.NamedSharding(mesh(), PartitionSpec()),
        )
        for shape, kind in shapes
    ]
    return jax.jit(jax.value_and_grad(over_mesh, argnums=(0, 1, 2))).lower(*arguments).compile()


# Of clips on each device, N, P and D; in the second x is the smaller side.
SHAPE, SHAPE_OF_COARSE = (4, 10, 3, 6), (2, 1, 5, 32)


@pytest.mark.parametrize(
    ("name", "exchange", "shape"),
    [
        ("fine_grained_nce", "gather", SHAPE),
        ("fine_grained_nce", "ring", SHAPE),
        ("mil_nce", "gather", SHAPE_OF_COARSE),
        ("info_nce", "gather", SHAPE),
        ("sigmoid", "gather", SHAPE),
        ("sparc", "gather", SHAPE),
    ],
)
def test_the_bytes_received_are_those_of_the_formula(name, exchange, shape):
    check_received(name, exchange, shape)


@pytest.mark.parametrize(
    ("direction", "gates", "exchange", "shape"),
    [
        *((direction, "", "gather", SHAPE_OF_COARSE) for direction in DIRECTIONS),
        *(("y_to_x", "y", *sent) for sent in (("gather", SHAPE), ("ring", SHAPE))),
        *(("x_to_y", "x", *sent) for sent in (("gather", SHAPE), ("ring", SHAPE))),
        *(("symmetric", "xy", *sent) for sent in (("gather", SHAPE), ("ring", SHAPE))),
        ("y_to_x", "y", "gather", SHAPE_OF_COARSE),
        ("x_to_y", "x", "gather", SHAPE_OF_COARSE),
        ("symmetric", "x", "gather", SHAPE_OF_COARSE),
        ("symmetric", "xy", "gather", (2, 2, 5, 32)),
    ],
)
def test_gates_and_directions_are_counted(direction, gates, exchange, shape):
    check_received("info_nce", exchange, shape, direction=direction, gates=gates)


def check_received(name, exchange, shape, direction="y_to_x", gates=""):
    clips, N, P, D = shape
    compiled = compiled_step(name, exchange, *shape, direction=direction, gates=gates)
    total, gathered = received(compiled)
    sizes = {"devices": DEVICES, "clips": clips, "N": N, "P": P, "D": D, "exchange": exchange}
    scoring = {"direction": direction, "x_gated": "x" in gates, "y_gated": "y" in gates}
    assert total == received_bytes(name, **sizes, **scoring)
    sizes = {math.prod(shape) for shape in gathered}
    whole = DEVICES * clips * D
    x_sent = shape != SHAPE
    assert (whole * N in sizes) == x_sent
    assert (whole * P in sizes) == (exchange == "gather" and not x_sent and name != "sparc")


@pytest.mark.parametrize(
    "negatives", ["hardest", pytest.param("importance", marks=pytest.mark.long)]
)
def test_the_choice_of_candidates_is_counted(negatives):
    clips, N, P, D = SHAPE
    total, _ = received(compiled_step("info_nce", "gather", *SHAPE, negatives=negatives))
    sizes = {"devices": DEVICES, "clips": clips, "N": N, "P": P, "D": D}
    assert total == received_bytes("info_nce", **sizes, negatives=negatives)


def test_x_travels_more_often_where_one_number_comes_back():
    """A gate of phrases makes scores [b,C] of what would be [b,C,P]."""
    shapes = {"x": (64, 1, 16), "y": (64, 5, 16), "y_weights": (64, 5)}
    sides = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    # There and back: 64 · (16 + 64 · returned) numbers, instead of 64 · (5 · 16 + 5).
    assert x_travels(sides, returned=1)
    assert not x_travels(sides, returned=5)
    # With eight local embeddings a clip their weights are too much.
    assert not x_travels({**sides, "x_weights": jnp.zeros((64, 8))}, returned=1)


def test_a_ring_never_holds_all_of_y():
    shape = 4, 8, 8, 512
    held = {
        exchange: compiled_step("info_nce", exchange, *shape).memory_analysis().temp_size_in_bytes
        for exchange in EXCHANGES
    }
    chunk = 4 * shape[0] * shape[2] * shape[3]
    # y of all devices and its gradient, once each at least.
    assert held["gather"] > 2 * DEVICES * chunk
    assert held["ring"] < held["gather"] - DEVICES * chunk
