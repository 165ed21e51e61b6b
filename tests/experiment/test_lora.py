"""Updates of low rank: their form, their rank, and rules that are refused."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import quickstart
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.experiment import lora
from fgmm.experiment.kernels import input_axes, matrix_shape
from fgmm.experiment.lora import Adapters
from tests.shrunken import shrunken

RNG = np.random.default_rng(0)
PARAMS = {
    "encoders_text": {
        "words": {"embedding": RNG.standard_normal((9, 8)).astype(np.float32)},
        "block_0": {
            "query": {"kernel": RNG.standard_normal((8, 6, 4)).astype(np.float32)},
            "out": {"kernel": RNG.standard_normal((2, 4, 8)).astype(np.float32)},
            "dense": {
                "kernel": RNG.standard_normal((8, 12)).astype(np.float32),
                "bias": np.zeros(12, np.float32),
            },
        },
    }
}
BLOCK = "encoders_text/block_0"
ALL = (("model/.*/block_.*/kernel", 2),)


def adapters(rules=ALL, alpha=3.0):
    return lora.from_config({"rules": rules, "alpha": alpha}, PARAMS)


def kernels(params):
    return {name: layer["kernel"] for name, layer in params["encoders_text"]["block_0"].items()}


def test_kernels_are_matrices_of_inputs_by_outputs():
    shapes = [(8, 12), (8, 6, 4), (8, 1, 8), (2, 4, 8), (1, 8, 8), (3, 3, 5, 7)]
    assert [input_axes(shape) for shape in shapes] == [1, 1, 1, 2, 2, 3]
    assert matrix_shape((8, 6, 4)) == (8, 24)
    assert matrix_shape((3, 3, 5, 7)) == (45, 7)


def test_the_update_is_that_of_its_formula_and_of_its_rank():
    made = adapters()
    params = made.added(PARAMS, jax.random.key(0))
    block = params["encoders_text"]["block_0"]
    assert block["query"]["lora_a"].shape == (8, 2)
    assert block["query"]["lora_b"].shape == (2, 24)
    assert block["out"]["lora_a"].shape == (8, 2)
    assert "lora_a" not in params["encoders_text"]["words"]
    # At first the model is the one that it was.
    jax.tree.map(np.testing.assert_array_equal, made.merged(params), PARAMS)
    for layer in block.values():
        layer["lora_b"] = RNG.standard_normal(layer["lora_b"].shape).astype(np.float32)
    merged = made.merged(params)
    assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)
    for name, kernel in kernels(merged).items():
        before = kernels(PARAMS)[name]
        inputs, outputs = matrix_shape(before.shape)
        update = np.asarray(kernel - before).reshape(inputs, outputs)
        a, b = (np.asarray(block[name][part], np.float64) for part in ("lora_a", "lora_b"))
        np.testing.assert_allclose(update, 1.5 * a @ b, atol=1e-5)
        assert np.linalg.matrix_rank(update, tol=1e-4) == 2
    assert np.array_equal(
        merged["encoders_text"]["words"]["embedding"], PARAMS["encoders_text"]["words"]["embedding"]
    )


def test_numbers_depend_on_the_path_alone_and_have_variance_one_over_inputs():
    one = adapters((("model/.*/out/kernel", 2),)).added(PARAMS, jax.random.key(0))
    other = adapters().added(PARAMS, jax.random.key(0))
    a, b = (found["encoders_text"]["block_0"]["out"]["lora_a"] for found in (one, other))
    np.testing.assert_array_equal(a, b)
    wide = Adapters((("kernel", 64),)).added(
        {"kernel": np.zeros((400, 64), np.float32)}, jax.random.key(1)
    )
    assert float(wide["lora_a"].var()) == pytest.approx(1 / 400, rel=0.05)


def test_the_first_rule_decides_and_rank_0_is_none():
    made = adapters(((".*/out/kernel", 0), (".*/dense/kernel", 5), *ALL))
    assert dict(made.ranks) == {f"{BLOCK}/query/kernel": 2, f"{BLOCK}/dense/kernel": 5}
    assert made.held == {f"model/{BLOCK}/query/kernel", f"model/{BLOCK}/dense/kernel"}
    assert f"model/{BLOCK}/dense/lora_b" in made.paths
    assert str(made) == "2 kernels, rank 2, 5, alpha 3"
    assert not adapters(())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("x", r"='x' must be a list of \(regex, rank\)"),
        ((("(", 2),), "unterminated"),
        (((".*", 1.5),), "a rank is a whole number of at least 1, or 0 for no adapter"),
        (((".*", True),), "a rank is a whole number"),
        (((".*/kernels", 2),), "matches no path; the regex must match the whole path, such as"),
        (((".*/dense/.*", 2),), r"matches model/.*/dense/bias \(12,\), which is no kernel; end"),
        (((".*embedding", 2),), r"matches model/.*/words/embedding \(9, 8\), which is no kernel"),
        (((".*/dense/kernel", 9),), "a larger rank than model/.*/dense/kernel, a matrix of 8 x 12"),
    ],
)
def test_wrong_rules_are_named(rules, message):
    with pytest.raises(ConfigError, match=f"^lora.rules.*?{message}") as caught:
        adapters(rules)
    assert "\n" not in str(caught.value)


def test_adapters_alone_are_trained_by_two_rules_and_kernels_whatever_the_rules_say():
    config = shrunken(quickstart.get_config())
    config.lora.rules = (("model/encoders_text/Block_0/.*kernel", 2),)
    config.optimizer.learning_rate_scale = ((".*kernel", 1.0), (".*/lora_[ab]", 1.0))
    frozen = experiments.build(config).optimizer.frozen
    layer = "model/encoders_text/Block_0/Dense_0"
    assert frozen.holds(f"{layer}/kernel")
    assert not frozen.holds(f"{layer}/lora_a")
    assert not frozen.holds(f"{layer}/bias")
    config.optimizer.learning_rate_scale = ((".*/lora_[ab]", 1.0), (".*", "frozen"))
    experiment = experiments.build(config)
    state = experiment.abstract_state
    moving = flatten_dict(experiment.optimizer.frozen.moving(state.params), sep="/")
    trained = [path for path, moves in moving.items() if moves]
    assert {path.rpartition("/")[2] for path in trained} == {"lora_a", "lora_b"}
    # Two moments of each adapter, and a count.
    sizes = {path: leaf.size for path, leaf in flatten_dict(state.params, sep="/").items()}
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))
    assert moments == 2 * sum(sizes[path] for path in trained) + 1
    config.lora.rules = ((".*/bias", 2),)
    with pytest.raises(ConfigError, match=r"^lora\.rules: .*, which is no kernel"):
        experiments.build(config)
