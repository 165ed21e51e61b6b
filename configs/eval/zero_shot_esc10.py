"""What is heard? Classes of environmental sounds, ESC-10, by their names."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``windows`` of a recording."""
    variant = configs.variant(argument, root="esc10.tar", windows=3)
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {"name": "esc10", **variant},
            "label": "sound",
            "modality": "audio",
            "templates": ("{}", "the sound of {}", "here we can hear {}", "listen, it is {}"),
            "words": {
                "dog": "a dog barking",
                "rooster": "a rooster crowing",
                "crackling fire": "a crackling fire",
                "crying baby": "a crying baby",
                "sneezing": "somebody sneezing",
                "clock tick": "a ticking clock",
                "helicopter": "a helicopter flying",
                "chainsaw": "a chainsaw cutting wood",
            },
        }
    )
