import string
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmm.config import ConfigError
from fgmm.data import phrases

# Captions and their phrases, with " | " between them.
EXAMPLES = {
    "a brown dog is chasing a red ball on the grass": (
        "a brown dog is chasing | a red ball | on the grass"
    ),
    "the big red circle drifts to the left": "the big red circle drifts | to the left",
    "A man in a blue headband plays tennis .": "A man | in a blue headband | plays tennis",
    "A black and white dog bounds through a field .": (
        "A black and white dog bounds | through a field"
    ),
    "A dark haired woman wearing a brown jacket and a hat sits on a bench .": (
        "A dark haired woman wearing | a brown jacket | and a hat | sits on a bench"
    ),
    "a large , black dog is in the snow": "a large , black dog | is in the snow",
    "Two girls are playing , while a boy watches .": "Two girls are playing | while a boy watches",
    "A man sits by a dock looking at the water .": (
        "A man sits | by a dock | looking at the water"
    ),
    "Five boys in the middle of the air about to jump into the pond": (
        "Five boys | in the middle of the air | about to jump into the pond"
    ),
    "A man and woman standing in front of a white building": (
        "A man and woman standing | in front of a white building"
    ),
    "A woman in a black bathing suit holds up a fish .": (
        "A woman | in a black bathing suit | holds up a fish"
    ),
    "A boy sitting down on a bench next to a small dog": (
        "A boy sitting down | on a bench | next to a small dog"
    ),
    "Two dogs chase each other in the park": "Two dogs chase each other | in the park",
    "A skier with a red jacket and a yellow backpack is jumping over a hill": (
        "A skier | with a red jacket | and a yellow backpack | is jumping over a hill"
    ),
    "A baby boy plays outside with a blue toy .": "A baby boy plays outside | with a blue toy",
    "A boy with a ball behind it .": "A boy | with a ball behind it",
    "now the tiny yellow star moves upwards and makes a ringing sound": (
        "now the tiny yellow star moves upwards | and makes a ringing sound"
    ),
    "There is a red circle ; it drifts to the left .": (
        "There is a red circle | it drifts | to the left"
    ),
    "okay so now we are going to add the onions to the pan": (
        "okay so now we are going to add the onions | to the pan"
    ),
    "the star keeps rocking to and fro on the spot": (
        "the star keeps rocking to and fro | on the spot"
    ),
    "the drill costs 3.50, at 10:30": "the drill costs 3.50 | at 10:30",
    "A sign that says “stop” (in red).": "A sign | that says “stop | in red",
    "日本語の字幕、赤い丸が動く。": "日本語の字幕 | 赤い丸が動く",
    "and": "and",
}


def split(caption: str, segmenter: phrases.Segmenter) -> list[str]:
    return [caption[start:end] for start, end in segmenter(caption)]


@pytest.mark.parametrize("caption", EXAMPLES)
def test_captions_split_where_a_reader_would(caption):
    assert " | ".join(split(caption, phrases.function_words)) == EXAMPLES[caption]


def words_of(caption: str) -> list[int]:
    """Positions of all characters that make words."""
    return [i for i, c in enumerate(caption) if unicodedata.category(c)[0] in "LMNS"]


WORDS = st.sampled_from(
    [
        *sorted(phrases.FUNCTION_WORDS),
        "dog",
        "ball",
        "red",
        "big",
        "running",
        "jumps",
        ",",
        ".",
        "'s",
    ]
)
CAPTIONS = st.one_of(
    st.text(),
    st.text(alphabet=string.printable),
    st.lists(WORDS, max_size=30).map(" ".join),
)


@given(caption=CAPTIONS, name=st.sampled_from(sorted(phrases.SEGMENTERS)))
def test_spans_are_in_order_and_hold_every_word(caption, name):
    spans = phrases.find(name)(caption)
    ends = [0]
    for start, end in spans:
        assert ends[-1] <= start < end <= len(caption)
        assert words_of(caption[start]), "a phrase starts with a word"
        assert words_of(caption[end - 1]), "a phrase ends with a word"
        ends.append(end)
    inside = {i for start, end in spans for i in range(start, end)}
    assert set(words_of(caption)) <= inside


@given(st.lists(WORDS.filter(str.isalpha), max_size=30).map(" ".join))
def test_no_phrase_is_function_words_alone(caption):
    found = split(caption, phrases.function_words)
    bare = [p for p in found if not set(p.split()) - phrases.FUNCTION_WORDS]
    assert not bare or len(found) == 1


@pytest.mark.parametrize("caption", ["", " \n", "...", "— “ ”", "\u200b"])
@pytest.mark.parametrize("name", sorted(phrases.SEGMENTERS))
def test_captions_without_words_have_no_phrases(caption, name):
    assert phrases.find(name)(caption) == []


def test_whole_is_the_caption_without_the_punctuation_around_it():
    assert split(" A dog , on grass . ", phrases.whole) == ["A dog , on grass"]


def test_limit_merges_the_tail_into_the_last_phrase():
    spans = [(0, 3), (4, 6), (8, 9), (10, 12)]
    assert phrases.limit(spans, 4) == spans
    assert phrases.limit(spans, 2) == [(0, 3), (4, 12)]
    assert phrases.limit(spans, 1) == [(0, 12)]
    assert phrases.limit([], 3) == []


def test_unknown_name_says_which_are_allowed():
    with pytest.raises(ConfigError, match=r"'fuction'.*function_words, whole"):
        phrases.find("fuction")


@pytest.mark.parametrize("unit", ["dog ", "the ", ". a", "a dog and ", "-", "3,"])
def test_time_is_linear_in_the_length(unit):
    def seconds(repeats):
        start = time.process_time()
        phrases.function_words(unit * repeats)
        return time.process_time() - start

    seconds(100)
    short = min(seconds(1_000) for _ in range(3))
    # Eight times the text; a quadratic rule would take 64 times as long.
    assert min(seconds(8_000) for _ in range(2)) < 25 * max(short, 1e-3)
