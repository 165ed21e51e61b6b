"""Is the right clip, or picture, near its caption?"""

import ml_collections

from fgmm.eval import corpora


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source."""
    corpus = corpora.chosen(argument, "retrieval")
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": corpus.entry,
            "captions": corpus.captions,
            "phrases": corpus.phrases,
            "tokens": corpus.tokens,
        }
    )
