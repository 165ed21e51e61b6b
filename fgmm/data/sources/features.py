"""Stored features of a corpus instead of its pictures, as written by ``fgmm.data.features``.

``config.data.frames``, ``height``, ``width`` and ``features`` are the T, H, W and E of the feature
maps; the video encoder that takes them is ``features``.
"""

import collections
import dataclasses
import functools
import json
import pathlib
from typing import Any

from array_record.python.array_record_data_source import ArrayRecordDataSource

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import stored_features
from fgmm.data.corpora.source import FileSource
from fgmm.data.fingerprint import Fingerprint, digest
from fgmm.data.schema import Clip, Unreadable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(FileSource):
    """The clips of the corpus in its order, with their captions and labels, without sound.

    A clip whose pictures could not be read when features were computed is masked for the same
    reason. A clip whose record cannot be read is masked as ``unreadable_record``, or as
    ``missing_file`` if its shard has disappeared. Can be pickled, and read by many threads and
    processes.

    Attributes:
      classes: names of the classes, by kind of label.
      report: what the corpus left out when features were computed.
    """

    root: str = option(help="The folder that python -m fgmm.data.features wrote.")
    start: int = option(0, low=0, help="The first clip, in the order of the corpus.")
    stop: int = option(0, low=0, help="The clip after the last; 0 for all to the end.")

    def open(self) -> None:
        """Opens the shards.

        Raises:
          ConfigError: the folder is missing, or a shard of it is missing or damaged.
        """
        for shard, clips in enumerate(self._listing.shards):
            path = self._listing.path(self._folder, shard)
            found = stored_features.record_count(path)
            if found != len(clips):
                wrong = "is missing or damaged" if found < 0 else f"holds {found}, not {len(clips)}"
                raise ConfigError(
                    f"root={self.root!r}: {path.name} {wrong}; delete it if it is there, and run "
                    "python -m fgmm.data.features as before to go on"
                )
        if not len(self):
            raise ConfigError(
                f"root={self.root!r} holds no clip from start={self.start} to stop={self.stop}; it "
                f"has {self._listing.clips}"
            )

    @functools.cached_property
    def _folder(self) -> pathlib.Path:
        return pathlib.Path(self.root).absolute()

    @functools.cached_property
    def _listing(self) -> stored_features.Listing:
        return stored_features.Listing.read(self._folder)

    @functools.cached_property
    def _records(self) -> Any:
        shards = range(len(self._listing.shards))
        return ArrayRecordDataSource([str(self._listing.path(self._folder, i)) for i in shards])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_records"}

    def fingerprint(self) -> Fingerprint:
        """The number of clips, and the origin of the features."""
        origin = json.dumps(self._listing.origin, sort_keys=True)
        return {"clips": len(self), "features": digest([origin, str(self._clips)])}

    @property
    def _clips(self) -> range:
        return range(self._listing.clips)[self.start : self.stop or None]

    @property
    def feature_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, E) of every clip's feature map."""
        return self._listing.shape

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        return dict(self._listing.classes)

    @property
    def report(self) -> collections.Counter[str]:
        return collections.Counter(self._listing.report)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        index = self._clips[index]
        try:
            return stored_features.clip_of(self._records[index], self._listing.shape)
        except Exception as error:  # ArrayRecord raises nearly anything for damaged shards
            shard = index // self._listing.shard_clips
            path = self._listing.path(self._folder, shard)
            reason = "unreadable_record" if path.exists() else "missing_file"
            detail = f"record {index} in {path.name}: {type(error).__name__}"
            return Clip(
                clip_id=f"{path.name}[{index}]",
                video=Unreadable(reason, detail),
                problems=(reason,),
            )
