"""Files as PyTorch writes them (``s3d_reference.py`` made them with it), and what is wrong with
others.
"""

import collections
import importlib.util
import io
import os
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.convert import state_dict

HERE = pathlib.Path(__file__).parent


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    """Whether or not PyTorch is installed where the tests run."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_tensors_of_both_formats(form):
    found = state_dict.read(HERE / f"small_{form}.pth")
    expected = {
        "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "a.brain": np.array([[1.5, -3.0]], np.float32),
        "a.half": np.array([0.5, -2.0], np.float16),
        "a.bias": np.array([2, 3, 4], np.float32),
        "a.count": np.array(7),
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_weights_among_other_things():
    found = state_dict.read(HERE / "small_nested.pth")
    assert set(found) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    np.testing.assert_array_equal(found["running_var"], np.ones(2, np.float32))


def test_modules_of_torchscript_give_tensors_by_the_names_of_attributes(monkeypatch):
    # Whether or not PyTorch, which would execute it, is there.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "torch", None)
    found = state_dict.read(HERE / "small_torchscript.pt")
    names = {f"visual.{number}.{kind}" for number in (0, 1) for kind in ("weight", "bias")}
    assert found.keys() == names | {"scale", "length"}
    np.testing.assert_array_equal(found["visual.0.weight"], np.ones(3, np.float32))
    np.testing.assert_array_equal(
        found["visual.1.weight"], np.arange(6, dtype=np.float16).reshape(2, 3)
    )
    assert (found["visual.1.weight"].dtype, float(found["scale"])) == (np.float16, 2.5)
    assert int(found["length"]) == 77


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{"module.a": np.ones(3), "module.b": np.zeros(2)})
    assert set(state_dict.read(path)) == {"a", "b"}
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match=r"a\.npz is damaged, cut short or"):
        state_dict.read(path)
    np.savez(path, a=np.array([print], object))
    with pytest.raises(ConfigError, match="allow_pickle"):
        state_dict.read(path)


def test_a_pickled_module_is_refused():
    with pytest.raises(ConfigError, match=r"is refused: its pickle asks for torch\.nn\.mod"):
        state_dict.read(HERE / "small_module.pth")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_nothing_is_executed(tmp_path, form):
    program = pickle.dumps(collections.OrderedDict(a=Evil(tmp_path / "made")), protocol=2)
    path = tmp_path / "evil.pth"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", program)
    else:
        start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(x, protocol=2) for x in start) + program)
    with pytest.raises(ConfigError, match=r"evil\.pth is refused: its pickle asks for .*mkdir"):
        state_dict.read(path)
    assert not (tmp_path / "made").exists()
    pickle.loads(program)  # which would have
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_files_cut_short(tmp_path, form, share):
    data = (HERE / f"small_{form}.pth").read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ConfigError, match=r"cut\.pth is damaged, cut short or no"):
        state_dict.read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"<html>404</html>", "is a web page, not weights; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS, not weights"),
        (pickle.dumps({"a": 1}), "neither a zip archive nor PyTorch's format before it"),
    ],
)
def test_other_files(tmp_path, data, message):
    path = tmp_path / "other.pth"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        state_dict.read(path)
    with pytest.raises(ConfigError, match=r"gone\.pth cannot be read: No such file"):
        state_dict.read(tmp_path / "gone.pth")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (2, (3,), (1,)),
        (-1, (1,), (1,)),
        (0, (2, 1 << 40), (1, 0)),
        (3, (2,), (-1,)),
    ],
)
def test_a_tensor_reaches_no_further_than_its_storage(offset, size, stride):
    storage = state_dict._Storage("0", "f4", 4)
    tensor = state_dict._Tensor(storage, offset, size, stride)
    with pytest.raises(ValueError, match=r"a of shape .* is not within its storage"):
        state_dict._arrays({"a": tensor}, lambda storage: bytes(16), "<")


def test_big_endian_storages_are_turned():
    storage = state_dict._Storage("0", "f4", 2)
    tensor = state_dict._Tensor(storage, 0, (2,), (1,))
    data = np.array([1.0, 2.5], ">f4").tobytes()
    found = state_dict._arrays({"a": tensor}, lambda storage: data, ">")
    np.testing.assert_array_equal(found["a"], np.array([1.0, 2.5], np.float32))


def test_where_pytorch_is_installed_it_reads_weights_only(monkeypatch):
    """With a stand-in for PyTorch, which this environment does not have."""
    asked = {}

    class Tensor:
        dtype = "float32"

        def detach(self):
            return self

        def numpy(self):
            return np.ones(2)

    def load(file: io.BufferedReader, **options):
        asked.update(options)
        if asked.get("fail"):
            raise pickle.UnpicklingError("Weights only failed.\n  Unsupported global: a.B\nIf you")
        return {"a": Tensor(), "step": 3}

    torch = types.SimpleNamespace(load=load, Tensor=Tensor, bfloat16="bfloat16")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch", torch)
    found = state_dict.read(HERE / "small_zip.pth")
    assert asked == {"map_location": "cpu", "weights_only": True}
    np.testing.assert_array_equal(found["a"], np.ones(2))
    assert set(found) == {"a"}
    asked["fail"] = True
    with pytest.raises(ConfigError, match=r"is refused: Unsupported global: a\.B$"):
        state_dict.read(HERE / "small_zip.pth")
