"""Is the right clip near its caption, or near its sound?"""

import ml_collections

from fgmm.eval import corpora


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source; ``pair``, such as
    ``video_audio``, and ``folds``.
    """
    corpus = corpora.chosen(argument, "retrieval", "pair", "folds")
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": corpus.entry,
            "pair": corpus.pair,
            "captions": corpus.captions,
            "phrases": corpus.phrases,
            "tokens": corpus.tokens,
            # Beside every score: the best 100 by the coarse score, ranked by that score.
            "shortlist": 100,
            # And every score corrected by statistics of the gallery itself.
            "correct_hubs": True,
            "folds": corpus.folds,
        }
    )
