"""Damaged files of every format: an example or a reason, and never a crash, a hang or a flood."""

import ctypes
import os
import pathlib
import re
import time

import pytest

from tests.data import fuzz
from tests.data.damage import MUTATORS, damaged

# Of each format: mutations, and the shares of them that must have left the file usable and that
# must have led to a reason, so that the damage is neither too weak nor too strong to show anything.
FORMATS = {
    "mp4": (260, 0.3, 0.3),
    "webm": (140, 0.3, 0.15),
    "ogg": (200, 0.15, 0.3),
    "wav": (100, 0.3, 0.15),
    "jpg": (240, 0.15, 0.4),
    "vtt": (100, 0.2, 0.4),
    "srt": (80, 0.2, 0.4),
    "jsonl": (80, 0.2, 0.4),
    "csv": (140, 0.2, 0.4),
    "csv_howto100m": (80, 0.2, 0.3),
    "csv_kinetics": (80, 0.1, 0.4),
    "csv_esc50": (60, 0.1, 0.4),
    "json": (100, 0.1, 0.4),
    "json_karpathy": (100, 0.05, 0.5),
    "json_youcook2": (60, 0.05, 0.5),
    "json_msr_vtt": (60, 0.05, 0.5),
    "array_record": (120, 0.15, 0.7),
    "record": (120, 0.05, 0.5),
    "manifest": (60, 0.01, 0.7),
    "dataset_info": (30, 0.0, 0.7),
    "features": (30, 0.0, 0.7),
    "tar": (80, 0.2, 0.4),
    "zip": (80, 0.05, 0.5),
    "webdataset": (80, 0.3, 0.4),
    "pairs_csv": (60, 0.2, 0.4),
    "pairs_parquet": (60, 0.02, 0.5),
    "saved_arrow": (60, 0.02, 0.5),
}


@pytest.mark.parametrize("part", [10, pytest.param(1, marks=pytest.mark.long)])
def test_damaged_files_are_examples_or_reasons(part):
    """Of the first tenth of the mutations, and of all."""
    shared = pathlib.Path(
        os.environ.get("FGMM_SHARED_DATA", fuzz.REPOSITORY.parent / "shared" / "data")
    )
    mutations = {form: count // part for form, (count, _, _) in FORMATS.items()}
    assert sum(mutations.values()) >= 2000 // part
    outcomes = fuzz.run(mutations, shared=shared if shared.is_dir() else None)
    print(fuzz.table(outcomes))
    failures = [failure for outcome in outcomes.values() for failure in outcome.failures]
    assert not failures, "\n".join(failures[:10])
    for form, (_, usable, refused) in FORMATS.items():
        found = outcomes[form]
        assert found.mutations == mutations[form]
        # Shares of a few mutations vary more.
        least = found.mutations - (part > 1) * 2 * found.mutations**0.5
        assert found.decoded >= int(usable * least), (form, found)
        assert found.refused >= int(refused * least), (form, found)


def test_damage_is_the_same_for_the_same_seed():
    whole = bytes(range(256)) * 20
    results = {damaged(whole, f"a:{number}") for number in range(200)}
    assert results == {damaged(whole, f"a:{number}") for number in range(200)}
    assert len({data for data, _ in results}) > 190
    assert whole not in {data for data, _ in results}
    done = {name for _, names in results for name in names.split("+")}
    assert done == {mutate.__name__ for mutate in MUTATORS}
    assert all(isinstance(damaged(b"", f"b:{number}")[0], bytes) for number in range(200))


def faulty(folder, shared, formats):
    """Targets that misbehave at their third mutation each."""
    del shared, formats
    counts: dict[str, int] = {}

    def reader(name, fault):
        def read():
            counts[name] = counts.get(name, -1) + 1  # the first is the undamaged file
            if counts[name] == 3:
                fault()
            return True, set()

        return fuzz.Target(folder / name, (b"whole",), read)

    held = []
    faults = {
        "crash": lambda: ctypes.string_at(0),
        "hang": lambda: time.sleep(600),
        "busy": lambda: _spin(0.6),
        "flood": lambda: held.append(bytearray(b"x" * (200 << 20))),
        "escape": lambda: {}["nothing"],
    }
    return {name: reader(name, fault) for name, fault in faults.items()}


def _spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crash", r"crash:2: ended the process \(-11\)"),
        ("hang", "hang:2: no answer in 3 s"),
        ("flood", r"flood:2: took \d+ MB of memory"),
        ("busy", r"busy:2: took 0\.\d s"),
        ("escape", "KeyError: 'nothing'"),
    ],
)
def test_misbehaviour_is_found_and_named_and_the_rest_goes_on(name, message, monkeypatch):
    # To take memory takes time, too.
    if name == "busy":
        monkeypatch.setattr(fuzz, "PROCESSOR_SECONDS", 0.5)
    monkeypatch.setattr(fuzz, "MEGABYTES", 150)
    patience = 3.0 if name == "hang" else fuzz.PATIENCE
    outcome = fuzz.run({name: 4}, targets="tests.data.test_fuzz:faulty", patience=patience)[name]
    assert outcome.mutations == 4
    (failure,) = outcome.failures
    assert re.search(message, failure), failure
    assert "--first=2 --mutations=1" in failure
