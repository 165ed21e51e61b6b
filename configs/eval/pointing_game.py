"""Does a phrase attend to what it names?"""

import ml_collections

from fgmm.eval import corpora


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source."""
    corpus = corpora.chosen(argument, "pointing_game")
    return ml_collections.ConfigDict({"name": "pointing_game", "source": corpus.entry})
