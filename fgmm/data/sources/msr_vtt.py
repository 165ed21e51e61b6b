"""MSR-VTT: short web videos with twenty sentences each, and the splits that retrieval uses.

::

    train_val_videodatainfo.json, test_videodatainfo.json     or one MSRVTT_data.json for both
        {"videos": [{"video_id": "video0", "split": "train", ...}, ...],
         "sentences": [{"video_id": "video0", "caption": ...}, ...]}
    MSRVTT_JSFUSION_test.csv     key,vid_key,video_id,sentence: 1,000 videos, one sentence each
    MSRVTT_train.9k.csv          video_id: the others; MSRVTT_train.7k.csv likewise
    TrainValVideo/video0.mp4     in folders of any names, of any container

Xu, Mei, Yao, Rui: MSR-VTT: A Large Video Description Dataset for Bridging Video and Language, CVPR
2016. The list of 1,000 ("1k-A"): Yu, Kim, Kim: A Joint Sequence Fusion Model for Video Question
Answering and Retrieval, ECCV 2018.
Loaders: github.com/ArrowLuo/CLIP4Clip, dataloaders/dataloader_msrvtt_retrieval.py, for that list
and train_9k; github.com/albanie/collaborative-experts, data_loader/MSRVTT_dataset.py, for the full
test split, 2,990 videos with every sentence.
"""

import dataclasses
from collections.abc import Iterable

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import described, files, labelled, narrations
from fgmm.data.schema import Caption

_ANNOTATIONS = ("MSRVTT_data.json", "train_val_videodatainfo.json", "test_videodatainfo.json")
_TEST_1K = "MSRVTT_JSFUSION_test.csv"
_LISTS = {"train_9k": "MSRVTT_train.9k.csv", "train_7k": "MSRVTT_train.7k.csv"}
OFFICIAL = ("train", "validate", "test")
SPLITS = (*OFFICIAL, *_LISTS, "test_1k")
_LAYOUT = f"the layout is {', '.join(_ANNOTATIONS[1:])}, {_TEST_1K}, <folders>/video0.mp4"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(described.DescribedSegments):
    """One split. A clip is a whole file (the authors cut it from a longer video) with all its
    sentences; in ``test_1k``, with the one sentence that the list gives it.

    Attributes:
      report: videos left out: ``missing_file``. Of the sentences, ``malformed_line`` counts entries
        without a video, and ``empty_caption`` those without words. ``duplicate_id`` counts videos
        that are listed again, and further files of one name.
    """

    split: str = option(
        "test_1k",
        choices=SPLITS,
        help="One of the official splits of 6,513, 497 and 2,990 videos, or a list of retrieval.",
    )

    @classmethod
    def splits(cls, root: str) -> tuple[str, ...]:
        """The official ones."""
        del root
        return OFFICIAL

    def listed(self) -> described.Listing:
        """Reads the lists that the split is made of."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        if self.split == "test_1k":
            table = labelled.find_table(corpus, _TEST_1K, _LAYOUT)
            rows = labelled.read_table(corpus, table, ("video_id", "sentence"), report)
            first = {row["video_id"]: row["sentence"] for row in reversed(rows)}
            pairs, videos = list(first.items()), [row["video_id"] for row in rows]
        else:
            split_of, pairs = _annotations(corpus, self.root, report)
            videos = [video for video, name in split_of.items() if name == self.split]
            if self.split in _LISTS:
                table = labelled.find_table(corpus, _LISTS[self.split], _LAYOUT)
                rows = labelled.read_table(corpus, table, ("video_id",), report)
                videos = [row["video_id"] for row in rows]
        captions = _by_video(videos, pairs, report)
        paths = files.stems(corpus, files.VIDEO_ENDINGS, report)
        found = [
            described.Segment(video, paths.get(video, f"{video}.mp4"), said, video)
            for video, said in captions.items()
        ]
        return described.Listing(corpus, found, report)


def _annotations(
    corpus: files.Corpus, root: str, report: files.Report
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The official split of each video, and pairs of a video and a sentence."""
    places = files.find(corpus, _ANNOTATIONS)
    if not places:
        raise ConfigError(f"root={root!r} has none of {', '.join(_ANNOTATIONS)}; {_LAYOUT}")
    if places[0].endswith(_ANNOTATIONS[0]):  # it repeats what the others say
        places = places[:1]
    split_of, pairs = {}, []
    for path in places:
        content = files.read_json(corpus, path)
        try:
            for entry in content["videos"]:
                if str(entry["video_id"]) in split_of:
                    report["duplicate_id"] += 1
                split_of.setdefault(str(entry["video_id"]), entry["split"])
            sentences = list(content["sentences"])
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"root={root!r}: {path} is not of the form that fgmm/data/sources/msr_vtt.py "
                f"shows ({type(error).__name__}: {error})"
            ) from error
        for entry in sentences:
            if isinstance(entry, dict) and {"video_id", "caption"} <= entry.keys():
                pairs.append((str(entry["video_id"]), str(entry["caption"])))
            else:
                report["malformed_line"] += 1
    return split_of, pairs


def _by_video(
    videos: list[str], pairs: Iterable[tuple[str, str]], report: files.Report
) -> dict[str, tuple[Caption, ...]]:
    """The sentences of each video, in their order."""
    found: dict[str, list[Caption]] = {video: [] for video in videos}
    if repeated := len(videos) - len(found):
        report["duplicate_id"] += repeated
    for video, sentence in pairs:
        if video in found:
            found[video] += narrations.untimed([sentence], report)
    return {video: tuple(said) for video, said in found.items()}
