"""Published tokenizers in one form, the ``tokenizer.json`` of the ``tokenizers`` library, which
says how captions begin, end and are padded.
"""

import json
import pathlib
import string
from collections.abc import Mapping
from typing import Any

import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import normalizers, pre_tokenizers, processors

from fgmm.config import ConfigError

# CLIP's words, which are then cut into pieces (github.com/openai/CLIP, clip/simple_tokenizer.py).
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_CLIP_BEGIN, _CLIP_END = "<|startoftext|>", "<|endoftext|>"
_FILES = {
    "clip": "tokenizer.json, or vocab.json and merges.txt",
    "siglip": "spiece.model or tokenizer.json",
}
_SPACE = "▁"


def read(folder: pathlib.Path, family: str) -> bytes:
    """The tokenizer in a folder as the contents of a ``tokenizer.json`` with its padding.

    Args:
      folder: with ``tokenizer.json``, or with ``vocab.json`` and ``merges.txt`` of CLIP, or with
        ``spiece.model`` of SigLIP; and ``tokenizer_config.json``, if it is there.
      family: ``"clip"`` or ``"siglip"``; it decides what the files leave open.

    Raises:
      ConfigError: there is no tokenizer, or it cannot be read.
    """
    path, merges = folder / "spiece.model", folder / "merges.txt"
    try:
        if path.exists() and family == "siglip":
            # A tokenizer.json beside it lacks the normalisation of text.
            found = siglip_pieces(path.read_bytes())
        elif (path := folder / "tokenizer.json").exists():
            found = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
            _as_configured(found, _json(folder / "tokenizer_config.json"), family)
        elif merges.exists() and (path := folder / "vocab.json").exists():
            lines = merges.read_text("utf-8").split("\n")
            pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
            found = clip_words(_json(path), [tuple(pair) for pair in pairs])
        else:
            raise ConfigError(f"{folder} has no tokenizer: it needs {_FILES[family]}")
        _pad(found, _json(folder / "tokenizer_config.json"), family)
    except ConfigError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise ConfigError(f"{path} is no tokenizer: {' '.join(str(error).split())}") from error
    return found.to_str().encode("utf-8")


def clip_words(vocabulary: Mapping[str, int], merges: list[tuple[str, str]]) -> Any:
    """CLIP's byte-level pairs (arXiv 2103.00020, section 2.4) as the library's tokenizer.

    Args:
      vocabulary: the ids of pieces; those that end a word end with ``</w>``.
      merges: pairs of pieces, the first merged first.
    """
    found = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=dict(vocabulary),
            merges=merges,
            end_of_word_suffix="</w>",
            continuing_subword_prefix="",
            unk_token=_CLIP_END,
        )
    )
    spaces = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    found.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(tokenizers.Regex(_CLIP_WORDS), behavior="removed", invert=True)
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found.pre_tokenizer = pre_tokenizers.Sequence([words, pieces])
    found.add_special_tokens([_CLIP_BEGIN, _CLIP_END])
    _end(found, _CLIP_BEGIN, _CLIP_END)
    return found


def siglip_pieces(model: bytes) -> Any:
    """SigLIP's unigram model of SentencePiece as the library's tokenizer: text in lower case and
    without punctuation, as it was trained (big_vision, ``canonicalize_text``); ``</s>`` at the end.

    Args:
      model: contents of ``spiece.model``.

    Raises:
      ValueError: it is no unigram model.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    if proto.trainer_spec.model_type != proto.trainer_spec.UNIGRAM:
        raise ValueError("only unigram models of SentencePiece are published with SigLIP")
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    found = tokenizers.Tokenizer(
        tokenizers.models.Unigram(
            pieces, proto.trainer_spec.unk_id, proto.trainer_spec.byte_fallback
        )
    )
    punctuation = tokenizers.Regex("[" + "".join(map("\\{}".format, string.punctuation)) + "]")
    steps = [normalizers.Lowercase(), normalizers.Replace(punctuation, "")]
    if charsmap := proto.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(charsmap))
    steps += [normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Strip()]
    found.normalizer = normalizers.Sequence(steps)
    found.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    controls = [piece.piece for piece in proto.pieces if piece.type == piece.CONTROL]
    found.add_special_tokens(controls)
    _end(found, "", "</s>")
    return found


def _end(found: Any, begin: str, end: str) -> None:
    """Makes captions begin and end with these tokens; empty for none."""
    specials = [(token, found.token_to_id(token)) for token in (begin, end) if token]
    template = " ".join(filter(None, (begin, "$A", end)))
    found.post_processor = processors.TemplateProcessing(single=template, special_tokens=specials)


def _as_configured(found: Any, options: Mapping[str, Any], family: str) -> None:
    """Applies what ``tokenizer_config.json`` says beside a ``tokenizer.json``."""
    begins, ends = options.get("add_bos_token"), options.get("add_eos_token")
    if begins is not None or ends is not None:
        begin = _token(options, "bos_token") if begins else ""
        _end(found, begin, _token(options, "eos_token") if ends else "")
    if family == "siglip":
        # SigLIP 2 was trained on lower case, and its tokenizer.json is Gemma's, which keeps it.
        lower = [normalizers.Lowercase(), *([found.normalizer] if found.normalizer else [])]
        found.normalizer = normalizers.Sequence(lower)


def _pad(found: Any, options: Mapping[str, Any], family: str) -> None:
    """Sets the token that pads. SigLIP sees padding, so it must be the published one; CLIP does
    not see it.
    """
    token = _token(options, "pad_token") or ("</s>" if family == "siglip" else _CLIP_END)
    number = found.token_to_id(token)
    if number is None:
        raise ConfigError(f"the tokenizer has no token {token!r} to pad with")
    found.no_truncation()
    found.enable_padding(pad_id=number, pad_token=token)


def _token(options: Mapping[str, Any], name: str) -> str:
    """A token by its name; the file has it as a string, or as an object with ``content``."""
    token = options.get(name) or ""
    return token["content"] if isinstance(token, Mapping) else token


def _json(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}
