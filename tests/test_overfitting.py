"""Each encoder learns 32 clips by heart: retrieval among them reaches 90% at rank 1.

One of each modality at a time, so that a run's cost is shared. The short form is a single pair.
"""

import pytest

from configs import quickstart
from fgmm import components
from fgmm.eval import inside_training
from fgmm.experiment import build as experiments
from fgmm.train import loop
from tests.models.small import small

MODALITIES = ("video", "audio", "text")
# Stored features are no pixels.
NAMES = [
    [name for name in components.names(f"models.{modality}") if name != "features"]
    for modality in MODALITIES
]
RUNS = [tuple(names[run % len(names)] for names in NAMES) for run in range(max(map(len, NAMES)))]


@pytest.mark.long
@pytest.mark.parametrize("encoders", RUNS, ids="-".join)
def test_encoders_overfit_32_clips(encoders, tmp_path):
    check_overfitting(dict(zip(MODALITIES, encoders, strict=True)), tmp_path)


def test_a_pair_of_encoders_overfits_32_clips(tmp_path):
    check_overfitting({"audio": "resnet", "text": "phrase_bag"}, tmp_path)


def check_overfitting(encoders, workdir):
    pairs = [f"{modality}_text" for modality in encoders if modality != "text"]
    config = quickstart.get_config("noise=0.0")
    config.unlock()
    for modality in set(MODALITIES) - set(encoders):
        del config.model[modality]
    for modality, name in encoders.items():
        config.model[modality] = small(modality, name)
    config.model.spaces.joint.modalities = tuple(encoders)
    config.objective.terms = {
        f"{level}_{pair}": {"name": "info_nce", "pair": pair, "level": level, "space": "joint"}
        for level in ("fine", "coarse")
        for pair in pairs
    }
    corpus = {"name": "narrated_shapes", "split": "train", "clips": 32, "noise": 0.0, "size": 32}
    config.data.update(frames=4, height=32, width=32, cache=True)
    config.data.source = corpus
    config.evals = {pair: {"name": "retrieval", "source": corpus, "pair": pair} for pair in pairs}
    config.update(steps=60, progress=False)
    config.optimizer.schedule.warmup = 20
    config.checkpoint.update(every_steps=0, best_metric="")

    experiment = experiments.build(components.complete(config))
    source = experiment.source(corpus, "data.source")
    evaluators = inside_training.from_config(experiment)
    state = loop.train(experiment, source, workdir, evaluators)
    for pair, evaluator in evaluators.items():
        result = evaluator.run(state)
        other = pair.removesuffix("_text")
        for score in ("fine", "coarse"):
            for direction in (f"text_to_{other}", f"{other}_to_text"):
                assert result[f"{score}/{direction}/r@1"] >= 0.9, (pair, score, direction)
