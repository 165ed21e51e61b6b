"""How well a classifier of the model labels recordings.

Protocol: the probabilities of a window are the softmax of the classifier's logits, or their sigmoid
where a clip may have several classes. They are averaged over the windows of a recording, without
augmentation (as ``merge`` in engine_for_finetuning.py of github.com/MCG-NJU/VideoMAE at commit
2254c5e). With one class for each clip: ``accuracy@1``, and ``accuracy@5`` if there are more than
five classes, with ties against the model. With any number of classes: ``mAP``, as in
``fgmm.eval.average_precision``.

Classes are matched by name. A recording whose class the classifier lacks counts as wrong; such
recordings and classes are counted. ``mAP`` leaves such classes out and counts them.

Baselines: ``chance``, one over the number of classes, or for mAP the share of positives; and for
accuracy ``majority``, the share of the most frequent class.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int64

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.eval import corpus_embeddings, metrics, result_text
from fgmm.eval.average_precision import mean_average_precision
from fgmm.eval.recordings import Recordings, footnote, open_labelled, single_queries
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: the corpus, as in ``config.data.source``.
      label: the kind of label, one of the source's ``classes``; empty for the label of training.
      classifier: name of one of ``config.model.classifiers``; empty for the first.
      batch_size: records classified at a time.
    """

    source: Mapping
    label: str = ""
    classifier: str = ""
    batch_size: int = option(64, low=1)

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus.

        Raises:
          ConfigError: the checkpoint has no such classifier, no label is named, or the source lacks
            the label.
        """
        return _Classification(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text, with its baselines."""
        return f"{summary_table({'classifier': result})}\n{footnote(result)}{unseen_note(result)}"


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """The scores of a classifier for R recordings of a source.

    Attributes:
      scores: probabilities averaged over windows; -inf for classes that the classifier lacks.
      labels: the class of each recording as a place in ``classes``; or, where a recording may have
        several, which classes it has.
      names: of the recordings.
      classes: names of the classes: those of the classifier first, then those of the source alone.
      known: how many classes the classifier has.
      counts: how much was read, as ``Recordings.counts``.
    """

    scores: Float[np.ndarray, "R classes"]
    labels: Int64[np.ndarray, "R"] | Bool[np.ndarray, "R classes"]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    known: int
    counts: Mapping[str, int]

    @property
    def several(self) -> bool:
        """Whether a recording may have several classes."""
        return self.labels.ndim > 1

    def summary(self) -> dict[str, float]:
        """Metrics with intervals, also of each class, and their baselines."""
        if self.several:
            unknown = self.labels[:, self.known :].any(axis=0)
            known = self.labels[:, : self.known]
            scores = self.scores[:, : self.known]
            found = mean_average_precision([(scores, known)], self.classes)
            return {**found, "classes_unknown": float(unknown.sum())}
        unknown = self.labels >= self.known
        found = metrics.classification_summary(self.scores, self.labels)
        # Chance is a guess among the classes of the classifier.
        chance = {name: 1 / self.known for name in found if name.startswith("chance_")}
        if "chance_accuracy@5" in found:
            chance["chance_accuracy@5"] = min(1.0, 5 / self.known)
        return {
            **found,
            **chance,
            "majority_accuracy@1": np.bincount(self.labels).max() / len(self.labels),
            **metrics.class_accuracies(self.ranks() == 1, self.labels, self.classes),
            "classes_unknown": float(len(np.unique(self.labels[unknown]))),
            "clips_of_unknown_classes": float(unknown.sum()),
        }

    def ranks(self) -> Int64[np.ndarray, "R"]:
        """The rank of each recording's class, from 1; where a recording has one class."""
        truth = self.labels[:, None] == np.arange(len(self.classes))
        return metrics.retrieval_ranks(self.scores, truth)


class Classifier:
    """A classifier of a checkpoint, applied to recordings.

    Args:
      experiment: of the checkpoint.
      name: of the classifier; empty for the first.

    Raises:
      ConfigError: the checkpoint has no classifier, or none of that name.
    """

    def __init__(self, experiment: Experiment, name: str = ""):
        heads = experiment.config.model.get("classifiers", {})
        if not heads:
            raise ConfigError(
                "classification: the checkpoint has no classifier; configs/finetune.py trains one"
            )
        if name and name not in heads:
            raise ConfigError(
                f"classification: classifier={name!r} is not in the checkpoint, which has: "
                f"{', '.join(heads)}"
            )
        self.name = name or next(iter(heads))
        self.modality, self.classes = heads[self.name].modality, tuple(heads[self.name].classes)
        self._experiment = experiment
        self.several = any(
            entry.term.several
            for entry in experiment.objective.supervised.values()
            if entry.classifier == self.name
        )

    def open(self, entry: Mapping, label: str, key: str) -> Recordings:
        """Opens a corpus for the classifier; arguments and errors as of ``open_labelled``."""
        return open_labelled(
            self._experiment,
            entry,
            label=label,
            modality=self.modality,
            key=key,
            several=self.several,
        )

    def scored(self, state: TrainState, recordings: Recordings, batch_size: int) -> ClassScores:
        """The scores of the recordings that have a window that can be read.

        Args:
          state: of the checkpoint.
          recordings: as ``open`` returns them.
          batch_size: records classified at a time.

        Raises:
          ConfigError: no recording can be read.
        """
        network = corpus_embeddings.trained(self._experiment, state, local=False)
        (embedded,) = corpus_embeddings.of_corpus(
            self._experiment, state, recordings.assembler, network, batch_size=batch_size
        )
        probabilities = jax.nn.sigmoid if self.several else jax.nn.softmax
        found = probabilities(jnp.asarray(embedded.logits(self.name)))
        averages = recordings.averages(embedded, np.asarray(found))
        valid = averages.valid
        if not valid.any():
            raise ConfigError(f"classification: no clip has {self.modality} that can be read")
        new = [name for name in recordings.classes if name not in self.classes]
        classes = (*self.classes, *new)
        scores = np.full((int(valid.sum()), len(classes)), -np.inf)
        scores[:, : len(self.classes)] = averages.values[valid]
        number = np.array([classes.index(name) for name in recordings.classes])
        labels = recordings.labels[valid]
        if self.several:
            if labels.ndim == 1:
                labels = labels[:, None] == np.arange(len(recordings.classes))
            found = np.zeros(scores.shape, bool)
            found[:, number] = labels
        else:
            found = number[labels]
        names = tuple(recordings.names[i] for i in np.flatnonzero(valid))
        counts = recordings.counts(averages)
        return ClassScores(scores, found, names, classes, len(self.classes), counts)


class _Classification:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.options = options
        self.classifier = Classifier(experiment, options.classifier)
        label = options.label or experiment.config.data.label
        if not label:
            raise ConfigError("classification: label is empty; name a kind of label of the source")
        self.recordings = self.classifier.open(options.source, label, "classification.source")
        self.protocol = dataclasses.asdict(options) | {
            "label": label,
            "classifier": self.classifier.name,
            "modality": self.classifier.modality,
            "augmentation": "none",
            "windows": "probabilities averaged over those of a recording",
            "classes_of_the_classifier": self.classifier.classes,
            "corpus": self.recordings.protocol(),
        }
        self.by_query: dict[str, list[int]] = {}
        self.queries: dict[str, dict[str, list]] = {}

    def __call__(self, state: TrainState) -> dict[str, float]:
        scored = self.classifier.scored(state, self.recordings, self.options.batch_size)
        if not scored.several:
            self.by_query = {"class_rank": scored.ranks().tolist()}
            self.queries = single_queries(scored.names)
        result = {**scored.summary(), **scored.counts}
        return {name: float(value) for name, value in result.items()}


_COLUMNS = ("accuracy@1", "accuracy@1_spread", "majority_accuracy@1", "accuracy@5")
_COLUMNS += ("mean_class_accuracy", "mAP", "mAP_spread")


def summary_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A table of rows of ``ClassScores.summary``, with their baselines."""
    there = {name for row in rows.values() for name in row}
    return result_text.table(rows, [name for name in _COLUMNS if name in there])


def unseen_note(result: Mapping[str, float]) -> str:
    """A note on the classes that the classifier lacks; empty if there are none."""
    if not result["classes_unknown"]:
        return ""
    clips = result.get("clips_of_unknown_classes")
    counted = "left out" if clips is None else f"{clips:.0f} clips, counted as wrong"
    return (
        f"; classes that the classifier does not have: {result['classes_unknown']:.0f}, {counted}"
    )


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("classification")
