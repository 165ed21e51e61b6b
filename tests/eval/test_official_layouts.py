"""Every protocol on an official layout opens a small corpus of that layout."""

import importlib

import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.experiment import build as experiments
from tests.data import corpora_fixture
from tests.shrunken import shrunken


@pytest.fixture(scope="module")
def experiment():
    return experiments.build(shrunken(quickstart.get_config("fine=none")))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    names = ("ucf101", "hmdb51", "kinetics", "esc50", "youcook2", "msr_vtt")
    return {name: getattr(corpora_fixture, f"write_{name}")(folder / name) for name in names}


def opened(experiment, root, protocol, corpus, *variants):
    get_config = importlib.import_module(f"configs.eval.{protocol}").get_config
    entry = configs.plain(get_config(",".join([f"corpus={corpus}", f"root={root}", *variants])))
    evaluation = components.find("eval", entry.pop("name"))
    return evaluation(**components.check(evaluation, entry, key=protocol)).bind(experiment)


@pytest.mark.parametrize(
    ("name", "variant", "train", "test"),
    [
        ("ucf101", "fold=1", 20, 8),
        ("ucf101", "fold=3", 20, 8),
        ("hmdb51", "fold=2", 20, 12),
        ("kinetics", "split=validation", 12, 12),
    ],
)
def test_linear_probes_are_fitted_to_one_part_and_tested_on_the_other(
    experiment, roots, name, variant, train, test
):
    bound = opened(experiment, roots[name], "linear_probe", name, variant, "windows=2")
    fitted, tested = bound.parts
    assert (len(fitted.labels), len(tested.labels)) == (train, test)
    assert set(fitted.labels) == set(tested.labels) == {0, 1}
    assert set(bound.fold[:train]) == {0, 1, 2, 3, 4}
    assert set(bound.fold[train:]) == {5}


def test_the_folds_of_esc50_are_kept(experiment, roots):
    bound = opened(experiment, roots["esc50"], "linear_probe", "esc50")
    assert bound.fold.tolist() == [0, 1, 2, 3, 4] * 4
    assert len(bound.parts[0].classes) == 50


@pytest.mark.parametrize(
    ("name", "variant", "clips", "captions"),
    [
        ("youcook2", "split=train", 4, 1),
        ("msr_vtt", "split=test_1k", 4, 1),
        ("msr_vtt", "split=test", 3, 2),
    ],
)
def test_retrieval_has_the_clips_of_a_split_with_their_captions(
    experiment, roots, name, variant, clips, captions
):
    assembler = opened(experiment, roots[name], "retrieval", name, variant).assembler
    assert len(assembler.source) == clips
    example = assembler(1)
    assert example["video_mask"]
    assert example["video"].any()
    assert example["text_mask"].any()
    assert len(assembler.source[1].captions) == captions


@pytest.mark.parametrize("name", ["ucf101", "hmdb51", "kinetics", "esc50"])
def test_names_of_classes_are_words_for_prompts(experiment, roots, name):
    bound = opened(experiment, roots[name], "zero_shot", name)
    for said in bound.words:
        assert said == said.lower()
        assert "_" not in said
