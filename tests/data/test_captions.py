import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmm.data.captions import read_captions
from fgmm.data.schema import BadInput, Caption

VTT = """WEBVTT - made here
Kind: captions

NOTE not a cue

1
00:01.000 --> 00:02.500 align:start
Cut the <b>onion</b> &amp; fry it

01:00:03.000 --> 01:00:04.250
in two
lines
"""
SRT = """1
00:00:01,000 --> 00:00:02,500
{\\an8}Cut the <i>onion</i> &amp; fry it

2
01:00:03,000 --> 01:00:04,250
in two
lines
"""
EXPECTED = (
    Caption("Cut the onion & fry it", 1.0, 2.5),
    Caption("in two lines", 3603.0, 3604.25),
)


@pytest.mark.parametrize(("text", "form"), [(VTT, "vtt"), (SRT, "srt")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_captions_without_markup_in_any_unicode(text, form, encoding, ends):
    data = text.replace("\n", ends).encode(encoding)
    assert read_captions(data, form) == (EXPECTED, {})


def test_blank_lines_at_the_start_do_not_matter():
    assert read_captions(b"\n\n" + SRT.encode(), "srt") == (EXPECTED, {})


def test_cues_are_put_in_order_of_time():
    first, second = SRT.split("\n2\n")
    swapped = "1\n" + second + "\n2\n" + first.removeprefix("1\n")
    assert read_captions(swapped.encode(), "srt") == (EXPECTED, {})


@pytest.mark.parametrize("form", ["vtt", "srt"])
def test_broken_cues_are_left_out_and_counted(form):
    cues = [
        ("00:00:01.000 --> 00:00:02.000", "good"),
        ("00:00:xx.000 --> 00:00:03.000", "no time"),
        ("00:00:04.000 --> 00:00:03.000", "backwards"),
        ("00:00:05.000 --> 00:00:06.000", "<i> </i>"),
        ("00:00:07.000 --> 00:00:08.000", "good again"),
    ]
    text = "\n".join(f"{i}\n{time}\n{words}\n" for i, (time, words) in enumerate(cues, 1))
    text = "WEBVTT\n\n" + text if form == "vtt" else text.replace(".", ",")
    found, left_out = read_captions(text.encode(), form)
    assert found == (Caption("good", 1.0, 2.0), Caption("good again", 7.0, 8.0))
    assert left_out == {"malformed_line": 2, "empty_caption": 1}


def test_text_that_rolls_is_taken_once():
    """As video sites write it: each line comes three times, the new one with times of its words."""
    rolling = """WEBVTT

00:00:00.000 --> 00:00:02.000
 
hello<00:00:00.500><c> everyone</c>

00:00:02.000 --> 00:00:02.010
hello everyone
 

00:00:02.010 --> 00:00:04.000
hello everyone
welcome<00:00:03.000><c> back</c>

00:00:09.000 --> 00:00:10.000
welcome back
"""
    found, left_out = read_captions(rolling.encode(), "vtt")
    assert found == (
        Caption("hello everyone", 0.0, 2.0),
        Caption("welcome back", 2.01, 4.0),
        Caption("welcome back", 9.0, 10.0),
    )
    assert not left_out


@pytest.mark.parametrize("form", ["vtt", "srt"])
@pytest.mark.parametrize(
    "data", [b"", b"\x00\xff\xfe\x80", b"no captions", "café".encode("latin-1"), b"\xff\xfe\x00"]
)
def test_other_files_are_unreadable(data, form):
    with pytest.raises(BadInput) as caught:
        read_captions(data, form)
    assert caught.value.reason == "unreadable_captions"


@given(st.binary(max_size=200), st.sampled_from([("vtt", VTT), ("srt", SRT)]), st.data())
def test_damage_is_bad_input_or_left_out(noise, file, data):
    form, text = file
    whole = text.encode()
    place = data.draw(st.integers(0, len(whole)))
    for damaged in (noise, whole[:place] + noise + whole[place:], whole[:place]):
        with contextlib.suppress(BadInput):
            found, _ = read_captions(damaged, form)
            for caption in found:
                assert caption.text.strip()
                assert 0 <= caption.start < caption.end
