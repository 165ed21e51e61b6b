"""WebDataset: plain tar shards, among them those that video2dataset and img2dataset write.

::

    shards/00000.tar             root="shards", "shards/{00000..00010}.tar" or "shards/*.tar"
        000000000.mp4            a sample: members whose names are the same up to the first dot
        000000000.m4a            the sound, if it is in a file of its own
        000000000.txt            a caption
        000000000.json           or captions under the key "caption"; subtitles of video2dataset
        000000000.cls            the number of a class
        000000001.jpg            or a picture, or a sound alone

    shards/webdataset-1f0c....index.arrow      made once; says where members lie

The keys of the json files, and the times of clips, are as in data_writer.py, data_reader.py and
subsamplers/clipping_subsampler.py of github.com/iejMac/video2dataset and in writer.py of
github.com/rom1504/img2dataset.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, narrations, patterns, row_index, tar_shards
from fgmm.data.corpora.arrow_batches import ArrowBatches
from fgmm.data.corpora.pairs import IndexedPairs, Lost, Pair
from fgmm.data.corpora.windows import since
from fgmm.data.schema import BadInput


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(IndexedPairs):
    """A clip is a sample. Its ``clip_id`` is the shard's path without ending, a slash and the key.

    Subtitles in the json of video2dataset are narration with times, which count from the start of a
    clip that it cut, or of the whole video. Without subtitles, the caption is that of the ``.txt``,
    or of the json if there is no ``.txt``. Clips of one video are in one group, and in one split.

    A shard is read through once, and again when it has changed. If it changes while it is in use,
    its samples are masked as ``unreadable_record``.

    Attributes:
      classes: of the kind ``label``: the numbers up to the greatest in a ``.cls``, if there is one.
      report: as of ``tar_shards.samples``.
    """

    called: ClassVar[tuple[str, str]] = ("sample", "shards")

    root: str = option(
        help="The folder of the shards, one shard, or a pattern: DIR/{000..123}.tar."
    )
    caption: str = option(
        "caption", help="The key of the json that holds the caption, or a list of them."
    )
    language: str = option("", help="Of subtitles, such as en; empty: the first.")

    def listed(self) -> ArrowBatches:
        """Finds the shards, and opens their index."""
        paths = patterns.named(self.root, (tar_shards.ENDING, ".tar.gz", ".tgz"))
        if not any(map(os.path.exists, paths)):
            raise ConfigError(
                f"root={self.root!r} names no shard; give a folder of .tar files, or a pattern "
                "such as DIR/{00000..00010}.tar"
            )
        read = functools.partial(tar_shards.samples, folder=self._folder)
        return row_index.opened("webdataset", self._folder, paths, read, tar_shards.SCHEMA)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        count = max((facts.get("classes", 0) for facts in self._listed.facts), default=0)
        return {"label": tuple(map(str, range(count)))} if count else {}

    def name(self, index: int) -> str:
        """The shard and the key."""
        batch, row = self._rows.find(index)
        shard = tar_shards.shard_name(self._listed.facts[batch]["file"])
        return f"{shard}/{self._listed.row(batch, row, 'key')['key']}"

    def pair(self, index: int) -> Pair:
        """The sample of a number."""
        batch, place = self._rows.find(index)
        facts = self._listed.facts[batch]
        row = self._listed.row(batch, place, "key", "group", "kind", "members")
        shard = tar_shards.shard_name(facts["file"])
        path = os.path.join(self._folder, facts["file"])
        members = tar_shards.members_of(row, path, (facts["size"], facts["modified"]))
        media = [ending for ending in members if ending not in tar_shards.TEXTS]
        whole = (*tar_shards.TEXTS, *(media if row["kind"] == "image" else ()))
        described = {
            "clip_id": f"{shard}/{row['key']}",
            "kind": row["kind"],
            "group": f"{shard}/{row['group']}" if row["group"] else "",
        }
        try:
            found = tar_shards.contents({e: members[e] for e in whole if e in members})
        except BadInput as error:
            lost = Lost(error.reason, str(error))
            return Pair(media=lost, problems={error.reason: 1}, **described)
        captions, problems = self._captions(found)
        label = tar_shards.number_of(found.get("cls", b"0"))
        if label < 0:
            problems["malformed_line"] += 1
        return Pair(
            media=found.get(media[0], members[media[0]]),
            sound=members[media[1]] if len(media) > 1 else None,
            captions=captions,
            labels={"label": label} if "cls" in found and label >= 0 else {},
            problems=problems,
            **described,
        )

    def _captions(self, texts: Mapping[str, bytes]) -> narrations.Narration:
        """The captions of a sample, and what was left out of them."""
        problems = files.Report()
        entry: Mapping[str, Any] = {}
        if "json" in texts:
            try:
                entry = json.loads(texts["json"])
                if not isinstance(entry, dict):
                    raise ValueError("no object")
                spoken, problems = _subtitles(entry, self.language)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                entry, spoken = {}, ()
                problems["unreadable_captions"] += 1
            if spoken:
                return spoken, problems
        if "txt" in texts:
            try:
                written = [texts["txt"].decode("utf-8-sig")]
            except UnicodeDecodeError:
                return (), problems + files.Report({"unreadable_captions": 1})
        else:
            found = entry.get(self.caption)
            listed = found if isinstance(found, list) else [found]
            written = [text for text in listed if text is not None]
        strings = [text for text in written if isinstance(text, str)]
        problems["malformed_line"] += len(written) - len(strings)
        captions = narrations.untimed(strings, problems)
        return captions, +problems


def _subtitles(entry: Mapping[str, Any], language: str) -> narrations.Narration:
    """The subtitles in a json of video2dataset. A json of another form raises nearly anything."""
    start, lines = 0.0, entry.get("clip_subtitles")
    if lines is not None:
        ((start, _),) = entry["clips"]
        start = narrations.seconds(start)
    else:
        of_languages = (entry.get("yt_meta_dict") or {}).get("subtitles") or {}
        lines = of_languages.get(language or next(iter(of_languages), ""), [])
    rows = []
    for line in lines:
        if (text := _text(line, language)) is not None:
            rows.append((*(narrations.seconds(line[key]) for key in ("start", "end")), text))
    captions, problems = narrations.checked(rows)
    return since(start, captions), problems


def _text(line: Mapping[str, Any], language: str) -> str | None:
    """The text of a line of subtitles; None if it is only in other languages."""
    said = line["lines"] if "lines" in line else line["line"]
    if isinstance(said, dict):
        said = said.get(language or next(iter(said), ""))
    return "\n".join(said) if isinstance(said, list) else said
