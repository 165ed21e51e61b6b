import collections

import pytest

from fgmm.config import ConfigError
from fgmm.data.preparation import raw
from fgmm.data.schema import Clip
from fgmm.data.sources import flickr8k


class Pictures:
    def __init__(self, *clips):
        self.clips, self.report = clips, collections.Counter()

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        return self.clips[index]


def test_sound_of_a_later_clip_is_not_dropped(monkeypatch):
    monkeypatch.setattr(raw, "_LOOKED_AT", 1)
    silent = Clip("a", b"picture", problems=("empty_caption",))
    found = raw.EncodedPictures(Pictures(silent, Clip("b", b"picture", audio=print)), "mine")
    assert found[0].problems == {"empty_caption": 1}
    with pytest.raises(ConfigError, match=r"it has no method raw, and .* \('b' has sound\)"):
        found[1]
    with pytest.raises(ConfigError, match=r"its clips are not pictures without sound$"):
        raw.EncodedPictures(Pictures(Clip("a")), "mine")


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("flickr8k", "flickr8k", {}),
        ("flickr8k:split=dev", "flickr8k", {"split": "dev"}),
        (f"{flickr8k.__name__}:Source", f"{flickr8k.__name__}:Source", {}),
        (f"{flickr8k.__name__}:Source:split=dev", f"{flickr8k.__name__}:Source", {"split": "dev"}),
    ],
)
def test_a_source_is_named_as_in_a_config(text, name, options):
    assert raw.choose(text, raw=False) == (name, options)
