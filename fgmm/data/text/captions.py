"""Captions of a video from a WebVTT, SubRip or JSON-lines file."""

import collections
import contextlib
import html
import io
import json
import math
import re
from collections.abc import Iterable, Iterator

import webvtt

from fgmm.data.schema import BadInput, Caption

FORMATS = ("vtt", "srt", "jsonl")

_BYTE_ORDER_MARKS = {
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
# Tags of HTML and WebVTT, also times such as <00:01.000>; a lone < is text.
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|</>|<[\d:.]+>")
# Line breaks and spaces as SubStation Alpha writes them.
_SPACE = re.compile(r"\\[Nnh]")
# Styling that SubRip files borrow from other formats, such as {\an8}.
_STYLE = re.compile(r"\{\\[^}]*\}")
# Sounds in brackets: [Music], 【拍手】. Round brackets count only if nothing else is in the line,
# because they also hold spoken asides.
_SOUND = re.compile(
    r"\[[^\[\]]*\]|［[^［］]*］|【[^【】]*】|^\W*\([^()]*\)\W*$|^\W*（[^（）]*）\W*$"
)
# Signs of singing, of the direction of writing, and of another speaker.
_SIGNS = re.compile(r"[♩♪♫♬\u200e\u200f\u202a-\u202e\ufeff]|^\s*(?:>>+|[-–—](?=\s|[^\W\d]))")
# A cue that begins within so many seconds after another follows it without a pause.
_AT_ONCE = 0.05
# The most cues that are shown at once. A damaged file may have more, which would take forever.
_SHOWN = 8
# A word; in writing that puts no spaces between them, from Thai to Chinese, a character.
_SPACELESS = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\s{_SPACELESS}]+")
# A line that has rolled begins with at least so many words and letters of the line before it.
_SHARED_WORDS, _SHARED_LETTERS = 3, 5


def read_captions(data: bytes, form: str) -> tuple[tuple[Caption, ...], collections.Counter[str]]:
    """The captions of a file in order of time, without markup, each in one line.

    Sounds in brackets, such as ``[Music]``, are left out, and so are notes and signs of another
    speaker. Automatic captions repeat earlier lines to make the text roll: such a cue keeps only
    its new words. Capitals stay; the tokenizer removes them.

    Args:
      data: contents of the file, in UTF-8, or in UTF-16 with a byte order mark.
      form: ``vtt``, ``srt``, or ``jsonl`` with one ``{"text": ..., "start": ..., "end": ...}`` a
        line, in seconds.

    Returns:
      The captions, and what was left out: ``malformed_line`` counts cues whose times cannot be read
        or do not go forward, ``empty_caption`` cues without words.

    Raises:
      BadInput: ``unreadable_captions``; the file is in another format or damaged.
    """
    try:
        encoding = _BYTE_ORDER_MARKS.get(data[:3], _BYTE_ORDER_MARKS.get(data[:2], "utf-8"))
        text = data.decode(encoding).lstrip()
        timed, skipped = _json_lines(text) if form == "jsonl" else _cues(text, form)
    except Exception as error:  # the parser of damaged files raises nearly anything
        raise BadInput("unreadable_captions", f"{type(error).__name__}: {error}") from error
    left_out: collections.Counter[str] = collections.Counter()
    forward = [cue for cue in timed if 0 <= cue[0] < cue[1] < math.inf]
    left_out["malformed_line"] = skipped + len(timed) - len(forward)
    spoken = [(start, end, lines) for start, end, text in forward if (lines := said(text))]
    left_out["empty_caption"] = len(forward) - len(spoken)
    return tuple(without_repeats(sorted(spoken, key=lambda cue: cue[:2]))), +left_out


def said(text: str) -> list[str]:
    """The lines of a caption that have words, without markup, sounds and signs, in any format."""
    lines = (without_markup(_STYLE.sub("", line)) for line in _SPACE.sub(" ", text).split("\n"))
    lines = (" ".join(_SIGNS.sub("", _SOUND.sub("", line)).split()) for line in lines)
    return [line for line in lines if any(letter.isalnum() for letter in line)]


def without_markup(text: str) -> str:
    """A text in one line, without tags; entities such as ``&amp;`` are decoded."""
    return " ".join(html.unescape(_TAG.sub("", text)).split())


# Start, end and text of a cue.
_Cue = tuple[float, float, str]


def _cues(text: str, form: str) -> tuple[list[_Cue], int]:
    """The cues of a file, and how many the parser skipped."""
    cues = webvtt.WebVTT.from_buffer(io.StringIO(text), format=form).captions
    timed = [(_seconds(cue.start_time), _seconds(cue.end_time), cue.raw_text) for cue in cues]
    return timed, max(0, sum("-->" in line for line in text.splitlines()) - len(timed))


def _seconds(time) -> float:
    hours, minutes, seconds, milliseconds = time.to_tuple()
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000


def _json_lines(text: str) -> tuple[list[_Cue], int]:
    """The captions of a file, and how many of its lines are no caption."""
    lines, timed = [line for line in text.split("\n") if line.strip()], []
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
            entry = json.loads(line)
            start, end = float(entry["start"]), float(entry["end"])
            if isinstance(entry["text"], str):
                timed.append((start, end, entry["text"]))
    if lines and not timed:
        raise ValueError("no line is a caption")
    return timed, len(lines) - len(timed)


def without_repeats(cues: Iterable[tuple[float, float, list[str]]]) -> Iterator[Caption]:
    """Cues as captions of their new lines. Lines that are on display when a cue begins, or were
    until then, are left out, and so are cues without a new line.

    Args:
      cues: starts, ends and lines, as ``said`` gives them, in order of time.
    """
    shown: list[tuple[float, list[str]]] = []
    for start, end, lines in cues:
        shown = [(until, old) for until, old in shown if start <= until + _AT_ONCE]
        new = lines
        for _, old in shown:
            new = _grown(old, new)
        if new:
            yield Caption(" ".join(new), start, end)
        shown = [*shown[1 - _SHOWN :], (end, lines)]


def _grown(old: list[str], new: list[str]) -> list[str]:
    """The new lines, without those at their start that repeat the end of the old lines. If the
    first line repeats words of the old lines, because it grew or rolled, these are removed.
    """
    most = min(len(old), len(new))
    repeated = max(n for n in range(most + 1) if old[len(old) - n :] == new[:n])
    if repeated or not new:
        return new[repeated:]
    before, words = _WORD.findall(" ".join(old)), [*_WORD.finditer(new[0])]
    for n in range(min(len(before), len(words)), _SHARED_WORDS - 1, -1):
        same = before[len(before) - n :] == [word[0] for word in words[:n]]
        if same and sum(map(len, before[len(before) - n :])) >= _SHARED_LETTERS:
            rest = new[0][words[n - 1].end() :].strip()
            return [line for line in (rest, *new[1:]) if line]
    return new
