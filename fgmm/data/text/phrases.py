"""Phrase segmenters, by name. They choose the stretches of a caption that are compared with the
picture.

A segmenter maps a caption to the character spans ``(start, end)`` of its phrases: in order, without
overlap, touching every word. A word is a run of letters, marks, digits or symbols; punctuation
between phrases belongs to none of them.
"""

import functools
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
BEFORE_CLAUSE = _set("after before since until")  # prepositions that also open clauses
# Prepositions that are adverbs where no object follows: "sits down on a bench".
PARTICLES = _set("""
    above across along alongside around before behind below by down fro in inside near off on out
    outside over past round through to under underneath up
""")
COORDINATORS = _set("and or &")
CONJUNCTIONS = COORDINATORS | _set("""
    but nor yet as because if than though although till unless whereas whether while whilst when
    whenever where wherever who whom whose which that how why
""")
PRONOUNS = _set("this these those all both each some any one")  # determiners that stand alone
RELATIVES = _set("which whom whose what")
NO_OBJECT = PREPOSITIONS | CONJUNCTIONS | {""}  # what cannot be the object of a preposition
NUMBERS = _set("one two three four five six seven eight nine ten eleven twelve")
DETERMINERS = NUMBERS | _set("""
    a an the this these those my your his her its our their some any each every either neither
    another no both all several many few most dozens
""")
UNITS = _set("inch inches foot feet yard yards mile miles ft mm cm degrees times")
SUBJECTS = _set("""
    i he she we they i'm he's she's we're they're i'll he'll she'll we'll they'll you'll i'd he'd
    she'd we'd they'd you'd i've we've they've you've
""")
# Before these, an unknown word that opens a clause is a verb: "rivet the".
OBJECTS = _set("a an the this these those one two three four all both any it them him")
AUXILIARIES = _set("""
    am is are was were be been being has have had do does did can could will would shall should may
    might must isn't aren't wasn't weren't doesn't don't didn't can't won't
""")
# Function words that open no phrase.
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
# Verbs of instructions: "then fold the paper". As nouns most have an article before them. Other
# frequent ones ("take your time") often describe nothing visible and count only before an article.
COMMANDS = _set("""
    add adjust allow apply arrange attach bake beat bend blend blow boil break bring broil brush
    build carry chop choose close combine connect continue cook cover crush cut dip divide drain
    draw drop extend fasten fill finish fit fix flip fold fry gather get glue go grab grate
    grind grip hang heat help hold insert join keep knead knit lay let lift loosen lower make
    mark measure melt mix mount move pack pass paste peel pick place pour prepare press pull push
    put raise reach release remove repeat replace return rinse roll rotate rub run scrape screw seal
    season secure select separate serve set sew shake shape shut simmer skim slice slide slip soak
    spray spread sprinkle squeeze stand start steam stir stitch store strain stretch strike switch
    tap tear throw tie tighten tilt trim turn twist unscrew use wait warm wash weave weigh
    whisk wind wipe work wrap
""")
# Commands follow these; "" is the start of a clause.
BEFORE_COMMAND = COORDINATORS | _set("then now just so also not first next") | {""}
# An infinitive follows these, unless a place follows "to".
BEFORE_INFINITIVE = _set(
    "to can could will would shall should may might must did didn't don't doesn't can't won't gonna"
)
# An infinitive after these stays in their phrase: "be careful not to cut it".
BEFORE_TO = _set("attempt begin begins careful enough have likely necessary need needs not ready")
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
# These are no commands: nothing is done to their object ("watch the red circle").
NO_COMMANDS = FUNCTION_WORDS | RELATIVES | ADJECTIVES | _set("hear listen look notice see watch")
# Prepositions of two words.
COMPOUND_PREPOSITIONS = frozenset({("next", "to"), ("close", "to"), ("due", "to")})
RECIPROCAL_PRONOUNS = frozenset({("each", "other"), ("one", "another")})

QUOTES = frozenset("\"'`´‘’“”„«»*_")
_CHUNK = re.compile(
    r"(?:[^\s.,:;!?…()\[\]{}—–、。，；：！？]"
    r"|(?<=\w)\.(?=\w)"  # 3.5 and U.S
    r"|(?<=\d)[,:](?=\d))+"  # 1,000 and 10:30
)


class _Chunk(NamedTuple):
    """A stretch of a caption that is a word."""

    start: int
    end: int
    after_break: bool  # punctuation other than quotation marks stands before it


class _Word(NamedTuple):
    """A word, with what its neighbours in the clause say about it."""

    start: int
    end: int
    after_break: bool
    text: str  # case-folded
    following: str  # the next word of the clause, or ""
    is_command: bool
    command_follows: bool


def _is_letter(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] in "LMNS"


def _chunks(caption: str) -> Iterator[_Chunk]:
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
        yield _Chunk(start, end, any(not (c.isspace() or c in QUOTES) for c in gap))
        previous = end


def _words(caption: str) -> Iterator[_Word]:
    chunks = list(_chunks(caption))
    texts = [caption[c.start : c.end].casefold().replace("’", "'") for c in chunks]
    after_break = [chunk.after_break for chunk in chunks[1:]]
    # A break hides a word's neighbours from it.
    previous = ["", *("" if b else text for text, b in zip(texts, after_break, strict=False))]
    following = [*("" if b else text for text, b in zip(texts[1:], after_break, strict=True)), ""]
    commands = [_is_command(*clause) for clause in zip(previous, texts, following, strict=False)]
    for i, chunk in enumerate(chunks):
        command_follows = following[i] != "" and commands[i + 1]
        yield _Word(*chunk, texts[i], following[i], commands[i], command_follows)


def _is_command(previous: str, word: str, following: str) -> bool:
    """Whether a word is the verb of an instruction, told by its neighbours in the clause."""
    if word in NO_COMMANDS or word.endswith("ly"):
        return False
    if previous in BEFORE_COMMAND:
        return word in COMMANDS or following in OBJECTS
    return word in COMMANDS and following in OBJECTS and previous not in DETERMINERS


def _is_verb(word: str) -> bool:
    return word in VERBS or (word.endswith("ing") and len(word) > 4 and word not in NOUNS_IN_ING)


def _is_preposition(word: str, following: str) -> bool:
    return word in PREPOSITIONS or (word, following) in COMPOUND_PREPOSITIONS


def _is_number(word: str) -> bool:
    return word in NUMBERS or word[:1].isdigit()


def _opens_clause(word: str) -> bool:
    return word in PREPOSITIONS or word in CONJUNCTIONS or word in DETERMINERS or word in SUBJECTS


class _Phrase:
    """A phrase so far, with what the rules need to know of it."""

    def __init__(self, word: _Word, before: "_Phrase | None"):
        self.start = None
        self.last = ""
        self.content = 0  # words that are no function words
        self.named = 0  # words of content that are no verbs: what the phrase is about
        # A verb after an adjunct is the subject's; after an object only a finite verb surely is.
        self.has_determiner = False
        self.is_adjunct = self.is_object = self.is_command = False
        if before is None or word.after_break:
            return
        if word.text in COORDINATORS:
            self.is_adjunct, self.is_object = before.is_adjunct, before.is_object
        elif word.text not in CONJUNCTIONS:
            self.is_adjunct = before.last in ("wear", "wears", "wearing")
            self.is_object = before.last_is_verb

    def add(self, word: _Word) -> None:
        """Adds a word."""
        text = word.text
        preposition = _is_preposition(text, word.following)
        self.start = word.start if self.start is None else self.start
        self.end = word.end
        infinitive = self.last in BEFORE_INFINITIVE and text not in PLACES
        self.last = text
        self.last_is_content = not preposition and text not in FUNCTION_WORDS
        is_verb = infinitive or word.is_command or _is_verb(text)
        self.last_is_verb = self.last_is_content and is_verb
        self.is_command |= word.is_command and not self.content
        self.content += self.last_is_content
        self.named += self.last_is_content and not self.last_is_verb
        self.has_determiner |= text in DETERMINERS
        self.is_adjunct |= preposition and text not in BEFORE_CLAUSE and not self.content

    def ends_before(self, word: _Word) -> bool:
        """Whether the word starts a new phrase."""
        text, following = word.text, word.following
        is_verb = word.is_command or _is_verb(text)
        if not self.content:
            return False
        if word.after_break:  # "a large, black dog" is one phrase
            return self.last not in ADJECTIVES or _opens_clause(text) or is_verb
        if self.last == "of" or (text, following) in RECIPROCAL_PRONOUNS:
            return False
        if text in COORDINATORS:
            return not self._goes_on_behind_coordinator(word)
        if text == "up" and self.last_is_verb:
            return False  # "holds up a fish"
        if following in RELATIVES and text in PREPOSITIONS:
            return True  # "the pot | in which it boils"
        if text in PARTICLES and following in NO_OBJECT:
            return False
        if _is_number(text) and following in UNITS:
            return False  # "a rod ten feet long"
        if text == "about" and _is_number(following):
            return False
        if text == "to" and self.last in BEFORE_TO:
            return False
        if text in PRONOUNS and following in NO_OBJECT and following:
            return False  # "fasten these | with a pin"
        if text in DETERMINERS or _is_preposition(text, following):
            return self.named > 0  # but "looking at the water" and "holds a fish" stay whole
        if text in CONJUNCTIONS or text in SUBJECTS:
            return True
        if text == "so" and (following in OBJECTS or following in SUBJECTS or following == "that"):
            return True  # "so that it holds", "so the paint can dry"
        if text == "then":
            return self.last_is_content
        if text in AUXILIARIES and (following in PREPOSITIONS or following in DETERMINERS):
            return self.named > 0  # "the dog | is on the grass"
        if text in AUXILIARIES or is_verb:  # "in a red hat | is riding"
            named = self.last_is_content and not self.last_is_verb
            if self.has_determiner and self.last in ADJECTIVES:
                return False  # no split in "in a black bathing suit"
            subject = self.is_adjunct or (self.is_object and not text.endswith("ing"))
            return named and (subject or self.is_command)
        return False

    def _goes_on_behind_coordinator(self, word: _Word) -> bool:
        following = word.following
        colours = self.last in ADJECTIVES and following in ADJECTIVES
        twins = (  # "a man and woman", "is jumping and catching", "add the butter and flour"
            self.content - self.is_command == 1
            and following != ""
            and following not in FUNCTION_WORDS
            and (word.command_follows or _is_verb(following)) == self.last_is_verb
        )
        ways = self.last in PREPOSITIONS and following in PREPOSITIONS  # "up and down"
        numbers = _is_number(self.last) and _is_number(following)  # "two or three times"
        return colours or twins or ways or numbers


def function_words(caption: str) -> list[Span]:
    """Splits English at punctuation and before words that open a noun phrase or a clause.

    "A brown dog is chasing a red ball on the grass." gives "A brown dog is chasing", "a red ball"
    and "on the grass"; "Then fold the paper and cut it along the line." gives "Then fold the paper"
    and "and cut it along the line". The rules use word lists, no tagger: a phrase starts at a
    preposition, a conjunction, a determiner, or a verb after a prepositional phrase or an
    instruction, if the phrase before it has a content word. Function words alone make no phrase;
    they belong to the next phrase, or at the end of a caption to the previous one. Text in other
    languages is split at its punctuation. Takes time linear in the length of the caption.
    ``docs/measured/segmenter.md`` says how often it agrees with a reader.
    """
    phrases: list[_Phrase] = []
    for word in _words(caption):
        if not phrases or phrases[-1].ends_before(word):
            phrases.append(_Phrase(word, phrases[-1] if phrases else None))
        phrases[-1].add(word)
    spans = [(phrase.start, phrase.end) for phrase in phrases]
    if len(phrases) > 1 and not phrases[-1].content:
        spans[-2:] = [(spans[-2][0], spans[-1][1])]
    return spans


def whole(caption: str) -> list[Span]:
    """The caption as one phrase, from its first word to its last."""
    chunks = list(_chunks(caption))
    return [(chunks[0].start, chunks[-1].end)] if chunks else []


def punctuation(caption: str) -> list[Span]:
    """Splits at punctuation other than quotation marks and nowhere else."""
    spans: list[Span] = []
    for chunk in _chunks(caption):
        if spans and not chunk.after_break:
            spans[-1] = (spans[-1][0], chunk.end)
        else:
            spans.append((chunk.start, chunk.end))
    return spans


def windows(caption: str, size: int) -> list[Span]:
    """Every ``size`` words are a phrase; the last one may be shorter."""
    chunks = list(_chunks(caption))
    runs = (chunks[i : i + size] for i in range(0, len(chunks), size))
    return [(run[0].start, run[-1].end) for run in runs]


SEGMENTERS: dict[str, Segmenter] = {
    "function_words": function_words,
    "punctuation": punctuation,
    "whole": whole,
    "words": functools.partial(windows, size=1),
}
_WINDOWS = re.compile(r"ngram([1-9][0-9]{0,2})", re.ASCII)


def find(name: str, key: str = "segmenter") -> Segmenter:
    """The segmenter of that name: one of ``SEGMENTERS``, or ``ngramN`` for windows of N words.

    Args:
      name: of the segmenter.
      key: where the name stands in a config, or the flag, for the error.

    Raises:
      ConfigError: there is no segmenter of that name.
    """
    if size := _WINDOWS.fullmatch(name):
        return functools.partial(windows, size=int(size[1]))
    if name not in SEGMENTERS:
        raise ConfigError(
            f"{key}={name!r} is unknown; allowed: {', '.join(sorted(SEGMENTERS))}, and ngram2, "
            "ngram3, ... for windows of so many words"
        )
    return SEGMENTERS[name]


def fitting(caption: str, spans: list[Span], phrases: int) -> list[Span]:
    """At most ``phrases`` (1 or more) of the phrases of a caption, in order.

    If there are more, phrases without a content word are left out first, the last of them before
    the others, and then the last phrases. The words left out belong to no phrase.
    """
    surplus = len(spans) - phrases
    if surplus <= 0:
        return spans
    empty = [span for span in spans if not has_content(caption[slice(*span)])]
    left_out = set(empty[max(0, len(empty) - surplus) :])
    return [span for span in spans if span not in left_out][:phrases]


def has_content(phrase: str) -> bool:
    """Whether a phrase has a word that is no English function word."""
    words = (phrase[chunk.start : chunk.end] for chunk in _chunks(phrase))
    return any(word.casefold().replace("’", "'") not in FUNCTION_WORDS for word in words)
