"""A model of the time of a training step on n accelerators, from FLOPs, bytes and data sheets.

No time here was measured. Each of n devices has b clips, so C = n·b clips are compared. A clip has
N local embeddings and J = K·P phrases, all of width D. u is the share of a device's peak that
products reach, the same for encoders and for the loss::

    encoder    (3 + r) · F · b / (u · peak)      F: forward FLOPs of a clip; r = 1 with grad_cache
    products   k · b·C·N·J · max(2·D / (u · peak of float32), 4 / memory)
    passes     b·C·N·J · 16 / memory
    exchange   received_bytes / network          fgmm/losses/sharded.py
    gradients  8 · parameters · (n − 1)/n / network

``blockwise`` computes k = 4 products of a block of a (fgmm/losses/blockwise.py), and 5 with the
ring exchange, which repeats the forward pass (fgmm/losses/exchange.py). On an accelerator a block
is written to memory between products. Each product writes or reads 4 bytes of an entry. The passes
between them move 16: the pool reads a twice, its derivative reads a and writes ∂a, each as one
fused pass. ``kernel`` keeps a in registers and computes 5 products of bfloat16.

Parts follow one another. The ring exchange alone overlaps, with its products: the longer of the two
counts. Latency, reading, augmentation and the optimizer are left out.
"""

import dataclasses
import math
from typing import NamedTuple

from fgmm.losses.sharded import received_bytes

TARGET = 0.15
# The share of a device's memory that a program may use. Clips of a device are a multiple of this.
_USABLE, _MULTIPLE = 0.9, 4
# Parameters, their gradient and two moments, float32.
_STATE_BYTES = 16


@dataclasses.dataclass(frozen=True)
class Machine:
    """Data-sheet figures of an accelerator. Those of networks are for one direction.

    Attributes:
      peak, peak_float32: FLOP/s of products of bfloat16, and of float32 at JAX's default precision.
      memory: bytes a second of the device's memory.
      capacity: its bytes.
      node: devices that the faster network joins.
      inside, outside: bytes a second that a device receives within a node, and a node from other
        nodes; rings run side by side, one through each connection.
      hop_inside, hop_outside: bytes a second through a single connection.
    """

    name: str
    peak: float
    peak_float32: float
    memory: float
    capacity: float
    node: int | float
    inside: float
    outside: float
    hop_inside: float
    hop_outside: float

    def network(self, devices: int, exchange: str = "gather") -> float:
        """Bytes a second that a device receives in a collective of so many devices."""
        one_ring = exchange == "ring"
        within = self.hop_inside if one_ring else self.inside
        if devices <= self.node:
            return within
        return min(within, self.hop_outside if one_ring else self.outside)


_H100 = Machine(
    *("H100", 989.4e12, 494.7e12, 3.35e12, 80e9),
    # NVLink, 900 GB/s both ways; 400 Gbit/s of network for each device of a node of 8.
    *(8, 450e9, 8 * 50e9, 450e9, 50e9),
)
MACHINES = {
    "h100": _H100,
    "h100_100g": dataclasses.replace(
        _H100, name="H100, 100 Gbit/s a node", outside=12.5e9, hop_outside=12.5e9
    ),
    # Six links of 100 GB/s one way; products of float32 are one pass in bfloat16.
    "tpu_v5p": Machine(
        *("TPU v5p", 459e12, 459e12, 2.765e12, 95e9), *(math.inf, 600e9, 600e9, 100e9, 100e9)
    ),
}


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a clip costs a device, as counted by ``benchmarks/scaling.py --count``.

    Attributes:
      forward_flops: of encoders and heads, with all captions of the clip.
      parameters: how many the model has.
      kept_bytes: what the forward pass keeps for the backward pass.
      N, K, P, D: embeddings of a clip, captions, phrases of a caption, width.
    """

    name: str
    forward_flops: float
    parameters: int
    kept_bytes: int
    N: int
    K: int
    P: int
    D: int

    def largest_batch(self, machine: Machine) -> int:
        """Clips that fit on a device."""
        room = _USABLE * machine.capacity - _STATE_BYTES * self.parameters
        return int(room / self.kept_bytes) // _MULTIPLE * _MULTIPLE


@dataclasses.dataclass(frozen=True)
class Options:
    """What changes the cost of the fine-grained loss.

    Attributes:
      exchange, implementation: as in a config; 'kernel' goes with embeddings in bfloat16.
      grad_cache: whether clips are embedded twice.
      width, phrases: D and P of the fine space instead of the workload's; 0 for the workload's.
      pooled: how many local embeddings are pooled to one.
      candidates: captions that a clip is compared with, chosen by coarse scores; 0 for all.
      utilisation: u, the share of the peak that products reach.
    """

    exchange: str = "gather"
    implementation: str = "blockwise"
    grad_cache: bool = False
    width: int = 0
    phrases: int = 0
    pooled: int = 1
    candidates: int = 0
    utilisation: float = 0.4


class Step(NamedTuple):
    """Seconds of the parts of a step."""

    encoder: float
    products: float
    passes: float
    exchange: float
    coarse: float
    gradients: float
    overlaps: bool

    @property
    def fine(self) -> float:
        computing = self.products + self.passes
        return max(computing, self.exchange) if self.overlaps else computing + self.exchange

    @property
    def whole(self) -> float:
        return self.encoder + self.fine + self.coarse + self.gradients

    @property
    def share(self) -> float:
        """Of the fine-grained loss in the step."""
        return self.fine / self.whole

    @property
    def bound(self) -> str:
        """What the fine-grained loss waits for most."""
        parts = {"FLOPs": self.products, "memory": self.passes, "exchange": self.exchange}
        return max(parts, key=parts.get)


def step(
    machine: Machine, workload: Workload, devices: int, clips: int, options: Options = Options()
) -> Step:
    """The parts of a step.

    Args:
      devices: n.
      clips: b, of each device.
    """
    kernel, ring = options.implementation == "kernel", options.exchange == "ring"
    u, C = options.utilisation, devices * clips
    N, D = math.ceil(workload.N / options.pooled), options.width or workload.D
    J = workload.K * (options.phrases or workload.P)
    peak = machine.peak if kernel else machine.peak_float32
    entries = clips * (options.candidates or C) * N * J
    products = 5 if kernel or ring else 4
    through_memory = 0 if kernel else 4 / machine.memory
    moved = {"devices": devices, "clips": clips, "exchange": options.exchange}
    loss, negatives = ("info_nce", "hardest") if options.candidates else ("mil_nce", "all")
    of_loss = {"N": N, "P": J, "D": D, "itemsize": 2 if kernel else 4, "negatives": negatives}
    fine = received_bytes(loss, **of_loss, **moved)
    # Choosing takes one product, which has no backward pass.
    choice = 2 * clips * C * D / (u * peak) if options.candidates else 0
    coarse = received_bytes("mil_nce", N=1, P=workload.K, D=workload.D, **moved)
    network = machine.network(devices, options.exchange)
    of_coarse = 3 * 2 * clips * C * workload.K * workload.D / (u * machine.peak_float32)
    passes = 3 + options.grad_cache
    return Step(
        encoder=passes * workload.forward_flops * clips / (u * machine.peak),
        products=products * entries * max(2 * D / (u * peak), through_memory) + choice,
        passes=entries * 4 * through_memory,
        exchange=fine / network,
        coarse=of_coarse + coarse / network,
        gradients=8 * workload.parameters * (devices - 1) / devices / machine.network(devices),
        overlaps=ring,
    )


def largest_within(
    machine: Machine, workload: Workload, clips: int, options: Options = Options()
) -> int:
    """The largest number of devices, a power of two to 65,536, at which the fine-grained loss takes
    no more than ``TARGET`` of the step; 0 for none."""
    within = [
        n
        for n in (2**power for power in range(17))
        if step(machine, workload, n, clips, options).share <= TARGET
    ]
    return max(within, default=0)


def balance(machine: Machine, devices: int, options: Options = Options()) -> float:
    """Clips times local embeddings, b·N, of a device below which the exchange takes longer than the
    products: with gather and float32 both are proportional to C·J·D."""
    return options.utilisation * machine.peak_float32 / machine.network(devices)


def loss_flops(workload: Workload, captions: int, candidates: int = 0) -> tuple[float, float]:
    """FLOPs of the fine-grained loss of a clip, forward and backward, and of choosing candidates.

    Args:
      captions: C, of all devices.
      candidates: k; 0 for all captions, without a choice.
    """
    J = workload.K * workload.P
    fine = 4 * 2 * (candidates or captions) * workload.N * J * workload.D
    return fine, 2 * captions * workload.D if candidates else 0


def vit_b16_flops(frames: int) -> float:
    """Forward FLOPs of ViT-B/16 on so many frames of 224 x 224, each by itself."""
    tokens, patches, width, depth = 197, 196, 768, 12
    layer = 12 * tokens * width**2 + 2 * tokens**2 * width
    return 2.0 * frames * (depth * layer + patches * 3 * 16**2 * width)
