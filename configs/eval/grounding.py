"""When in a window happens what a phrase, or a caption, says?"""

import ml_collections

from fgmm.eval import corpora

# Thresholds as shares of a curve's height. One is chosen on clips other than those measured.
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source; ``pair``,
    ``video_text`` or ``audio_text``; ``join``, how many clips in a row are one window, for corpora
    with grounding.
    """
    corpus, variant = corpora.chosen_with(argument, "grounding", pair="video_text", join=1)
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
