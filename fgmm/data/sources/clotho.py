"""Clotho: sounds of 15 to 30 seconds with five captions each.

::

    clotho_captions_evaluation.csv      file_name,caption_1,caption_2,...,caption_5
    evaluation/<file_name>              sounds, in folders of any names
    clotho_captions_development.csv, clotho_captions_validation.csv and their folders likewise

Drossos, Lipping, Virtanen: Clotho: an Audio Captioning Dataset, ICASSP 2020. The columns are those
that load_clotho_dataset reads in github.com/Labbeti/aac-datasets,
src/aac_datasets/datasets/functional/clotho.py. Retrieval is evaluated on ``evaluation``.
"""

import dataclasses
from typing import ClassVar

from fgmm.config.option import option
from fgmm.data.corpora import described, files, labelled, narrations

SPLITS = ("development", "validation", "evaluation")
_CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))
_COLUMNS = ("file_name", _CAPTIONS[0])
_LAYOUT = "the layout is clotho_captions_evaluation.csv, evaluation/*.wav, and likewise for others"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(described.DescribedSegments):
    """One split. A clip is a sound with its captions; it has no video.

    Attributes:
      report: sounds left out: ``missing_file``. ``duplicate_id`` counts lines of a sound that was
        listed before, ``malformed_line`` lines that cannot be understood, and ``empty_caption``
        captions without words.
    """

    kind: ClassVar[str] = "audio"

    split: str = option("evaluation", choices=SPLITS)

    @classmethod
    def splits(cls, root: str) -> tuple[str, ...]:
        """The splits whose lists exist."""
        corpus = labelled.open_root(root, _LAYOUT)
        return tuple(split for split in SPLITS if files.find(corpus, [_list_of(split)]))

    def listed(self) -> described.Listing:
        """Reads the CSV file of the split."""
        corpus = labelled.open_root(self.root, _LAYOUT)
        report = files.Report()
        table = labelled.find_table(corpus, _list_of(self.split), _LAYOUT)
        paths = _sounds(corpus, self.split)
        found: dict[str, described.Segment] = {}
        for row in labelled.read_table(corpus, table, _COLUMNS, report, _CAPTIONS[1:]):
            name = row["file_name"]
            if name in found:
                report["duplicate_id"] += 1
                continue
            said = narrations.untimed((row[column] for column in _CAPTIONS), report)
            found[name] = described.Segment(name, paths.get(name, name), said)
        return described.Listing(corpus, list(found.values()), +report)


def _list_of(split: str) -> str:
    return f"clotho_captions_{split}.csv"


def _sounds(corpus: files.Corpus, split: str) -> dict[str, str]:
    """The paths of sounds by their file names. The same name may be in several splits, so if files
    are in folders with the split's name, only these files count.
    """
    paths = [path for path in corpus.names() if path.lower().endswith(files.SOUND_ENDINGS)]
    own = [path for path in paths if split in path.rpartition("/")[0].rpartition("/")[2]]
    # Some names have spaces at their ends.
    return {path.rpartition("/")[2].strip(): path for path in own or paths}
