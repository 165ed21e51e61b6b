"""Nearest neighbours across modalities, and the hardest failures of retrieval."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from fgmm.eval import metrics
from fgmm.report import pages, strips
from fgmm.report.gallery import Gallery, spread

_SHOWN = 4  # items for each query
_SIDE = 160  # the most pixels of a side of a picture


class Item(NamedTuple):
    """A clip as it is shown in one modality.

    Attributes:
      clip_id: its name.
      caption: its text.
      picture: data URL of a frame for video and of the spectrogram for audio; empty for text, or
        without a picture.
    """

    clip_id: str
    caption: str
    picture: str


class Query(NamedTuple):
    """A query and its best items.

    Attributes:
      item: the query.
      rank: of the best right answer.
      found: the best items, and whether each is a right answer.
      answer: the item of the query's own clip; None if a right answer is in ``found``.
    """

    item: Item
    rank: int
    found: list[tuple[Item, bool]]
    answer: Item | None


class Direction(NamedTuple):
    """Queries of one modality for items of another, among ``gallery`` clips.

    Attributes:
      queries, items: the modalities.
      gallery: number of clips that have both modalities.
      examples: evenly spaced queries.
      hardest: queries whose best right answer has the worst rank, worst first; none of rank 1.
    """

    queries: str
    items: str
    gallery: int
    examples: list[Query]
    hardest: list[Query]


def directions(gallery: Gallery, examples: int = 4, hardest: int = 6) -> list[Direction]:
    """All directions that the objective compares and for which a clip has both modalities.

    Args:
      gallery: the clips.
      examples, hardest: the most queries of each kind.
    """
    return [
        _direction(gallery, queries, items, examples, hardest)
        for queries, items in gallery.directions
        if (gallery.there(queries) & gallery.there(items)).any()
    ]


def _direction(
    gallery: Gallery, queries: str, items: str, examples: int, hardest: int
) -> Direction:
    both = np.flatnonzero(gallery.there(queries) & gallery.there(items))
    scores = gallery.scores(queries, items)[np.ix_(both, both)]
    # Clips with the same caption are right answers to each other.
    said = [[gallery.captions[row] or gallery.chosen[row].clip_id] for row in both]
    _, group = metrics.caption_groups(said)
    relevant = group[:, None] == group[None]
    ranks = metrics.retrieval_ranks(scores, relevant)

    def query(number: int) -> Query:
        best = np.argsort(-scores[number], kind="stable")[:_SHOWN]
        right = [bool(relevant[number, i]) for i in best]
        return Query(
            _item(gallery, int(both[number]), queries),
            int(ranks[number]),
            [(_item(gallery, int(both[i]), items), ok) for i, ok in zip(best, right, strict=True)],
            None if any(right) else _item(gallery, int(both[number]), items),
        )

    worst = [i for i in np.argsort(-ranks, kind="stable")[:hardest] if ranks[i] > 1]
    return Direction(
        *(queries, items, len(both)),
        examples=[query(number) for number in spread(len(both), examples)],
        hardest=[query(int(number)) for number in worst],
    )


def _item(gallery: Gallery, row: int, modality: str) -> Item:
    frame, log_mel = gallery.pictures[row], gallery.sounds[row]
    picture = None
    if modality == "video" and frame is not None:
        picture = Image.fromarray(frame)
        picture.thumbnail((_SIDE, _SIDE))
    if modality == "audio" and log_mel is not None:
        picture = Image.fromarray(strips.spectrogram(log_mel, None)).resize((_SIDE, _SIDE))
    shown = "" if picture is None else pages.inline(picture)
    return Item(gallery.chosen[row].clip_id, gallery.captions[row], shown)
