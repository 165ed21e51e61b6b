"""In which part of its window is a phrase, or a caption, true?"""

import ml_collections

from fgmm import config as configs
from fgmm.eval import corpora

# Shares of a curve's height. One is chosen on clips other than those that are measured.
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source; ``pair``,
    ``video_text`` or ``audio_text``; ``join``, how many consecutive clips form one window, for
    corpora with grounding.
    """
    corpus, variant = corpora.chosen_with(argument, "grounding", pair="video_text", join=1)
    split = corpus.entry.get("split")
    if split is not None and split == corpus.tuning.get("split"):
        raise configs.ConfigError(
            f"variant split={split!r} holds the clips on which the threshold is chosen; "
            "name another split"
        )
    return ml_collections.ConfigDict(
        {
            "name": "grounding",
            "source": corpus.entry,
            "tuning_source": {**corpus.entry, **corpus.tuning},
            "thresholds": THRESHOLDS,
            "pair": variant.pair,
            "captions": corpus.captions,
            "join": variant.join,
        }
    )
