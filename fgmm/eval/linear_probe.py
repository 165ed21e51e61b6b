"""A linear classifier on frozen features: what an encoder has learned.

Protocol: the encoder's output, before any head, is pooled over the valid cells of a clip, without
augmentation, and averaged over the windows of a recording. Each fold of the recordings is the test
part once. The regularisation is chosen on the next fold (of equally good ones the strongest). Then
the classifier is fitted to all folds but the test fold and tested, once. Features are standardised
by the mean and standard deviation of the recordings fitted to. Recordings of a group stay in one
fold. If there are as many groups as folds, each group is a fold, so that official folds are kept;
otherwise folds are stratified by class. With a ``test_source``, that source is the only test part.

Baselines: ``chance``, one over the number of classes; ``majority``, the share of the most frequent
class; and ``untrained``, the same for the network before its first step.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import threadpoolctl
from jaxtyping import Bool, Float

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data.folds import drawn_folds
from fgmm.eval import metrics, result_text
from fgmm.eval.frozen_features import POOLS, FrozenFeatures
from fgmm.eval.recordings import (
    MODALITIES,
    check_encoders,
    footnote,
    open_labelled,
    single_queries,
)
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState

CLASSIFIERS = ("logistic_regression", "linear_svm")
_MAX_ITERATIONS = 2000


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: the corpus, as in ``config.data.source``.
      label: the kind of label, one of the source's ``classes``.
      modality: whose encoder: ``"video"`` or ``"audio"``.
      test_source: a corpus to test on; empty to test on the folds of ``source``.
      pool: of the encoder's output: ``"mean"``, ``"max"``, or both, concatenated: ``"mean_max"``.
      classifier: ``"logistic_regression"`` or ``"linear_svm"`` (one against the rest).
      inverse_strengths: of the L2 penalty, scikit-learn's C, to choose from.
      folds: how many, at least 3: one for the test, one for validation, the others to fit to.
      untrained: also report the untrained network, which is computed only the first time that the
        evaluation runs inside training.
      seed: of drawing the folds.
      batch_size: records encoded at a time.
    """

    source: Mapping
    label: str
    modality: str = option("video", choices=MODALITIES)
    test_source: Mapping = dataclasses.field(default_factory=dict)
    pool: str = option("mean", choices=POOLS)
    classifier: str = option("logistic_regression", choices=CLASSIFIERS)
    inverse_strengths: tuple[float, ...] = option((0.001, 0.01, 0.1, 1.0, 10.0), above=0)
    folds: int = option(5, low=3)
    untrained: bool = True
    seed: int = 0
    batch_size: int = option(64, low=1)

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpora and draws the folds.

        Raises:
          ConfigError: an option names something that is not there, the checkpoint lacks the
            modality or the source the label, or there are too few clips or groups for the folds.
        """
        check_encoders(experiment, self.modality, name="linear_probe")
        return _LinearProbe(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text, with its baselines."""
        rows = {"trained": {k: v for k, v in result.items() if "/" not in k}}
        if "untrained/accuracy" in result:
            rows["untrained"] = {
                k.removeprefix("untrained/"): v
                for k, v in result.items()
                if k.startswith("untrained/") or k in ("chance_accuracy", "majority_accuracy")
            }
        columns = ["accuracy", "accuracy_spread", "majority_accuracy", "mean_class_accuracy"]
        lines = [result_text.table(rows, [name for name in columns if name in result])]
        lines.append(result_text.shares("trained, by fold", "accuracy_fold_", result))
        lines.append(result_text.shares("trained, by class", "class_accuracy/", result))
        return "\n".join([*lines, footnote(result)])


class _LinearProbe:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.options, self.experiment = options, experiment
        opened = {"source": options.source, "test_source": options.test_source}
        self.parts = [
            open_labelled(
                experiment,
                entry,
                label=options.label,
                modality=options.modality,
                key=f"linear_probe.{key}",
            )
            for key, entry in opened.items()
            if entry
        ]
        first, *others = self.parts
        self.labels = np.concatenate([part.labels for part in self.parts])
        self.names = np.concatenate([part.names for part in self.parts])
        self.fold = drawn_folds(
            *(first.labels, first.groups, options.folds, options.seed), name="linear_probe"
        )
        self.tests = list(range(options.folds))
        for other in others:
            if other.classes != first.classes:
                differing = sorted({*first.classes} ^ {*other.classes})
                raise ConfigError(
                    "linear_probe.test_source has other classes than source, or another order: "
                    f"{', '.join(differing) or other.classes}"
                )
            if shared := {*first.groups} & {*other.groups} - {""}:
                raise ConfigError(
                    f"linear_probe.test_source shares groups with source: "
                    f"{', '.join(sorted(shared))}; name clips of other groups"
                )
            _check_apart(options, first.names, other.names)
            # One more fold, which no classifier is fitted to.
            self.fold = np.append(self.fold, np.full(len(other.labels), options.folds))
            self.tests = [options.folds]
        self.protocol = dataclasses.asdict(options) | {
            "feature": f"{options.modality} encoder's output, before the heads",
            "augmentation": "none",
            "windows": "features averaged over those of a recording",
            "standardised_by": "the clips fitted to",
            "strength_chosen_on": "the fold after the test part",
            "untrained_statistics": "initial",
            "untrained_seed": experiment.config.seed,
            "corpora": [part.protocol() for part in self.parts],
            "fold_sizes": np.bincount(self.fold).tolist(),
        }
        self._features = FrozenFeatures(
            experiment, self.parts, options.pool, options.batch_size, options.untrained
        )
        self.by_query: dict[str, list[int]] = {}
        self.queries: dict[str, dict[str, list]] = {}

    def __call__(self, state: TrainState) -> dict[str, float]:
        parts, scores, untrained = self._features.scored(state, self._scores)
        valid = np.concatenate([part.valid for part in parts])
        tested = self.labels[valid & np.isin(self.fold, self.tests)]
        result: dict[str, float] = {
            **scores,
            "chance_accuracy": 1 / len(self.parts[0].classes),
            "majority_accuracy": np.bincount(tested).max() / len(tested),
            **untrained,
        }
        for part, averages in zip(self.parts, parts, strict=True):
            for name, count in part.counts(averages).items():
                result[name] = result.get(name, 0) + count
        return {name: float(value) for name, value in result.items()}

    def _scores(self, x: Float[np.ndarray, "R F"], valid: Bool[np.ndarray, "R"]) -> dict[str, Any]:
        """Fits and tests a classifier for each test part, on valid recordings alone.

        Sets ``by_query`` and ``queries``.

        Raises:
          ConfigError: a part is empty, or fewer than two classes are left to fit to.
        """
        correct = np.zeros(len(x), bool)
        scores: dict[str, Any] = {"unconverged": 0}
        accuracies = []
        for test in self.tests:
            fitted, strength = self._fitted(x, valid, test)
            rows = valid & (self.fold == test)
            correct[rows] = fitted.predict(x[rows]) == self.labels[rows]
            accuracies.append(correct[rows].mean())
            scores |= metrics.with_intervals({f"accuracy_fold_{test + 1}": correct[rows]})
            scores[f"inverse_strength_fold_{test + 1}"] = strength
            scores["unconverged"] += int(np.max(fitted[-1].n_iter_) >= _MAX_ITERATIONS)
        tested = valid & np.isin(self.fold, self.tests)
        interval = metrics.mean_over_parts("accuracy", correct[tested], self.fold[tested])
        if len(accuracies) > 1:
            scores["accuracy_spread"] = np.std(accuracies, ddof=1)
        # The trained network is scored last, so its outcomes remain.
        self.by_query = {"correct": correct[tested].astype(int).tolist()}
        self.queries = single_queries(self.names[tested].tolist())
        classes = self.parts[0].classes
        return {
            **interval,
            **metrics.mean_class_accuracy(correct[tested], self.labels[tested]),
            **scores,
            **metrics.class_accuracies(correct[tested], self.labels[tested], classes),
        }

    def _fitted(
        self, x: Float[np.ndarray, "R F"], valid: Bool[np.ndarray, "R"], test: int
    ) -> tuple[Any, float]:
        """The classifier for a test part, fitted without that part, and the C chosen for it."""
        from sklearn.exceptions import ConvergenceWarning

        held_out = (test + 1) % self.options.folds
        validation = valid & (self.fold == held_out)
        # The fold with the number ``folds`` is the test source.
        fitting = valid & (self.fold != test) & (self.fold < self.options.folds)
        training = fitting & ~validation
        if (
            len(np.unique(self.labels[training])) < 2
            or not validation.any()
            or not (valid & (self.fold == test)).any()
        ):
            raise ConfigError(
                f"linear_probe: with fold {test + 1} for the test and fold {held_out + 1} for "
                "validation, one of them is empty or there are not two classes left to fit to; "
                "give fewer folds or more clips"
            )

        def fit(strength: float, rows: Bool[np.ndarray, "R"]) -> Any:
            return self._classifier(strength).fit(x[rows], self.labels[rows])

        # On matrices as small as these, more threads make it slower.
        with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # counted as "unconverged"
            chosen = max(
                sorted(self.options.inverse_strengths),
                key=lambda c: fit(c, training).score(x[validation], self.labels[validation]),
            )
            return fit(chosen, fitting), chosen

    def _classifier(self, strength: float) -> Any:
        """The classifier with standardised features. The imports are here because they are slow."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        if self.options.classifier == "linear_svm":
            classifier = LinearSVC(C=strength, max_iter=_MAX_ITERATIONS, random_state=0)
        else:
            classifier = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
        return make_pipeline(StandardScaler(), classifier)


def _check_apart(options: Evaluation, fitted: Iterable[str], tested: Iterable[str]) -> None:
    """Raises ConfigError if recordings of one corpus are fitted to and tested on."""
    entries = [dict(entry) for entry in (options.source, options.test_source)]
    one_corpus = all(entries[0].get(key) == entries[1].get(key) for key in ("name", "root", "seed"))
    if one_corpus and (shared := sorted({*fitted} & {*tested})):
        raise ConfigError(
            f"linear_probe.test_source shares {len(shared)} recordings with source, such as "
            f"{shared[0]!r}; name other recordings"
        )


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("linear_probe")
