"""Layers of encoders, in the order in which they are applied."""

import pytest

from configs import quickstart
from fgmm import components
from fgmm.experiment import build as experiments
from fgmm.experiment import layer_decay
from fgmm.experiment.rules import value_for
from tests.models.small import small
from tests.shrunken import shrunken

TWO_BLOCKS = [["embedding"], ["block_0"], ["block_1", "norm"]]
ORDER = {
    ("video", "vivit"): TWO_BLOCKS,
    ("audio", "ast"): TWO_BLOCKS,
    ("text", "phrase_transformer"): [["Embed_0"], ["Block_0", "LayerNorm_0"]],
    ("text", "phrase_bag"): [["word_embd"], ["fc1"]],
    ("video", "resnet2plus1d"): [["ConvBlock2D_0"], ["Block_0"], ["Block_1"]],
    ("video", "tsm_resnet50"): [["conv1"], ["layer1_0"], ["layer2_0", "bn_last"]],
    ("video", "s3d"): [["conv1"], ["conv_2b"], ["conv_2c"], ["gating"], ["mixed_3b"]],
}


@pytest.mark.parametrize(("modality", "name"), ORDER)
def test_layers_are_in_the_order_of_application(modality, name):
    config = shrunken(quickstart.get_config("fine=none"))
    config.model[modality] = small(modality, name)
    config.optimizer.layer_decay = 0.5
    config.optimizer.weight_decay = ()
    experiment = experiments.build(components.complete(config))
    model, transforms, shape = experiment.model, experiment.transforms, experiment.shape
    found = experiments._layers(model, transforms, shape)[f"encoders_{modality}"]
    order = ORDER[modality, name]
    assert [[path.rpartition("/")[2] for path in layer] for layer in found] == order
    rules = layer_decay.scale_rules({"x": found}, 0.5)
    depth = len(order)
    for number, layer in enumerate(found):
        for path in layer:
            assert value_for(f"{path}/kernel", rules, 1.0) == 0.5 ** (depth - number)
    assert value_for("model/heads_joint_video/coarse/kernel", rules, 1.0) == 1.0


def test_a_name_that_begins_as_another_is_another():
    rules = layer_decay.scale_rules({"x": [["model/e/block_1"], ["model/e/block_10"]]}, 0.5)
    assert value_for("model/e/block_1/kernel", rules, 1.0) == 0.25
    assert value_for("model/e/block_10/kernel", rules, 1.0) == 0.5
