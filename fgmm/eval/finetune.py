"""Fine-tuning: a checkpoint's encoder with a new classifier, trained end to end on labels.

    python -m fgmm.eval.finetune --workdir=RUN --config=eval/finetune:corpus=esc10,root=...

Protocol: for each part of the corpus, the encoder of one modality starts from the checkpoint, and a
linear classifier over its pooled features starts from zero. ``fgmm.train.loop`` trains both for a
fixed number of epochs on all but the test part. The last step is tested, once; nothing is chosen on
the test part. Parts are folds that keep groups together (those of ``fgmm.eval.linear_probe`` with
the same number and seed) or official splits. The test is that of ``fgmm.eval.classification``.
Results are means over parts and seeds, and all parts have the same weight. Intervals are a
bootstrap over recordings; they do not cover other seeds of training.

With ``validation``, the fold after each test fold is tested instead, and training uses neither. A
recipe can be chosen by these results, as the linear probe chooses its regularisation.

Baselines: ``chance``, one over the number of classes, or for mAP the share of positives;
``majority``, the share of the most frequent class; and ``untrained``, the same training of the same
network from its random start. Classes of a test part that its training clips lack are counted, with
their recordings; these stay in the test.

The trainings are ordinary runs, in folders of ``RUN/LABEL/``, with LABEL the name of the result.
After a kill, the same command continues. ``configs/finetune.py`` trains a single one of them.
"""

import dataclasses
import math
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from fgmm import components
from fgmm import config as configs
from fgmm.config import Config, ConfigError, as_dict, plain, tuples
from fgmm.config.option import check_options, option
from fgmm.data.folds import classes_of, labelled_records
from fgmm.data.opening import open_source
from fgmm.eval import result_text
from fgmm.eval.classification import Classifier, ClassScores, summary_table
from fgmm.eval.cross_validation import PartResult, counts, outcomes, summary
from fgmm.eval.recordings import MODALITIES, check_encoders, footnote, input_sizes
from fgmm.experiment import build as experiments
from fgmm.experiment.build import Experiment

# Keys that a training copies from the checkpoint's config: how clips are read and normalised.
_DATA = ("frames", "height", "width", "features", "seconds", "sample_rate", "time_limit")
_DATA += ("resize", "resize_filter", "resize_ratio", "workers", "threads", "prefetch")
_TRANSFORMS = ("mel_", "pixel_")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the protocol.

    Attributes:
      source: the corpus for training, as in ``config.data.source``.
      test_source: the corpus for the test: the same, perhaps with other windows, or an official
        test split.
      label: the kind of label, one of the source's ``classes``.
      modality: whose encoder: ``"video"`` or ``"audio"``.
      folds: how many; 0 for official splits, which the options of both sources select.
      splits: values of the sources' option ``fold``, one for each official split; empty for one
        split.
      validation: test the fold after the test fold instead, and train on neither.
      pool: of the classifier's features, as ``config.model.classifiers.*.pool``.
      dropout: rate of dropout on the pooled features.
      term: the supervised term and its options.
      epochs: passes over the training clips.
      training: further keys of a training's config, such as ``batch_size``, ``optimizer`` and
        ``transforms``; they replace the defaults.
      seeds: of the trainings.
      untrained: also train the network from its random start.
      fold_seed: of drawing the folds.
      batch_size: records tested at a time.
    """

    source: Mapping
    test_source: Mapping
    label: str
    modality: str = option("video", choices=MODALITIES)
    folds: int = option(5, low=0)
    splits: tuple[int, ...] = ()
    validation: bool = False
    pool: str = option("mean", choices=("mean", "max", "own"))
    dropout: float = option(0.0, low=0, below=1)
    term: Mapping = option({"name": "softmax_cross_entropy", "label_smoothing": 0.1})
    epochs: float = option(30.0, above=0)
    training: Mapping = option({})
    seeds: tuple[int, ...] = option((0,), low=0)
    untrained: bool = True
    fold_seed: int = 0
    batch_size: int = option(64, low=1)

    def __post_init__(self):
        check_options(self)
        if self.folds and (self.folds < 2 or self.splits):
            raise ConfigError(
                f"folds={self.folds} with splits={self.splits!r}: give at least two folds, or "
                "folds=0 for official splits"
            )
        sources = [dict(entry) | {"windows": 0} for entry in (self.source, self.test_source)]
        if not self.folds and sources[0] == sources[1]:
            raise ConfigError(
                "finetune: test_source names the recordings of source, which are trained on; name "
                "others, or set folds"
            )
        if self.validation and self.folds < 3:
            raise ConfigError(f"validation=True needs at least three folds; got folds={self.folds}")

    def bind(self, experiment: Experiment) -> Any:
        """Not supported: fine-tuning starts from a checkpoint on disk, not a state in memory.

        Raises:
          ConfigError: always.
        """
        raise ConfigError(
            "finetune trains runs of its own from a checkpoint: python -m fgmm.eval.finetune; "
            "inside a training, classification is the evaluation of a classifier"
        )

    def table(self, result: Mapping[str, float]) -> str:
        """The result as text, with its baselines."""
        rows = {"fine-tuned": {k: v for k, v in result.items() if not k.startswith("untrained/")}}
        if self.untrained:
            beside = ("chance_", "majority_")
            rows["from random"] = {
                name.removeprefix("untrained/"): value
                for name, value in result.items()
                if name.startswith(("untrained/", *beside))
            }
        lines = [summary_table(rows)]
        for of in ("part", "class"):
            lines.append(result_text.shares(f"fine-tuned, by {of}", f"{of}/", result))
        note = footnote(result)
        if result["classes_unseen"]:
            note += (
                f"; classes that training never saw: {result['classes_unseen']:.0f}, "
                f"{result['clips_of_unseen_classes']:.0f} clips of the test"
            )
        return "\n".join([*lines, note])


class Part(NamedTuple):
    """A test part of the corpus, and the data to train on for it.

    Attributes:
      name: such as ``"fold1"``.
      train, test: the sources, as in ``config.data.source``.
    """

    name: str
    train: dict[str, Any]
    test: dict[str, Any]


def parts(options: Evaluation) -> list[Part]:
    """The test parts of the corpus, in order."""
    train, test = plain(options.source), plain(options.test_source)
    if not options.folds:
        named = [(f"split{n}", {"fold": n}) for n in options.splits] or [("test", {})]
        return [Part(name, {**train, **fold}, {**test, **fold}) for name, fold in named]
    found = []
    numbers = range(1, options.folds + 1)
    for number in numbers:
        tested, left_out = number, {number}
        if options.validation:
            tested = number % options.folds + 1
            left_out.add(tested)
        rest = tuple(n for n in numbers if n not in left_out)
        entries = (_in_folds(options, *of) for of in ((train, rest), (test, (tested,))))
        found.append(Part(f"fold{number}", *entries))
    return found


def _in_folds(options: Evaluation, source: dict[str, Any], take: tuple[int, ...]) -> dict[str, Any]:
    return {
        "name": "folds",
        "source": source,
        "label": options.label,
        "folds": options.folds,
        "take": take,
        "seed": options.fold_seed,
    }


def training_config(
    options: Evaluation,
    checkpoint: Config,
    start: Mapping[str, str] | None,
    part: Part,
    seed: int = 0,
) -> tuple[ml_collections.ConfigDict, Any]:
    """The config of one training, and its training corpus, opened.

    Args:
      options: the protocol.
      checkpoint: the config of the checkpoint.
      start: ``path``, ``step`` and ``weights`` of the checkpoint, as in ``config.init_from``; None
        for a random start.
      part: the part to test, from ``parts``.
      seed: of the training.

    Raises:
      ConfigError: the checkpoint lacks an encoder of the modality, the source lacks the label, or
        the source or an option is wrong.
    """
    config = _without_corpus(options, checkpoint, start)
    source = open_source(part.train, "finetune.source", config.data.seconds)
    classes = classes_of(source, options.label, key="finetune.source")
    config.seed = seed
    config.steps = max(1, math.ceil(options.epochs * len(source) / config.batch_size))
    config.data.source, config.data.label = part.train, options.label
    config.model.classifiers = {
        options.label: {
            "modality": options.modality,
            "classes": classes,
            "pool": options.pool,
            "dropout": options.dropout,
        }
    }
    term = plain(options.term)
    found = components.find("losses.terms", term.get("name", ""), key="finetune.term.name")
    if not getattr(found, "supervised", False):
        raise ConfigError(
            f"finetune.term.name={term['name']!r} compares no labels; take softmax_cross_entropy, "
            "or sigmoid_cross_entropy for any number of classes a clip"
        )
    config.objective.terms[options.label] = {**term, "classifier": options.label}
    config.evals.test = {
        "name": "classification",
        "source": part.test,
        "batch_size": options.batch_size,
    }
    return components.complete(config), source


def _without_corpus(
    options: Evaluation, checkpoint: Config, start: Mapping[str, str] | None
) -> ml_collections.ConfigDict:
    modality = options.modality
    if modality not in checkpoint["model"]:
        there = ", ".join(
            name for name in ("video", "audio", "text") if name in checkpoint["model"]
        )
        raise ConfigError(f"finetune: the checkpoint has no {modality} encoder; it has: {there}")
    config = configs.defaults()
    config.data.update({name: checkpoint["data"][name] for name in _DATA})
    config.transforms.update(
        {k: v for k, v in checkpoint["transforms"].items() if k.startswith(_TRANSFORMS)}
    )
    config.model = {modality: plain(checkpoint["model"][modality]), "spaces": {}}
    config.lora = plain(checkpoint["lora"])
    config.checkpoint.update(every_steps=0, keep_last=1)
    if start is not None:
        # Everything but the encoder is initialised.
        rules = ((rf"(?!model/encoders_{modality}/).*", "initialise"),)
        config.init_from.update(**start, rules=rules)
    try:
        config.update(tuples(options.training))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"finetune.training: {' '.join(str(error).split())}") from error
    return config


def tested(
    options: Evaluation,
    checkpoint: Config,
    start: Mapping[str, str] | None,
    folder: pathlib.Path,
) -> Iterator[PartResult]:
    """Trains and tests a network for every seed and part.

    Args:
      options, checkpoint, start: as in ``training_config``.
      folder: for the trainings, each in a subfolder.

    Yields:
      The result of each network.

    Raises:
      ConfigError: as ``training_config``, or a test source is wrong.
      Interrupted, Diverged, DiskFull: as ``loop.train``.
    """
    from fgmm.train import checkpoint as checkpoints
    from fgmm.train import loop

    for seed in options.seeds:
        for part in parts(options):
            config, source = training_config(options, checkpoint, start, part, seed)
            built = experiments.build(config)
            classifier = Classifier(built)
            # Opened before the training, so that errors come early.
            recordings = classifier.open(part.test, options.label, "finetune.test_source")
            workdir = folder / f"{part.name}-seed{seed}"
            loop.train(built, source, workdir)
            _, state = checkpoints.load(workdir)
            scored = classifier.scored(state, recordings, options.batch_size)
            unseen = _unseen(source, options.label, scored)
            yield PartResult(part.name, seed, scored, unseen)


def _unseen(source: Any, label: str, scored: ClassScores) -> frozenset[str]:
    found = labelled_records(source, label, key="finetune.source").labels
    classes = source.classes[label]
    present = found.any(axis=0) if found.ndim > 1 else np.isin(np.arange(len(classes)), found)
    seen = {name for name, there in zip(classes, present.tolist(), strict=True) if there}
    there = np.unique(scored.labels) if not scored.several else np.flatnonzero(scored.labels.any(0))
    return frozenset({scored.classes[number] for number in there} - seen)


def measure(
    options: Evaluation,
    experiment: Experiment,
    start: Mapping[str, str],
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Trains and tests all networks and summarises their results.

    Args:
      options: the protocol.
      experiment: of the checkpoint.
      start: the place of the checkpoint, as in ``training_config``.
      folder: for the trainings.

    Returns:
      ``protocol`` and ``results``; where a clip has one class, also ``by_query`` and ``queries``;
      all as ``fgmm.eval.binary`` writes them.

    Raises:
      ConfigError, Interrupted, Diverged, DiskFull: as ``tested``.
    """
    check_encoders(experiment, options.modality, name="finetune")
    checkpoint = as_dict(experiment.config)
    found = list(tested(options, checkpoint, start, folder / "finetuned"))
    results = {**summary(found), **counts(found)}
    if options.untrained:
        random = list(tested(options, checkpoint, None, folder / "untrained"))
        results |= {f"untrained/{name}": value for name, value in summary(random).items()}
    first = found[0]
    by_query = {}
    if not first.scored.several:
        ranks, queries = outcomes(found)
        by_query = {"by_query": ranks, "queries": queries}
    protocol = dataclasses.asdict(options) | {
        "start": dict(start),
        "trained": f"{options.modality} encoder and classifier, end to end",
        "tested_after": "the last step",
        "augmentation_in_the_test": "none",
        "windows": "probabilities averaged over those of a recording",
        "parts": [one.part for one in found if one.seed == first.seed],
        "classes": first.scored.classes,
        "classes_unseen_by_part": {
            one.part: sorted(one.unseen) for one in found if one.seed == first.seed
        },
        "input": input_sizes(experiment.shape, options.modality),
    }
    return {"protocol": as_dict(protocol), "results": results} | by_query


def main(argv: list[str]) -> None:
    """Fine-tunes from a checkpoint, tests, and writes the result."""
    del argv
    from absl import flags

    from fgmm import command_line
    from fgmm.eval import binary

    workdir = binary.begin()
    config = command_line.required("config")
    label = binary.label_of(command_line.given("config"))
    binary.check_name(config, "finetune")
    from fgmm.interruption import Interrupted
    from fgmm.train import checkpoint, disk_space, loop

    given = flags.FLAGS
    options = components.build("eval", as_dict(config), key=label)
    experiment, state = checkpoint.load(workdir, given.step, given.weights)
    step, weights = int(state.step), checkpoint.weights_of(workdir, experiment, given.weights)
    label += binary.which_weights(experiment, given.weights)
    folder = command_line.folder_to_write(given.trainings or workdir / label, "--trainings")
    output = command_line.file_to_write(given.output or workdir / f"{label}-{step}.json")
    start = {"path": str(workdir), "step": str(step), "weights": given.weights}
    try:
        measured = measure(options, experiment, start, folder)
    except Interrupted as stopped:
        print(stopped)
        sys.exit(stopped.exit_code)
    except (loop.Diverged, disk_space.DiskFull) as error:
        sys.exit(f"error: {error}")
    print(f"{label}, step {step}, {weights} weights\n{options.table(measured['results'])}")
    if not given.by_query:
        measured = {k: v for k, v in measured.items() if k in ("protocol", "results")}
    report = binary.origin("finetune", workdir, experiment, step, weights)
    binary.write(output, report | measured)
    print(f"written to {output}")


if __name__ == "__main__":
    from absl import flags

    from fgmm import command_line

    flags.DEFINE_string("workdir", None, "The run whose checkpoint is fine-tuned.")
    flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best or a step.")
    flags.DEFINE_string("weights", "", "Which parameters: ema or last, as other evaluations.")
    flags.DEFINE_string("trainings", None, "Folder of the trainings, by default WORKDIR/LABEL.")
    flags.DEFINE_string("output", None, "The JSON file, by default WORKDIR/LABEL-STEP.json.")
    flags.DEFINE_bool("by_query", False, "Also write the outcome of every single query.")
    command_line.define_config(
        "The protocol, eval/finetune:corpus=CORPUS[,k=v,...] or PATH.py.", Evaluation
    )
    command_line.run(main)
