"""Labelled recordings, for evaluations that ask which class something is.

One more axis here: R recordings. A recording is one or more windows, the records of a source that
share a ``clip_id``; what is computed of windows is averaged over those of a recording.
"""

import collections
import dataclasses
from collections.abc import Mapping
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
# Sizes of a batch that, set to zero, leave all other modalities out.
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
      values: float64 [R, ...]: means over the readable windows of each.
      windows: how many windows of each are readable.
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
      assembler: examples of one modality, nothing else.
      modality: which.
      classes: their names, by label.
      owner: the recording of each record of the source; -1 where it has no label.
      names: of each recording, its ``clip_id``.
      labels: the class of each recording; or which classes it has, where a clip may have several.
      groups: of each recording: those of one group stay on one side of a split. Empty where a
        recording stands alone.
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
          embedded: of the source.
          values: of each of its records.
        """
        rows = np.flatnonzero(embedded.mask & (self.owner >= 0))
        windows = np.bincount(self.owner[rows], minlength=len(self.labels))
        total = np.zeros((len(windows), *values.shape[1:]))
        np.add.at(total, self.owner[rows], np.asarray(values, np.float64)[rows])
        means = (total.T / np.maximum(windows, 1)).T
        return Averages(means, windows, pipeline.count_problems(embedded.problems))

    def counts(self, averages: Averages) -> dict[str, int]:
        """How much was evaluated and what was left out, as entries of a result.

        ``clips`` are recordings with windows that could be read, ``windows`` these, and
        ``clips_left_out`` recordings without any. ``bad_input`` counts windows, ``left_out`` what
        the source left out when it was opened.
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

    def queries(self, valid: Bool[np.ndarray, "R"]) -> dict[str, dict[str, list]]:
        """The recordings that are asked about, for ``fgmm.eval.compare``; each stands alone."""
        names = [self.names[i] for i in np.flatnonzero(valid)]
        return {"": {"name": names, "group": list(range(len(names)))}}

    def protocol(self) -> dict[str, Any]:
        """What a protocol states of the clips."""
        shape = self.assembler.shape
        sizes = {
            "video": {"frames": shape.frames, "height": shape.height, "width": shape.width},
            "audio": {"samples": shape.samples, "sample_rate": shape.sample_rate},
        }
        return {
            "clips": len(self.labels),
            "windows": int((self.owner >= 0).sum()),
            "classes": self.classes,
            "input": sizes[self.modality],
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
      modality: video or audio.
      key: where ``entry`` stands in the config, for errors.
      several: whether a clip may have several classes.

    Raises:
      ConfigError: the source is missing, has no such label, contradicts itself, or has several
        classes a clip where that is not allowed.
    """
    source = experiment.source(entry, key)
    found = labelled_records(source, label, key=key)
    if found.labels.ndim > 1 and not several:
        raise ConfigError(
            f"{key}: label={label!r} has any number of classes a clip; this protocol takes one"
        )
    return Recordings(
        assembler=experiment.assembler(source, **dict.fromkeys(_OTHERS[modality], 0)),
        modality=modality,
        classes=tuple(source.classes[label]),
        **found._asdict(),
    )


def footnote(result: Mapping[str, float]) -> str:
    """How much was evaluated and what was left out, for a person."""
    note = f"{result['clips']:.0f} clips in {result['windows']:.0f} windows"
    if result["clips_left_out"]:
        note += f"; clips left out, as nothing of them can be read: {result['clips_left_out']:.0f}"
    return "; ".join(filter(None, [note, result_text.problems(result)]))
