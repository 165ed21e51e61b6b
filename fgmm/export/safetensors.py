"""Parameters and statistics by their paths. ``fgmm.load`` opens the folder as it opens a run."""

import json
import pathlib
import shutil

import safetensors.numpy

from fgmm import provenance
from fgmm.config import as_dict
from fgmm.export.folder import Run
from fgmm.train import exported
from fgmm.train.checkpoint import TOKENIZER

OPENS = """It opens with fgmm, and a run starts from it by `config.init_from.path`:

```python
import fgmm

model = fgmm.load("THIS_FOLDER")
```"""


def check(run: Run) -> None:
    """Does nothing: every run fits into this format."""
    del run


def write(run: Run, folder: pathlib.Path) -> list[str]:
    """Writes ``model.safetensors``, ``config.json`` and the tokenizer of the run.

    Returns:
      No lines to print.
    """
    header = {exported.STEP: str(run.step), exported.KIND: run.weights, "format": "fgmm"}
    arrays = exported.named(run.state.params, run.state.statistics)
    safetensors.numpy.save_file(arrays, folder / exported.WEIGHTS, metadata=header)
    config = json.dumps(as_dict(run.experiment.config), indent=2)
    (folder / exported.CONFIG).write_text(config + "\n", "utf-8")
    if run.experiment.tokenizer is not None:
        (folder / TOKENIZER).write_bytes(run.experiment.tokenizer.model)
    # Evaluations of the folder say where its weights come from.
    if (history := run.workdir / provenance.FILE).exists():
        shutil.copyfile(history, folder / provenance.FILE)
    return []
