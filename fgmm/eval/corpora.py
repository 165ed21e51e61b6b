"""The corpora of ``configs/eval``: ``--config=eval/zero_shot:corpus=ucf101,root=DIR``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from fgmm.config import ConfigError, variant
from fgmm.config.option import allowed
from fgmm.config.variants import given

_TRAINED = {"finetune": {}, "classification": {}}
_LABELLED = {"linear_probe": {}, "zero_shot": {}, "few_shot": {}, **_TRAINED}
# Folds of the training split, since the test split has too few clips of each class.
_FEW = {"split": "train", "windows": 4}
_SEEN = ("{}", "a video of {}", "here we can see {}")
_DONE = (*_SEEN, "now someone starts to {}")
# Protocols of corpora with official splits, and the rest of those with three of them.
_SPLIT = {
    "linear_probe": {"windows": 10},
    "zero_shot": {"windows": 4},
    "few_shot": _FEW,
    "finetune": {"windows": 10},
    "classification": {"windows": 10},
}
_THREE_SPLITS = {
    "label": "action",
    "train": "train",
    "splits": (1, 2, 3),
    "classifier": "linear_svm",
    "templates": _DONE,
}
# Windows longer than the captions in them.
_LONG = {"split": "validation", "validation": 0.1, "seconds": 30.0}
_AROUND = {**_LONG, "minimum": 30.0, "candidates": 8}
_HEARD = ("{}", "the sound of {}", "here we can hear {}", "listen, it is {}")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What the protocols need to know of a corpus.

    Attributes:
      source: the name of its source.
      options: of the source. Each of them is a variant of the config file.
      protocols: the evaluations that take the corpus, each with the options of the source that
        differ from ``options``.
      label: the kind of label that is predicted.
      modality: what the label is predicted from: ``"video"`` or ``"audio"``.
      train: the split on which a linear probe is fitted or a network fine-tuned; the split in
        ``options`` is then the test. Empty for folds of one split.
      splits: values of the option ``fold`` of the source, one for each official split into training
        and test.
      several: whether a clip may have several classes.
      mirrored: whether a mirrored picture has the same class.
      classifier: of a linear probe.
      templates: prompts for the names of classes; empty for those of the protocol.
      words: the words of a class in prompts, by its name.
      captions: how many captions of a clip are queries, at most.
      tuning: options of the source that differ for the clips on which a threshold is chosen.
      phrases, tokens: room for a whole caption; 0 for the room of training. Models that were
        published with a limit keep it, as part of their protocol.
      pair: the modalities that are retrieved by each other.
      folds: number of galleries into which retrieval cuts the corpus.
    """

    source: str
    options: Mapping[str, Any]
    protocols: Mapping[str, Mapping[str, Any]]
    label: str = ""
    modality: str = "video"
    train: str = ""
    splits: tuple[int, ...] = ()
    several: bool = False
    mirrored: bool = True
    classifier: str = "logistic_regression"
    templates: tuple[str, ...] = ()
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    captions: int = 5
    tuning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    phrases: int = 0
    tokens: int = 0
    pair: str = "video_text"
    folds: int = 1

    @property
    def entry(self) -> dict[str, Any]:
        """The source, as in ``config.data.source``."""
        return {"name": self.source, **self.options}


def _image_captions(root: str, folds: int = 1) -> Corpus:
    options = {"root": root, "split": "test", "annotations": ""}
    return Corpus("image_captions", options, {"retrieval": {}}, phrases=12, tokens=96, folds=folds)


CORPORA = {
    # Recordings of 15 to 30 seconds with five captions each. The window is the middle, as long as
    # in training.
    "clotho": Corpus(
        *("clotho", {"root": "clotho", "split": "evaluation"}, {"retrieval": {}}),
        pair="audio_text",
    ),
    # COCO's 5,000 test images as one gallery, and in five of 1,000.
    "coco_5k": _image_captions("coco"),
    "coco_1k": _image_captions("coco", folds=5),
    "esc10": Corpus(
        *("esc10", {"root": "esc10.tar", "windows": 3}, _LABELLED),
        label="sound",
        modality="audio",
        templates=_HEARD,
        words={
            "dog": "a dog barking",
            "rooster": "a rooster crowing",
            "crackling fire": "a crackling fire",
            "crying baby": "a crying baby",
            "sneezing": "somebody sneezing",
            "clock tick": "a ticking clock",
            "helicopter": "a helicopter flying",
            "chainsaw": "a chainsaw cutting wood",
        },
    ),
    "esc50": Corpus(
        *("esc50", {"root": "ESC-50-master", "windows": 3}, _LABELLED),
        label="sound",
        modality="audio",
        templates=_HEARD,
    ),
    "fight_clips": Corpus(
        *("fight_clips", {"root": "fight_clips.tar", "windows": 2}, _LABELLED),
        label="action",
        templates=(*_SEEN, "{}, seen by a surveillance camera"),
        words={"fight": "people fighting", "noFight": "people walking around calmly"},
    ),
    "flickr8k": Corpus(
        *("flickr8k", {"root": "flickr8k.tar", "split": "dev"}, {"retrieval": {}}),
        phrases=12,
        tokens=96,
    ),
    # Its 1,000 test images.
    "flickr30k": _image_captions("flickr30k"),
    # ``fold`` is one of three official splits.
    "hmdb51": Corpus(
        *("hmdb51", {"root": "hmdb51", "split": "test", "fold": 1}, _SPLIT),
        **_THREE_SPLITS,
    ),
    "howto100m": Corpus(
        *("howto100m", {"root": "howto100m", **_AROUND}, {"grounding": {}}),
        captions=8,
        tuning={"split": "train"},
    ),
    # Any split, list or part of such a corpus.
    "image_captions": _image_captions("coco"),
    "image_sequence": Corpus(
        "image_sequence",
        {"root": "storybook.tar", "split": "dev", "pages": 1},
        {"retrieval": {}},
        captions=1,
        phrases=64,
        tokens=448,
    ),
    "kinetics": Corpus(
        *("kinetics", {"root": "kinetics400", "split": "validation"}),
        {**_SPLIT, "linear_probe": {"windows": 1}},
        label="action",
        train="train",
        templates=(*_SEEN, "now someone is {}"),
    ),
    # Which way narrated shapes move, in the words of their narration.
    "motion": Corpus(
        *("narrated_shapes", {"split": "motion", "clips": 800, "size": 64}, _LABELLED),
        label="motion",
        mirrored=False,
        templates=(
            "{}",
            "the circle is {}",
            "there is a square that is {}",
            "the triangle keeps {}",
            "now the star starts {}",
            "you will see a ring {}",
            "watch the cross, it is {}",
        ),
        words={
            "left": "moving left",
            "right": "moving right",
            "up": "moving up",
            "down": "moving down",
            "clockwise": "circling clockwise",
            "counterclockwise": "circling counterclockwise",
            "shaking": "shaking from side to side",
            "bouncing": "bouncing up and down",
        },
    ),
    # The list of 1,000 videos, 1k-A, with one caption each. ``seconds`` are those of a window in
    # the middle of a video, 0 for all of it.
    "msr_vtt": Corpus(
        "msr_vtt",
        {"root": "msr_vtt", "split": "test_1k", "seconds": 0.0},
        {"retrieval": {}},
        captions=20,
    ),
    # The official test split, 2,990 videos with twenty captions each.
    "msr_vtt_full": Corpus(
        "msr_vtt",
        {"root": "msr_vtt", "split": "test", "seconds": 0.0},
        {"retrieval": {}},
        captions=20,
    ),
    # Unseen clips in which the narration names everything that moves.
    "narrated_shapes": Corpus(
        "narrated_shapes",
        {"split": "retrieval", "size": 64},
        {
            "retrieval": {"clips": 1000},
            "pointing_game": {"clips": 256},
            "grounding": {"clips": 256, "noise": 0.0},
            # Half of its narration is about something else.
            "gates": {"clips": 256, "split": "validation", "noise": 0.5},
            "gradients": {"clips": 256, "split": "validation", "noise": 0.5},
        },
        tuning={"split": "validation", "noise": 0.0},
        phrases=32,
        tokens=128,
    ),
    # A list with the columns ``start`` and ``end``.
    "pair_list": Corpus(
        "pair_list",
        {"root": "narrated.tsv", "start": "start", "end": "end", **_AROUND},
        {"grounding": {}},
        captions=8,
        tuning={"split": "train"},
    ),
    "prepared": Corpus(
        *("prepared", {"root": "prepared", "split": "whole", "windows": 2}, _LABELLED),
        label="action",
    ),
    # Which shapes move in narrated shapes, one or several.
    "shapes": Corpus(
        "narrated_shapes",
        {"split": "shapes", "clips": 800, "size": 64},
        _TRAINED,
        label="shapes",
        several=True,
    ),
    # Which shape is heard in narrated shapes.
    "sound": Corpus(
        *("narrated_shapes", {"split": "sound", "clips": 800}, _LABELLED),
        label="sound",
        modality="audio",
        templates=(
            *("{}", "a red {}", "an orange {}", "a yellow {}", "a green {}", "a cyan {}"),
            *("a blue {}", "a purple {}", "a white {}"),
        ),
    ),
    "ucf101": Corpus(
        *("ucf101", {"root": "ucf101", "split": "test", "fold": 1}, _SPLIT),
        **_THREE_SPLITS,
    ),
    "video_folder": Corpus(
        *("video_folder", {"root": "videos", **_LONG, "language": ""}, {"grounding": {}}),
        captions=20,
        tuning={"split": "train"},
    ),
    "webdataset": Corpus(
        *("webdataset", {"root": "tars", **_AROUND}, {"grounding": {}}),
        captions=8,
        tuning={"split": "train"},
    ),
    # Steps of recipes with a sentence each.
    "youcook2": Corpus(
        "youcook2",
        {"root": "youcook2", "split": "validation", "seconds": 0.0},
        {"retrieval": {}},
        captions=1,
    ),
    # Whole videos with the paragraph of all sentences.
    "youcook2_video": Corpus(
        "youcook2",
        {"root": "youcook2", "split": "validation", "seconds": 0.0, "unit": "video"},
        {"retrieval": {}},
        captions=1,
        phrases=64,
        tokens=512,
    ),
}


def chosen(argument: str | None, protocol: str, *fields: str) -> Corpus:
    """The corpus named by the variants of a config file, with the values that they give.

    Args:
      argument: the text after the colon of ``--config=FILE.py:corpus=NAME,key=value``.
      protocol: name of the evaluation.
      fields: fields of ``Corpus`` that are variants too, beside the options of the source.

    Raises:
      ConfigError: no corpus is named, the protocol does not take it, or another variant is wrong.
    """
    corpus, _ = chosen_with(argument, protocol, *fields)
    return corpus


def chosen_with(
    argument: str | None, protocol: str, *fields: str, **further: Any
) -> tuple[Corpus, ml_collections.ConfigDict]:
    """The corpus, as in ``chosen``, and the values of ``further`` variants of the config file.

    Args:
      argument, protocol, fields: as in ``chosen``.
      further: the further variants by name, with their defaults.

    Raises:
      ConfigError: as ``chosen``.
    """
    known = [name for name, corpus in CORPORA.items() if protocol in corpus.protocols]
    name = given(argument, "corpus")
    if name not in known:
        wrong = "unknown" if name else "missing"
        raise ConfigError(f"variant corpus={name!r} is {wrong}; {allowed(name, known)}")
    corpus = CORPORA[name]
    options = {**corpus.options, **corpus.protocols[protocol]}
    own = {field: getattr(corpus, field) for field in fields}
    found = variant(argument, corpus=name, **own, **options, **further)
    replaced = dataclasses.replace(
        corpus,
        options={option: found[option] for option in options},
        **{field: found[field] for field in own},
    )
    return replaced, ml_collections.ConfigDict({name: found[name] for name in further})
