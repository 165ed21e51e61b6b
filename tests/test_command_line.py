"""Wrong commands: one clear line, exit code 2, before anything is compiled or written."""

import signal
import subprocess
import sys

import pytest
from absl import flags

from fgmm import command_line, components
from fgmm.__main__ import programs as program_names
from fgmm.config import ConfigError, files
from tests import programs

PROGRAM = "fgmm.main"


def run(repository, *arguments, program=PROGRAM):
    return programs.run(program, *arguments, cwd=repository)


QUICKSTART = "--config=configs/quickstart.py"
VIDEO_FOLDER = "--config=configs/video_folder.py:tokenizer=narrated_shapes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config is missing"),
        ((QUICKSTART,), "--workdir is missing"),
        ((QUICKSTART, "--workdir=gs://bucket/run"), "--workdir=gs://bucket/run: gs:// is remote"),
        (("--config=configs/nope.py",), "--config=configs/nope.py cannot be read"),
        ((QUICKSTART, "--wordir=x"), "Unknown command line flag 'wordir'. Did you mean: workdir"),
        ((QUICKSTART, "--config.bath_size=3"), "config.bath_size=3 is unknown; allowed: "),
        ((QUICKSTART, "--process_count=x"), "error: --process_count=x: invalid literal for int"),
        ((QUICKSTART, "--config.batch_size=x"), "--config.batch_size=x: invalid literal for int"),
        ((f"{QUICKSTART}:noise=x",), "variant noise='x' is not of type float"),
        ((f"{QUICKSTART}:noize=0.1",), "variant 'noize=0.1' is unknown; allowed: fine=gated"),
        (
            (QUICKSTART, "--config.data.source.name=nowhere"),
            "data.source.name='nowhere' is unknown; allowed: ",
        ),
        (
            (QUICKSTART, "--config.model.video.name=s4d"),
            "model.video.name='s4d' is unknown; allowed: clip, dinov2, efficientnet_lite0,",
        ),
        (
            (QUICKSTART, "--config.objective.terms.fine_video_text.name=triplet"),
            "objective.terms.fine_video_text.name='triplet' is unknown; allowed: fine_grained_nce",
        ),
        ((QUICKSTART, "--config.batch_size=0"), "batch_size=0 must be at least 1"),
        (
            (QUICKSTART, "--config.optimizer.learning_rate=nan"),
            "optimizer.learning_rate=nan must be finite",
        ),
        (
            (QUICKSTART, "--config.model.video.name=vivit", "--config.model.video.blocks=2"),
            "config.model.video.blocks=2 is unknown; allowed: depth, drop_token, dropout, dtype",
        ),
        ((QUICKSTART, "--config.evals.retrieval.name=x"), "evals.retrieval.name='x' is unknown"),
        ((QUICKSTART, "--config.steps=0"), "steps=0 must be at least 1"),
        ((QUICKSTART, "--config.data.seconds=0.01"), "is shorter than transforms.mel_window"),
        (
            (QUICKSTART, "--config.data.seconds=0"),
            "data.seconds=0.0 is shorter than",
        ),
        (
            (VIDEO_FOLDER, "--config.data.source.seconds=4.0"),
            "data.source.seconds=4.0 must be data.seconds=2.0, the length of pictures and",
        ),
        ((QUICKSTART, "config.steps=10"), "unexpected argument 'config.steps=10'"),
        (
            (QUICKSTART, "--config.checkpoint.best_metric=x"),
            "checkpoint.best_metric='x' is a number of the evaluation 'x', and evals has retrieval",
        ),
        ((QUICKSTART, "--config.data.tokenizer=x"), "tokenizer 'x' cannot be read"),
        ((QUICKSTART, "--config.exchange=x"), "exchange='x' is unknown; allowed: gather, ring"),
        (
            (
                "--config=configs/howto100m_s3d.py:tokenizer=narrated_shapes",
                "--config.data.frames=31",
            ),
            "model.video.name='s3d' cannot take data.frames=31, data.height=200 and data.width=200",
        ),
    ],
)
def test_a_wrong_command_is_one_line(arguments, message, repository, tmp_path):
    named = any(argument.startswith("--workdir") for argument in arguments)
    if arguments and arguments != (QUICKSTART,) and not named:
        arguments = (*arguments, f"--workdir={tmp_path / 'run'}")
    result = run(repository, *arguments)
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_evaluation_of_nothing(repository, tmp_path):
    result = run(repository, f"--workdir={tmp_path}", program="fgmm.eval.retrieval")
    assert result.returncode == 2
    assert "holds no checkpoints" in result.stderr


@pytest.mark.parametrize("program", program_names())
def test_help_names_the_flags(program, repository):
    result = run(repository, "--help", program=program)
    assert result.returncode == 0
    assert "  --" in result.stdout
    assert result.stderr == ""


def test_help_names_the_options_of_a_config(repository):
    text = run(repository, "--help").stdout
    assert "--workdir: Where checkpoints and metrics go." in text
    assert "  --config.steps=1000\n      Updates of the whole run. (int, at least 1)\n" in text
    assert "(str, one of gather, ring)" in text
    text = run(repository, "--help", program="fgmm.eval.retrieval").stdout
    assert "--workdir: The run whose checkpoint is evaluated." in text
    assert "--config.batch_size=64" in text


def parsed(monkeypatch, *arguments):
    """The config that a command line describes, and what of its file was left out."""
    values = flags.FlagValues()
    command_line.define_config("", flag_values=values)
    argv = ["program", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    values(argv)
    return values.config, values["config"].parser.left_out


def test_an_encoder_is_swapped_by_a_flag_alone(monkeypatch):
    config, left_out = parsed(monkeypatch, QUICKSTART, "--config.model.video.name=vivit")
    options = components.options(components.find("models.video", "vivit"))
    assert config.model.video.to_dict() == {"name": "vivit", **options}
    assert left_out == ["model.video.name=vivit: left out temporal_strides=(1, 2), widths=(32, 64)"]
    config, _ = parsed(
        monkeypatch,
        QUICKSTART,
        "--config.model.video.name=vivit",
        *("--config.model.video.depth=2", "--config.model.video.dtype", "bfloat16"),
    )
    assert (config.model.video.depth, config.model.video.dtype) == (2, "bfloat16")


def test_options_that_the_new_component_has_too_stay(monkeypatch):
    config, left_out = parsed(monkeypatch, QUICKSTART, "--config.model.text.name=phrase_bag")
    assert config.model.text.width == 64
    assert left_out == ["model.text.name=phrase_bag: left out context='phrase'"]
    arguments = (QUICKSTART, "--config.objective.terms.fine_video_text.name=mil_nce")
    config, left_out = parsed(monkeypatch, *arguments)
    term = config.objective.terms.fine_video_text
    assert (term.name, term.pair, term.level, term.space) == (
        *("mil_nce", "video_text", "fine", "joint"),
    )
    assert left_out == [
        "objective.terms.fine_video_text.name=mil_nce: left out direction='symmetric', "
        "weighting='learned'"
    ]


def test_sources_and_evaluations_are_swapped(monkeypatch):
    config, left_out = parsed(
        monkeypatch,
        f"{QUICKSTART}:noise=0.25",
        "--config.data.source.name=flickr8k",
        "--config.data.source.root=there",
        "--config.evals.retrieval.name=pointing_game",
        "--config.evals.retrieval.source.name=flickr8k",
        "--config.evals.retrieval.source.root=here",
        "--config.evals.retrieval.every=5",
    )
    assert config.data.source.root == "there"
    assert config.data.source.split == "train"
    assert config.evals.retrieval.name == "pointing_game"
    assert config.evals.retrieval.every == 5
    assert config.evals.retrieval.source.root == "here"
    assert left_out == [
        "data.source.name=flickr8k: left out noise=0.25",
        "evals.retrieval.name=pointing_game: left out phrases=32, tokens=128",
        "evals.retrieval.source.name=flickr8k: left out clips=512",
    ]


def test_parts_of_a_mixture_are_swapped(monkeypatch, tmp_path):
    (tmp_path / "two.py").write_text(
        "from configs import quickstart\n"
        "def get_config(argument=None):\n"
        "    config = quickstart.get_config()\n"
        "    parts = {'a': {'name': 'narrated_shapes', 'noise': 0.25, 'weight': 3.0},\n"
        "             'b': {'name': 'narrated_shapes'}}\n"
        "    config.data.source = {'name': 'mixture', 'sources': parts}\n"
        "    return config\n"
    )
    config, left_out = parsed(
        monkeypatch,
        f"--config={tmp_path / 'two.py'}",
        "--config.data.source.sources.a.name=flickr8k",
        "--config.data.source.sources.a.root=there",
        "--config.data.source.sources.b.weight=2",
    )
    a, b = config.data.source.sources.a, config.data.source.sources.b
    assert (a.name, a.root, a.weight) == ("flickr8k", "there", 3.0)
    assert b.to_dict() == {"name": "narrated_shapes", "weight": 2.0}
    assert left_out == ["data.source.sources.a.name=flickr8k: left out noise=0.25"]


def test_the_test_corpus_of_a_protocol_is_swapped(monkeypatch):
    config, _ = parsed(
        monkeypatch,
        "--config=configs/eval/linear_probe.py:corpus=ucf101",
        "--config.test_source.name=hmdb51",
        "--config.test_source.fold=3",
    )
    assert (config.source.name, config.test_source.name) == ("ucf101", "hmdb51")
    assert (config.test_source.fold, config.test_source.windows) == (3, 10)


def test_options_of_a_protocol_need_not_stand_in_its_file(monkeypatch):
    protocol = "--config=configs/eval/retrieval.py:corpus=narrated_shapes"
    config, _ = parsed(monkeypatch, protocol, "--config.batch_size=8", "--config.source.noise=0.5")
    assert (config.batch_size, config.source.noise, config.source.clips) == (8, 0.5, 1000)


def test_an_option_that_does_not_stand_in_the_file_is_found_by_its_misspelling(monkeypatch):
    protocol = "--config=configs/eval/retrieval.py:corpus=narrated_shapes"
    for option, meant in (("exhaustiv", "exhaustive"), ("source.nois", "noise")):
        with pytest.raises(flags.IllegalFlagValueError, match=rf"; did you mean {meant}\?"):
            parsed(monkeypatch, protocol, f"--config.{option}=1")


def test_options_of_a_source_within_two_others(monkeypatch, tmp_path):
    root = f"root={tmp_path},captions=10,shown=2,wrong=0.5"
    config, _ = parsed(
        monkeypatch,
        f"--config=configs/flickr8k_features.py:{root}",
        "--config.data.source.source.source.start=3",
        "--config.data.source.source.seed=4",
    )
    outer = config.data.source
    assert [outer.name, outer.source.name] == ["slideshow", "wrong_captions"]
    assert (outer.source.seed, outer.source.source.start) == (4, 3)


@pytest.mark.parametrize("option", ["data.source.weight", "data.source.weigt"])
def test_a_source_that_is_no_part_has_no_weight(option, monkeypatch):
    with pytest.raises(flags.IllegalFlagValueError, match="is unknown; allowed: ") as error:
        parsed(monkeypatch, QUICKSTART, f"--config.{option}=1")
    assert "did you mean weight" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("modle.video.depth=2",), r"config\.modle=2 is unknown; .*; did you mean model\?"),
        (("model.video.name=vivit", "model.video.widths=(8,)"), r"config\.model\.video\.widths="),
        (("model.video.name=vivt",), r"'vivt' is unknown; allowed: .*; did you mean vivit\?"),
        (("data.source.name=flickr8k", "data.source.noise=0.1"), r"source\.noise=0\.1 is unknown"),
        (("model.video.depth=2",), r"config\.model\.video\.depth=2 is unknown; allowed: blocks"),
    ],
)
def test_flags_that_the_config_has_no_place_for(arguments, message, monkeypatch):
    arguments = [f"--config.{argument}" for argument in arguments]
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        parsed(monkeypatch, QUICKSTART, *arguments)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_program_that_is_interrupted_says_so_by_its_exit_code(number, code, repository):
    program = (
        "import time\n"
        "from fgmm import command_line\n"
        "def main(argv):\n"
        "    print('started', flush=True)\n"
        "    time.sleep(60)\n"
        "command_line.run(main)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err


def test_a_program_that_fails_says_so_by_its_exit_code(repository):
    program = "from fgmm import command_line\ncommand_line.run(lambda argv: 1)\n"
    process = subprocess.run([sys.executable, "-c", program], cwd=repository, timeout=60)
    assert process.returncode == 1


def test_where_programs_write_is_made_or_refused_first(repository, tmp_path):
    (tmp_path / "file").touch()
    for program, *arguments in (
        ("fgmm.data.tokenizer", "train", "--source=narrated_shapes", "--vocabulary_size=90"),
        ("fgmm.data.inspect", "--source=narrated_shapes"),
        ("fgmm.report.result", f"--workdir={tmp_path}"),
        ("fgmm.study.page", f"--results={tmp_path}"),
    ):
        result = run(repository, *arguments, f"--output={tmp_path}/file/x", program=program)
        assert result.returncode == 2, program
        assert result.stderr.startswith(f"error: the folder {tmp_path}/file"), result.stderr
        assert result.stderr.count("\n") == 1


def test_a_path_behind_an_equals_sign_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    given = ["program", "--workdir=~/runs", "--config=a.py:root=~/b", "~", "--text=a ~ b", "--x=~"]
    assert command_line.with_home(given) == [
        *("program", "--workdir=/home/someone/runs", "--config=a.py:root=~/b", "~"),
        *("--text=a ~ b", "--x=/home/someone"),
    ]


def test_only_the_name_of_the_config_file_is_replaced(monkeypatch):
    values = flags.FlagValues()
    command_line.define_config("", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    path = str(files.folder() / "quickstart.py")
    for spelled, found in (
        (["--config=quickstart"], [f"--config={path}"]),
        (["-config=quickstart:noise=0.1"], [f"-config={path}:noise=0.1"]),
        (["--config", "quickstart"], ["--config", path]),
        (["-config", "quickstart"], ["-config", path]),
    ):
        argv = ["quickstart", *spelled, "--workdir", "quickstart", "--text=--config=x"]
        expected = ["quickstart", *found, *argv[-3:]]
        assert command_line._with_paths(argv) == expected


def test_the_last_of_a_flag_given_twice_counts():
    argv = ["program", "--config=a", "-config", "b", "--configs=c", "--config.x=1"]
    assert command_line.given("config", argv) == "b"
    assert command_line.given("config", [*argv, "-config=d"]) == "d"
    assert command_line.given("workdir", argv) == ""


def test_a_folder_that_cannot_be_written_is_named_with_its_flag(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/x cannot be written .*; name another with --out$"):
        command_line.folder_to_write(tmp_path / "file" / "x", "--out")
    with pytest.raises(ConfigError, match=r"^--workdir=gs:"):
        command_line.folder_to_write("gs://bucket/run", "--workdir")
