"""Tokenizers: captions to token ids and phrase ids, with SentencePiece, a dictionary of words, or
the ``tokenizer.json`` of a published model.
"""

import functools
import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
import sentencepiece
import tokenizers
from jaxtyping import Int32

from fgmm import atomic, remote
from fgmm.config import ConfigError
from fgmm.data.text import phrases as phrases_lib

# Shipped models are named without a path.
_SHIPPED = pathlib.Path(__file__).parent / "shipped_tokenizers"
PAD_ID = 0
UNKNOWN_ID = 1
# SentencePiece silently leaves longer lines out of training; its own default is 4,192.
_MAX_CAPTION_BYTES = 1 << 20
# The first bytes of a NumPy file.
_NUMPY = b"\x93NUMPY"
_WORD = re.compile(r"[\w']+")
# The piece of a space before a word that the model spells; before an unknown word it says nothing.
_SPACE = "▁"


class Tokenizer:
    """A SentencePiece model. Can be pickled.

    Attributes:
      vocabulary_size: number of token ids, padding (id 0) included.
      fingerprint: SHA-256 of the model file, in hex.
      model: its contents.
      empty_ids: ids that say nothing: padding, unknown pieces, the space before an unknown word.
      unknown_id: the id of pieces that the model does not know; None if it has no such id.
    """

    vocabulary_size: int
    empty_ids: tuple[int, ...]
    unknown_id: int | None = UNKNOWN_ID
    # The kind of its file, and whether this package can train one.
    _KIND, _TRAINED = "SentencePiece model", True
    # The id of padding, and the ids that begin and end every caption.
    _padding, _begin, _end = PAD_ID, (), ()

    def __init__(self, model_path: str | os.PathLike[str]):
        """Loads a model.

        Raises:
          ConfigError: the file is missing or no such model, or a SentencePiece model whose padding
            is not at id 0.
        """
        named = f"tokenizer {str(model_path)!r}"
        remedy = f"; {_training_command(model_path)}" if self._TRAINED else ""
        try:
            self._load(pathlib.Path(model_path).read_bytes())
        except OSError as error:
            raise ConfigError(f"{named} cannot be read ({error.strerror}){remedy}") from error
        except Exception as error:  # libraries raise nearly anything
            why = " ".join(str(error).split())
            raise ConfigError(f"{named} is no {self._KIND}: {why}{remedy}") from error

    def _load(self, model: bytes) -> None:
        self._read(model)
        self.model = model
        # Captions come back every epoch; a result takes about a kilobyte.
        self._remembered = functools.lru_cache(maxsize=1 << 15)(self._encode)

    def _read(self, model: bytes) -> None:
        if not model:
            raise ValueError("it is empty")  # which SentencePiece would accept
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(model)
        if self._processor.pad_id() != PAD_ID:
            raise ValueError(f"it has its padding at id {self._processor.pad_id()}, not {PAD_ID}")
        self.vocabulary_size = self._processor.vocab_size()
        self.empty_ids = (PAD_ID, UNKNOWN_ID, self._processor.PieceToId(_SPACE))

    def unknown(self, caption: str) -> tuple[int, int]:
        """(unknown, all): how many pieces of a caption are unknown, and how many there are."""
        spelled = self._spelled(_encodable(caption))
        pieces = [token for token, piece, _ in spelled if piece != _SPACE]
        return pieces.count(self.unknown_id), len(pieces)

    def __getstate__(self) -> bytes:
        return self.model

    def __setstate__(self, model: bytes) -> None:
        self._load(model)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.model).hexdigest()

    def pieces(
        self, caption: str, segmenter: phrases_lib.Segmenter, phrases: int
    ) -> list[tuple[int, int, str]]:
        """Tokens of a caption as (token id, phrase id from 1 to ``phrases``, piece).

        A token belongs to the phrase that holds its first character other than a space. Tokens in
        no phrase are left out: punctuation between phrases, and phrases beyond ``phrases``.
        """
        placed = self._placed(_encodable(caption), segmenter, phrases)
        return [(token, phrase, piece) for token, phrase, piece in placed if phrase]

    def _placed(
        self, caption: str, segmenter: phrases_lib.Segmenter, phrases: int
    ) -> Iterator[tuple[int, int, str]]:
        """As ``pieces``, but tokens in no phrase stay, with phrase id 0."""
        spans = phrases_lib.fitting(caption, segmenter(caption), phrases)
        at = 0  # spans and tokens are both in the order of the text
        for token, piece, (start, end) in self._spelled(caption):
            while caption[start : start + 1].isspace():
                start += 1
            while at < len(spans) and spans[at][1] <= start:
                at += 1
            # A lone "▁" before an unknown word covers nothing, so it looks one character ahead.
            within = at < len(spans) and spans[at][0] < max(end, start + 1)
            yield token, at + 1 if within else 0, piece

    def _spelled(self, caption: str) -> Iterator[tuple[int, str, tuple[int, int]]]:
        """Token id, piece, and its place in the caption, in order."""
        encoded = self._processor.Encode(caption, return_type="offset_mapping")
        return zip(encoded["ids"], encoded["pieces"], encoded["offsets"], strict=True)

    def encode(
        self, caption: str, *, segmenter: phrases_lib.Segmenter, tokens: int, phrases: int
    ) -> tuple[Int32[np.ndarray, "L"], Int32[np.ndarray, "L"]]:
        """Token ids and phrase ids of a caption.

        Args:
          caption: any text. A model of ``train`` lower-cases and NFKC-normalises it, a
            ``WordDictionary`` lower-cases it, and another model does what its file says.
          segmenter: finds the spans of its phrases; from ``fgmm.data.text.phrases``.
          tokens: L; further tokens are cut off.
          phrases: P; if there are more, ``phrases.fitting`` chooses.

        Returns:
          Token ids [L], and phrase ids [L] from 1 to P, or 0 for padding and tokens in no phrase.
          Padding has the token id 0, or that of the file for a ``PublishedTokenizer``. Both are
          read-only, because they are cached.
        """
        return self._remembered(caption, segmenter, tokens, phrases)

    def gives(self, token: int, tokens: int) -> bool:
        """Whether a token is in an ordinary caption of at most so many tokens."""
        room = {"segmenter": phrases_lib.whole, "tokens": tokens, "phrases": 1}
        return token in self.encode("the caption", **room)[0]

    def _encode(self, caption, segmenter, tokens, phrases) -> tuple[np.ndarray, np.ndarray]:
        token_ids = np.full(tokens, self._padding, np.int32)
        phrase_ids = np.zeros(tokens, np.int32)
        room, start = max(0, tokens - len(self._begin) - len(self._end)), len(self._begin)
        found = self._kept(caption, segmenter, phrases)[:room]
        whole = [*self._begin, *(token for token, _, _ in found), *self._end][:tokens]
        token_ids[: len(whole)] = whole
        phrase_ids[start : start + len(found)] = [phrase for _, phrase, _ in found]
        token_ids.flags.writeable = phrase_ids.flags.writeable = False
        return token_ids, phrase_ids

    def _kept(self, caption, segmenter, phrases) -> list[tuple[int, int, str]]:
        """The tokens that a batch holds, as ``pieces``."""
        return self.pieces(caption, segmenter, phrases)


class WordDictionary(Tokenizer):
    """Whole words by their place in a list, for models that were published with one (MIL-NCE's text
    tower, github.com/antoine77340/S3D_HowTo100M).

    The file is a .npy, an array [words] of strings; of equal strings the last counts. The words of
    a caption are runs of letters, digits, underscores and apostrophes, in lower case. Words that
    are not in the list are left out; the id of a word is its place in the list plus 1. The
    published models read at most 16 words a caption: ``config.data.tokens = 16``.
    """

    unknown_id = None
    _KIND, _TRAINED = "dictionary of words", False

    def _read(self, model: bytes) -> None:
        words = np.load(io.BytesIO(model), allow_pickle=False)
        if words.ndim != 1 or words.dtype.kind != "U" or not len(words):
            raise ValueError(
                f"it holds {words.dtype} of shape {words.shape}, not a list of strings"
            )
        self.vocabulary_size = len(words) + 1
        self.empty_ids = (PAD_ID,)
        self._ids = {word: place for place, word in enumerate(words.tolist(), start=1)}

    def unknown(self, caption: str) -> tuple[int, int]:
        """How many words of a caption are not in the list, and how many there are."""
        words = _WORD.findall(caption.lower())
        return sum(word not in self._ids for word in words), len(words)

    def _spelled(self, caption: str) -> Iterator[tuple[int, str, tuple[int, int]]]:
        # A few letters are longer in lower case.
        origin = [place for place, letter in enumerate(caption) for _ in letter.lower()]
        for match in _WORD.finditer(caption.lower()):
            if match[0] in self._ids:
                place = (origin[match.start()], origin[match.end() - 1] + 1)
                yield self._ids[match[0]], match[0], place


class PublishedTokenizer(Tokenizer):
    """The ``tokenizer.json`` of a published model, read by the ``tokenizers`` library.

    All tokens of a caption stay, also the special ones that begin and end it, and padding has the
    id of the file's section ``padding``: published towers were trained so. Only tokens in phrases
    have a phrase id. A caption that is too long loses its last tokens, but keeps the special ones
    at its end.
    """

    _KIND, _TRAINED = "tokenizer.json", False

    def _read(self, model: bytes) -> None:
        self._processor = tokenizers.Tokenizer.from_buffer(model)
        self._padding = (self._processor.padding or {"pad_id": PAD_ID})["pad_id"]
        self._processor.no_padding()
        self._processor.no_truncation()
        known = self._processor.get_vocab(with_added_tokens=True)
        self.vocabulary_size = max(known.values()) + 1
        # The special tokens that begin and end every caption.
        around = self._processor.encode("a")
        special = around.special_tokens_mask
        ordinary = [i for i, flag in enumerate(special) if not flag] or [len(special)]
        self._begin, self._end = around.ids[: ordinary[0]], around.ids[ordinary[-1] + 1 :]
        self.unknown_id = _unknown_id(json.loads(model), known)
        added = self._processor.get_added_tokens_decoder()
        specials = {number for number, token in added.items() if token.special}
        empty = {self._padding, *specials, self.unknown_id, known.get(_SPACE)}
        self.empty_ids = tuple(sorted(empty - {None}))

    def _spelled(self, caption: str) -> Iterator[tuple[int, str, tuple[int, int]]]:
        encoded = self._processor.encode(caption, add_special_tokens=False)
        return zip(encoded.ids, encoded.tokens, encoded.offsets, strict=True)

    def _kept(self, caption, segmenter, phrases) -> list[tuple[int, int, str]]:
        return list(self._placed(_encodable(caption), segmenter, phrases))


def _unknown_id(model: dict, known: dict[str, int]) -> int | None:
    """The id of unknown pieces in a tokenizer.json; None if it spells any text, byte by byte."""
    of_bytes = "ByteLevel" in json.dumps(model["pre_tokenizer"])
    if of_bytes or model["model"].get("byte_fallback"):
        return None
    if "unk_id" in model["model"]:
        return model["model"]["unk_id"]
    return known.get(model["model"].get("unk_token"))


def path_of(name: str) -> pathlib.Path:
    """The file of a tokenizer: a shipped one by its name, any other by its path."""
    shipped = _SHIPPED / f"{name}.model"
    return shipped if shipped.exists() else pathlib.Path(name).expanduser()


def load(model_path: str | os.PathLike[str]) -> Tokenizer:
    """Opens a tokenizer of any kind: a NumPy file is a ``WordDictionary``, JSON a
    ``PublishedTokenizer``, any other a SentencePiece model.

    Raises:
      ConfigError: the file is missing or no tokenizer.
    """
    remote.refuse(model_path, "data.tokenizer")
    try:
        with open(model_path, "rb") as file:
            start = file.read(len(_NUMPY))
    except OSError:
        start = b""  # the error of ``Tokenizer`` says how to make one
    if start == _NUMPY:
        return WordDictionary(model_path)
    return (
        PublishedTokenizer(model_path) if start.lstrip().startswith(b"{") else Tokenizer(model_path)
    )


def _training_command(output: str | os.PathLike[str]) -> str:
    return (
        "train one with: python -m fgmm.data.tokenizer train --source=NAME "
        f"--vocabulary_size=N --output={output}"
    )


def _encodable(text: str) -> str:
    """The text with each lone surrogate, which UTF-8 cannot encode, replaced by one character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def train(
    captions: Iterable[str], output: str | os.PathLike[str], vocabulary_size: int
) -> Tokenizer:
    """Trains a byte-pair model; the same captions give the same bytes.

    From a corpus of few different words, a byte-pair model makes pieces that are whole words. A
    unigram model splits them, however many pieces it may have.

    Args:
      captions: the text, read once and held in memory.
      output: the file to write; it appears when it is complete.
      vocabulary_size: number of pieces, with padding (id 0) and unknown (id 1); there are fewer if
        the captions do not support as many.

    Raises:
      ConfigError: there is no text, there are more characters than pieces, or the file cannot be
        written.
    """
    lines = (" ".join(_encodable(caption).replace("\0", " ").split()) for caption in captions)
    lines = [line for line in lines if line]
    if not lines:
        raise ConfigError("there are no captions to train a tokenizer on")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocabulary_size,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc_cf",
            max_sentence_length=_MAX_CAPTION_BYTES,
            pad_id=PAD_ID,
            unk_id=UNKNOWN_ID,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,  # sums of floats depend on the number of threads
            minloglevel=2,
        )
    except RuntimeError as error:
        remedy = str(error).rsplit("]", 1)[-1].strip() or "ask for more"
        raise ConfigError(
            f"vocabulary_size={vocabulary_size} is too small for these captions: {remedy}"
        ) from error
    output = pathlib.Path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(output, model.getvalue())
    except OSError as error:
        raise ConfigError(f"output={str(output)!r} cannot be written: {error}") from error
    return Tokenizer(output)
