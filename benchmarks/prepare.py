"""What preparing costs: planning a long list, and encoding video again.

    python benchmarks/prepare.py --input=fight_clips.tar [--clips=60] [--rounds=3]

The first table is of a made-up list in HowTo100M's layout with a column of paths: CPU seconds to
read and plan it, and the peak memory of the process. The second is of clips of a corpus that
``fight_clips`` reads, encoded in one process. ``x of video`` is seconds of video for each CPU
second, from the median of the rounds; beside it is the size of what was encoded.
"""

import argparse
import pathlib
import resource
import statistics
import tempfile
import time

from fgmm.data.preparation import plan, raw
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.records import RecordMaker
from fgmm.data.sources import howto100m

ENCODINGS = {
    "as they are": Encoding(),
    "16 kHz mono": Encoding(audio_rate=16000),
    "256 px, 10 fps, 16 kHz": Encoding(short_side=256, fps=10.0, audio_rate=16000),
    "128 px, 10 fps, 16 kHz": Encoding(short_side=128, fps=10.0, audio_rate=16000),
}


def listing(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "videos").mkdir()
        (root / "captions").mkdir()
        with open(root / "HowTo100M_v1.csv", "w") as file:
            file.write("video_id,video_path\n")
            file.writelines(f"{i:011d},{i:011d}.mp4\n" for i in range(count))
        began = time.process_time()
        opened = howto100m.Source(root=folder, validation=0.0, opened=False).raw()
        planned = plan.measured(opened, 256.0)
        seconds = time.process_time() - began
    # Linux counts in KiB. The memory of imports is included.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print("| videos listed | processor seconds to plan | MB at most |\n| ---: | ---: | ---: |")
    print(f"| {planned.records:,} | {seconds:.1f} | {most:.0f} |\n")


def encoding(root: str, clips: int, rounds: int) -> None:
    opened = raw.open_raw(raw.SourceChoice("fight_clips", {}), root, raw.WHOLE)
    # From all over the list, because neighbours are alike.
    found = [opened[i] for i in range(0, len(opened), max(1, len(opened) // clips))]
    print("| | x of video | kB a second of video |\n| --- | ---: | ---: |")
    for name, how in ENCODINGS.items():
        making, times = RecordMaker(how, 0.0), []
        for _ in range(rounds):
            began = time.process_time()
            records = [record for one in found for record in making(one)]
            times.append(time.process_time() - began)
        length = sum(record.examined.duration for record in records)
        size = sum(record.media_bytes for record in records)
        rate = length / statistics.median(times)
        print(f"| {name} | {rate:.1f} | {size / length / 1e3:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True, help="of the source fight_clips")
    parser.add_argument("--clips", type=int, default=60, help="to encode, at most about so many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--listed", type=int, default=1_200_000, help="videos of the list")
    arguments = parser.parse_args()
    listing(arguments.listed)
    encoding(arguments.input, arguments.clips, arguments.rounds)


if __name__ == "__main__":
    main()
