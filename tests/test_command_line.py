"""Wrong commands: one clear line, exit code 2, before anything is compiled or written."""

import subprocess
import sys

import pytest

PROGRAM = "fgmm.main"


def run(repository, *arguments, program=PROGRAM):
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
    )


QUICKSTART = "--config=configs/quickstart.py"
VIDEO_FOLDER = "--config=configs/video_folder.py:tokenizer=narrated_shapes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config is missing"),
        ((QUICKSTART,), "--workdir is missing"),
        (("--config=configs/nope.py",), "--config=configs/nope.py cannot be read"),
        ((QUICKSTART, "--wordir=x"), "Unknown command line flag 'wordir'. Did you mean: workdir"),
        ((QUICKSTART, "--config.bath_size=3"), "config.bath_size=3 is unknown; allowed: "),
        ((QUICKSTART, "--config.batch_size=x"), "--config.batch_size=x: invalid literal for int"),
        ((f"{QUICKSTART}:noise=x",), "variant noise='x' is not of type float"),
        ((f"{QUICKSTART}:noize=0.1",), "variant 'noize=0.1' is unknown; allowed: fine=info_nce"),
        (
            (QUICKSTART, "--config.data.source.name=nowhere"),
            "data.source.name='nowhere' is unknown; allowed: esc10, ",
        ),
        (
            (QUICKSTART, "--config.model.video.name=s4d"),
            "model.video.name='s4d' is unknown; allowed: r2plus1d18, resnet2plus1d",
        ),
        (
            (QUICKSTART, "--config.objective.terms.fine_video_text.name=triplet"),
            "objective.terms.fine_video_text.name='triplet' is unknown; allowed: fine_grained_nce",
        ),
        ((QUICKSTART, "--config.batch_size=0"), "batch_size=0 must be a positive multiple of the"),
        ((QUICKSTART, "--config.evals.retrieval.name=x"), "evals.retrieval.name='x' is unknown"),
        ((QUICKSTART, "--config.steps=0"), "steps=0 must be at least 1"),
        ((QUICKSTART, "--config.data.seconds=0.01"), "is shorter than transforms.mel_window"),
        (
            (QUICKSTART, "--config.data.seconds=0"),
            "data.seconds=0.0 is shorter than",
        ),
        (
            (VIDEO_FOLDER, "--config.data.source.seconds=4.0"),
            "config.data.source.seconds=4.0 is unknown; allowed: candidates",
        ),
        ((QUICKSTART, "config.steps=10"), "unexpected argument 'config.steps=10'"),
        (
            (QUICKSTART, "--config.checkpoint.best_metric=x"),
            "checkpoint.best_metric='x' must start",
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
    if arguments and arguments != (QUICKSTART,):
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


def test_help_names_the_flags(repository):
    result = run(repository, "--help")
    assert "--workdir" in result.stdout
    assert "--config" in result.stdout
