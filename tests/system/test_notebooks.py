"""Every notebook runs from top to bottom, and shows at least one picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium import data

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NEEDS = {"proximity": lambda: (data.text("pubmed"), data.embeddings("pubmed"), data.embeddings("quora_dev"))}
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "notebooks are kept without outputs"
    try:
        NEEDS.get(path.stem, lambda: None)()
    except data.MissingData as missing:
        pytest.skip(str(missing))
    # In the folder of the notebooks, where a user opens them.
    nbclient.NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [kind for cell in notebook.cells for out in cell.get("outputs", []) for kind in out.get("data", {})]
    assert shown.count("image/png") >= 3
