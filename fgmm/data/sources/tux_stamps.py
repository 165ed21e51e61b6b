"""The stamps of Tux Paint: pictures of things with a sentence, the sentence spoken, and sounds.

::

    usr/share/tuxpaint/stamps/animals/birds/crow.png           the picture
    usr/share/tuxpaint/stamps/animals/birds/crow.txt           A crow.
                                                               fr.utf8=Une corneille.
    usr/share/tuxpaint/stamps/animals/birds/crow_desc.ogg      the sentence spoken, in English
    usr/share/tuxpaint/stamps/animals/birds/crow_desc_fr.ogg   and in French
    usr/share/tuxpaint/stamps/animals/birds/crow.ogg           the sound of a crow

Bill Kendrick and others, tuxpaint.org; GPL 2. The package ``tuxpaint-stamps-default`` of Debian and
others has it in this layout.
"""

import dataclasses
import posixpath
from typing import NamedTuple

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, images, labelled
from fgmm.data.corpora.source import SECONDS, SplitByName
from fgmm.data.fingerprint import Members
from fgmm.data.media.stretch import Recording, Stretch
from fgmm.data.schema import Caption, Clip
from fgmm.data.text.captions import without_markup

_ENGLISH = "en"
# A few files end in .ogg.ogg by mistake.
_SOUND_ENDINGS = (".ogg", ".wav", ".ogg.ogg")
_STAMPS = "usr/share/tuxpaint/stamps"
_LAYOUT = f"the layout is {_STAMPS}/<topic>/*.png, *.txt, *_desc_fr.ogg"


class Stamp(NamedTuple):
    """The name of a stamp, its picture, its sentence, and its sound. The last two may be empty."""

    stem: str
    picture: str
    sentence: str
    sound: str


class Listing(NamedTuple):
    """What the corpus has of a split."""

    corpus: files.Corpus
    stamps: list[Stamp]
    classes: dict[str, tuple[str, ...]]
    report: files.Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(SplitByName):
    """A clip is a stamp: its picture, its sentence in one language, and the start of its sound,
    padded with silence.

    ``Clip.labels["topic"]`` is the folder that the stamp is in. Speech is scarce in English and
    plentiful in French, Russian, Romanian, Catalan, Bulgarian and Spanish; 131 stamps have a sound
    of their own. ``root`` is the folder that the package was extracted to, or that of the stamps,
    or the same as one archive. Can be pickled, and read by many threads.

    Attributes:
      classes: names of the topics, by label.
      report: left out are pictures without a text, most of them mirror images of others
        (``missing_captions``), and texts without a PNG (``no_video``). Counted, but not left out,
        are texts that are no UTF-8 (``unreadable_captions``), stamps without a sentence in the
        language (``empty_caption``), and stamps without the sound (``no_audio``).
    """

    language: str = option(
        _ENGLISH, help="Of the sentence and the speech, as the texts name it: en, fr, pt_BR."
    )
    sound: str = option(
        "speech",
        choices=("speech", "effect"),
        help="The sentence spoken, or the thing's own sound.",
    )
    seconds: float = option(2.0, above=0, help=f"{SECONDS} Of the sound.")

    def open(self) -> None:
        """Reads the texts."""
        if not any(stamp.sentence for stamp in self._listed.stamps):
            raise ConfigError(
                f"root={self.root!r} has no stamp of split {self.split!r} with a sentence in "
                f"language={self.language!r}; {_LAYOUT}"
            )

    def listed(self) -> Listing:
        """Reads the texts, and the names of pictures and sounds."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        if any(name.startswith(f"{_STAMPS}/") for name in corpus.names()):
            corpus = corpus.below(_STAMPS)
        report = files.Report()
        # The names of files, by the same name with its ending in lower case.
        parts = {name: posixpath.splitext(name) for name in corpus.names()}
        names = {stem + ending.lower(): name for name, (stem, ending) in parts.items()}
        stems = {name.removesuffix(".txt") for name in names if name.endswith(".txt")}
        pictures = {name.removesuffix(".png") for name in names if name.endswith(".png")}
        report["missing_captions"] += len(pictures - stems)
        report["no_video"] += len(stems - pictures)
        topics = sorted({stem.split("/")[0] for stem in stems & pictures if "/" in stem})
        heard = "" if self.sound == "effect" else "_desc"
        if self.sound == "speech" and self.language != _ENGLISH:
            heard += f"_{self.language}"
        stamps = []
        for stem in sorted(stems & pictures):
            if self.has(f"{stem}.png"):
                sentence = _sentence(corpus, names[f"{stem}.txt"], self.language, report)
                sounds = (f"{stem}{heard}{ending}" for ending in _SOUND_ENDINGS)
                found = next((names[name] for name in sounds if name in names), "")
                stamps.append(Stamp(stem, names[f"{stem}.png"], sentence, found))
                report["no_audio"] += not found
                report["empty_caption"] += not sentence
        return Listing(corpus, stamps, {"topic": tuple(topics)}, +report)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        return self._listed.classes

    def members(self) -> Members:
        """The pictures of the stamps."""
        stamps = self._listed.stamps
        names = ((stamp.stem, stamp.picture) for stamp in stamps)
        return Members(self._listed.corpus, names, (stamp.sentence for stamp in stamps))

    def __len__(self) -> int:
        return len(self._listed.stamps)

    def __getitem__(self, index: int) -> Clip:
        corpus, stamp = self._listed.corpus, self._listed.stamps[index]
        topic, below, _ = stamp.stem.partition("/")
        heard = Stretch(Recording(corpus, stamp.sound), 0.0, self.seconds)
        return Clip(
            clip_id=stamp.stem,
            video=images.encoded(corpus, stamp.picture),
            audio=heard.sound if stamp.sound else None,
            captions=(Caption(stamp.sentence),) if stamp.sentence else (),
            labels={"topic": self.classes["topic"].index(topic)} if below else {},
        )


def _sentence(
    corpus: files.Corpus,
    name: str,
    language: str,
    report: files.Report,
) -> str:
    """The sentence in a language, or an empty one. English is the first line, without a prefix."""
    try:
        lines = corpus.read(name).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError):
        report["unreadable_captions"] += 1
        return ""
    if language == _ENGLISH:
        return without_markup(lines[0]) if lines else ""
    prefix = f"{language.lower()}.utf8="
    named = (line[len(prefix) :] for line in lines if line.lower().startswith(prefix))
    return without_markup(next(named, ""))
