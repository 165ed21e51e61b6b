"""Phrase segmenters, by name: which stretches of a caption are compared with the picture.

A segmenter maps a caption to the character spans ``(start, end)`` of its phrases: in order, without
overlap, touching every word. A word is a run of letters, marks, digits or symbols; punctuation
between phrases belongs to none of them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fgmm.config import ConfigError

Span = tuple[int, int]
Segmenter = Callable[[str], list[Span]]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


PREPOSITIONS = _set("""
    about above across after against along alongside amid among amongst around at atop before
    behind below beneath beside besides between beyond by despite down during except for fro from in
    inside into like near off on onto out outside over past per round since through throughout to
    toward towards under underneath unlike until up upon via with within without
""")
# Prepositions that are adverbs where no object follows: "sits down on a bench".
PARTICLES = _set("""
    above across along alongside around before behind below by down fro in inside near off on out
    outside over past round through to under underneath up
""")
COORDINATORS = _set("and or &")
CONJUNCTIONS = COORDINATORS | _set("""
    but nor yet as because if than though although unless whereas whether while whilst when
    whenever where wherever who whom whose which that how why
""")
NO_OBJECT = PREPOSITIONS | CONJUNCTIONS | {""}  # what cannot be the object of a preposition
DETERMINERS = _set("""
    a an the this these those my your his her its our their some any each every either neither
    another no both all several many few most two three four five six seven eight nine ten eleven
    twelve dozens one
""")
SUBJECTS = _set("i he she we they i'm he's she's we're they're i'll he'll she'll we'll they'll")
AUXILIARIES = _set("""
    am is are was were be been being has have had do does did can could will would shall should may
    might must isn't aren't wasn't weren't doesn't don't didn't can't won't
""")
# Words that say little alone yet open no phrase.
OTHER_FUNCTION_WORDS = _set("""
    of it him them me us you it's that's there's you're let's itself himself herself themselves
    mine yours hers ours theirs there here then now so too also just very quite really not other
    others else such only even still well okay ok um uh oh gonna s t d m ll re ve n't 's
""")
FUNCTION_WORDS = (
    PREPOSITIONS | CONJUNCTIONS | DETERMINERS | SUBJECTS | AUXILIARIES | OTHER_FUNCTION_WORDS
)

# Present-tense verbs frequent in captions and seldom nouns. Participles are known by their ending.
VERBS = _set("""
    appears approaches attempts balances bends bites blows bounds bounces brings builds carries
    catches chases chews climbs comes contains covers crawls crosses cuts dances digs displays dives
    draws dribbles drinks drives eats enjoys enters examines falls fetches fights flies
    follows gallops gazes gestures gets gives goes grabs grins hangs has hits holds hugs jumps keeps
    kicks kisses kneels laughs lays leans leaps leaves licks lies lifts listens looks makes
    moves observes opens paddles paints passes pauses pedals peers performs picks plays points poses
    prepares presses pulls pushes puts raises reaches reads rests rides rolls runs sails says seems
    sees shakes shows sings sits sleeps slides smiles smokes sniffs speaks spins
    splashes sprays stands stares steps stretches surfs swims swings swims takes talks throws tosses
    touches travels tries trots tumbles turns uses wades waits walks wanders watches wears works
    sit wear hold carry chase leap
""")
# An infinitive stands behind these, except for places behind "to".
BEFORE_INFINITIVE = _set(
    "to can could will would shall should may might must did didn't don't doesn't can't won't gonna"
)
PLACES = _set("left right top bottom bed school town work sea shore land safety shade")
# Words in -ing that are no verbs in captions.
NOUNS_IN_ING = _set("""
    anything awning being boxing bring building buildings ceiling clothing crossing during earring
    evening everything fencing flooring king lightning lining morning nothing opening outing
    painting parking railing ring scaffolding sibling sing something spring sterling string swing
    thing viking wedding wing
""")
ADJECTIVES = _set("""
    big small large little tiny huge young old elderly tall short long high low thin fat wide narrow
    fluffy furry hairy shaggy curly wet dry muddy dirty clean clear dark light bright pale happy sad
    black white brown red blue green yellow orange purple pink tan grey gray gold golden silver
    beige blond blonde cream maroon teal striped spotted colorful colourful multicolored wooden
    rocky grassy sandy snowy icy shirtless shiny busy crowded empty open steep calm rough
""")
# Prepositions of two words.
COMPOUND_PREPOSITIONS = frozenset({("next", "to"), ("close", "to"), ("due", "to")})
RECIPROCAL_PRONOUNS = frozenset({("each", "other"), ("one", "another")})

QUOTES = frozenset("\"'`´‘’“”„«»*_")
_CHUNK = re.compile(
    r"(?:[^\s.,:;!?…()\[\]{}—–、。，；：！？]"
    r"|(?<=\w)\.(?=\w)"  # 3.5 and U.S
    r"|(?<=\d)[,:](?=\d))+"  # 1,000 and 10:30
)


class _Word(NamedTuple):
    start: int
    end: int
    text: str  # case-folded
    after_break: bool  # punctuation other than quotation marks stands before it


def _is_letter(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] in "LMNS"


def _words(caption: str) -> Iterator[_Word]:
    previous = 0
    for chunk in _CHUNK.finditer(caption):
        start, end = chunk.span()
        while start < end and not _is_letter(caption[start]):
            start += 1
        while start < end and not _is_letter(caption[end - 1]):
            end -= 1
        if start == end:
            continue
        gap = caption[previous:start]
        after_break = any(not (c.isspace() or c in QUOTES) for c in gap)
        yield _Word(start, end, caption[start:end].casefold().replace("’", "'"), after_break)
        previous = end


def _is_verb(word: str) -> bool:
    return word in VERBS or (word.endswith("ing") and len(word) > 4 and word not in NOUNS_IN_ING)


def _is_preposition(word: str, following: str) -> bool:
    return word in PREPOSITIONS or (word, following) in COMPOUND_PREPOSITIONS


def _opens_clause(word: str) -> bool:
    return word in PREPOSITIONS or word in CONJUNCTIONS or word in DETERMINERS or word in SUBJECTS


class _Phrase:
    """What the rules need to know of the words of a phrase so far."""

    def __init__(self, word: _Word, before: "_Phrase | None"):
        self.start = None
        self.last = ""
        self.content = 0  # words that are no function words
        self.named = 0  # words of content that are no verbs: what the phrase is about
        # A verb behind an adjunct is the subject's; behind an object only a finite verb surely is.
        self.has_determiner = False
        self.is_adjunct = self.is_object = False
        if before is None or word.after_break:
            return
        if word.text in COORDINATORS:
            self.is_adjunct, self.is_object = before.is_adjunct, before.is_object
        elif word.text not in CONJUNCTIONS:
            self.is_adjunct = before.last in ("wear", "wears", "wearing")
            self.is_object = before.last_is_verb

    def add(self, word: _Word, following: str) -> None:
        """Takes a word in; ``following`` is the next word of the clause, or ""."""
        preposition = _is_preposition(word.text, following)
        self.start = word.start if self.start is None else self.start
        self.end = word.end
        infinitive = self.last in BEFORE_INFINITIVE and word.text not in PLACES
        self.last = word.text
        self.last_is_content = not preposition and word.text not in FUNCTION_WORDS
        self.last_is_verb = self.last_is_content and (infinitive or _is_verb(word.text))
        self.content += self.last_is_content
        self.named += self.last_is_content and not self.last_is_verb
        self.has_determiner |= word.text in DETERMINERS
        self.is_adjunct |= preposition and not self.content

    def ends_before(self, word: _Word, following: str) -> bool:
        """Whether ``word`` starts a new phrase."""
        text = word.text
        if not self.content:
            return False
        if word.after_break:  # "a large, black dog" is one phrase
            return self.last not in ADJECTIVES or _opens_clause(text) or _is_verb(text)
        if self.last == "of" or (text, following) in RECIPROCAL_PRONOUNS:
            return False
        if text in COORDINATORS:
            colours = self.last in ADJECTIVES and following in ADJECTIVES
            twins = (  # "a man and woman", "is jumping and catching"
                self.content == 1
                and following != ""
                and following not in FUNCTION_WORDS
                and _is_verb(following) == self.last_is_verb
            )
            ways = self.last in PREPOSITIONS and following in PREPOSITIONS  # "up and down"
            return not (colours or twins or ways)
        if text == "up" and self.last_is_verb:
            return False  # "holds up a fish"
        if text in PARTICLES and following in NO_OBJECT:
            return False
        if text in DETERMINERS or _is_preposition(text, following):
            return self.named > 0  # but "looking at the water" and "holds a fish" stay whole
        if text in CONJUNCTIONS or text in SUBJECTS:
            return True
        if text in AUXILIARIES and (following in PREPOSITIONS or following in DETERMINERS):
            return self.named > 0  # "the dog | is on the grass"
        if text in AUXILIARIES or _is_verb(text):  # "in a red hat | is riding"
            named = self.last_is_content and not self.last_is_verb
            if self.has_determiner and self.last in ADJECTIVES:
                return False  # "in a black | bathing suit" it is not
            return named and (self.is_adjunct or (self.is_object and not text.endswith("ing")))
        return False


def function_words(caption: str) -> list[Span]:
    """Splits English at punctuation and before words that open a noun phrase or a clause.

    "A brown dog is chasing a red ball on the grass." gives "A brown dog is chasing", "a red ball"
    and "on the grass". Without a tagger the split is a matter of word lists: a phrase starts at a
    preposition, a conjunction, a determiner, or a verb behind a prepositional phrase, once the
    phrase before it has a word of content. Words of function alone make no phrase; they go with the
    next, or at the end of a caption with the previous one. Text in other languages is split at its
    punctuation. Takes time linear in the length of the caption.
    """
    words = list(_words(caption))
    phrases: list[_Phrase] = []
    for index, word in enumerate(words):
        after = words[index + 1] if index + 1 < len(words) else None
        following = after.text if after and not after.after_break else ""
        if not phrases or phrases[-1].ends_before(word, following):
            phrases.append(_Phrase(word, phrases[-1] if phrases else None))
        phrases[-1].add(word, following)
    spans = [(phrase.start, phrase.end) for phrase in phrases]
    if len(phrases) > 1 and not phrases[-1].content:
        spans[-2:] = [(spans[-2][0], spans[-1][1])]
    return spans


def whole(caption: str) -> list[Span]:
    """The caption as one phrase, from its first word to its last."""
    words = list(_words(caption))
    return [(words[0].start, words[-1].end)] if words else []


SEGMENTERS: dict[str, Segmenter] = {"function_words": function_words, "whole": whole}


def find(name: str) -> Segmenter:
    """The segmenter of that name. Raises ConfigError where there is none."""
    if name not in SEGMENTERS:
        raise ConfigError(
            f"unknown phrase segmenter {name!r}; allowed: {', '.join(sorted(SEGMENTERS))}"
        )
    return SEGMENTERS[name]


def limit(spans: list[Span], phrases: int) -> list[Span]:
    """At most ``phrases`` spans (1 or more): those past the limit join the last that remains."""
    if len(spans) <= phrases:
        return spans
    return [*spans[: phrases - 1], (spans[phrases - 1][0], spans[-1][1])]
