"""YouCook2: cooking videos, cut into the steps of their recipes, a sentence each.

::

    youcookii_annotations_trainval.json
        {"database": {<id>: {"subset": "training", "recipe_type": "113",
            "annotations": [{"id": 0, "segment": [41, 54], "sentence": ...}, ...]}, ...}}
    raw_videos/training/113/<id>.mp4         in folders of any names, of any container

Zhou, Xu, Corso: Towards Automatic Learning of Procedures from Web Instructional Videos, AAAI 2018.

Retrieval of steps, each step of the validation videos with its sentence, is as in
github.com/antoine77340/MIL-NCE_HowTo100M, youcook_loader.py. Retrieval of whole videos, from start
to end, each with the paragraph of all its sentences, is as in
github.com/simon-ging/coot-videotext, data_read_youcook2_meta.py and coot/dataset_retrieval.py.
"""

import dataclasses
import math
from typing import ClassVar

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import described, files, labelled
from fgmm.data.schema import Caption
from fgmm.data.text.captions import without_markup

UNITS = ("step", "video")
_SUBSETS = {"train": "training", "validation": "validation"}
_ANNOTATIONS = "youcookii_annotations_trainval.json"
_LAYOUT = f"the layout is {_ANNOTATIONS}, raw_videos/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(described.DescribedSegments):
    """One split. A clip is a step of a recipe with its sentence, or a whole video with all of its
    sentences as one caption; ``Clip.group`` is the video.

    The sentences of the test set were never published. Many of the videos are gone from YouTube:
    steps of missing videos are counted.

    Attributes:
      report: clips left out: ``missing_file``. ``malformed_line`` counts steps without times that
        go forward, ``empty_caption`` steps without words, and ``duplicate_id`` further files of
        one name.
    """

    of_clips: ClassVar[tuple[str, ...]] = (*described.DescribedSegments.of_clips, "unit")

    split: str = option("validation", choices=tuple(_SUBSETS))
    unit: str = option("step", choices=UNITS, help="What a clip is.")

    def listed(self) -> described.Listing:
        """Reads the JSON file."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        path = labelled.find_table(corpus, _ANNOTATIONS, _LAYOUT)
        paths = files.stems(corpus, files.VIDEO_ENDINGS, report)
        steps = []
        try:
            for video, entry in files.read_json(corpus, path)["database"].items():
                if entry["subset"] == _SUBSETS[self.split]:
                    name = paths.get(video, f"{video}.mp4")
                    found = []
                    for number, step in enumerate(entry.get("annotations", ())):
                        found += _read(step, f"{video}_{number}", name, video, report)
                    steps += found if self.unit == "step" else _whole(found)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"root={self.root!r}: {path} is not of the form that fgmm/data/sources/youcook2.py "
                f"shows ({type(error).__name__}: {error})"
            ) from error
        return described.Listing(corpus, steps, report)


def _read(
    step: dict, clip_id: str, name: str, video: str, report: files.Report
) -> list[described.Segment]:
    """The segment of a step, if it is one."""
    try:
        start, end = (float(time) for time in step["segment"])
    except (TypeError, ValueError, KeyError):
        start, end = math.nan, math.nan
    text = without_markup(str(step.get("sentence") or ""))
    if not 0 <= start < end < math.inf:
        report["malformed_line"] += 1
    elif not text:
        report["empty_caption"] += 1
    else:
        captions = (Caption(text, 0.0, end - start),)
        return [described.Segment(clip_id, name, captions, video, start, end)]
    return []


def _whole(steps: list[described.Segment]) -> list[described.Segment]:
    """The video of some steps, with their sentences as one caption."""
    if not steps:
        return []
    said = [step.captions[0].text.rstrip(" .") for step in steps]
    first = steps[0]
    return [described.Segment(first.group, first.name, (Caption(". ".join(said)),), first.group)]
