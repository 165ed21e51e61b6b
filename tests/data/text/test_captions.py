import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmm.data.corpora import narrations
from fgmm.data.schema import BadInput, Caption
from fgmm.data.text.captions import read_captions, said

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
JSON_LINES = """{"text": "Cut the onion", "start": 1.0, "end": 2.5}
{"text": "in two", "start": 3603.0, "end": 3604.25}
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


def cued(*cues):
    """A WebVTT file of (start, end, text) in seconds."""
    times = "\n".join(f"00:{a:06.3f} --> 00:{b:06.3f}\n{text}\n" for a, b, text in cues)
    return f"WEBVTT\n\n{times}".encode()


def test_text_that_grows_or_is_shown_twice_is_taken_once():
    found, left_out = read_captions(
        cued(
            (0.0, 2.0, "first we cut"),
            (2.0, 3.0, "first we cut the onion"),
            (2.5, 4.0, "first we cut the onion\nvery small"),
            (3.0, 4.0, "very small"),
            (4.5, 5.0, "the"),
            (5.0, 6.0, "the pan is hot"),
            (7.0, 9.0, "now wait"),
            (7.5, 8.0, "and in the meantime"),
            (8.5, 9.5, "now wait"),
        ),
        "vtt",
    )
    assert found == (
        Caption("first we cut", 0.0, 2.0),
        Caption("the onion", 2.0, 3.0),
        Caption("very small", 2.5, 4.0),
        Caption("the", 4.5, 5.0),
        # Too little in common to be more than chance.
        Caption("the pan is hot", 5.0, 6.0),
        Caption("now wait", 7.0, 9.0),
        Caption("and in the meantime", 7.5, 8.0),
    )
    assert not left_out


@pytest.mark.parametrize(
    ("shown", "new"),
    [
        # As automatic captions are where both of their lines were made one.
        (
            ["hello everyone welcome", "hello everyone welcome to my kitchen"],
            ["hello everyone welcome", "to my kitchen"],
        ),
        (
            ["to my kitchen today", "to my kitchen today we cut", "today we cut", "we fry"],
            ["to my kitchen today", "we cut", "we fry"],
        ),
        (
            ["we cut the red onion", "the red onion and fry it", "and fry it until brown"],
            ["we cut the red onion", "and fry it", "until brown"],
        ),
        (
            ["玉ねぎを切ります", "玉ねぎを切りますそして炒めます"],
            ["玉ねぎを切ります", "そして炒めます"],
        ),
        (["หั่นหัวหอม", "หั่นหัวหอมแล้วผัด"], ["หั่นหัวหอม", "แล้วผัด"]),
        (
            ["режем лук очень мелко", "режем лук очень мелко и жарим"],
            ["режем лук очень мелко", "и жарим"],
        ),
        # Too little in common to be more than chance.
        (["です", "ですから"], ["です", "ですから"]),
        (["cut it in two", "in two minutes"], ["cut it in two", "in two minutes"]),
        (["a b c", "c b a"], ["a b c", "c b a"]),
    ],
)
@pytest.mark.parametrize("form", ["vtt", "rows"])
def test_lines_that_roll_are_taken_once_in_any_language(shown, new, form):
    timed = [(float(i), i + 1.5, text) for i, text in enumerate(shown)]
    if form == "vtt":
        found, left_out = read_captions(cued(*timed), form)
    else:
        found, left_out = narrations.checked(timed)
    assert [caption.text for caption in found] == new
    assert not left_out


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("[Music]", []),
        ("fry [sizzling] the onion [Applause]", ["fry the onion"]),
        ("(DOOR SLAMS)\nwho is there", ["who is there"]),
        ("♪ (soft music) ♪", []),
        ("add salt (not too much) and stir", ["add salt (not too much) and stir"]),
        (">> Hello.\n- Hi!\n–Good day", ["Hello.", "Hi!", "Good day"]),
        ("-5 degrees", ["-5 degrees"]),
        ("♪ happy birthday ♪", ["happy birthday"]),
        ("【拍手】\n（音楽）\n玉ねぎを切ります", ["玉ねぎを切ります"]),
        ("[музыка] режем лук", ["режем лук"]),
        ("\u200fשלום\u200f", ["שלום"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("&gt;&gt; Cut &amp; fry &#39;em", ["Cut & fry 'em"]),
        ("... \n?", []),
        ("  THE   WHOLE\tONION ", ["THE WHOLE ONION"]),
    ],
)
def test_what_is_not_said_is_left_out_in_any_language(text, lines):
    assert said(text) == lines


def test_cues_of_sounds_alone_are_counted_as_empty():
    found, left_out = read_captions(cued((0, 1, "[Music]"), (1, 2, "hello")), "vtt")
    assert found == (Caption("hello", 1.0, 2.0),)
    assert left_out == {"empty_caption": 1}


def test_notes_and_styles_are_no_captions():
    text = cued((0, 1, "hello"), (2, 3, "bye")).decode()
    noted = text.replace("WEBVTT\n", "WEBVTT\n\nSTYLE\n::cue { color: red }\n")
    noted = noted.replace("hello\n", "hello\n\nNOTE not said\n")
    assert read_captions(noted.encode(), "vtt") == read_captions(text.encode(), "vtt")


def test_json_lines():
    lines = (
        '{"text": "second [noise]", "start": 2, "end": 3.5, "speaker": 1}',
        '{"text": "first", "start": 0.25, "end": 1}',
        "",
        '{"text": "no end", "start": 1}',
        '{"text": 3, "start": 1, "end": 2}',
        "[]",
        f'{{"text": "too late", "start": 1, "end": 1{"0" * 400}}}',
        '{"text": "backward", "start": 5, "end": 4}',
        '{"text": "for ever", "start": 5, "end": Infinity}',
        '{"text": " ", "start": 5, "end": 6}',
        '{"text": "cut o',
    )
    found, left_out = read_captions("\r\n".join(lines).encode("utf-8-sig"), "jsonl")
    assert found == (Caption("first", 0.25, 1.0), Caption("second", 2.0, 3.5))
    assert left_out == {"malformed_line": 7, "empty_caption": 1}
    assert read_captions(b"", "jsonl") == ((), {})


@pytest.mark.parametrize("form", ["vtt", "srt"])
@pytest.mark.parametrize(
    "data", [b"", b"\x00\xff\xfe\x80", b"no captions", "café".encode("latin-1"), b"\xff\xfe\x00"]
)
def test_other_files_are_unreadable(data, form):
    with pytest.raises(BadInput) as caught:
        read_captions(data, form)
    assert caught.value.reason == "unreadable_captions"


@given(
    st.binary(max_size=200),
    st.sampled_from([("vtt", VTT), ("srt", SRT), ("jsonl", JSON_LINES)]),
    st.data(),
)
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


MARKED = (
    '<i>Hello</i> <b>there</b> &amp; 3 < 5 {\\an8}<font color="red">red</font>\\Nnew'
    " <c.green>now</c> <00:00:00.500>then"
)


@pytest.mark.parametrize("form", ["vtt", "srt", "jsonl", "csv", "json"])
def test_markup_is_left_out_of_captions_of_every_format(form, tmp_path):
    if form in ("csv", "json"):
        (tmp_path / "captions").mkdir()
        quoted = MARKED.replace('"', '""')
        (tmp_path / "captions" / "v.csv").write_text(f'start,end,text\n0,1,"{quoted}"\n')
        entry = {"v": {"start": [0], "end": [1], "text": [MARKED]}}
        (tmp_path / "captions.json").write_text(json.dumps(entry))
        folder = narrations.CsvFolder(tmp_path / "captions")
        file = folder if form == "csv" else narrations.JsonFile(tmp_path / "captions.json")
        ((caption,), left_out) = file.read("v")
    else:
        data = {
            "vtt": f"WEBVTT\n\n00:00.000 --> 00:01.000\n<v Bob>{MARKED}\n",
            "srt": f"1\n00:00:00,000 --> 00:00:01,000\n{MARKED}\n",
            "jsonl": json.dumps({"text": MARKED, "start": 0, "end": 1}),
        }[form]
        ((caption,), left_out) = read_captions(data.encode(), form)
    assert caption.text == "Hello there & 3 < 5 red new now then"
    assert not left_out
