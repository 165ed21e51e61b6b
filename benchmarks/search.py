"""How long the search page takes to answer a sentence, by the number of clips.

    python benchmarks/search.py [--clips=100000] [--queries=50] [--folder=DIR]

It writes a bank of random embeddings of a small model's widths to a folder, memory-mapped as the
page has it: coarse [M,64] in float32 and local [M,32,64] in float16. Captions of narrated shapes
then find clips in it as they do on the page. Each is embedded and compared with all clips by the
coarse score, and with the 200 best by the fine score too; the twelve clips that are shown get maps
of its phrases.

It needs a machine that does nothing else. Embeddings are random, so nothing is said of recall.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from configs import quickstart
from fgmm.eval.bank import Bank
from fgmm.experiment import build as experiments
from fgmm.report.finder import SHORTLIST, Finder
from fgmm.trained import Model

SHOWN = 12
_BLOCK = 1 << 13


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=100_000, help="M, of the bank")
    parser.add_argument("--queries", type=int, default=50, help="sentences that are timed")
    parser.add_argument("--folder", help="for the bank; a temporary one by default")
    return parser.parse_args()


def small_model() -> Model:
    """The quickstart's model before training, on clips small enough for 32 cells."""
    config = quickstart.get_config()
    config.data.update(frames=4, height=32, width=32)
    experiment = experiments.build(config)
    return Model(experiment, experiment.initial_state())


def random_bank(folder: pathlib.Path, clips: int, cells: int, width: int) -> Bank:
    """A bank of unit vectors around random centres, one centre for each hundred clips.

    It has local embeddings [clips, cells, width] in float16, and coarse ones [clips, width] in
    float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, clips // 100), width), np.float32)
    local = np.lib.format.open_memmap(folder / "local.npy", "w+", np.float16, (clips, cells, width))
    coarse = np.lib.format.open_memmap(folder / "coarse.npy", "w+", np.float32, (clips, width))
    for start in tqdm.tqdm(range(0, clips, _BLOCK), unit=" blocks", desc="bank"):
        rows = slice(start, min(start + _BLOCK, clips))
        of_rows = centres[rng.integers(len(centres), size=rows.stop - rows.start)]
        drawn = of_rows[:, None] + rng.standard_normal((len(of_rows), cells, width), np.float32)
        drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
        mean = drawn.mean(axis=1)
        local[rows] = drawn
        coarse[rows] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    mask = np.ones((clips, cells), bool)
    return Bank(coarse=coarse, local=local, mask=mask, ids=[str(row) for row in range(clips)])


def sentences(model: Model, count: int) -> list[str]:
    """Different captions of narrated shapes."""
    source = model.experiment.source(
        {"name": "narrated_shapes", "split": "retrieval", "clips": count}, "source"
    )
    return [source[i].captions[0].text for i in range(count)]


def main():
    options = parse_arguments()
    model = small_model()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.folder or temporary)
        grid = Finder(model, {"video": _one(model)}, "joint").grids["video"]
        cells, width = int(np.prod(grid)), model.experiment.model.spaces["joint"]["width"]
        bank = random_bank(folder, options.clips, cells, width)
        find = Finder(model, {"video": bank}, "joint")
        asked = sentences(model, options.queries + 1)
        find.by_text(asked[0], "video", SHOWN)  # compiles
        taken = []
        for sentence in asked[1:]:
            start = time.perf_counter()
            answer = find.by_text(sentence, "video", SHOWN)
            taken.append(1000 * (time.perf_counter() - start))
            assert len(answer.hits) == SHOWN
            assert answer.hits[0].maps is not None
    print(f"{options.clips:,} clips of {cells} local embeddings of width {width}, {grid=}")
    print(f"{SHORTLIST} of them ranked by the fine score, {SHOWN} shown with maps of phrases")
    print(
        f"{options.queries} sentences: median {statistics.median(taken):.0f} ms, "
        f"worst {max(taken):.0f} ms"
    )


def _one(model: Model) -> Bank:
    blank = model.embed_video(model.experiment.blank_batch(1)["video"], local=True)
    return Bank(coarse=blank.coarse, local=blank.local, mask=blank.mask, ids=["blank"])


if __name__ == "__main__":
    main()
