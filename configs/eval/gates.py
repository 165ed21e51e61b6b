"""Do learned weights count less what is not true of the clip?"""

import ml_collections

from fgmm.eval import corpora


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source."""
    corpus = corpora.chosen(argument, "gates")
    return ml_collections.ConfigDict({"name": "gates", "source": corpus.entry})
