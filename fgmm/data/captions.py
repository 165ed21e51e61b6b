"""Captions of a video from a WebVTT or SubRip file."""

import collections
import html
import io
import re
from collections.abc import Iterator

import webvtt

from fgmm.data.schema import BadInput, Caption

FORMATS = ("vtt", "srt")

_BYTE_ORDER_MARKS = {
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
# Styling that SubRip files borrow from other formats, such as {\an8}.
_STYLE = re.compile(r"\{\\[^}]*\}")
# Seconds between two cues that follow each other at once.
_AT_ONCE = 0.05


def read_captions(data: bytes, form: str) -> tuple[tuple[Caption, ...], collections.Counter[str]]:
    """The captions of a file in order of time, without markup, each in one line.

    A cue that goes on showing lines of the one before it, as automatic captions do to make the text
    roll, has only the new lines.

    Args:
      data: contents of the file, in UTF-8, or in UTF-16 with a byte order mark.
      form: ``vtt`` or ``srt``.

    Returns:
      The captions, and what was left out: ``malformed_line`` counts cues whose times cannot be
      understood or do not go forward, ``empty_caption`` cues without words.

    Raises:
      BadInput: ``unreadable_captions``; it is no such file.
    """
    left_out: collections.Counter[str] = collections.Counter()
    try:
        encoding = _BYTE_ORDER_MARKS.get(data[:3], _BYTE_ORDER_MARKS.get(data[:2], "utf-8"))
        text = data.decode(encoding).lstrip()
        cues = webvtt.WebVTT.from_buffer(io.StringIO(text), format=form).captions
        timed = [(_seconds(cue.start_time), _seconds(cue.end_time), cue.text) for cue in cues]
    except Exception as error:  # the parser of damaged files raises nearly anything
        raise BadInput("unreadable_captions", f"{type(error).__name__}: {error}") from error
    # The parser is silent about what it passes over.
    skipped = sum("-->" in line for line in text.splitlines()) - len(timed)
    forward = [cue for cue in timed if cue[0] < cue[1]]
    left_out["malformed_line"] = max(0, skipped) + len(timed) - len(forward)
    left_out["empty_caption"] = sum(not list(_lines(text)) for _, _, text in forward)
    return tuple(_without_repeats(sorted(forward, key=lambda cue: cue[:2]))), +left_out


def _seconds(time) -> float:
    hours, minutes, seconds, milliseconds = time.to_tuple()
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000


def _lines(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        words = " ".join(html.unescape(_STYLE.sub("", line)).split())
        if words:
            yield words


def _without_repeats(cues) -> Iterator[Caption]:
    shown: list[str] = []
    shown_until = float("-inf")
    for start, end, text in cues:
        lines = list(_lines(text))
        repeated = 0
        if abs(start - shown_until) <= _AT_ONCE:
            most = min(len(shown), len(lines))
            repeated = max(n for n in range(most + 1) if shown[len(shown) - n :] == lines[:n])
        if lines[repeated:]:
            yield Caption(" ".join(lines[repeated:]), start, end)
        if lines:
            shown, shown_until = lines, end
