"""A linear classifier fitted to a few examples of each class, many times.

Protocol: frozen features as in ``fgmm.eval.linear_probe``. Recordings are split into folds that
keep groups together. Each draw tests on one fold, taking the folds in turn. It draws k recordings
of each class from the other folds and fits a logistic regression with a fixed L2 penalty to them.
Features are standardised by the mean and standard deviation of all recordings outside the test
fold, without use of their labels. The result is the mean accuracy over draws, and its spread, one
standard deviation. The draws are the same for every state.

Baselines: ``chance``, one over the number of classes, and ``untrained``, the same for the network
before its first step.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import threadpoolctl
from jaxtyping import Bool, Float, Int64

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data.folds import drawn_folds
from fgmm.eval import metrics, result_text
from fgmm.eval.frozen_features import POOLS, FrozenFeatures
from fgmm.eval.recordings import MODALITIES, check_encoders, footnote, open_labelled
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: the corpus, as in ``config.data.source``.
      label: the kind of label, one of the source's ``classes``.
      modality: whose encoder: ``"video"`` or ``"audio"``.
      shots: the numbers k of examples of each class.
      draws: how many sets of examples are drawn for each k.
      pool: of the encoder's output, as in ``linear_probe``.
      inverse_strength: of the L2 penalty, scikit-learn's C; fixed, since no validation part is left
        to choose it on.
      folds: how many; one is the test part of a draw.
      untrained: also report the untrained network.
      seed: of folds and draws.
      batch_size: records encoded at a time.
    """

    source: Mapping
    label: str
    modality: str = option("video", choices=MODALITIES)
    shots: tuple[int, ...] = option((1, 5, 10), low=1)
    draws: int = option(50, low=2)
    pool: str = option("mean", choices=POOLS)
    inverse_strength: float = option(1.0, above=0)
    folds: int = option(5, low=2)
    untrained: bool = True
    seed: int = 0
    batch_size: int = option(64, low=1)

    def __post_init__(self):
        check_options(self)

    def bind(self, experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
        """Opens the corpus and draws the folds.

        Raises:
          ConfigError: an option names something that is not there, the checkpoint lacks the
            modality or the source the label, or a class has too few recordings.
        """
        check_encoders(experiment, self.modality, name="few_shot")
        return _FewShot(self, experiment)

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text, with a row for each k."""
        rows: dict[str, dict[str, float]] = {}
        for name, value in result.items():
            network, _, rest = name.rpartition("shots_")
            k, _, number = rest.partition("/")
            if number:
                row = f"{k} a class" + (", untrained" if network else "")
                rows.setdefault(row, {})[number] = value
        return f"{result_text.table(rows, ['accuracy', 'accuracy_spread'])}\n{footnote(result)}"


class _FewShot:
    def __init__(self, options: Evaluation, experiment: Experiment):
        self.options = options
        self.recordings = open_labelled(
            experiment,
            options.source,
            label=options.label,
            modality=options.modality,
            key="few_shot.source",
        )
        labels = self.recordings.labels
        self.fold = drawn_folds(
            *(labels, self.recordings.groups, options.folds, options.seed), name="few_shot"
        )
        self._check_enough(np.ones(len(labels), bool))
        self.protocol = dataclasses.asdict(options) | {
            "feature": f"{options.modality} encoder's output, before the heads",
            "augmentation": "none",
            "windows": "features averaged over those of a recording",
            "standardised_by": "all recordings outside the test part",
            "classifier": "logistic_regression",
            "tests": "one fold a draw, in turn",
            "spread": "one standard deviation over draws",
            "interval": "of the mean over draws, which are resampled",
            "untrained_statistics": "initial",
            "untrained_seed": experiment.config.seed,
            "corpus": self.recordings.protocol(),
            "fold_sizes": np.bincount(self.fold).tolist(),
        }
        self._features = FrozenFeatures(
            experiment, [self.recordings], options.pool, options.batch_size, options.untrained
        )

    def __call__(self, state: TrainState) -> dict[str, float]:
        (averages,), scores, untrained = self._features.scored(state, self._scores)
        result = scores | untrained | self.recordings.counts(averages)
        return {name: float(value) for name, value in result.items()}

    def _check_enough(self, valid: Bool[np.ndarray, "R"]) -> None:
        most, labels = max(self.options.shots), self.recordings.labels
        for fold in range(self.options.folds):
            counts = np.bincount(
                labels[valid & (self.fold != fold)], minlength=len(self.recordings.classes)
            )
            if counts.min() < most:
                raise ConfigError(
                    f"few_shot: shots={most} is more than the {counts.min()} recordings of class "
                    f"{self.recordings.classes[counts.argmin()]!r} outside fold {fold + 1}"
                )
            if not (valid & (self.fold == fold)).any():
                raise ConfigError(
                    f"few_shot: nothing in fold {fold + 1} of {self.options.folds} can be read; "
                    "give fewer folds"
                )

    def _scores(
        self, x: Float[np.ndarray, "R F"], valid: Bool[np.ndarray, "R"]
    ) -> dict[str, float]:
        self._check_enough(valid)
        scores = {}
        for k in self.options.shots:
            found = [self._accuracy(x, valid, k, draw) for draw in range(self.options.draws)]
            interval = metrics.with_intervals({"accuracy": np.array(found)})
            scores |= {f"shots_{k}/{name}": value for name, value in interval.items()}
            scores |= {
                f"shots_{k}/accuracy_spread": float(np.std(found, ddof=1)),
                f"shots_{k}/chance_accuracy": 1 / len(self.recordings.classes),
            }
        return scores

    def _accuracy(
        self, x: Float[np.ndarray, "R F"], valid: Bool[np.ndarray, "R"], k: int, draw: int
    ) -> float:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        labels = self.recordings.labels
        held_out = valid & (self.fold == draw % self.options.folds)
        others = np.flatnonzero(valid & ~held_out)
        chosen = self._examples(others, k, draw)
        spread = x[others].std(axis=0)
        x = (x - x[others].mean(axis=0)) / np.where(spread > 0, spread, 1)
        with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
            # A fit that has not converged is tested as it is.
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier = LogisticRegression(C=self.options.inverse_strength, max_iter=1000)
            classifier.fit(x[chosen], labels[chosen])
        return float(np.mean(classifier.predict(x[held_out]) == labels[held_out]))

    def _examples(
        self, candidates: Int64[np.ndarray, "C"], k: int, draw: int
    ) -> Int64[np.ndarray, "E"]:
        """k of the candidates of each class."""
        rng = np.random.default_rng((self.options.seed, k, draw))
        labels = self.recordings.labels[candidates]
        of_classes = [
            rng.choice(candidates[labels == label], k, replace=False)
            for label in range(len(self.recordings.classes))
        ]
        return np.concatenate(of_classes)


if __name__ == "__main__":
    # Imported here, since it defines flags that the training program defines too.
    from fgmm.eval import binary

    binary.run("few_shot")
