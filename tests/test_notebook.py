"""The notebook of the site runs from its first cell to its last.

``jupyter execute --inplace docs/notebooks/videos_to_search_page.ipynb``, in a copy of its folder,
stores what it prints.
"""

import os
import pathlib
import sys

import pytest

from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "notebooks" / "videos_to_search_page.ipynb"


@pytest.mark.long
def test_the_notebook_runs(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    path = [str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    ran = nbclient.NotebookClient(notebook, timeout=1800, resources=resources).execute()
    printed = [
        "".join(output.get("text", "") for output in cell.outputs)
        for cell in ran.cells
        if cell.cell_type == "code"
    ]
    assert printed[0].startswith("48 videos, the first one with the caption:\n")
    assert "validation, step 120, " in "".join(printed)
    assert "True and clips ['" in "".join(printed)
    assert (tmp_path / "look.html").stat().st_size > 10_000
    # What stands in the notebook was printed by a run of it.
    stored = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in stored)
