"""Fingerprints of corpora: a few numbers, which a checkpoint holds.

The order of training is an order of indices. In another corpus the same indices are other clips, so
a run compares fingerprints before it continues.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fgmm.data.corpora import files

# The number of clips whose ids are read if a source has no fingerprint of its own.
_SAMPLED = 64
# The sizes and times of more files are not read; such a corpus is compared by its ids.
_FILES = 100_000

# What it means if a digest differs.
_CHANGES = {
    "ids": "others, or in another order",
    "texts": "captions have changed",
    "sizes": "files have other sizes",
    "features": "features of other weights or of another corpus",
}

Fingerprint = dict[str, Any]


class Members(NamedTuple):
    """The clips of a corpus on disk.

    Attributes:
      corpus: where the files are.
      names: the id of each clip or recording, in order, and its file.
      texts: their captions, if they are known without opening a file.
    """

    corpus: files.Folder | files.Archive
    names: Iterable[tuple[str, str]]
    texts: Iterable[str] = ()


def of_source(source: Any) -> Fingerprint:
    """The fingerprint of a corpus, fit for JSON.

    It is ``source.fingerprint()`` if the source has that. Otherwise it has ``clips``, their number,
    and ``ids``, a digest of the ids of some clips.
    """
    own = getattr(source, "fingerprint", None)
    if own is not None:
        return own()
    clips = len(source)
    sampled = np.unique(np.linspace(0, clips - 1, min(clips, _SAMPLED)).astype(int))
    return {"clips": clips, "ids": digest(source[int(i)].clip_id for i in sampled)}


def of_members(clips: int, members: Members) -> Fingerprint:
    """The fingerprint of a corpus on disk.

    Args:
      clips: their number.
      members: their files.

    Returns:
      ``clips``; ``ids``, ``texts``, ``sizes`` and ``times``, digests of the ids, the captions, and
        the sizes and times of the files. The last two are left out for more than 100,000 files.
    """
    names = list(members.names)
    ids = digest(name for name, _ in names)
    found = {"clips": clips, "ids": ids, "texts": digest(members.texts)}
    if len(names) > _FILES:
        return found
    stats = [members.corpus.stat(file) for _, file in names]
    return found | {
        "sizes": digest(str(size) for size, _ in stats),
        "times": digest(str(time) for _, time in stats),
    }


def digest(texts: Iterable[str], length: int = 16) -> str:
    """A digest of texts and their order, of at most 64 hexadecimal digits."""
    found = hashlib.sha256()
    for text in texts:
        found.update(encoded(text) + b"\0")
    return found.hexdigest()[:length]


def encoded(text: str) -> bytes:
    """The bytes of a text in UTF-8. Names of files may hold bytes that are none, and texts of JSON
    half a pair of surrogates.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def difference(
    before: Mapping[str, Any], now: Mapping[str, Any], when: tuple[str, str] = ("then", "now")
) -> str:
    """The difference between two fingerprints in words; empty if at most times of files differ.

    Args:
      before, now: the fingerprints.
      when: what the text calls each of them.
    """
    if "parts" in before and "parts" in now:
        parts = (before["parts"], now["parts"])
        changes = {
            name: difference(*(part.get(name, {}) for part in parts), when)
            for name in sorted({*parts[0], *parts[1]})
        }
        return "; ".join(f"{name}: {change}" for name, change in changes.items() if change)
    counts = [fingerprint.get("clips", 0) for fingerprint in (before, now)]
    if counts[0] != counts[1]:
        return f"{counts[0]} clips {when[0]}, {counts[1]} {when[1]}"
    for name, what in _CHANGES.items():
        if name in before and name in now and before[name] != now[name]:
            return f"{now['clips']} clips {when[0]} and {when[1]}, but {what}"
    return ""


def without_times(fingerprint: Mapping[str, Any]) -> Fingerprint:
    """The fingerprint without the times of files; it is the same for every copy of a corpus."""
    return {
        name: {part: without_times(of_part) for part, of_part in value.items()}
        if name == "parts"
        else value
        for name, value in fingerprint.items()
        if name != "times"
    }
