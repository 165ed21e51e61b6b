"""Are classes recognised by their names alone?"""

import ml_collections

from fgmm.eval import corpora

# For corpora without templates of their own.
TEMPLATES = {
    "video": ("{}", "a video of {}", "somebody is doing {}"),
    "audio": ("{}", "the sound of {}", "here we can hear {}"),
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source; ``label`` and
    ``modality``.
    """
    corpus = corpora.chosen(argument, "zero_shot", "label", "modality")
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": corpus.entry,
            "label": corpus.label,
            "modality": corpus.modality,
            "templates": corpus.templates or TEMPLATES.get(corpus.modality, ("{}",)),
            "words": corpus.words,
        }
    )
