import jax
import ml_collections
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.experiment.rules import path_of
from fgmm.train import mesh as meshes
from fgmm.train import sharding
from tests.shrunken import shrunken


def specs(fsdp=2, **options):
    config = shrunken(quickstart.get_config(), steps=10)
    config.mesh.update(fsdp=fsdp, **options)
    experiment = experiments.build(components.complete(ml_collections.ConfigDict(config)))
    mesh = meshes.make_mesh(fsdp=fsdp)
    state = jax.eval_shape(experiment.init, 0)
    shapes = {path_of(at): leaf.shape for at, leaf in jax.tree_util.tree_leaves_with_path(state)}
    of_state = sharding.of_state(experiment, mesh)
    found = {path_of(at): leaf.spec for at, leaf in jax.tree_util.tree_leaves_with_path(of_state)}
    assert found.keys() == shapes.keys()
    return found, shapes


def is_cut(spec):
    return "fsdp" in tuple(spec)


def test_without_fsdp_every_device_holds_everything():
    found, _ = specs(fsdp=1, fsdp_minimum=1)
    assert not any(map(is_cut, found.values()))


def test_large_arrays_are_cut_along_their_longest_divisible_axis():
    found, shapes = specs(fsdp=4, fsdp_minimum=500)
    of_parameters = {path: spec for path, spec in found.items() if path.startswith("params/")}
    assert any(map(is_cut, of_parameters.values()))
    for path, spec in of_parameters.items():
        shape = shapes[path]
        divisible = [size for size in shape if size % 4 == 0]
        assert is_cut(spec) == bool(np.prod(shape) >= 500 and divisible)
        if is_cut(spec):
            assert shape[tuple(spec).index("fsdp")] == max(divisible)


def test_moments_are_where_their_parameter_is():
    found, _shapes = specs(fsdp=2, fsdp_minimum=500)
    moments = {path: spec for path, spec in found.items() if path.startswith("opt_state/")}
    parameters = {path[len("params/") :] for path in found if path.startswith("params/")}
    compared = 0
    for path, spec in moments.items():
        names = [name for name in parameters if path.endswith("/" + name)]
        if names:
            name = max(names, key=len)
            assert spec == found["params/" + name]
            compared += is_cut(spec)
    assert compared >= 2 * sum(is_cut(found["params/" + name]) for name in parameters) > 0


def test_the_first_rule_that_matches_decides():
    rules = (("model/.*embedding", ("", "fsdp")), ("model/heads_.*", ()), ("model/.*", "auto"))
    found, shapes = specs(fsdp=2, rules=rules, fsdp_minimum=10**9)
    for path, spec in found.items():
        if path.startswith("params/model/"):
            if path.endswith("embedding"):
                assert spec == PartitionSpec(None, "fsdp")
            elif "/heads_" in path:
                assert not is_cut(spec)
            else:
                assert is_cut(spec) == any(size % 2 == 0 for size in shapes[path])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("model/(", "auto"),), "unterminated"),
        ((("model/.*", "data"),), "a spec is 'auto' or names '' or 'fsdp' for each axis"),
        ((("model/.*", ("fsdp", "fsdp")),), "one axis at most can be cut"),
        ((("model/.*bias", ("", "fsdp")),), "is for more axes than model/.* has"),
        ((("model/.*Kernel", "auto"),), "matches no path; .* whole path, such as model/"),
        (("model/.*",), r"each entry must be \(regex, spec\)"),
    ],
)
def test_wrong_rules_are_named(rules, message):
    with pytest.raises(ConfigError, match=f"mesh.rules.*{message}"):
        specs(fsdp=2, rules=rules)


def test_a_rule_that_matches_nothing_is_named_without_fsdp():
    with pytest.raises(ConfigError, match=r"mesh\.rules: .* matches no path"):
        specs(fsdp=1, rules=(("model/.*Kernel", "auto"),))


def test_an_axis_that_does_not_divide_is_named():
    with pytest.raises(ConfigError, match=r"cuts .* along an axis that mesh.fsdp=8 does not"):
        specs(fsdp=8, rules=((".*embedding", ("fsdp", "")), (".*kernel", ("", "", "fsdp"))))


def test_gathered_parameters_have_the_gradient_of_whole_ones():
    mesh = meshes.make_mesh(fsdp=4)
    cut = jax.sharding.NamedSharding(mesh, PartitionSpec("fsdp"))
    x = jax.device_put(np.arange(8.0, dtype=np.float32), cut)

    def loss(x):
        return (sharding.gathered({"x": x}, {"x": cut})["x"] ** 3).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(x)
    assert value == np.sum(np.arange(8.0) ** 3)
    np.testing.assert_array_equal(gradient, 3 * np.arange(8.0) ** 2)
    assert {shard.data.shape for shard in gradient.addressable_shards} == {(2,)}
