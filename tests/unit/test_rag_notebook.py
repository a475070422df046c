"""The notebook runs from top to bottom, in less than three minutes, and draws its pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium import data

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "proximity.ipynb"


@pytest.mark.slow
def test_proximity_notebook(need):
    nbformat, nbclient = need("nbformat"), need("nbclient")
    need("ipykernel")
    need("sklearn")
    try:
        data.text("pubmed")
        data.embeddings("quora_dev")
    except data.MissingData as e:
        pytest.skip(str(e))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 3
    assert any("recall@10 over hits" in o.get("text", "") for o in outputs)
