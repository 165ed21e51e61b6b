"""The shipped protocols on labelled corpora name labels and classes that there are."""

import importlib

import pytest

from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.data.text import tokenizers
from fgmm.data.text.tokenizers import UNKNOWN_ID, Tokenizer
from fgmm.eval.corpora import CORPORA

PROTOCOLS = [(protocol, corpus) for corpus in CORPORA for protocol in CORPORA[corpus].protocols]
LABELLED = [(protocol, corpus) for protocol, corpus in PROTOCOLS if CORPORA[corpus].label]
# Sources whose classes are those of the files they are given.
OF_FILES = ("ucf101", "hmdb51", "kinetics", "prepared")


def protocol_entry(protocol, corpus, *variants):
    get_config = importlib.import_module(f"configs.eval.{protocol}").get_config
    return configs.plain(get_config(",".join([f"corpus={corpus}", *variants])))


@pytest.mark.parametrize(("protocol", "corpus"), PROTOCOLS)
def test_options_are_those_of_the_protocol_and_of_the_source(protocol, corpus):
    entry = protocol_entry(protocol, corpus)
    assert entry.pop("name") == protocol
    components.check(components.find("eval", protocol), entry, key=protocol)
    for key in ("source", "test_source", "tuning_source"):
        if source := dict(entry.get(key, {})):
            components.check(components.find("data.sources", source.pop("name")), source, key=key)


def test_variants_change_the_corpus():
    fitted = {"name": "ucf101", "root": "x", "fold": 2, "windows": 10, "split": "train"}
    entry = protocol_entry("linear_probe", "ucf101", "root=x", "fold=2")
    assert entry["source"] == fitted
    assert entry["test_source"] == {**fitted, "split": "test"}
    assert protocol_entry("zero_shot", "ucf101", "root=x")["source"]["windows"] == 4
    probe = protocol_entry("linear_probe", "prepared", "split=test", "train=a", "label=sound")
    assert (probe["source"]["split"], probe["test_source"]["split"]) == ("a", "test")
    assert (probe["label"], probe["classifier"]) == ("sound", "logistic_regression")
    heard = protocol_entry("zero_shot", "prepared", "modality=audio")
    assert "the sound of {}" in heard["templates"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", r"corpus='' is missing; allowed: esc10, .*, ucf101$"),
        ("corpus=ucf11", r"corpus='ucf11' is unknown; .*; did you mean ucf101\?"),
        ("corpus=flickr8k", r"corpus='flickr8k' is unknown"),
        (
            "corpus=esc50,fold=1",
            r"variant 'fold=1' is unknown; allowed: corpus=esc50, .*=3",
        ),
    ],
)
def test_a_protocol_names_the_corpora_and_options_it_takes(argument, message):
    get_config = importlib.import_module("configs.eval.zero_shot").get_config
    with pytest.raises(ConfigError, match=message):
        get_config(argument)


@pytest.mark.parametrize(("protocol", "corpus"), LABELLED)
def test_labels_and_classes_are_there(protocol, corpus):
    entry = protocol_entry(protocol, corpus)
    source = components.find("data.sources", entry["source"]["name"])
    if not isinstance(getattr(source, "classes", None), dict):
        # Its files name them; see test_official_layouts.py.
        assert entry["source"]["name"] in OF_FILES
        return
    classes = source.classes[entry["label"]]
    assert set(entry.get("words", {})) <= set(classes)
    assert len(classes) >= 2


@pytest.mark.parametrize("corpus", ["motion", "sound"])
def test_prompts_on_narrated_shapes_are_in_words_of_the_corpus(corpus):
    entry = protocol_entry("zero_shot", corpus)
    tokenizer = Tokenizer(tokenizers.path_of("narrated_shapes"))
    source = components.find("data.sources", "narrated_shapes")
    for said in source.classes[entry["label"]]:
        for template in entry["templates"]:
            prompt = template.replace("{}", entry.get("words", {}).get(said, said))
            pieces = tokenizer.pieces(prompt, lambda text: [(0, len(text))], 1)
            assert UNKNOWN_ID not in [token for token, _, _ in pieces]
            # A word of the narration is one piece, "counterclockwise" two.
            assert len(pieces) <= 1 + len(prompt.replace(",", " ,").split()), pieces


@pytest.mark.parametrize(
    ("protocol", "option"),
    [
        ("linear_probe", "batch_size"),
        ("few_shot", "batch_size"),
        ("zero_shot", "batch_size"),
        ("pointing_game", "batch_size"),
        ("pointing_game", "captions"),
        ("gates", "captions"),
    ],
)
def test_nothing_at_a_time_is_refused(protocol, option):
    entry = {"name": protocol, "source": {"name": "narrated_shapes"}, option: 0}
    if protocol not in ("pointing_game", "gates"):
        entry["label"] = "motion"
    with pytest.raises(ConfigError, match=f"{option}=0 must be at least 1"):
        components.build("eval", entry, key=protocol)
