"""Which phrases and cells does the gradient of the loss go to?"""

import ml_collections

from fgmm.eval import corpora


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source."""
    corpus = corpora.chosen(argument, "gradients")
    return ml_collections.ConfigDict({"name": "gradients", "source": corpus.entry})
