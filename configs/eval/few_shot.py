"""How well do an encoder's features tell classes, given a few examples of each class?"""

import ml_collections

from fgmm.eval import corpora


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source; ``label`` and
    ``modality``.
    """
    corpus = corpora.chosen(argument, "few_shot", "label", "modality")
    return ml_collections.ConfigDict(
        {
            "name": "few_shot",
            "source": corpus.entry,
            "label": corpus.label,
            "modality": corpus.modality,
        }
    )
