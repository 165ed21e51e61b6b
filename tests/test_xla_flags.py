import importlib.metadata
import os
import subprocess
import sys

import pytest

from fgmm import xla_flags
from fgmm.config import ConfigError

CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
GPU_FLAG = "--xla_gpu_deterministic_ops=true"


@pytest.fixture
def jaxlib(monkeypatch):
    """``jaxlib(version)`` pretends that this version is installed; None that there is none."""

    def pretend(installed, **others):
        packages = {"jaxlib": installed, **others}

        def version(name):
            if packages.get(name) is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return packages[name]

        monkeypatch.setattr(importlib.metadata, "version", version)

    return pretend


def configured(flags=None, **options):
    environ = {} if flags is None else {"XLA_FLAGS": flags}
    xla_flags.configure(environ=environ, **options)
    return environ.get("XLA_FLAGS")


@pytest.mark.parametrize("version", ["0.10.0", "0.10.2", "0.10.3.dev20260101"])
def test_flag_for_convolutions_where_it_is_known(jaxlib, version):
    jaxlib(version)
    assert configured() == CPU_FLAG
    assert configured("--xla_a=1") == f"--xla_a=1 {CPU_FLAG}"


@pytest.mark.parametrize("version", ["0.9.2", "0.11.0", "0.1.10", "0.100.0", "1.0.10", None])
def test_nothing_is_added_for_other_jaxlibs(jaxlib, version):
    jaxlib(version)
    assert configured() is None
    assert configured("--xla_a=1") == "--xla_a=1"
    assert configured(deterministic=True) == GPU_FLAG


@pytest.mark.parametrize("package", ["libtpu", "jax-cuda12-pjrt", "jax-cuda13-pjrt"])
def test_an_accelerator_is_not_given_a_flag_it_may_not_know(jaxlib, package):
    jaxlib("0.10.2", **{package: "0.0.1"})
    assert configured() is None
    assert configured(deterministic=True) == GPU_FLAG


@pytest.mark.parametrize("flag", [f"{CPU_FLAG}3", CPU_FLAG, CPU_FLAG.rstrip("=")])
def test_a_users_own_setting_is_kept(jaxlib, flag):
    jaxlib("0.10.2")
    assert configured(f"--xla_a=1 {flag}") == f"--xla_a=1 {flag}"


def test_a_longer_flag_of_the_user_is_another_flag(jaxlib):
    jaxlib("0.10.2")
    longer = CPU_FLAG.rstrip("=") + "s=1"
    assert configured(longer) == f"{longer} {CPU_FLAG}"


def test_configuring_again_changes_nothing(jaxlib):
    jaxlib("0.10.2")
    once = configured("--xla_a=1", deterministic=True)
    assert once == f"--xla_a=1 {CPU_FLAG} {GPU_FLAG}"
    assert configured(once, deterministic=True) == once


@pytest.mark.parametrize("flag", ["--xla_gpu_deterministic_ops", "--xla_gpu_deterministic_ops=1"])
def test_determinism_already_on_is_kept(jaxlib, flag):
    jaxlib(None)
    assert configured(flag, deterministic=True) == flag


def test_determinism_turned_off_by_the_user_contradicts_the_config(jaxlib):
    jaxlib(None)
    off = "--xla_gpu_deterministic_ops=false"
    assert configured(off) == off
    with pytest.raises(ConfigError, match=f"XLA_FLAGS has {off}"):
        configured(off, deterministic=True)


def test_a_file_of_flags_is_taken_in(jaxlib, tmp_path):
    jaxlib("0.10.2")
    path = tmp_path / "flags"
    path.write_text("--xla_a=1\n--xla_b\n")
    assert configured(str(path)).split() == ["--xla_a=1", "--xla_b", CPU_FLAG]
    with pytest.raises(ConfigError, match=r"^XLA_FLAGS=.*absent cannot be read \(No such file"):
        configured(str(tmp_path / "absent"))
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"flags cannot be read \(.*codec"):
        configured(str(path))


PROGRAM = """
import os, sys
from fgmm import xla_flags
if "configure" in sys.argv:
    xla_flags.configure(deterministic=True)
assert "jax" not in sys.modules
import jax, jax.numpy as jnp
product = jax.jit(lambda a, b: a @ b)
print("ynn" in product.lower(jnp.ones((64, 64)), jnp.ones((64, 64))).compile().as_text())
"""


def uses_ynn(repository, *arguments):
    environ = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=repository,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip() == "True"


def test_installed_jaxlib_accepts_and_honours_the_flags(repository):
    with_flags = uses_ynn(repository, "configure")
    if not xla_flags._version("jaxlib").startswith(xla_flags._CPU_CONVOLUTION_JAXLIB):
        pytest.skip("the flag is not set for the installed jaxlib")
    assert not with_flags
    if not uses_ynn(repository):
        pytest.skip("XLA makes no use of YNNPACK on this CPU, with the flag or without")


@pytest.mark.parametrize(
    "environ",
    [
        {"XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_a=1"},
        {"JAX_NUM_CPU_DEVICES": "8"},
    ],
)
def test_simulated_devices_have_threads_to_wait_in(environ):
    xla_flags.configure(environ=environ)
    assert int(environ["PJRT_NPROC"]) >= 4 * 8
    environ["PJRT_NPROC"] = "9"
    xla_flags.configure(environ=environ)
    assert environ["PJRT_NPROC"] == "9"


@pytest.mark.parametrize("flags", ["", "--xla_force_host_platform_device_count=1"])
def test_one_device_keeps_the_default_threads(flags):
    environ = {"XLA_FLAGS": flags}
    xla_flags.configure(environ=environ)
    assert "PJRT_NPROC" not in environ


def test_what_runs_once_is_compiled_quickly_unless_a_user_decides():
    assert xla_flags.compiled_quickly({}) == {"xla_backend_optimization_level": 1}
    own = {"XLA_FLAGS": "--xla_a=1 --xla_backend_optimization_level=0"}
    assert xla_flags.compiled_quickly(own) == {}
