"""Each encoder learns 32 clips by heart: retrieval among them reaches 90% at rank 1."""

import pytest

from configs import quickstart
from fgmm import components
from fgmm import experiment as experiments
from fgmm.eval import inside_training
from fgmm.train import loop

ENCODERS = [
    (modality, name)
    for modality in ("video", "audio", "text")
    for name in components.names(f"models.{modality}")
]


@pytest.mark.parametrize(("modality", "name"), ENCODERS)
def test_an_encoder_overfits_32_clips(modality, name, tmp_path):
    pair = "audio_text" if modality == "audio" else "video_text"
    config = quickstart.get_config("noise=0.0")
    config.unlock()
    config.model[modality] = {"name": name}
    del config.model["video" if modality == "audio" else "audio"]
    config.model.spaces.joint.modalities = tuple(pair.split("_"))
    config.objective.terms = {
        level: {"name": "info_nce", "pair": pair, "level": level, "space": "joint"}
        for level in ("fine", "coarse")
    }
    corpus = {"name": "narrated_shapes", "split": "train", "clips": 32, "noise": 0.0, "size": 32}
    config.data.update(height=32, width=32, cache=True)
    config.data.source = corpus
    config.evals = {"retrieval": {"name": "retrieval", "source": corpus, "pair": pair}}
    config.update(steps=150, progress=False)
    config.optimizer.warmup_steps = 20
    config.checkpoint.update(every_steps=0, best_metric="")

    experiment = experiments.build(components.complete(config))
    source = experiment.source(corpus, "data.source")
    evaluators = inside_training.from_config(experiment)
    state = loop.train(experiment, source, tmp_path, evaluators)
    result = evaluators["retrieval"].run(state)
    other = pair.removesuffix("_text")
    for score in ("fine", "coarse"):
        for direction in (f"text_to_{other}", f"{other}_to_text"):
            assert result[f"{score}/{direction}/r@1"] >= 0.9, (score, direction)
