"""The encoders in PyTorch, for ``encoders.py``, which talks to it in lines of JSON.

It has an environment of its own, with PyTorch and NumPy and nothing of this project but the S3D
that the parity tests are made with. Networks are the usual ones, of ``torch.nn`` modules, with as
many parameters as ours; padding is symmetric, where ours may be that of "SAME".
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.torch_process import answer
from tests.convert import s3d_reference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SQUARE = {"cpu": 2048, "cuda": 8192}[DEVICE.type]


def conv2d(before, after, kernel, stride=1):
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = tuple(size // 2 for size in kernel)
    return nn.Conv2d(before, after, kernel, stride, padding, bias=False)


def conv3d(before, after, kernel, stride=(1, 1, 1)):
    return nn.Conv3d(before, after, kernel, stride, tuple(k // 2 for k in kernel), bias=False)


class S3D(nn.Module):
    """The network of tests/convert/s3d_reference.py up to its last feature map."""

    def __init__(self):
        super().__init__()
        whole = s3d_reference.S3D(words=[])
        del whole.fc, whole.text_module
        self.layers = whole

    def forward(self, x):
        layers, pool = self.layers, s3d_reference.pool
        x = layers.conv1(s3d_reference.space_to_depth(x))[:, :, 1:, 1:, 1:]
        x = layers.conv_2b(pool(x, (1, 3, 3), (1, 2, 2)))
        x = layers.gating(layers.conv_2c(x))
        pools = {"3b": ((1, 3, 3), (1, 2, 2)), "4b": ((3, 3, 3), (2, 2, 2))}
        pools["5b"] = ((2, 2, 2), (2, 2, 2))
        for name in s3d_reference.MIXED:
            if name in pools:
                x = pool(x, *pools[name])
            x = getattr(layers, f"mixed_{name}")(x)
        return x


class Residual(nn.Module):
    """A branch beside a shortcut, which has no layers where shapes stay."""

    def __init__(self, branch, shortcut=()):
        super().__init__()
        self.branch, self.shortcut = nn.Sequential(*branch), nn.Sequential(*shortcut)

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x))


def split(before, after, middle, kernel=3, strides=(1, 1)):
    """A spatial and a temporal convolution."""
    return nn.Sequential(
        conv3d(before, middle, (1, kernel, kernel), (1, strides[1], strides[1])),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        conv3d(middle, after, (3, 1, 1), (strides[0], 1, 1)),
    )


def r2plus1d18():
    """As torchvision's ``r2plus1d_18``."""
    layers = [split(3, 64, 45, 7, (1, 2)), nn.BatchNorm3d(64), nn.ReLU(inplace=True)]
    for before, after in ((64, 64), (64, 128), (128, 256), (256, 512)):
        stride, middle = after // before, 27 * before * after // (9 * before + 3 * after)
        first = split(before, after, middle, strides=(stride, stride))
        shortcut = ()
        if stride > 1:
            shortcut = conv3d(before, after, (1, 1, 1), (stride,) * 3), nn.BatchNorm3d(after)
        for _ in range(2):
            last = split(after, after, middle)
            branch = first, nn.BatchNorm3d(after), nn.ReLU(True), last, nn.BatchNorm3d(after)
            layers.append(Residual(branch, shortcut))
            middle = 27 * after // 12
            first, shortcut = split(after, after, middle), ()
    return nn.Sequential(*layers)


def small_resnet2plus1d(widths=(32, 64, 128), temporal_strides=(1, 2, 1)):
    """As fgmm/models/video/resnet2plus1d.py."""
    before = widths[0]
    layers = [conv3d(3, before, (1, 7, 7), (1, 4, 4)), nn.BatchNorm3d(before), nn.ReLU()]
    for stage, (after, time_stride) in enumerate(zip(widths, temporal_strides, strict=True)):
        stride, shortcut = 2 if stage else 1, ()
        if stage:
            strides = time_stride, stride, stride
            shortcut = conv3d(before, after, (1, 1, 1), strides), nn.BatchNorm3d(after)
        branch = (
            conv3d(before, after, (1, 3, 3), (1, stride, stride)),
            nn.BatchNorm3d(after),
            nn.ReLU(inplace=True),
            conv3d(after, after, (3, 1, 1), (time_stride, 1, 1)),
            nn.BatchNorm3d(after),
        )
        layers.append(Residual(branch, shortcut))
        before = after
    return nn.Sequential(*layers)


def shift(x, clips):
    """Channels shifted in time, as in github.com/mit-han-lab/temporal-shift-module."""
    frames, channels, height, width = x.shape
    x = x.reshape(clips, frames // clips, channels, height, width)
    part = channels // 8
    out = torch.zeros_like(x)
    out[:, :-1, :part] = x[:, 1:, :part]
    out[:, 1:, part : 2 * part] = x[:, :-1, part : 2 * part]
    out[:, :, 2 * part :] = x[:, :, 2 * part :]
    return out.reshape(frames, channels, height, width)


class ResNet(nn.Module):
    """As torchvision's resnet18 and resnet50, on spectrograms, or with shifts on clips."""

    def __init__(self, blocks, bottleneck, colours=1, shifted=False):
        super().__init__()
        self.shifted = shifted
        self.stem = nn.Sequential(
            conv2d(colours, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        )
        self.blocks = nn.ModuleList()
        before = 64
        for stage, count in enumerate(blocks):
            for number in range(count):
                width, stride = 64 * 2**stage, 2 if number == 0 and stage else 1
                if bottleneck:
                    widths, sizes = (before, width, width, 4 * width), ((1, 1), (3, stride), (1, 1))
                else:
                    widths, sizes = (before, width, width), ((3, stride), (3, 1))
                layers = []
                for i, (kernel, step) in enumerate(sizes):
                    layers += [conv2d(widths[i], widths[i + 1], kernel, step)]
                    layers += [nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True)]
                shortcut = ()
                if stride > 1 or before != widths[-1]:
                    norm = nn.BatchNorm2d(widths[-1])
                    shortcut = conv2d(before, widths[-1], 1, stride), norm
                self.blocks.append(Residual(layers[:-1], shortcut))
                before = widths[-1]

    def forward(self, x):
        clips = len(x)
        if self.shifted:
            x = x.transpose(1, 2).flatten(0, 1)
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        for block in self.blocks:
            y = block.branch(shift(x, clips) if self.shifted else x)
            x = F.relu(y + block.shortcut(x))
        return x.unflatten(0, (clips, -1)).transpose(1, 2) if self.shifted else x


def small_resnet(widths=(32, 64, 128)):
    """As fgmm/models/audio/resnet.py."""

    def layer(before, after, kernel, stride):
        return conv2d(before, after, kernel, stride), nn.BatchNorm2d(after), nn.ReLU(inplace=True)

    before = widths[0]
    layers = [*layer(1, before, 5, 2)]
    for stage, after in enumerate(widths):
        stride = 2 if stage else 1
        branch = *layer(before, after, 3, stride), *layer(after, after, 3, 1)[:-1]
        layers.append(Residual(branch, layer(before, after, 1, stride)[:-1] if stage else ()))
        before = after
    return nn.Sequential(*layers)


def rotate(x):
    """Rotary positions of x [M, heads, L, E]."""
    length, half = x.shape[2], x.shape[3] // 2
    frequency = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(length, device=x.device)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Attention(nn.Module):
    def __init__(self, width, heads, rotary=False):
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        M, L, E = x.shape
        qkv = self.qkv(self.norm(x)).reshape(M, L, 3, self.heads, E // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = rotate(q), rotate(k)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(M, L, E))


def perceptron(width):
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width),
        nn.GELU(approximate="tanh"),
        nn.Linear(4 * width, width),
    )


class ViViT(nn.Module):
    """Model 3, ViT-S: attention over space, then over time, in each block."""

    def __init__(self, width=384, depth=12, heads=6, cells=49):
        super().__init__()
        self.embedding = nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16))
        self.register_buffer("positions", torch.randn(cells, width))
        self.space = nn.ModuleList(Attention(width, heads) for _ in range(depth))
        self.time = nn.ModuleList(Attention(width, heads, rotary=True) for _ in range(depth))
        self.perceptrons = nn.ModuleList(perceptron(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.embedding(x)
        B, E, T, H, W = x.shape
        x = x.permute(0, 2, 3, 4, 1).reshape(B, T, H * W, E) + self.positions
        for space, time_, mlp in zip(self.space, self.time, self.perceptrons, strict=True):
            x = x + space(x.reshape(B * T, H * W, E)).reshape(x.shape)
            by_cell = x.transpose(1, 2).reshape(B * H * W, T, E)
            x = x + time_(by_cell).reshape(B, H * W, T, E).transpose(1, 2)
            x = x + mlp(x)
        return self.norm(x).reshape(B, T, H, W, E).permute(0, 4, 1, 2, 3)


class AST(nn.Module):
    """ViT-B over overlapping patches."""

    def __init__(self, width=768, depth=12, heads=12, grid=(19, 7)):
        super().__init__()
        self.embedding = nn.Conv2d(1, width, 16, 10)
        self.register_buffer("positions", torch.randn(grid[0] * grid[1], width))
        self.attention = nn.ModuleList(Attention(width, heads) for _ in range(depth))
        self.perceptrons = nn.ModuleList(perceptron(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.embedding(x)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2) + self.positions
        for attention, mlp in zip(self.attention, self.perceptrons, strict=True):
            x = x + attention(x)
            x = x + mlp(x)
        return self.norm(x).transpose(1, 2).unflatten(2, grid)


# By name in a config: how it is made of the shape of its input [B,T,H,W,3] or [B,T,F].
NETWORKS = {
    "s3d": lambda shape: S3D(),
    "tsm_resnet50": lambda shape: ResNet((3, 4, 6, 3), True, 3, shifted=True),
    "r2plus1d18": lambda shape: r2plus1d18(),
    "vivit": lambda shape: ViViT(cells=(shape[2] // 16) * (shape[3] // 16)),
    "resnet2plus1d": lambda shape: small_resnet2plus1d(),
    "resnet18": lambda shape: ResNet((2, 2, 2, 2), False),
    "resnet50": lambda shape: ResNet((3, 4, 6, 3), True),
    "ast": lambda shape: AST(grid=tuple((size - 16) // 10 + 1 for size in shape[1:])),
    "resnet": lambda shape: small_resnet(),
}
# These consist of matrix products, for which the memory format makes no difference.
TRANSFORMERS = ("vivit", "ast")


def synchronise():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def passes(network, run, x, dtype):
    """The two passes of a network by name; ``run`` is what it is called by."""
    autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == "bfloat16")

    def forward():
        network.eval()
        with torch.inference_mode(), autocast:
            run(x)

    def both():
        network.train()
        network.zero_grad(set_to_none=True)
        with autocast:
            loss = run(x).float().square().mean()
        loss.backward()

    return {"forward": forward, "forward and backward": both}


def prepare(name, shape, dtype, compiled):
    """Makes the network in each memory format; returns its description, and functions to time."""
    torch.manual_seed(0)
    x = torch.randn(shape, device=DEVICE)
    # [B,T,H,W,3] and [B,T,F] to the axes of PyTorch; in memory, channels stay last for now.
    x = x.movedim(-1, 1) if x.ndim == 5 else x[:, None]
    network = NETWORKS[name](shape).to(DEVICE)
    with torch.no_grad():
        output = list(network.eval()(x).movedim(1, -1).shape)
    parameters = sum(weight.numel() for weight in network.parameters())
    ways = {"contiguous": (network, network, x.contiguous())}
    if name not in TRANSFORMERS:
        # A network over clips may fold time into the batch and have weights of two dimensions.
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        last = NETWORKS[name](shape).to(DEVICE)
        dimensions = max(weight.ndim for weight in last.parameters())
        last.to(memory_format=formats[dimensions])
        ways["channels last"] = (last, last, x.contiguous(memory_format=formats[x.ndim]))
    if compiled:
        way, (network, _, x) = list(ways.items())[-1]
        ways[f"{way}, compiled"] = (network, torch.compile(network), x)
    kinds = {
        f"{way}: {pass_}": function
        for way, arguments in ways.items()
        for pass_, function in passes(*arguments, dtype).items()
    }
    kinds["square"] = square(dtype)
    return {"parameters": parameters, "output": output, "ways": list(ways)}, kinds


def square(dtype):
    matrix = torch.ones(SQUARE, SQUARE, dtype=getattr(torch, dtype), device=DEVICE)
    return lambda: torch.mm(matrix, matrix)


def main():
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    answer(prepare, synchronise)


if __name__ == "__main__":
    main()
