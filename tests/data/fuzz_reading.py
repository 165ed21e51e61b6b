"""Reads a corpus as training and preparing do, and demands examples or reasons with names."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from fgmm.config import ConfigError
from fgmm.data import bad_input, pipeline
from fgmm.data.media import av_files
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.preparation.records import RecordMaker
from fgmm.data.schema import REASONS, BadInput, BatchShape
from fgmm.data.text import tokenizers
from fgmm.data.text.tokenizers import Tokenizer

SHAPE = BatchShape(
    frames=2,
    height=24,
    width=32,
    samples=1600,
    sample_rate=16_000,
    captions=2,
    phrases=3,
    tokens=12,
)
SOUND = dataclasses.replace(SHAPE, frames=0, tokens=0)
PICTURES = dataclasses.replace(SHAPE, samples=0)
_TOKENIZER = Tokenizer(tokenizers.path_of("narrated_shapes"))
# The reasons that were told with a name since it was emptied.
_told: set[str] = set()


def _tell(reason: str, name: str, detail: str = "") -> None:
    assert name, f"{reason} without a name"
    _told.add(reason)


bad_input.tell = _tell


def assembled(source, shape: BatchShape) -> tuple[dict[str, bool], set[str]]:
    """Reads a source as training does: whether any clip has each modality, and all reasons.

    Raises:
      AssertionError: an example is not what the step expects, or lacks something without a reason.
    """
    assembler = pipeline.Assembler(source, shape, _TOKENIZER, "function_words")
    _told.clear()
    av_files._slow.clear()  # files of one name are many here
    usable, found = {"video": False, "audio": False, "text": False}, set(source.report)
    for record in range(len(source)):
        for rng in (None, np.random.default_rng(record)):
            example = assembler(record, rng)
            reasons = pipeline.count_problems(example["problems"])
            assert set(reasons) <= _told, f"{reasons} without a name"
            for name in ("video", "audio"):
                if name not in example:
                    continue
                assert example[name].any() <= example[f"{name}_mask"]
                assert example[f"{name}_mask"] or reasons, f"{name} masked without a reason"
                usable[name] |= bool(example[f"{name}_mask"])
            if shape.frames:
                assert example["video"].shape == (shape.frames, shape.height, shape.width, 3)
                assert example["video"].dtype == np.uint8
            if shape.samples:
                assert example["audio"].shape == (shape.samples,)
                assert example["audio"].dtype == np.float32
                assert np.abs(example["audio"]).max() <= 2.0
            if shape.tokens:
                assert example["tokens"].shape == (shape.captions, shape.tokens)
                assert example["text_mask"].any() or reasons, "no text without a reason"
                usable["text"] |= bool(example["text_mask"].any())
            found |= set(reasons)
    assert found <= set(REASONS)
    return usable, found


def opened_and_assembled(
    open_source: Callable, shape: BatchShape, *names: str
) -> tuple[dict, set[str]]:
    """As ``assembled``; a corpus that is refused has said so in one line with the file's name."""
    try:
        source = open_source()
    except ConfigError as error:
        said = str(error)
        assert len(said.splitlines()) == 1, said
        assert any(name in said for name in names), f"{said} names none of {names}"
        return {"video": False, "audio": False, "text": False}, {"refused"}
    return assembled(source, shape)


def prepared_alone(data: pathlib.Path | bytes, kind: str, encoding: Encoding) -> set[str]:
    """Reads a file as the preparation does; the reason for which it is left out, if it is."""
    try:
        records = RecordMaker(encoding, time_limit=20.0)(RawRecord("clip", data, kind))
    except BadInput as error:
        return {error.reason}
    assert all(record.examined.duration >= 0 for record in records)
    return {reason for record in records for reason in record.examined.problems}
