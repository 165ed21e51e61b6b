import pathlib
import pickle
import unicodedata

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from fgmm.config import ConfigError
from fgmm.data import tokenizer
from fgmm.data.sources.narrated_shapes import Source
from fgmm.data.text import phrases, tokenizers
from fgmm.data.text.tokenizers import Tokenizer
from tests.data.flickr8k_fixture import write_flickr8k

CAPTIONS = [
    f"A {size} {colour} {shape} {motion} , over the Ground ."
    for size in ("big", "small")
    for colour in ("red", "bleu", "größe")
    for shape in ("circle", "square", "日本")
    for motion in ("drifts to the left", "is spinning", "jumps up")
]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("tokenizer") / "small.model"
    tokenizers.train(CAPTIONS, path, vocabulary_size=200)
    return path


@pytest.fixture(scope="module")
def small(model_path) -> Tokenizer:
    return Tokenizer(model_path)


def encode(small, caption, tokens=32, count=8, segmenter=phrases.function_words):
    return small.encode(caption, segmenter=segmenter, tokens=tokens, phrases=count)


def by_phrase(small, caption, **options) -> list[str]:
    """The pieces of each phrase, in the words that they spell."""
    token_ids, phrase_ids = encode(small, caption, **options)
    processor = sentencepiece.SentencePieceProcessor(model_proto=small.model)
    return [
        "".join(processor.IdToPiece(int(t)) for t in token_ids[phrase_ids == phrase])
        .replace("▁", " ")
        .strip()
        for phrase in range(1, phrase_ids.max() + 1)
    ]


def test_tokens_fall_into_the_phrases_of_the_caption(small):
    assert by_phrase(small, "A big red circle drifts to the left .") == [
        "a big red circle drifts",
        "to the left",
    ]


def test_padding_is_zero_and_ids_are_in_range(small):
    token_ids, phrase_ids = encode(small, "a small red square , on the ground")
    assert token_ids.dtype == phrase_ids.dtype == np.int32
    assert ((token_ids == 0) == (phrase_ids == 0)).all()
    length = int((token_ids > 0).sum())
    assert 0 < length < 32
    assert (token_ids[:length] > 0).all()
    assert (np.diff(phrase_ids[:length]) >= 0).all()
    assert token_ids.max() < small.vocabulary_size


def test_case_and_compatibility_forms_make_no_difference(small):
    plain = encode(small, "a big red circle")
    for other in ("A BIG Red circle", "a ｂｉｇ red circle", "  a  big\tred circle"):
        np.testing.assert_array_equal(encode(small, other), plain)


def test_offsets_count_characters_and_not_bytes(small):
    for caption in ("größe größe 日本 | to the left", "e\u0301te\u0301 größe | to the größe"):
        first, second = caption.split(" | ")
        token_ids, phrase_ids = encode(small, f"{first} {second}")
        alone, _ = encode(small, second)
        np.testing.assert_array_equal(token_ids[phrase_ids == 2], alone[alone > 0])


def test_unknown_words_stay_in_their_phrase(small):
    # What stands before an unknown word is a piece of its own that covers no character.
    _, phrase_ids = encode(small, "犬 drifts to 猫")
    assert phrase_ids.max() == 2
    token_ids, phrase_ids = encode(small, "a circle drifts to the 犬")
    assert tokenizers.UNKNOWN_ID in token_ids[phrase_ids == 2]


def test_punctuation_between_phrases_has_no_token(small):
    with_it = encode(small, "a big red circle , over the ground .")
    np.testing.assert_array_equal(with_it, encode(small, "a big red circle over the ground"))


def test_further_phrases_and_tokens_are_left_out(small):
    caption = "a circle over a square over a big circle over a red square"
    full, full_phrases = encode(small, caption)
    assert full_phrases.max() == 4
    token_ids, phrase_ids = encode(small, caption, count=2)
    kept = (full_phrases > 0) & (full_phrases <= 2)
    np.testing.assert_array_equal(token_ids, np.where(kept, full, 0))
    np.testing.assert_array_equal(phrase_ids, np.where(kept, full_phrases, 0))
    cut, cut_phrases = encode(small, caption, tokens=3)
    np.testing.assert_array_equal(cut, full[:3])
    assert (cut_phrases > 0).all()


@pytest.mark.parametrize("caption", ["", "  ", "...", "\u200b", "\x00"])
def test_captions_without_words_are_all_padding(small, caption):
    token_ids, phrase_ids = encode(small, caption)
    assert not token_ids.any()
    assert not phrase_ids.any()


@given(caption=st.text(alphabet=st.characters(exclude_categories=()), max_size=80))
def test_any_text_can_be_encoded(small, caption):
    for name in phrases.SEGMENTERS:
        token_ids, phrase_ids = encode(small, caption, segmenter=phrases.find(name), count=3)
        assert ((token_ids == 0) == (phrase_ids == 0)).all()
        assert phrase_ids.max() <= 3
    if any(unicodedata.category(c) in ("Ll", "Lu", "Nd") for c in caption):
        assert token_ids.any()


def test_a_pickled_tokenizer_is_the_same(small):
    other = pickle.loads(pickle.dumps(small))
    assert other.fingerprint == small.fingerprint
    assert other.vocabulary_size == small.vocabulary_size
    np.testing.assert_array_equal(encode(other, "a red 日本"), encode(small, "a red 日本"))


def test_captions_that_come_back_are_not_split_again(small):
    split = []

    def segmenter(caption):
        split.append(caption)
        return phrases.function_words(caption)

    first = encode(small, "a red circle on the left", segmenter=segmenter)
    again = encode(small, "a red circle on the left", segmenter=segmenter)
    np.testing.assert_array_equal(first, again)
    assert len(split) == 1
    with pytest.raises(ValueError, match="read-only"):
        again[0][0] = 1
    shorter, _ = encode(small, "a red circle on the left", segmenter=segmenter, tokens=3)
    assert len(shorter) == 3
    one, two = (encode(small, "a red circle on the left", count=count)[1] for count in (1, 2))
    assert (one.max(), two.max()) == (1, 2)
    _, whole = encode(small, "a red circle on the left", segmenter=phrases.whole)
    assert whole.max() == 1


def test_training_is_deterministic_and_frequent_words_become_pieces(small, model_path, tmp_path):
    again = tokenizers.train(iter(CAPTIONS), tmp_path / "again.model", vocabulary_size=200)
    assert (tmp_path / "again.model").read_bytes() == model_path.read_bytes()
    assert again.fingerprint == small.fingerprint
    assert small.vocabulary_size <= 200
    pieces = [p for _, _, p in small.pieces("spinning circle größe", phrases.whole, 1)]
    assert pieces == ["▁spinning", "▁circle", "▁größe"]


def test_fingerprints_tell_models_apart(small, tmp_path):
    other = tokenizers.train(CAPTIONS[:10], tmp_path / "other.model", vocabulary_size=100)
    assert other.fingerprint != small.fingerprint
    assert len(small.fingerprint) == 64


def test_odd_captions_can_be_trained_on(tmp_path):
    odd = ["", "\x00", "a\nb\u2028c", "\ud800", "word " * 20_000]
    trained = tokenizers.train(CAPTIONS + odd, tmp_path / "odd.model", vocabulary_size=200)
    assert [p for _, _, p in trained.pieces("word", phrases.whole, 1)] == ["▁word"]


@pytest.mark.parametrize(
    ("captions", "size", "message"),
    [
        ([], 100, "no captions"),
        (["", " "], 100, "no captions"),
        (CAPTIONS, 5, "vocabulary_size=5 is too small"),
        (CAPTIONS, 0, "vocabulary_size=0"),
    ],
)
def test_impossible_training_says_what_is_wrong(tmp_path, captions, size, message):
    with pytest.raises(ConfigError, match=message):
        tokenizers.train(captions, tmp_path / "x.model", vocabulary_size=size)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"no model", "cut", "directory"])
def test_missing_and_unreadable_models_name_the_remedy(tmp_path, model_path, content):
    path = tmp_path / "x.model"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_bytes(model_path.read_bytes()[:1000] if content == "cut" else content)
    with pytest.raises(ConfigError, match=r"x\.model.*python -m fgmm\.data\.tokenizer train"):
        Tokenizer(path)


def test_a_model_without_padding_at_zero_is_refused(tmp_path):
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(CAPTIONS),
        model_prefix=str(tmp_path / "foreign"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(ConfigError, match="padding at id -1"):
        Tokenizer(tmp_path / "foreign.model")


def test_the_shipped_model_fits_the_embedded_corpus(repository):
    path = tokenizers.path_of("narrated_shapes")
    assert path.stat().st_size < 300_000
    shipped = Tokenizer(path)
    words, whole = set(), set()
    for split in ("train", "retrieval"):
        source = Source(split=split, clips=300)
        for index in range(len(source)):
            for caption in source[index].captions:
                token_ids, _ = encode(shipped, caption.text, tokens=64)
                assert tokenizers.UNKNOWN_ID not in token_ids
                words |= set(caption.text.lower().replace(",", " ").replace(".", " ").split())
    for word in words:
        if [p for _, _, p in shipped.pieces(word, phrases.whole, 1)] == ["▁" + word]:
            whole.add(word)
    assert len(whole) > 0.98 * len(words)


def command(*arguments: str) -> int:
    return tokenizer.main(["tokenizer", *arguments])


def test_command_line_trains_on_a_source_and_shows_phrases(tmp_path, capsys):
    corpus = write_flickr8k(tmp_path / "corpus", images=8, seed=0)
    output = tmp_path / "models" / "out.model"
    assert (
        command(
            "train",
            "--source=flickr8k",
            f"--option=root={corpus}",
            "--option=split=dev",
            "--vocabulary_size=120",
            f"--output={output}",
        )
        == 0
    )
    assert str(output) in capsys.readouterr().out
    assert command("show", f"--model={output}", "--text=a wall, at the top left") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert "▁wall" in lines[0]
    assert "▁left" in lines[1]


def test_a_shipped_model_is_shown_by_its_name(capsys):
    assert command("show", "--model=narrated_shapes", "--text=a red circle") == 0
    assert "▁red" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "allowed: train, show"),
        (["tain"], "'tain'"),
        (["train", "--source=flickr8k"], "vocabulary_size"),
        (["train", "--vocabulary=3"], "vocabulary"),
        (["train", "--source=nothing", "--vocabulary_size=9", "--output=x"], "flickr8k"),
        (
            ["train", "--source=flickr8k", "--option=root", "--vocabulary_size=9", "--output=x"],
            "--option=root",
        ),
        (
            ["train", "--source=flickr8k", "--option=rot=a", "--vocabulary_size=9", "--output=x"],
            "rot",
        ),
        (["show", "--model=none.model", "--text=a"], "none.model"),
        (["show", "stray", "--model=none.model", "--text=a"], "stray"),
    ],
)
def test_wrong_command_lines_give_one_line_and_code_2(capsys, arguments, message):
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("words") / "dictionary.npy"
    np.save(path, np.array(["the", "dog", "don't", "grass", "ΟΔΟΣ".lower()]))
    return path


def test_a_dictionary_counts_words_from_one_and_drops_unknown_ones(words):
    known = tokenizers.load(words)
    assert known.vocabulary_size == 6
    assert known.unknown_id is None
    token_ids, phrase_ids = encode(known, "The DOG, I said: don't-eat the grass!", tokens=6)
    assert token_ids.tolist() == [1, 2, 3, 1, 4, 0]
    assert (phrase_ids[:5] > 0).all()
    assert phrase_ids[5] == 0
    assert encode(known, "Grass dog the dog grass", tokens=3)[0].tolist() == [4, 2, 1]
    assert encode(known, "nothing 'known'", tokens=3)[0].tolist() == [0, 0, 0]


def test_words_of_a_dictionary_fall_into_the_phrases_of_the_caption(words):
    """Also behind letters that are longer in lower case."""
    known = tokenizers.load(words)
    found = known.pieces("İ the dog. ΟΔΟΣ, the grass", lambda text: [(0, 9), (11, 16), (17, 26)], 3)
    assert [(phrase, word) for _, phrase, word in found] == [
        (1, "the"),
        (1, "dog"),
        (2, "οδος"),
        (3, "the"),
        (3, "grass"),
    ]


def test_a_file_tells_which_tokenizer_it_is(words, model_path, tmp_path):
    """Whatever its name: a checkpoint keeps either kind under the same one."""
    copy = tmp_path / "tokenizer.model"
    for path, kind in ((words, tokenizers.WordDictionary), (model_path, Tokenizer)):
        copy.write_bytes(path.read_bytes())
        opened = tokenizers.load(copy)
        assert type(opened) is kind
        assert opened.model == path.read_bytes()
        again = pickle.loads(pickle.dumps(opened))
        assert type(again) is kind
        assert again.fingerprint == opened.fingerprint
        np.testing.assert_array_equal(encode(again, "the dog"), encode(opened, "the dog"))


def test_of_equal_words_the_last_counts(tmp_path):
    np.save(tmp_path / "words.npy", np.array(["a", "b", "a"]))
    twice = tokenizers.load(tmp_path / "words.npy")
    assert (twice.vocabulary_size, encode(twice, "a b", tokens=2)[0].tolist()) == (4, [3, 2])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(3), "it holds int64"),
        (np.array([["a"]]), r"of shape \(1, 1\)"),
        (np.array([], "U3"), r"of shape \(0,\)"),
        (np.array(["a", None]), "allow_pickle=False"),
        (None, "no dictionary of words"),
    ],
)
def test_files_that_are_no_dictionary(words, tmp_path, array, message):
    path = tmp_path / "words.npy"
    if array is None:
        path.write_bytes(words.read_bytes()[:-4])
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(ConfigError, match=f"words.npy.*{message}"):
        tokenizers.load(path)


def test_a_missing_tokenizer_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match=r"python -m fgmm\.data\.tokenizer train"):
        tokenizers.load(tmp_path / "none.npy")


def test_help_of_a_command_lists_its_flags(capsys):
    for command, flag in (("train", "--vocabulary_size:"), ("show", "--model:")):
        for asked in ("--help", "-h"):
            assert tokenizer.main(["tokenizer", command, asked]) == 0
            assert flag in capsys.readouterr().out


def test_a_folder_may_be_named_by_digits_or_below_the_home_folder(tmp_path, monkeypatch, capsys):
    write_flickr8k(tmp_path / "2024", images=8, seed=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Where another run would write, if names were not drawn.
    (tmp_path / "a.model.partial").mkdir()
    for root in ("2024", "~/2024"):
        arguments = ["train", "--source=flickr8k", f"--option=root={root}"]
        sizes = ["--vocabulary_size=60", "--output=~/a.model"]
        assert tokenizer.main(["tokenizer", *arguments, *sizes]) == 0, capsys.readouterr().err
        assert (tmp_path / "a.model").exists()
        (tmp_path / "a.model").unlink()


def test_unknown_pieces_are_counted(words):
    model = tokenizers.load(tokenizers.path_of("narrated_shapes"))
    assert model.unknown("红球滚动") == (1, 1)
    assert model.unknown("a red ball 🚀")[0] == 1
    assert model.unknown("a red ball")[0] == 0
    assert model.unknown("") == (0, 0)
    dictionary = tokenizers.load(words)
    assert dictionary.unknown("zyxw vuts") == (2, 2)
