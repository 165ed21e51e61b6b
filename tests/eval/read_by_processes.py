"""One of several processes that read a corpus together: ``INDEX COUNT PORT``. It prints what it got
and what it read as JSON.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

from fgmm.data.pipeline import Assembler
from fgmm.data.schema import BatchShape, Clip
from fgmm.eval import passes
from fgmm.train import distributed
from fgmm.train import mesh as meshes

_READ = []


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Eleven pictures that tell their number."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        def frames():
            _READ.append(int(index))
            return np.full((1, 4, 4, 3), index, np.uint8)

        return Clip(clip_id=str(index), video=frames)


def main(index: int, count: int, port: int) -> None:
    """Reads all and prints."""
    if count > 1:
        distributed.initialise(f"127.0.0.1:{port}", count, index)
    sizes = {"frames": 1, "height": 4, "width": 4, "samples": 0, "sample_rate": 1}
    shape = BatchShape(**sizes, captions=1, phrases=1, tokens=0)
    assembler = Assembler(Pictures(), shape, tokenizer=None, segmenter="")
    everywhere = meshes.everywhere(meshes.make_mesh())
    state = jax.jit(lambda: jax.numpy.float32(2), out_shardings=everywhere)()
    twice = jax.jit(lambda state, batch: state * batch["video"].mean(axis=(1, 2, 3, 4)))
    found = list(passes.batches(assembler, 4, state, twice))
    numbers = np.concatenate([values[:clips] for _, values, clips in found]).tolist()
    records = np.concatenate([batch["record"][:clips] for batch, _, clips in found]).tolist()
    print(json.dumps({"numbers": numbers, "records": records, "read": sorted(set(_READ))}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
