"""JAX's interpreter of GPU kernels has what is replaced in it."""

import jax
import pytest

from tests.losses.kernels import interpreter


def test_the_interpreter_of_this_jax_takes_what_is_replaced():
    interpreter.check()


@pytest.mark.parametrize(
    ("later", "missing"),
    [(None, "no wgmma"), (lambda *, token: token, "wgmma has no a_allocation")],
)
def test_an_interpreter_that_moved_is_named_with_the_version(later, missing, monkeypatch):
    monkeypatch.delattr(interpreter.gpu_callbacks, "wgmma")
    if later is not None:
        monkeypatch.setattr(interpreter.gpu_callbacks, "wgmma", later, raising=False)
    told = f"jax {jax.__version__} has moved .*{missing}.*constraints.txt"
    with pytest.raises(RuntimeError, match=told), interpreter.interpreted():
        pass
