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

import collections
import functools

from fgmm.config import ConfigError
from fgmm.data.corpora import labelled
from fgmm.data.media import av_files
from fgmm.data.schema import Caption, Clip
from fgmm.data.sources import image_captions
from fgmm.data.sources.video_folder import SPLITS, place

SOUNDS = ("speech", "effect")
_ENGLISH = "en"
# A few files are named so by mistake.
_SOUND_ENDINGS = (".ogg", ".wav", ".ogg.ogg")
_STAMPS = "usr/share/tuxpaint/stamps"
_LAYOUT = f"the layout is {_STAMPS}/<topic>/*.png, *.txt, *_desc_fr.ogg"


class Source:
    """A clip is a stamp: its picture, its sentence in one language, and what is heard of it.

    ``Clip.labels["topic"]`` is the folder that it is in. What a stamp lacks its clip lacks: speech
    is scarce in English and plentiful in French, Russian, Romanian, Catalan, Bulgarian and Spanish;
    131 stamps have a sound of their own. Can be pickled, and read by many threads.

    Attributes:
      classes: names of the topics, by label.
      report: ``missing_captions`` counts pictures without a text, most of them the mirror image of
        another, which are left out, ``unreadable_captions`` texts that are no UTF-8; ``no_video``
        texts without a PNG; ``empty_caption`` stamps without a sentence in the language, and
        ``no_audio`` those without the sound, which stay.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str = "train",
        validation: float = 0.1,
        language: str = _ENGLISH,
        sound: str = "speech",
        seconds: float = 2.0,
    ):
        """Opens the corpus.

        Args:
          root: the folder that the package was extracted to, or that of the stamps, or the same
            as one tar or zip file.
          split: ``train`` or ``validation``.
          validation: share of the stamps in that split, decided by each stamp's name alone.
          language: of the sentence and the speech, as the texts name it: ``en``, ``fr``, ``pt_BR``.
          sound: ``speech`` for the sentence spoken, ``effect`` for the thing's own sound.
          seconds: of the sound, from its start; a shorter one ends in silence.

        Raises:
          ConfigError: a missing root, no stamp of the split, or an option that makes no sense.
        """
        labelled.demand_known(SPLITS, split=split)
        labelled.demand_known(SOUNDS, sound=sound)
        labelled.demand_positive(seconds=seconds)
        if not 0 <= validation < 1:
            raise ConfigError(f"validation={validation!r} must be a share from 0 to below 1")
        corpus = labelled.open_root(root, _LAYOUT)
        if any(name.startswith(f"{_STAMPS}/") for name in corpus.names()):
            corpus = corpus.below(_STAMPS)
        self.report: collections.Counter[str] = collections.Counter()
        self._corpus, self._seconds = corpus, seconds
        names = set(corpus.names())
        stems = {name.removesuffix(".txt") for name in names if name.endswith(".txt")}
        pictures = {name.removesuffix(".png") for name in names if name.endswith(".png")}
        self.report["missing_captions"] += len(pictures - stems)
        self.report["no_video"] += len(stems - pictures)
        topics = sorted({stem.split("/")[0] for stem in stems & pictures if "/" in stem})
        self.classes = {"topic": tuple(topics)}
        heard = "" if sound == "effect" else "_desc"
        heard += f"_{language}" if sound == "speech" and language != _ENGLISH else ""
        self._stamps: list[tuple[str, str, str]] = []
        for stem in sorted(stems & pictures):
            if (place(f"{stem}.png") < validation) == (split == "validation"):
                sentence = self._sentence(f"{stem}.txt", language)
                sounds = (f"{stem}{heard}{ending}" for ending in _SOUND_ENDINGS)
                found = next((name for name in sounds if name in names), "")
                self._stamps.append((stem, sentence, found))
                self.report["no_audio"] += not found
                self.report["empty_caption"] += not sentence
        self.report = +self.report
        if not any(sentence for _, sentence, _ in self._stamps):
            raise ConfigError(
                f"root={root!r} has no stamp of split {split!r} with a sentence in "
                f"language={language!r}; {_LAYOUT}"
            )

    def __len__(self) -> int:
        return len(self._stamps)

    def __getitem__(self, index: int) -> Clip:
        stem, sentence, heard = self._stamps[index]
        topic = stem.split("/")[0]
        audio = None
        if heard:
            recording = av_files.Recording(self._corpus, heard)
            audio = functools.partial(recording.sound, start=0.0, seconds=self._seconds)
        return Clip(
            clip_id=stem,
            video=image_captions.encoded(self._corpus, f"{stem}.png"),
            audio=audio,
            captions=(Caption(sentence),) if sentence else (),
            labels={"topic": self.classes["topic"].index(topic)} if "/" in stem else {},
        )

    def _sentence(self, name: str, language: str) -> str:
        """In a language; empty where there is none. English has the first line, without a name."""
        try:
            lines = self._corpus.read(name).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            self.report["unreadable_captions"] += 1
            return ""
        if language == _ENGLISH:
            return " ".join(lines[0].split()) if lines else ""
        prefix = f"{language.lower()}.utf8="
        named = (line[len(prefix) :] for line in lines if line.lower().startswith(prefix))
        return " ".join(next(named, "").split())
