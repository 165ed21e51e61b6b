"""Makes ``s3d_reference.npz`` and the ``.pth`` files beside it; run by hand, in an environment with
PyTorch::

    python tests/convert/s3d_reference.py

The network that MIL-NCE was published with (Miech et al., arXiv 1912.06430), written from its
description in ``torch.nn`` modules named as in the published state dict, runs on random weights and
random input. The file holds what came out, at several layers, and which shapes went in.
"""

import json
import pathlib
import re
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.convert.s3d_weights import random_frames, random_weights

HERE = pathlib.Path(__file__).parent
# Clips [B,T,H,W,3]; pools meet odd and even sizes on every axis.
SEED, CLIPS = 1, (2, 12, 40, 56, 3)
WORDS = ["add", "the", "chopped", "onions", "to", "a", "pan", "and", "fry", "them", "until"]
WORDS += ["they're", "golden", "brown", "it's", "done"]
CAPTIONS = [
    "Add the chopped onions!",
    "they're DONE; it's golden-brown",
    "then, quickly, fry them",
    "nothing known",
    "add " * 15 + "the onions are past the sixteenth word",
    "",
]
# One value in so many is kept along each axis of [B,C,T,H,W].
SAMPLED = {
    "conv1": (1, 16, 2, 4, 4),
    "gating": (1, 16, 2, 3, 3),
    "mixed_3c": (1, 16, 1, 2, 2),
    "mixed_4f": (1, 16, 1, 1, 1),
    "mixed_5c": (1, 2, 1, 1, 1),
}
MIXED = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


class Conv(nn.Module):
    def __init__(self, inputs, outputs, kernel=(1, 1, 1), padding=(0, 0, 0), separable=False):
        super().__init__()
        self.separable = separable
        time, *space = kernel
        first, before = (kernel, padding)
        if separable:
            first, before = (1, *space), (0, *padding[1:])
            self.conv2 = nn.Conv3d(
                outputs, outputs, (time, 1, 1), padding=(padding[0], 0, 0), bias=False
            )
            self.bn2 = nn.BatchNorm3d(outputs)
        self.conv1 = nn.Conv3d(inputs, outputs, first, padding=before, bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x))) if self.separable else x


class Gating(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return x * torch.sigmoid(self.fc(x.mean((2, 3, 4))))[:, :, None, None, None]


class Mixed(nn.Module):
    def __init__(self, inputs, b0, b1_a, b1_b, b2_a, b2_b, b3_b):
        super().__init__()
        wide = {"kernel": (3, 3, 3), "padding": (1, 1, 1), "separable": True}
        self.conv_b0 = Conv(inputs, b0)
        self.conv_b1_a, self.conv_b1_b = Conv(inputs, b1_a), Conv(b1_a, b1_b, **wide)
        self.conv_b2_a, self.conv_b2_b = Conv(inputs, b2_a), Conv(b2_a, b2_b, **wide)
        self.conv_b3_b = Conv(inputs, b3_b)
        for branch, width in enumerate((b0, b1_b, b2_b, b3_b)):
            setattr(self, f"gating_b{branch}", Gating(width))

    def forward(self, x):
        b0 = self.conv_b0(x)
        b1 = self.conv_b1_b(self.conv_b1_a(x))
        b2 = self.conv_b2_b(self.conv_b2_a(x))
        b3 = self.conv_b3_b(F.max_pool3d(x, 3, stride=1, padding=1))
        gated = [getattr(self, f"gating_b{i}")(b) for i, b in enumerate((b0, b1, b2, b3))]
        return torch.cat(gated, 1)


def pool(x, kernel, stride):
    """Zeros around, (kernel - stride) of them, the low half first; ceil mode."""
    around = []
    for size, step in zip(reversed(kernel), reversed(stride), strict=True):
        around += [(size - step) // 2, size - step - (size - step) // 2]
    return F.max_pool3d(F.pad(x, around), kernel, stride, ceil_mode=True)


def space_to_depth(x):
    """[B,3,T,H,W] to [B,24,T/2,H/2,W/2], channels in the order (t, h, w, colour)."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // 2, 2, h // 2, 2, w // 2, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    return x.reshape(b, 8 * c, t // 2, h // 2, w // 2)


class Text(nn.Module):
    def __init__(self, words, width):
        super().__init__()
        self.place = {word: i for i, word in enumerate(words, start=1)}
        self.word_embd = nn.Embedding(len(words) + 1, 300)
        self.fc1, self.fc2 = nn.Linear(300, 2048), nn.Linear(2048, width)

    def forward(self, captions):
        found = [re.findall(r"[\w']+", caption.lower()) for caption in captions]
        ids = [[self.place[word] for word in words if word in self.place] for words in found]
        ids = torch.tensor([(places + 16 * [0])[:16] for places in ids])
        return self.fc2(F.relu(self.fc1(self.word_embd(ids))).max(1).values)


class S3D(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.conv1 = Conv(24, 64, (2, 4, 4), (1, 2, 2))
        self.conv_2b = Conv(64, 64)
        self.conv_2c = Conv(64, 192, (3, 3, 3), (1, 1, 1), separable=True)
        self.gating = Gating(192)
        for name, widths in MIXED.items():
            setattr(self, f"mixed_{name}", Mixed(*widths))
        self.fc = nn.Linear(1024, 512)
        self.text_module = Text(words, 512)

    def forward(self, x):
        seen = {"conv1": self.conv1(space_to_depth(x))[:, :, 1:, 1:, 1:]}
        x = self.conv_2b(pool(seen["conv1"], (1, 3, 3), (1, 2, 2)))
        seen["gating"] = x = self.gating(self.conv_2c(x))
        pools = {"3b": ((1, 3, 3), (1, 2, 2)), "4b": ((3, 3, 3), (2, 2, 2))}
        pools["5b"] = ((2, 2, 2), (2, 2, 2))
        for name in MIXED:
            if name in pools:
                x = pool(x, *pools[name])
            seen[f"mixed_{name}"] = x = getattr(self, f"mixed_{name}")(x)
        return self.fc(x.mean((2, 3, 4))), seen


class InTorchScript(nn.Module):
    """Modules within modules, half precision, a buffer, and attributes that are no tensors."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2).half())
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("length", torch.tensor(77))
        self.sizes, self.pair, self.name = [1, 2, 3], (1, 2.0), "x"
        with torch.no_grad():
            self.visual[1].weight.copy_(torch.arange(6.0).reshape(2, 3))

    def forward(self, x):
        return self.visual[0](x) * self.scale


def main():
    model = S3D(WORDS).eval()
    shapes = {name: list(array.shape) for name, array in model.state_dict().items()}
    weights = random_weights(shapes)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    kept = {"shapes": json.dumps(shapes), "words": WORDS, "captions": CAPTIONS}
    with torch.no_grad():
        kept["text"] = model.text_module(CAPTIONS).numpy()
        x = torch.from_numpy(random_frames(SEED, CLIPS)).permute(0, 4, 1, 2, 3) / 255
        embedding, seen = model(x)
        kept |= {"seed": SEED, "clips": CLIPS, "video": embedding.numpy()}
        for layer, steps in SAMPLED.items():
            array = seen[layer][tuple(slice(None, None, step) for step in steps)]
            kept |= {layer: array.numpy(), f"{layer}_steps": steps}
            print(f"{layer}: {tuple(seen[layer].shape)}, spread {array.std():.3g}")
        print(f"video: spread {embedding.std():.3g}; text: spread {kept['text'].std():.3g}")
    np.savez_compressed(HERE / "s3d_reference.npz", **kept)

    # Small files as PyTorch writes them, for the reader.
    tensors = {
        "a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).t(),  # strides (1, 4)
        "a.brain": torch.tensor([[1.5, -3.0]], dtype=torch.bfloat16),
        "a.half": torch.tensor([0.5, -2.0], dtype=torch.float16),
        "a.bias": torch.arange(10, dtype=torch.float32)[2:5],  # within another's storage
        "a.count": torch.tensor(7),
    }
    torch.save(tensors, HERE / "small_zip.pth")
    torch.save(tensors, HERE / "small_legacy.pth", _use_new_zipfile_serialization=False)
    model = nn.BatchNorm1d(2)
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, HERE / "small_nested.pth")
    torch.save(model, HERE / "small_module.pth")
    torch.jit.script(InTorchScript()).save(HERE / "small_torchscript.pt")


if __name__ == "__main__":
    main()
