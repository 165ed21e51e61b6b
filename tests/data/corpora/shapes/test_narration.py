"""Sentences and the spans they come with."""

import re

import pytest

from fgmm.data.corpora.shapes import narration
from fgmm.data.corpora.shapes.scene import (
    COLOURS,
    MOTIONS,
    SHAPES,
    SIZES,
    World,
    draw_scene,
    generator,
)

WORLD = World(size=64, frames=8, fps=4.0, sample_rate=8000)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_spans_cut_the_names_and_actions_out_of_a_sentence(count):
    for index in range(300):
        rng = generator(count, index)
        items = list(draw_scene(rng, WORLD, movers=count, distractors=0).movers)
        text, mentions = narration.sentence(rng, items)
        assert [mention.item for mention in mentions] == items
        for item, subject, action in mentions:
            article, *size, colour, shape = text[slice(*subject)].split()
            assert article in ("a", "an", "the")
            assert colour in narration._COLOUR_WORDS[COLOURS[item.colour]]
            assert shape in narration._SHAPE_WORDS[SHAPES[item.shape]]
            assert not size or size[0] in narration._SIZE_WORDS[SIZES[item.size]]
            forms = narration._MOTION_WORDS[MOTIONS[item.motion]]
            assert text[slice(*action)] in [form for both in forms for form in both]
            assert 0 <= subject[0] < subject[1] < action[0] < action[1] <= len(text)


def test_sentences_are_well_formed():
    for index in range(500):
        rng = generator(9, index)
        scene = draw_scene(rng, WORLD, movers=1 + index % 3, distractors=0)
        text, _ = narration.sentence(rng, list(scene.movers))
        assert re.fullmatch(r"[a-z]+(,? [a-z]+)*", text)
        assert not re.search(r"\ba [aeiou]", text)
        assert not re.search(r"\ban [^aeiou]", text)


def test_words_of_different_meanings_differ():
    for table in (narration._SHAPE_WORDS, narration._COLOUR_WORDS, narration._SIZE_WORDS):
        words = [word for synonyms in table.values() for word in synonyms]
        assert len(words) == len(set(words))
    actions = [
        form for forms in narration._MOTION_WORDS.values() for both in forms for form in both
    ]
    assert len(actions) == len(set(actions))
    names = {
        w for t in (narration._SHAPE_WORDS, narration._COLOUR_WORDS) for s in t.values() for w in s
    }
    assert not names & set(re.findall(r"\w+", " ".join(narration._FILLERS)))


def test_sentences_are_said_in_order_and_while_it_happens():
    for index in range(200):
        rng = generator(10, index)
        scene = draw_scene(rng, WORLD, movers=3, distractors=1)
        captions, grounding = narration.narrate(
            rng, scene, WORLD, sentences=4, noise=0.5, neighbours=lambda: iter(())
        )
        assert len(captions) == 4
        assert [c.start for c in captions] == sorted(c.start for c in captions)
        for caption in captions:
            assert 0 <= caption.start < caption.end <= WORLD.seconds
        for entry in grounding:
            caption = captions[entry.caption]
            now = slice(int(caption.start * WORLD.fps), int(caption.end * WORLD.fps) + 1)
            assert entry.active[now].any()
