"""What a compiled program's devices send each other and multiply, read from its text.

XLA's own cost analysis counts the body of a loop once and knows no bytes on wires. Here the body of
a loop counts once for each iteration, and all branches of a condition count. The text is that of
``jax.stages.Compiled.as_text``, of a program for simulated devices on CPU, whose collectives are
single instructions.

Bytes are those that a device receives from others by the usual ring algorithms (Patarasuk and Yuan,
"Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009), among g devices:

==================  ===================================================
all-gather          (g − 1)/g of the result
reduce-scatter      (g − 1) times the result
all-reduce          2 (g − 1)/g of the result
all-to-all          (g − 1)/g of the result
collective-permute  the result
==================  ===================================================
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_RECEIVED: dict[str, Callable[[int], float]] = {
    "all-gather": lambda g: (g - 1) / g,
    "reduce-scatter": lambda g: g - 1,
    "all-reduce": lambda g: 2 * (g - 1) / g,
    "all-to-all": lambda g: (g - 1) / g,
    "collective-permute": lambda g: 1,
}
_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\(([^)]*)\)")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:to_apply|calls|(?:true|false)_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_BODY = re.compile(r"body=%?([\w.\-]+)")
_NAME = re.compile(r"[\w.\-]+")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SCOPE = re.compile(r'op_name="([^"]*)"')

Shape = tuple[int, ...]


class Transfer(NamedTuple):
    """A collective.

    Attributes:
      kind: such as ``"all-gather"``.
      received: bytes that a device receives, in all iterations.
      turns: iterations: how often the collective runs.
      shapes: of its results on a device.
      scope: where it was traced, such as ``"jit(step)/jvp()/shard_map/all_gather"``.
    """

    kind: str
    received: float
    turns: int
    shapes: tuple[Shape, ...]
    scope: str


class Product(NamedTuple):
    """A matrix product.

    Attributes:
      flops: of a device, in all iterations; two for each multiply-add.
      scope: where it was traced.
    """

    flops: float
    scope: str


class _Instruction(NamedTuple):
    within: str
    results: str
    kind: str
    operands: str
    line: str


def transfers(text: str) -> list[Transfer]:
    """Every collective of a program.

    Raises:
      ValueError: one runs in a loop whose number of iterations is unknown, or is asynchronous.
    """
    program, found = _Program(text), []
    for instruction in program.instructions.values():
        kind = instruction.kind
        if kind.removesuffix("-start") in _RECEIVED and kind not in _RECEIVED:
            raise ValueError(f"{kind} is asynchronous; compile the program for CPU")
        if kind not in _RECEIVED:
            continue
        arrays = _arrays(instruction.results)
        size = sum(_itemsize(name) * math.prod(shape) for name, shape in arrays)
        turns = program.turns(instruction.within)
        received = _RECEIVED[kind](_group(instruction.line, program.devices)) * size * turns
        shapes = tuple(shape for _, shape in arrays)
        found.append(Transfer(kind, received, turns, shapes, _scope(instruction.line)))
    return found


def products(text: str) -> list[Product]:
    """Every ``dot`` of a program; convolutions are not counted.

    Raises:
      ValueError: one runs in a loop whose number of iterations is unknown.
    """
    program, found = _Program(text), []
    for instruction in program.instructions.values():
        if instruction.kind != "dot":
            continue
        left = program.instructions[instruction.operands.split(",")[0].strip().lstrip("%")]
        ((_, left_shape),) = _arrays(left.results)
        ((_, shape),) = _arrays(instruction.results)
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.line)
        summed = math.prod(left_shape[int(axis)] for axis in axes[1].split(",") if axis)
        flops = 2.0 * math.prod(shape) * summed * program.turns(instruction.within)
        found.append(Product(flops, _scope(instruction.line)))
    return found


class _Program:
    """The instructions of a program by name, and how often each of its computations runs."""

    def __init__(self, text: str):
        self.instructions: dict[str, _Instruction] = {}
        self.devices = int((re.search(r"num_partitions=(\d+)", text) or [0, 1])[1])
        self._callers: dict[str, tuple[str, int | None]] = {}
        for name, instruction in _instructions(text):
            self.instructions[name] = instruction
            line, within = instruction.line, instruction.within
            branches = _BRANCHES.search(line)
            for called in _CALLED.findall(line) + _NAME.findall(branches[1] if branches else ""):
                self._callers[called] = within, 1
            if body := _BODY.search(line):
                turns = _TURNS.search(line)
                self._callers[body[1]] = within, int(turns[1]) if turns else None

    def turns(self, computation: str) -> int:
        total = 1
        while computation in self._callers:
            computation, turns = self._callers[computation]
            if turns is None:
                raise ValueError(f"a loop in {computation} has no known number of turns")
            total *= turns
        return total


def _instructions(text: str) -> Iterator[tuple[str, _Instruction]]:
    within = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            within = header[1]
        elif found := _INSTRUCTION.match(line):
            name, results, kind, operands = found.groups()
            yield name, _Instruction(within, results, kind, operands, line)


def _arrays(text: str) -> list[tuple[str, Shape]]:
    return [
        (name, tuple(int(size) for size in sizes.split(",") if size))
        for name, sizes in _ARRAY.findall(text)
    ]


def _itemsize(name: str) -> float:
    """Bytes of a number of an XLA type such as ``f32`` or ``pred``."""
    return 1.0 if name == "pred" else int(re.sub(r"\D", "", name)) / 8


def _scope(line: str) -> str:
    found = _SCOPE.search(line)
    return found[1] if found else ""


def _group(line: str, devices: int) -> int:
    """How many devices take part in a collective together; XLA has three ways to write it."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{('[^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(counted[1])
    return devices
