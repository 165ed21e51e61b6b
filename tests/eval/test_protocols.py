"""The shipped protocols on labelled corpora name labels and classes that there are."""

import importlib
import pathlib

import pytest

from fgmm import components
from fgmm import config as configs
from fgmm.data.text import tokenizers
from fgmm.data.text.tokenizers import UNKNOWN_ID, Tokenizer

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
LABELLED = [
    path.stem
    for evaluation in ("linear_probe", "zero_shot")
    for path in sorted((REPOSITORY / "configs" / "eval").glob(f"{evaluation}_*.py"))
]
# Sources whose classes are those of the files they are given.
OF_FILES = ("ucf101", "hmdb51", "kinetics", "prepared")


@pytest.mark.parametrize("name", LABELLED)
def test_labels_and_classes_are_there(name):
    entry = configs.plain(importlib.import_module(f"configs.eval.{name}").get_config())
    assert name.startswith(entry["name"])
    source = components.find("data.sources", entry["source"]["name"])
    if not isinstance(getattr(source, "classes", None), dict):
        # Its files name them; see test_official_layouts.py.
        assert entry["source"]["name"] in OF_FILES
        return
    classes = source.classes[entry["label"]]
    assert set(entry.get("words", {})) <= set(classes)
    assert len(classes) >= 2


@pytest.mark.parametrize("name", ["zero_shot_motion", "zero_shot_sound"])
def test_prompts_on_narrated_shapes_are_in_words_of_the_corpus(name):
    entry = configs.plain(importlib.import_module(f"configs.eval.{name}").get_config())
    tokenizer = Tokenizer(tokenizers.path_of("narrated_shapes"))
    source = components.find("data.sources", "narrated_shapes")
    for said in source.classes[entry["label"]]:
        for template in entry["templates"]:
            prompt = template.replace("{}", entry.get("words", {}).get(said, said))
            pieces = tokenizer.pieces(prompt, lambda text: [(0, len(text))], 1)
            assert UNKNOWN_ID not in [token for token, _, _ in pieces]
            # A word of the narration is one piece, "counterclockwise" two.
            assert len(pieces) <= 1 + len(prompt.replace(",", " ,").split()), pieces
