import jax
import pytest

from fgmm import devices
from fgmm.config import ConfigError
from fgmm.train import checkpoint


def test_an_accelerator_that_is_not_there_is_named_and_no_checkpoint_blamed(tmp_path, monkeypatch):
    devices.check_available()

    def missing():
        raise RuntimeError("Unable to initialize backend 'cuda': no GPU.\nMore of it")

    monkeypatch.setattr(jax, "devices", missing)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    for opens in (checkpoint.load, checkpoint.read):
        with pytest.raises(ConfigError) as error:
            opens(tmp_path)
        assert str(error.value).startswith(
            "JAX_PLATFORMS='cuda': jax finds no such device (Unable to initialize backend 'cuda': "
            "no GPU); unset it"
        )
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(ConfigError, match=r"^JAX cannot start its backend \(Unable.*no GPU\); set"):
        devices.check_available()
