import collections
import dataclasses
import itertools
import pickle
import time
import tracemalloc
from multiprocessing import shared_memory

import grain
import numpy as np
import pytest
from absl import flags

from fgmm.config import ConfigError
from fgmm.data import bad_input, pipeline
from fgmm.data.media import deadline
from fgmm.data.schema import REASONS, SILENCE, BadInput, BatchShape, Caption, Clip, Waveform
from fgmm.data.sources import video_folder
from fgmm.data.stream import SharedArray, training_batches
from fgmm.data.text import tokenizers
from fgmm.data.text.tokenizers import Tokenizer
from tests.data.pairs_fixture import picture
from tests.data.video_fixture import FPS, numbered, write_video

TOKENIZER = tokenizers.path_of("narrated_shapes")
SHAPE = BatchShape(
    frames=2,
    height=4,
    width=4,
    samples=8,
    sample_rate=8,
    captions=2,
    phrases=3,
    tokens=12,
)

# Where the order alone matters.
ONE_NUMBER = dataclasses.replace(SHAPE, frames=0, samples=1, tokens=0)


@dataclasses.dataclass(frozen=True)
class Frames:
    value: int

    def __call__(self):
        return np.full((2, 4, 4, 3), self.value, np.uint8)


@dataclasses.dataclass(frozen=True)
class Sound:
    value: float

    def __call__(self):
        return Waveform(np.full(8, self.value, np.float32), 8)


def broken():
    raise BadInput("unreadable_video", "test")


def endless():
    """Reads on and on, as through a damaged file."""
    while True:
        deadline.check()
        time.sleep(0.001)


class Source:
    """Clip i shows the brightness i; some clips lack something."""

    def __init__(self, clips=10, changes=None):
        self.clips, self.changes = clips, changes or {}

    def __len__(self):
        return self.clips

    def __getitem__(self, index):
        clip = Clip(
            clip_id=f"clip{index}",
            video=Frames(int(index)),
            audio=Sound(index / 100),
            captions=tuple(Caption(f"a red circle, number {word}") for word in "abc"),
        )
        return dataclasses.replace(clip, **self.changes.get(int(index), {}))


class Drawing(Source):
    def draw(self, index, rng):
        return self[index]


def assembler(source=None, **changes):
    return pipeline.Assembler(
        source=source or Source(),
        shape=SHAPE,
        tokenizer=Tokenizer(TOKENIZER),
        segmenter="function_words",
        **changes,
    )


def take(count, **options):
    given = {"seed": 3, "batch_size": 4, **options}
    batches = training_batches(given.pop("assembler", None) or assembler(), **given)
    return list(itertools.islice(batches, count))


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_shapes_and_types_of_a_batch():
    (batch,) = take(1)
    expected = {
        "video": (np.uint8, (4, 2, 4, 4, 3)),
        "video_mask": (np.bool_, (4,)),
        "audio": (np.float32, (4, 8)),
        "audio_mask": (np.bool_, (4,)),
        "tokens": (np.int32, (4, 2, 12)),
        "phrase_ids": (np.int32, (4, 2, 12)),
        "text_mask": (np.bool_, (4, 2)),
        "record": (np.int32, (4,)),
        "problems": (np.int32, (4,)),
    }
    assert {name: (x.dtype, x.shape) for name, x in batch.items()} == expected
    np.testing.assert_array_equal(batch["video"][:, 0, 0, 0, 0], batch["record"])
    assert not batch["problems"].any()


def test_a_modality_of_size_zero_is_left_out():
    shape = dataclasses.replace(SHAPE, samples=0, tokens=0)
    (batch,) = take(1, assembler=dataclasses.replace(assembler(), shape=shape))
    assert batch.keys() == {"video", "video_mask", "record", "problems"}


def test_an_epoch_has_every_clip_once_and_the_next_another_order():
    records = np.concatenate([batch["record"] for batch in take(5)])
    first, second = records[:10], records[10:]
    np.testing.assert_array_equal(np.sort(first), np.arange(10))
    np.testing.assert_array_equal(np.sort(second), np.arange(10))
    assert (first != second).any()


def test_batches_are_a_function_of_seed_and_step():
    whole = take(6)
    assert_equal(take(6), whole)
    assert_equal(take(2, start_step=4), whole[4:])
    assert any(
        (a["record"] != b["record"]).any() for a, b in zip(take(6, seed=4), whole, strict=True)
    )


def test_processes_share_the_global_batch():
    whole = take(3)
    for processes in (2, 4):
        parts = [take(3, process=i, processes=processes) for i in range(processes)]
        for step, batch in enumerate(whole):
            for name, array in batch.items():
                together = np.concatenate([part[step][name] for part in parts])
                np.testing.assert_array_equal(together, array)


def test_worker_processes_change_nothing():
    """Not even where some clips are stopped because they take too long."""
    flags.FLAGS.mark_as_parsed()  # which grain's workers insist on
    maker = assembler(Source(changes={5: {"video": endless}}), time_limit=0.2)
    expected = take(4, start_step=1, assembler=maker)
    for workers in (1, 2):
        batches = take(4, workers=workers, start_step=1, assembler=maker)
        assert_equal(batches, expected)
    too_slow = np.concatenate([batch["record"][batch["problems"] > 0] for batch in batches])
    assert set(too_slow.tolist()) >= {5}


def records_of(count, **options):
    """Of all processes in the global order: clips of step 0, then of step 1, ..."""
    processes = options.get("processes", 1)
    parts = [take(count, process=i, **options) for i in range(processes)]
    return np.concatenate([part[step]["record"] for step in range(count) for part in parts])


@pytest.mark.parametrize("clips", [1, 3, 10])
def test_no_clip_is_lost_or_repeated_in_an_epoch_of_any_number_of_processes(clips):
    """Nor of a corpus with fewer clips than a batch, or than there are processes."""
    maker = dataclasses.replace(assembler(Source(clips)), shape=ONE_NUMBER)
    whole = records_of(6, assembler=maker)
    assert len(whole) == 24
    for start in range(0, len(whole) - clips + 1, clips):
        assert sorted(whole[start : start + clips]) == list(range(clips))
    for processes in (2, 4):
        np.testing.assert_array_equal(records_of(6, assembler=maker, processes=processes), whole)


def test_a_run_goes_on_in_the_same_order_on_another_number_of_processes_and_workers():
    flags.FLAGS.mark_as_parsed()
    maker = dataclasses.replace(assembler(), shape=ONE_NUMBER)
    whole = records_of(7, assembler=maker)
    first = records_of(2, assembler=maker)
    then = records_of(2, assembler=maker, processes=4, start_step=2)
    last = records_of(3, assembler=maker, processes=2, workers=1, start_step=4)
    np.testing.assert_array_equal(np.concatenate([first, then, last]), whole)


def test_a_source_without_clips_is_refused():
    with pytest.raises(ConfigError, match=r"data\.source has no clip"):
        take(1, assembler=dataclasses.replace(assembler(), source=Source(0)))


@pytest.mark.parametrize(
    ("changes", "masked", "reason"),
    [
        ({"video": broken}, "video", "unreadable_video"),
        ({"video": b"no picture"}, "video", "unreadable_video"),
        ({"video": None}, "video", "no_video"),
        ({"audio": None}, "audio", "no_audio"),
        ({"video": endless}, "video", "too_slow"),
        ({"audio": endless}, "audio", "too_slow"),
        ({"audio": Sound(0.0)}, "audio", "silent_audio"),
        ({"audio": Sound(-SILENCE)}, "audio", "silent_audio"),
        ({"captions": ()}, "text", "no_captions"),
        ({"captions": (Caption(" "), Caption("a star"))}, None, "empty_caption"),
        ({"captions": (Caption("..."),)}, "text", "empty_caption"),
    ],
)
def test_bad_input_is_masked_and_counted(changes, masked, reason):
    start = time.monotonic()
    example = assembler(Source(changes={5: changes}), time_limit=0.05)(5)
    assert time.monotonic() - start < 10
    for modality in ("video", "audio", "text"):
        assert example[f"{modality}_mask"].any() == (modality != masked)
    counts = pipeline.count_problems(example["problems"][None])
    assert counts == {reason: 1}
    if masked in ("video", "audio"):
        assert not example[masked].any()


def test_sound_just_above_silence_is_kept():
    example = assembler(Source(changes={5: {"audio": Sound(2 * SILENCE)}}))(5)
    assert example["audio_mask"]
    assert not example["problems"]


def test_what_was_begun_and_not_finished_leaves_no_trace():
    class Breaks:
        def frames(self, count, size):
            raise AssertionError("a batch has it write")

        def fill(self, out, resizing):
            out[...] = 7
            raise BadInput("unreadable_video", "test")

    example = assembler(Source(changes={5: {"video": Breaks()}}))(5)
    assert not example["video"].any()
    assert not example["video_mask"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A maker of batches of two videos, one of them on its side, without anything but pictures."""
    folder = tmp_path_factory.mktemp("videos")
    pictures = [numbered(i, 300, 480) for i in range(FPS)]
    write_video(folder / "a.mp4", pictures, codec="libx264")
    write_video(folder / "b.mp4", pictures, rotation=90)
    source = video_folder.Source(root=str(folder), validation=0.0, seconds=1.0)
    shape = dataclasses.replace(SHAPE, frames=4, height=256, width=256, samples=0, tokens=0)
    return pipeline.Assembler(source, shape, None, "function_words")


def test_frames_are_copied_once_into_the_batch(videos):
    """Nothing as large as a frame is allocated for numbers but the batch, and frames are written
    into its own memory.
    """
    drawn = [pipeline.Draw(0), pipeline.Draw(1)]
    videos.batch(drawn)
    tracemalloc.start()
    batch = videos.batch(drawn)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert batch["video_mask"].all()
    assert held >= batch["video"].nbytes
    assert peak - held < batch["video"][0, 0].nbytes


def test_workers_write_into_memory_that_they_share(videos):
    drawn = [pipeline.Draw(0), pipeline.Draw(1)]
    batch = videos.batch(drawn, zeros=SharedArray)
    expected = videos.batch(drawn)
    for name, array in batch.items():
        assert isinstance(array, grain.multiprocessing.SharedMemoryArray), "grain copies others"
        np.testing.assert_array_equal(array, expected[name])
    kept = batch["video"].metadata.name
    others = [array.shm.name for name, array in batch.items() if name != "video"]
    del batch, array
    shared_memory.SharedMemory(kept).unlink()
    patience = time.monotonic() + 10  # grain may free them in a thread
    while any(map(exists, others)):
        assert time.monotonic() < patience
        time.sleep(0.01)


def exists(name):
    try:
        shared_memory.SharedMemory(name).close()
    except FileNotFoundError:
        return False
    return True


def test_problems_are_counted_by_reason():
    bits = np.array([1 << REASONS.index("no_audio"), 3, 0], np.int32)
    assert pipeline.count_problems(bits) == {"no_audio": 1, REASONS[0]: 1, REASONS[1]: 1}


def test_captions_are_drawn_at_random_in_training_and_the_first_ones_else():
    maker = assembler()
    captions = list(maker.source[0].captions)
    assert maker.chosen(captions) == captions[:2]
    drawn = {
        tuple(caption.text for caption in maker.chosen(captions, np.random.default_rng(seed)))
        for seed in range(20)
    }
    texts = [caption.text for caption in captions]
    assert drawn == set(itertools.combinations(texts, 2))


def test_a_batch_has_its_clips_as_each_is_alone():
    """Clips are found some ahead of their decoding, with the generator of each."""
    order = []

    class Logging(Drawing):
        def draw(self, index, rng):
            order.append(("found", index))
            start = rng.integers(100)

            def read():
                order.append(("decoded", index))
                return np.full((2, 4, 4, 3), start, np.uint8)

            return dataclasses.replace(self[index], video=read)

    maker = assembler(Logging(40, changes={5: {"audio": None}, 20: {"captions": ()}}))
    drawn = [pipeline.Draw(i, np.random.Philox(i).state) for i in range(40)]
    batch = maker.batch(drawn)
    ahead = [kind for kind, _ in order].index("decoded")
    assert 1 < ahead < len(drawn)
    assert [i for kind, i in order if kind == "decoded"] == list(range(40))
    for i, draw in enumerate(drawn):
        one = maker(draw.record, np.random.Generator(np.random.Philox(i)))
        assert one.keys() == batch.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(batch[name][i], array, err_msg=f"{name} of {i}")
    # The sound of the first is silence.
    assert np.flatnonzero(batch["problems"]).tolist() == [0, 5, 20]
    assert len(np.unique(batch["video"][:, 0, 0, 0, 0])) > 20


def test_joined_captions_are_one():
    maker = assembler(join_captions=True)
    captions = [Caption("one.", 0.0, 1.0), Caption("two", 1.0, 3.0)]
    assert maker.chosen(captions) == [Caption("one. two", 0.0, 3.0)]
    assert maker.chosen([]) == []


def test_cached_frames_are_decoded_once():
    calls = []

    def read():
        calls.append(1)
        return np.zeros((2, 4, 4, 3), np.uint8)

    source = Source(changes={1: {"video": read}})
    for cache, expected in ((False, 2), (True, 1)):
        calls.clear()
        maker = assembler(source, cache=cache)
        maker(1)
        maker(1)
        assert len(calls) == expected


def test_of_a_source_that_draws_pictures_alone_are_cached():
    with pytest.raises(ConfigError, match=r"data\.cache=True would keep one stretch"):
        assembler(Drawing(), cache=True)
    maker = assembler(Drawing(changes={1: {"video": picture()}}), cache=True)
    rng = np.random.default_rng(0)
    for index in (1, 2):
        maker(index, rng)
    assert list(maker._frames) == [1]


def test_evaluation_sees_every_clip_once_in_order():
    batches = list(pipeline.evaluation_batches(assembler(), 4))
    assert [count for _, count in batches] == [4, 4, 2]
    records = np.concatenate([batch["record"][:count] for batch, count in batches])
    np.testing.assert_array_equal(records, np.arange(10))
    assert len(batches[-1][0]["record"]) == 4


def test_it_can_be_sent_to_a_worker():
    again = pickle.loads(pickle.dumps(assembler()))
    assert_equal([again(3)], [assembler()(3)])


def test_bad_clips_are_named_in_the_log(caplog, monkeypatch):
    monkeypatch.setattr(bad_input, "_named", collections.Counter())
    changes = {3: {"video": broken, "problems": ("malformed_line",)}, 4: {"audio": None}}
    made = assembler(Source(changes=changes))
    for record in range(10):
        made(record)
    assert sorted(record.getMessage() for record in caplog.records) == [
        "bad input, malformed_line: clip3",
        "bad input, unreadable_video: clip3 (test)",
    ]


def test_a_caption_of_unknown_pieces_alone_is_masked_and_counted():
    """All of them would be one and the same caption."""
    spoken = ("a red ball rolls", "红球滚动", "a 🚀 red ball")
    source = [Clip("a", captions=tuple(Caption(text) for text in spoken))]
    shape = BatchShape(0, 0, 0, 0, 16000, captions=3, phrases=4, tokens=16)
    model = tokenizers.load(tokenizers.path_of("narrated_shapes"))
    example = pipeline.Assembler(source, shape, model, "function_words")(0)
    assert example["text_mask"].tolist() == [True, False, True]
    assert not example["phrase_ids"][1].any()
    assert pipeline.count_problems(example["problems"][None]) == {"unknown_words": 1}


@pytest.mark.parametrize(
    ("several", "expected"),
    [(False, [2, 0, 0]), (True, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])],
)
def test_labels_of_one_kind_are_those_of_the_clips_and_unlabelled_rows_are_masked(
    several, expected
):
    changes = {0: {"labels": {"kind": 2, "more": 1}}, 1: {"labels": {"more": 1}}}
    shape = dataclasses.replace(ONE_NUMBER, label="kind", classes=3, several=several)
    labelled = dataclasses.replace(assembler(Source(3, changes)), shape=shape)
    batch = labelled.batch([pipeline.Draw(i) for i in range(3)])
    assert batch["labels"].tolist() == expected
    assert batch["labels"].dtype == (bool if several else np.int32)
    assert batch["labels_mask"].tolist() == [True, False, False]
    assert pipeline.count_problems(batch["problems"])["no_label"] == 2
    assert "labels" not in assembler(Source(3, changes)).batch([pipeline.Draw(0)])


def test_a_clip_of_several_classes_or_of_none_has_a_label():
    changes = {0: {"labels": {"kind": (0, 2)}}, 1: {"labels": {"kind": ()}}}
    shape = dataclasses.replace(ONE_NUMBER, label="kind", classes=3, several=True)
    labelled = dataclasses.replace(assembler(Source(2, changes)), shape=shape)
    batch = labelled.batch([pipeline.Draw(i) for i in range(2)])
    assert batch["labels"].tolist() == [[True, False, True], [False, False, False]]
    assert batch["labels_mask"].all()
