"""How a scene is told: timed sentences in natural words. A share of them is not about the scene."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fgmm.data.corpora.shapes.picture import boxes
from fgmm.data.corpora.shapes.scene import (
    COLOURS,
    MOTIONS,
    SHAPES,
    SIZES,
    Item,
    Scene,
    World,
    active,
    draw_absent,
)
from fgmm.data.schema import Caption, Grounding

_SHAPE_WORDS = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "block"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "hoop"),
    "cross": ("cross",),
}
_COLOUR_WORDS = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "white": ("white",),
}
_SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "large": ("big", "large", "huge"),
}
_SIZE_SAID = 0.65  # how often the size is mentioned
# What an object "does" / what it is seen "doing".
_MOTION_WORDS = {
    "left": (
        ("moves left", "moving left"),
        ("drifts to the left", "drifting to the left"),
        ("slides to the left", "sliding to the left"),
        ("glides off to the left", "gliding off to the left"),
        ("travels leftwards", "travelling leftwards"),
    ),
    "right": (
        ("moves right", "moving right"),
        ("drifts to the right", "drifting to the right"),
        ("slides to the right", "sliding to the right"),
        ("glides off to the right", "gliding off to the right"),
        ("travels rightwards", "travelling rightwards"),
    ),
    "up": (
        ("moves up", "moving up"),
        ("floats upwards", "floating upwards"),
        ("rises", "rising"),
        ("climbs higher", "climbing higher"),
        ("heads upwards", "heading upwards"),
    ),
    "down": (
        ("moves down", "moving down"),
        ("floats downwards", "floating downwards"),
        ("sinks", "sinking"),
        ("drops lower", "dropping lower"),
        ("heads downwards", "heading downwards"),
    ),
    "clockwise": (
        ("circles clockwise", "circling clockwise"),
        ("goes round clockwise", "going round clockwise"),
        ("loops around clockwise", "looping around clockwise"),
        ("runs clockwise in a loop", "running clockwise in a loop"),
    ),
    "counterclockwise": (
        ("circles counterclockwise", "circling counterclockwise"),
        ("goes round anticlockwise", "going round anticlockwise"),
        ("loops around counterclockwise", "looping around counterclockwise"),
        ("runs anticlockwise in a loop", "running anticlockwise in a loop"),
    ),
    "shaking": (
        ("shakes from side to side", "shaking from side to side"),
        ("wobbles from side to side", "wobbling from side to side"),
        ("swings back and forth", "swinging back and forth"),
        ("rocks to and fro", "rocking to and fro"),
    ),
    "bouncing": (
        ("bounces up and down", "bouncing up and down"),
        ("hops up and down", "hopping up and down"),
        ("jumps up and down", "jumping up and down"),
        ("hops on the spot", "hopping on the spot"),
    ),
}
_OPENERS = (
    "",
    "",
    "now ",
    "and now ",
    "look, ",
    "here ",
    "and here ",
    "as you can see, ",
    "over here ",
    "okay, ",
)
# A clause names an object with "a" or "the" (either where both are possible), and its motion.
_OPENED_CLAUSES = (
    "{a|the} is {doing}",
    "{a|the} {does}",
    "{a|the} keeps {doing}",
    "{a|the} starts {doing}",
)
_TWO_AT_ONCE = 0.25  # how often a sentence of the narration is about two objects
_NOISE = ("absent", "filler", "elsewhere")
_FILLERS = (
    "so let me think about that for a moment",
    "okay, give me just a second here",
    "if you enjoy this, please leave a comment below",
    "welcome back, everybody, it is good to see you",
    "I did this once with my sister, years ago",
    "and that is really all there is to it",
    "we will come back to that a little later",
    "I have been asked about this many times",
    "sorry, my phone is ringing in the kitchen",
    "you can find the link in the description",
    "before we go on, let me say thank you",
    "it took me a while to get this right",
    "what a lovely day it is outside",
    "do not worry if it is hard at first",
    "as I said at the beginning, take your time",
    "I had a cup of coffee before we started",
    "right, where were we, yes, of course",
    "my neighbour told me about it last week",
    "and with that we are nearly done",
    "this part always makes me smile",
)

_CLAUSE_PATTERN = re.compile(
    r"(?P<before>.*)\{(?P<article>a|the|a\|the)\}(?P<between>.*)\{(?P<form>does|doing)\}"
)


def _parsed(*patterns: str) -> list[tuple[str, str, str, str]]:
    return [_CLAUSE_PATTERN.fullmatch(pattern).groups() for pattern in patterns]


_OPENED = _parsed(*(opener + clause for opener in _OPENERS for clause in _OPENED_CLAUSES))
_OF_THEIR_OWN = _parsed(
    "there is {a} that is {doing}",
    "we can see {a} {doing}",
    "watch {the}, it is {doing}",
    "notice how {the} is {doing}",
    "this is {a} that keeps {doing}",
    "you will see {a|the} {doing}",
)
_MIDDLE = _parsed(", {a|the} is {doing}", ", {a|the} {does}")
_LAST = _parsed(
    " and {a|the} is {doing}",
    " and {a|the} {does}",
    ", while {a|the} is {doing}",
    ", while {a|the} keeps {doing}",
)


class Mention(NamedTuple):
    """An object in a sentence, with the character spans of its name and of what it does."""

    item: Item
    subject: tuple[int, int]
    action: tuple[int, int]


def sentence(rng: np.random.Generator, items: list[Item]) -> tuple[str, list[Mention]]:
    """Says in one sentence, in random words, what each of ``items`` is and does."""
    text, mentions = "", []
    for number, item in enumerate(items, start=1):
        if number == 1:
            clauses = _pick(rng, (_OPENED, _OF_THEIR_OWN))
        else:
            clauses = _LAST if number == len(items) else _MIDDLE
        before, articles, between, form = _pick(rng, clauses)
        text += before
        subject = _name(rng, item, article=_pick(rng, articles.split("|")))
        subject_span = len(text), len(text) + len(subject)
        text += subject + between
        action = _pick(rng, _MOTION_WORDS[MOTIONS[item.motion]])[form == "doing"]
        mentions.append(Mention(item, subject_span, (len(text), len(text) + len(action))))
        text += action
    return text, mentions


def narrate(
    rng: np.random.Generator,
    scene: Scene,
    world: World,
    sentences: int,
    noise: float,
    neighbours: Callable[[], Iterator[Scene]],
) -> tuple[tuple[Caption, ...], tuple[Grounding, ...]]:
    """Tells a scene in ``sentences`` timed sentences.

    Each sentence is noise, not about the scene, with probability ``noise``, independently of the
    others. A third of the noise speaks of objects that are absent, a third of nothing at all, and a
    third of objects of one of ``neighbours`` (other scenes of the same video) that are absent here.
    All other sentences are true; they take the moving objects in turn. Sentences come in order of
    their start.

    Returns:
      The captions; and for every mention in a true caption, a grounding of the object's name and
      one of what it does. A caption without grounding is noise.
    """
    told = [scene.movers[i] for i in rng.permutation(len(scene.movers))]
    turn = 0
    drafts = []
    for _ in range(sentences):
        count = 2 if rng.random() < _TWO_AT_ONCE else 1
        kind = _pick(rng, _NOISE) if rng.random() < noise else "true"
        if kind == "true":
            items = [told[(turn + i) % len(told)] for i in range(min(count, len(told)))]
            turn += count
        else:
            items = draw_absent(rng, world, scene.pairs, count)
        if kind == "elsewhere":
            items = _from_elsewhere(scene, neighbours(), count) or items
        text, mentions = sentence(rng, items)
        if kind == "filler":
            text = _pick(rng, _FILLERS)
        caption = Caption(text, *_interval(rng, items, world))
        drafts.append((caption, mentions if kind == "true" else []))
    return _in_order(drafts, world)


def describe(
    rng: np.random.Generator, scene: Scene, world: World, sentences: int
) -> tuple[tuple[Caption, ...], tuple[Grounding, ...]]:
    """Tells a scene in sentences that each speak of every moving object; see ``narrate``."""
    drafts = []
    for _ in range(sentences):
        items = [scene.movers[i] for i in rng.permutation(len(scene.movers))]
        text, mentions = sentence(rng, items)
        drafts.append((Caption(text, *_interval(rng, items, world)), mentions))
    return _in_order(drafts, world)


def _from_elsewhere(scene: Scene, neighbours: Iterator[Scene], count: int) -> list[Item]:
    """Up to ``count`` moving objects of the first neighbour that has any that are not here."""
    for neighbour in neighbours:
        if items := [item for item in neighbour.movers if item.pair not in scene.pairs]:
            return items[:count]
    return []


def _in_order(
    drafts: list[tuple[Caption, list[Mention]]], world: World
) -> tuple[tuple[Caption, ...], tuple[Grounding, ...]]:
    drafts = sorted(drafts, key=lambda draft: draft[0].start)
    grounding = []
    for number, (_, mentions) in enumerate(drafts):
        for item, subject, action in mentions:
            box = boxes(item, world)
            visible = np.ones(world.frames, bool)
            grounding.append(Grounding(number, *subject, box, visible))
            grounding.append(Grounding(number, *action, box, active(item, world)))
    return tuple(caption for caption, _ in drafts), tuple(grounding)


def _interval(rng: np.random.Generator, items: list[Item], world: World) -> tuple[float, float]:
    """When a sentence is said, in seconds: while what it tells goes on, less up to a quarter of
    that time at each end.
    """
    start = min(item.start for item in items) / world.fps
    stop = max(item.stop for item in items) / world.fps
    late, early = rng.random() * (stop - start) / 4, rng.random() * (stop - start) / 4
    return start + late, stop - early


def _name(rng: np.random.Generator, item: Item, article: str) -> str:
    words = [_pick(rng, _COLOUR_WORDS[COLOURS[item.colour]])]
    words.append(_pick(rng, _SHAPE_WORDS[SHAPES[item.shape]]))
    if rng.random() < _SIZE_SAID:
        words.insert(0, _pick(rng, _SIZE_WORDS[SIZES[item.size]]))
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join([article, *words])


def _pick(rng: np.random.Generator, options):
    return options[rng.integers(len(options))]
