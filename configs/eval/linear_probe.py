"""How well does a linear probe of an encoder's frozen features tell classes?"""

import ml_collections

from fgmm.eval import corpora


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source; ``label`` and
    ``modality``; ``train``, the split to fit to, with ``split`` for the test, or empty for folds of
    ``split`` that keep groups together.
    """
    corpus = corpora.chosen(argument, "linear_probe", "label", "modality", "train")
    parts = {"source": corpus.entry}
    if corpus.train:
        parts = {"source": {**corpus.entry, "split": corpus.train}, "test_source": corpus.entry}
    return ml_collections.ConfigDict(
        {
            "name": "linear_probe",
            **parts,
            "label": corpus.label,
            "modality": corpus.modality,
            "classifier": corpus.classifier,
        }
    )
