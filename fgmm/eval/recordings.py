"""Labelled recordings, for evaluations that predict classes.

One more axis here: R recordings. A recording is one or more windows, the records of a source that
share a ``clip_id``. Values of windows are averaged over each recording.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from fgmm.config import Config, ConfigError
from fgmm.data import pipeline
from fgmm.data.folds import labelled_records
from fgmm.eval import result_text
from fgmm.eval.corpus_embeddings import CorpusEmbeddings
from fgmm.experiment.build import Experiment

MODALITIES = ("video", "audio")
# By modality, the sizes of a batch that are set to 0 to leave the other modalities out.
_OTHERS = {"video": ("samples", "tokens"), "audio": ("frames", "tokens")}


def check_encoders(experiment: Experiment, *modalities: str, name: str) -> None:
    """Checks that the checkpoint has the encoders that an evaluation needs.

    Args:
      experiment: of the checkpoint.
      modalities: those that the evaluation needs.
      name: of the evaluation, for the error.

    Raises:
      ConfigError: a modality has no encoder.
    """
    encoders = experiment.model.encoders
    for modality in modalities:
        if modality not in encoders:
            raise ConfigError(
                f"{name}: the checkpoint has no {modality} encoder; it has: {', '.join(encoders)}"
            )


@dataclasses.dataclass(frozen=True)
class Averages:
    """Means over the windows of R recordings.

    Attributes:
      values: means over the windows of each recording that can be read.
      windows: how many windows of each recording can be read.
      problems: how many windows had each problem.
    """

    values: Float64[np.ndarray, "R *rest"]
    windows: Int64[np.ndarray, "R"]
    problems: collections.Counter[str]

    @property
    def valid(self) -> Bool[np.ndarray, "R"]:
        """Whether a recording has a window that could be read."""
        return self.windows > 0


@dataclasses.dataclass(frozen=True)
class Recordings:
    """The recordings of a source that have a label of one kind.

    Attributes:
      assembler: of the records, with ``modality`` alone.
      modality: ``"video"`` or ``"audio"``.
      classes: names of the classes, by label.
      owner: number of the recording of each record of the source; -1 for a record without a label.
      names: the ``clip_id`` of each recording.
      labels: the class of each recording; or which classes it has, where a clip may have several.
      groups: of each recording; a group stays on one side of a split. Empty for a recording that
        is in no group.
    """

    assembler: pipeline.Assembler
    modality: str
    classes: tuple[str, ...]
    owner: Int64[np.ndarray, "records"]
    names: tuple[str, ...]
    labels: Int64[np.ndarray, "R"] | Bool[np.ndarray, "R classes"]
    groups: tuple[str, ...]

    def averages(
        self, embedded: CorpusEmbeddings, values: Shaped[np.ndarray, "records *rest"]
    ) -> Averages:
        """Means over the windows that could be read; bad input is left out and counted.

        Args:
          embedded: outputs for the source, which say what could be read.
          values: of each record of the source.
        """
        rows = np.flatnonzero(embedded.mask & (self.owner >= 0))
        windows = np.bincount(self.owner[rows], minlength=len(self.labels))
        total = np.zeros((len(windows), *values.shape[1:]))
        np.add.at(total, self.owner[rows], np.asarray(values, np.float64)[rows])
        means = (total.T / np.maximum(windows, 1)).T
        return Averages(means, windows, pipeline.count_problems(embedded.problems))

    def counts(self, averages: Averages) -> dict[str, int]:
        """How much was evaluated and what was left out, as entries of a result.

        ``clips`` counts recordings with a window that could be read, ``clips_left_out`` those
        without one, ``windows`` the windows that could be read, and ``unlabelled`` records without
        a label. ``bad_input/REASON`` counts windows, ``left_out/REASON`` what the source left out
        when it was opened.
        """
        counts = {
            "clips": int(averages.valid.sum()),
            "clips_left_out": int((~averages.valid).sum()),
            "windows": int(averages.windows.sum()),
            "unlabelled": int((self.owner < 0).sum()),
        }
        counts |= {f"bad_input/{reason}": n for reason, n in averages.problems.items()}
        left_out = self.assembler.source.report
        return counts | {f"left_out/{reason}": n for reason, n in left_out.items()}

    def protocol(self) -> dict[str, Any]:
        """What the protocol of a result states about the clips."""
        return {
            "clips": len(self.labels),
            "windows": int((self.owner >= 0).sum()),
            "classes": self.classes,
            "input": input_sizes(self.assembler.shape, self.modality),
        }


def open_labelled(
    experiment: Experiment,
    entry: Config,
    *,
    label: str,
    modality: str,
    key: str,
    several: bool = False,
) -> Recordings:
    """Opens a source and reads the labels of all its clips, but none of their media.

    Args:
      experiment: of the checkpoint.
      entry: the source, as in ``config.data.source``.
      label: the kind of label, such as ``"motion"``.
      modality: ``"video"`` or ``"audio"``.
      key: place of ``entry`` in the config, for errors.
      several: whether a clip may have several classes.

    Raises:
      ConfigError: the source is missing or lacks the label, windows of a recording differ in label
        or group, or a clip may have several classes and ``several`` is False.
    """
    source = experiment.source(entry, key)
    found = labelled_records(source, label, key=key)
    if found.labels.ndim > 1 and not several:
        raise ConfigError(
            f"{key}: clips may have several classes of label {label!r}; this protocol takes one "
            "for each clip"
        )
    return Recordings(
        assembler=experiment.assembler(source, **dict.fromkeys(_OTHERS[modality], 0)),
        modality=modality,
        classes=tuple(source.classes[label]),
        **found._asdict(),
    )


def input_sizes(shape: pipeline.BatchShape, modality: str) -> dict[str, int]:
    """The sizes of the inputs of an encoder, as a protocol states them."""
    if modality == "video":
        return {"frames": shape.frames, "height": shape.height, "width": shape.width}
    return {"samples": shape.samples, "sample_rate": shape.sample_rate}


def single_queries(names: Sequence[str]) -> dict[str, dict[str, list]]:
    """Recordings by name as ``queries`` for ``fgmm.eval.compare``; each is its own group."""
    return {"": {"name": list(names), "group": list(range(len(names)))}}


def footnote(result: Mapping[str, float]) -> str:
    """How much was evaluated and what was left out, as text."""
    note = f"{result['clips']:.0f} clips in {result['windows']:.0f} windows"
    if result["clips_left_out"]:
        note += f"; clips left out, as nothing of them can be read: {result['clips_left_out']:.0f}"
    return "; ".join(filter(None, [note, result_text.problems(result)]))
