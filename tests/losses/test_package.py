import json
import subprocess
import sys

import fgmm.losses

MEASURE = """
import json, sys, time
import jax, jaxtyping
before = set(sys.modules)
start = time.perf_counter()
import fgmm.losses
seconds = time.perf_counter() - start
new = sorted({name.split(".")[0] for name in set(sys.modules) - before})
print(json.dumps([seconds, new, sorted(sys.stdlib_module_names)]))
"""


def test_import_needs_jax_and_jaxtyping_alone_and_is_quick(repository):
    runs = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", MEASURE], cwd=repository, capture_output=True, check=True
        )
        runs.append(json.loads(run.stdout))
    seconds = min(run[0] for run in runs)
    _, modules, standard = runs[0]
    assert set(modules) - set(standard) <= {"fgmm", "jax", "jaxlib", "jaxtyping", "numpy"}
    assert seconds < 0.3


def test_only_losses_are_loaded(repository):
    code = "import sys, fgmm.losses; print(*(m for m in sys.modules if m.startswith('fgmm')))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, check=True, text=True
    )
    others = [m for m in run.stdout.split() if m != "fgmm" and not m.startswith("fgmm.losses")]
    assert not others


def test_everything_public_is_there():
    assert fgmm.losses.__all__
    for name in fgmm.losses.__all__:
        assert hasattr(fgmm.losses, name)
