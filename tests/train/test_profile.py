import jax
import jax.numpy as jnp
import pytest

from fgmm.config import ConfigError
from fgmm.train.profile import Profile


def run(profile, steps):
    step, x = jax.jit(lambda x: x + 1), jnp.zeros(())
    for number in steps:
        profile.follow(number, x)
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            x = step(x)
    profile.close()


@pytest.mark.parametrize(
    ("steps", "traced"),
    # A run that ends, or begins, in the midst of them has a trace of those it makes.
    [(range(7), {2, 3, 4}), (range(4), {2, 3}), (range(4, 7), {4})],
)
def test_a_trace_of_chosen_steps(steps, traced, tmp_path, capsys):
    run(Profile("2:5", 10, tmp_path / "profile"), steps)
    (path,) = tmp_path.rglob("*.xplane.pb")
    found = {
        dict(event.stats)["step_num"]
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    }
    assert found == traced
    assert capsys.readouterr().out == f"trace written to {tmp_path / 'profile'}\n"


@pytest.mark.parametrize("steps", ["", "2:5"])
def test_no_trace_without_such_steps(steps, tmp_path):
    run(Profile(steps, 10, tmp_path), range(5, 10))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("100", "--profile=100 must be START:STOP, two numbers of steps"),
        ("a:b", "--profile=a:b must be START:STOP"),
        ("-1:4", "--profile=-1:4 must be START:STOP"),
        ("4:4", "START must be less than STOP and STOP at most steps=10"),
        ("8:11", "--profile=8:11: START must be less than STOP and STOP at most steps=10"),
    ],
)
def test_steps_that_are_none_of_the_run(steps, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        Profile(steps, 10, tmp_path)
