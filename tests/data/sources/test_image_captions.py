import json
import shutil

import pytest

from fgmm.config import ConfigError
from fgmm.data import fingerprint
from fgmm.data.media.decode import read_image
from fgmm.data.schema import BadInput, Caption
from fgmm.data.sources import flickr8k
from fgmm.data.sources.image_captions import Source
from tests.data.flickr8k_fixture import pack, write_flickr8k

TOKENS = "Flickr8k.token.txt"


@pytest.fixture(scope="module")
def flickr(tmp_path_factory):
    return write_flickr8k(tmp_path_factory.mktemp("corpus") / "flickr8k", images=8, seed=0)


@pytest.fixture
def coco(flickr, tmp_path):
    """The images in COCO's folders, with Karpathy's file: 4 train, 2 restval, 1 val, 1 test."""
    root = tmp_path / "coco"
    images = []
    splits = ["train"] * 4 + ["restval"] * 2 + ["val", "test"]
    for number, (path, split) in enumerate(
        zip(sorted((flickr / "Flicker8k_Dataset").iterdir()), splits, strict=False)
    ):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number:012d}.jpg"
        (root / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / folder / name)
        sentences = [{"tokens": [], "raw": raw} for raw in (f"One {number} .\n", f" Two {number}")]
        images.append(
            {
                "filepath": folder,
                "filename": name,
                "split": split,
                "sentences": sentences,
                "cocoid": number,
            }
        )
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return root


def ids(source):
    return [source[i].clip_id for i in range(len(source))]


def test_coco_by_the_splits_of_its_json_file(coco):
    sizes = {"train": 4, "restval": 2, "train+restval": 6, "val": 1, "test": 1, "all": 8}
    for split, size in sizes.items():
        assert len(Source(root=str(coco), split=split)) == size
    source = Source(root=str(coco), split="restval+val")
    assert ids(source) == [f"val2014/COCO_val2014_{number:012d}.jpg" for number in (4, 5, 6)]
    assert source[0].captions == (Caption("One 4 ."), Caption("Two 4"))
    assert source[0].video == (coco / source[0].clip_id).read_bytes()
    assert read_image(source[0].video, 32, 32).shape == (1, 32, 32, 3)
    assert not source.report


def test_images_are_found_in_other_folders_and_archives(coco, tmp_path):
    content = json.loads((coco / "dataset_coco.json").read_text())
    for entry in content["images"]:
        del entry["filepath"]
    (coco / "dataset_coco.json").rename(coco / "old.json")
    (coco / "dataset_flickr30k.json").write_text(json.dumps(content))
    packed = Source(root=str(pack(coco, tmp_path / "coco.tar")), split="test")
    assert ids(packed) == ["COCO_val2014_000000000007.jpg"]
    assert packed[0].video == (coco / "val2014" / packed[0].clip_id).read_bytes()


def test_what_is_missing_or_wrong_is_counted(coco):
    content = json.loads((coco / "dataset_coco.json").read_text())
    content["images"][0]["sentences"][1]["raw"] = " "
    content["images"] += [{"split": "train", "filename": "no_sentences.jpg"}, 3]
    content["images"].append({"split": "train", "filename": "../up.jpg", "sentences": []})
    (coco / "dataset_coco.json").write_text(json.dumps(content))
    (coco / content["images"][1]["filepath"] / content["images"][1]["filename"]).unlink()
    (coco.parent / "up.jpg").write_bytes(b"not of the corpus")
    source = Source(root=str(coco))
    assert len(source) == 5
    assert source.report == {"empty_caption": 1, "malformed_line": 2}
    for lost in (1, 4):
        with pytest.raises(BadInput, match="missing_file"):
            source[lost].video()


def test_a_token_file_gives_what_flickr8k_gives(flickr):
    listed = Source(root=str(flickr), split="Flickr_8k.devImages.txt")
    own = flickr8k.Source(root=str(flickr), split="dev")
    assert [listed[i] for i in range(len(listed))] == [own[i] for i in range(len(own))]
    everything = Source(root=str(flickr), split="all", annotations=TOKENS)
    assert len(everything) == 12
    assert all(len(everything[i].captions) == 5 for i in range(12))


def test_lists_may_name_images_without_their_endings(flickr, tmp_path):
    own = shutil.copytree(flickr, tmp_path / "own")
    (own / TOKENS).rename(own / "results_20130124.token")
    names = (own / "Flickr_8k.testImages.txt").read_text().split()
    (own / "test.txt").write_text("\n".join(name.removesuffix(".jpg") for name in names))
    assert ids(Source(root=str(own), split="test.txt")) == names


def test_wrong_options_are_refused(coco, flickr, tmp_path):
    for root, options, error in (
        (coco, {"split": "train+dev"}, "split='dev' is unknown to dataset_coco.json; allowed: res"),
        (flickr, {}, "split='train' is no file in .*; Flickr8k.token.txt knows no splits"),
        (tmp_path / "nowhere", {}, "does not exist; give the folder or archive"),
        (coco / "val2014", {}, "found none of dataset_coco.json"),
        (coco, {"annotations": "no.json"}, "has no readable no.json"),
    ):
        with pytest.raises(ConfigError, match=error):
            Source(root=str(root), **options)
    # All of Karpathy's files come in one archive.
    shutil.copy(coco / "dataset_coco.json", coco / "dataset_flickr8k.json")
    with pytest.raises(ConfigError, match=r"set annotations to one of dataset_coco\.json, datas"):
        Source(root=str(coco))
    assert len(Source(root=str(coco), annotations="dataset_coco.json")) == 4


def test_entries_of_other_types_are_malformed(coco):
    path = coco / "dataset_coco.json"
    content = json.loads(path.read_text())
    first = next(entry for entry in content["images"] if entry["split"] == "train")
    before = len(Source(root=str(coco)))
    content["images"] += [{**first, "split": {"a": 1}}, {**first, "filename": 3}, None]
    content["images"] += [{**first, "filename": "nul\0.jpg"}, {**first, "filename": "x" * 5000}]
    path.write_text(json.dumps(content))
    source = Source(root=str(coco))
    assert source.report["malformed_line"] >= 2
    assert len(source) == before + 2
    for clip in [source[before], source[before + 1]]:
        with pytest.raises(BadInput, match="missing_file"):
            clip.video()


def test_images_that_are_listed_again_are_counted(coco, flickr, tmp_path):
    path = coco / "dataset_coco.json"
    content = json.loads(path.read_text())
    first = content["images"][0]
    content["images"].append({**first, "sentences": [{"raw": "Another"}]})
    first["sentences"][0]["raw"] = "One <b>bold</b> 0 &amp; more"
    path.write_text(json.dumps(content))
    source = Source(root=str(coco), split="train")
    assert source[0].captions[0].text == "One bold 0 & more"
    assert source.report == {"duplicate_id": 1}
    own = shutil.copytree(flickr, tmp_path / "own")
    listing = own / "Flickr_8k.trainImages.txt"
    listing.write_text(listing.read_text() + listing.read_text().splitlines()[0] + "\n")
    for opened in (
        flickr8k.Source(root=str(own)),
        Source(root=str(own), annotations=TOKENS, split="Flickr_8k.trainImages.txt"),
    ):
        assert opened.report == {"duplicate_id": 1}


def test_annotations_may_end_in_capitals(coco):
    (coco / "dataset_coco.json").rename(coco / "Karpathy.JSON")
    assert len(Source(root=str(coco), annotations="Karpathy.JSON", split="train")) == 4


def test_images_of_one_name_are_told_apart_below_another_folder(tmp_path):
    images = []
    for number, name in enumerate("ab"):
        (tmp_path / "top" / name).mkdir(parents=True)
        (tmp_path / "top" / name / "1.jpg").write_bytes(bytes([number]))
        entry = {"filepath": name, "filename": "1.jpg", "split": "train"}
        images.append(entry | {"sentences": [{"raw": name}]})
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    source = Source(root=str(tmp_path))
    assert [source[i].video for i in range(2)] == [b"\0", b"\1"]
    assert not source.report


def test_half_a_letter_in_a_caption_stops_nothing(coco):
    path = coco / "dataset_coco.json"
    before = Source(root=str(coco)).fingerprint()
    path.write_text(path.read_text().replace("One 0", "A dog \\ud83d"))
    source = Source(root=str(coco))
    assert source[0].captions[0].text == "A dog \ud83d ."
    assert fingerprint.difference(before, source.fingerprint())
