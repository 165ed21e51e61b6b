"""How well does a trained classifier tell the classes of a corpus?"""

import ml_collections

from fgmm.eval import corpora


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source; ``label``."""
    corpus = corpora.chosen(argument, "classification", "label")
    return ml_collections.ConfigDict(
        {"name": "classification", "source": corpus.entry, "label": corpus.label}
    )
