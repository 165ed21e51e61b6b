"""Small corpora in the official layouts of labelled and described video, made from nothing.

All videos of a corpus are copies of one, a second of pictures that tell their number, with sound.
"""

import json
import pathlib
import shutil

from tests.data.video_fixture import FPS, numbered, sung, write_video

# Two classes each, as the corpora spell them; HandstandPushups has its files in other capitals.
UCF101 = {"HandstandPushups": "HandStandPushups", "YoYo": "YoYo"}
HMDB51 = ("brush_hair", "cartwheel")
KINETICS = ("abseiling", "playing guitar")
ESC50 = {"dog": 0, "sea_waves": 11, "vacuum_cleaner": 36, "chainsaw": 41}
_ESC10 = ("dog", "sea_waves", "chainsaw")


def one_video(path: pathlib.Path, seconds: float = 1.0) -> pathlib.Path:
    pictures = [numbered(i, 24, 32) for i in range(round(seconds * FPS))]
    return write_video(path, pictures, sound=sung(seconds))


def write_ucf101(folder: pathlib.Path, groups: int = 7) -> pathlib.Path:
    """Groups of two clips a class; of split 1 the first two groups, of 2 the next two are tests."""
    original = one_video(folder / "original.mp4")
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    lines = [f"{number} {name}" for number, name in enumerate(UCF101, 1)]
    (lists / "classInd.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    listed = {}
    for number, (name, file) in enumerate(UCF101.items(), 1):
        (folder / "UCF-101" / name).mkdir(parents=True)
        for group in range(1, groups + 1):
            for clip in (1, 2):
                path = f"{name}/v_{file}_g{group:02d}_c{clip:02d}.avi"
                shutil.copy(original, folder / "UCF-101" / path)
                for fold in (1, 2, 3):
                    side = "test" if (group - 1) // 2 == fold - 1 else "train"
                    line = path if side == "test" else f"{path} {number}"
                    listed.setdefault(f"{side}list{fold:02d}.txt", []).append(line)
    for name, found in listed.items():
        (lists / name).write_bytes("\r\n".join([*found, ""]).encode())
    original.unlink()
    return folder


def write_hmdb51(folder: pathlib.Path, sources: int = 7) -> pathlib.Path:
    """Three clips of each source video: of split 1 the first two videos are tests, and the last
    clip of each of the others is in no part.
    """
    original = one_video(folder / "original.mp4")
    lists = folder / "testTrainMulti_7030_splits"
    lists.mkdir()
    for name in HMDB51:
        (folder / name).mkdir()
        lines = {fold: [] for fold in (1, 2, 3)}
        for source in range(sources):
            for clip in range(3):
                file = f"(Rad)#{source}&_die;Bank!_{name}_f_cm_np1_le_med_{clip}.avi"
                shutil.copy(original, folder / name / file)
                for fold, found in lines.items():
                    test = source // 2 == fold - 1
                    found.append(f"{file} {2 if test else 0 if clip == 2 else 1} ")
        for fold, found in lines.items():
            (lists / f"{name}_test_split{fold}.txt").write_text("\n".join([*found, ""]))
    original.unlink()
    return folder


def write_kinetics(folder: pathlib.Path, clips: int = 6) -> pathlib.Path:
    """Training clips in folders by class with underscores, those of validation in none. Two of each
    list have vanished.
    """
    original = one_video(folder / "original.mp4")
    for split, table in (("train", "train.csv"), ("val", "validate.csv")):
        rows = ["label,youtube_id,time_start,time_end,split"]
        for name in KINETICS:
            where = folder / split / (name.replace(" ", "_") if split == "train" else "")
            where.mkdir(parents=True, exist_ok=True)
            for i in range(clips + 1):
                video = f"-{split}_{name[0]}{i:06d}"
                rows.append(f'{name},"{video}",{i},{i + 10},{split}')
                if i < clips:
                    shutil.copy(original, where / f"{video}_{i:06d}_{i + 10:06d}.mp4")
        (folder / table).write_text("\n".join([*rows, ""]))
    original.unlink()
    return folder


def write_esc50(folder: pathlib.Path) -> pathlib.Path:
    """One recording of each class in each fold."""
    original = write_video(folder / "original.wav", sound=sung(2.0), sound_codec="pcm_s16le")
    (folder / "audio").mkdir()
    (folder / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for name, target in ESC50.items():
        for fold in range(1, 6):
            file = f"{fold}-{1000 + target}-A-{target}.wav"
            shutil.copy(original, folder / "audio" / file)
            rows.append(f"{file},{fold},{target},{name},{name in _ESC10},{1000 + target},A")
    (folder / "meta" / "esc50.csv").write_text("\n".join([*rows, ""]))
    original.unlink()
    return folder


def write_youcook2(folder: pathlib.Path) -> pathlib.Path:
    """Two videos of three seconds with two steps each, for training and for validation, one of
    which has vanished.
    """
    database = {}
    for split in ("training", "validation"):
        for number, ending in enumerate(("mkv", "webm")):
            video = f"{split[:5]}{number}"
            steps = [
                {"id": 0, "segment": [0, 1], "sentence": f"cut the {ending}  onion"},
                {"id": 1, "segment": [1, 3], "sentence": f"fry the {ending} onion {number}\n"},
            ]
            database[video] = {
                "duration": 3.0,
                "subset": split,
                "recipe_type": "113",
                "video_url": f"https://www.youtube.com/watch?v={video}",
                "annotations": steps,
            }
            path = folder / "raw_videos" / split / "113" / f"{video}.{ending}"
            if (split, number) != ("validation", 1):
                made = one_video(folder / "made.mp4", 3.0)
                path.parent.mkdir(parents=True, exist_ok=True)
                made.rename(path)
    database["tested"] = {"subset": "testing", "recipe_type": "101", "duration": 1.0}
    (folder / "youcookii_annotations_trainval.json").write_text(json.dumps({"database": database}))
    return folder


def write_msr_vtt(folder: pathlib.Path, videos: int = 8) -> pathlib.Path:
    """The first half is of the official training part, then one to validate, then the test part;
    of the lists of retrieval, the even ones are trained on and the odd ones are tests.
    """
    original = one_video(folder / "original.mp4", 2.0)
    parts = {"train_val": [], "test": []}
    for number in range(videos):
        half = videos // 2
        split = "train" if number < half else "validate" if number == half else "test"
        part = "test" if split == "test" else "train_val"
        parts[part].append((f"video{number}", split))
        where = folder / {"test": "TestVideo", "train_val": "TrainValVideo"}[part]
        where.mkdir(exist_ok=True)
        shutil.copy(original, where / f"video{number}.mp4")
    for part, listed in parts.items():
        content = {
            "info": {"year": "2016"},
            "videos": [
                {"video_id": v, "split": s, "category": 9, "start time": 137.7, "end time": 149.4}
                for v, s in listed
            ],
            # Sentences are in no order, and those of a video are not together.
            "sentences": [
                {"video_id": v, "caption": f"a {word} of {v}", "sen_id": 0}
                for word in ("man", "picture")
                for v, _ in listed[::-1]
            ],
        }
        (folder / f"{part}_videodatainfo.json").write_text(json.dumps(content))
    rows = ["key,vid_key,video_id,sentence"]
    rows += [f'ret{i},msr{i},video{i},"number {i}, told once"' for i in range(1, videos, 2)]
    (folder / "MSRVTT_JSFUSION_test.csv").write_text("\n".join([*rows, ""]))
    names = ["video_id", *(f"video{i}" for i in range(0, videos, 2)), ""]
    (folder / "MSRVTT_train.9k.csv").write_text("\n".join(names))
    original.unlink()
    return folder


def write_clotho(folder: pathlib.Path, sounds: int = 4) -> pathlib.Path:
    """Sounds to be evaluated, of which the last has vanished; another of its name is in the
    development set.
    """
    original = write_video(folder / "original.wav", sound=sung(1.0), sound_codec="pcm_s16le")
    rows = ["file_name," + ",".join(f"caption_{k}" for k in range(1, 6))]
    for number in range(sounds):
        said = ",".join(f'"sound {number}, told {k} times"' for k in range(1, 6))
        rows.append(f"rain {number}.wav,{said}")
        part = "development" if number == sounds - 1 else "evaluation"
        (folder / part).mkdir(exist_ok=True)
        shutil.copy(original, folder / part / f"rain {number}.wav")
    (folder / "clotho_captions_evaluation.csv").write_text("\n".join([*rows, ""]))
    original.unlink()
    return folder
