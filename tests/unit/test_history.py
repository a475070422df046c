"""History: frames, pictures, files."""

from __future__ import annotations

import numpy as np
import pytest

from collegium import History, plot

pd = pytest.importorskip("pandas")


@pytest.fixture
def run():
    h = History("a run")
    for t in (4, 8):
        row = {"round": t, "accuracy": t / 10, "accuracy_std": 0.1, "mean_model_accuracy": 0.9, "loss": 1.0,
               "consensus": 0.5, "trainings": 2 * t, "energy_wh": 0.25 * t, "bytes_sent": 100 * t}  # fmt: skip
        h.append(row, {"accuracy": np.array([0.1, t / 10]), "loss": np.array([1.0, 2.0])})
        h.append_consensus(t, 0.5)
    return h


def test_frames(run):
    frame = run.frame()
    assert list(frame.columns) == ["round", "accuracy", "accuracy_std", "mean_model_accuracy", "loss", "consensus",
                                   "trainings", "energy_wh", "bytes_sent"]  # fmt: skip
    assert frame["energy_wh"].tolist() == [1.0, 2.0]
    node = run.frame(per="node")
    assert node[["round", "node", "accuracy"]].values.tolist() == [[4, 0, 0.1], [4, 1, 0.4], [8, 0, 0.1], [8, 1, 0.8]]
    assert run.frame(per="round")["consensus"].tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="per: expected 'network', 'node' or 'round', got 'x'"):
        run.frame(per="x")
    assert len(History().frame()) == 0 and "accuracy" in History().frame() and len(History().frame(per="node")) == 0
    assert "accuracy 0.8000" in repr(run) and "empty" in repr(History())


def test_save_and_load(run, tmp_path):
    path = tmp_path / "h.jsonl"
    run.save(path)
    again = History.load(path)
    pd.testing.assert_frame_equal(again.frame(), run.frame())
    pd.testing.assert_frame_equal(again.frame(per="node"), run.frame(per="node"))
    assert again.name == "a run" and len(again.frame(per="round")) == 2
    text = path.read_text()
    for wrong, line in (("", "empty"), ("{}\n", "line 1"), (text + "nonsense\n", "line 6"), ("[1]\n", "line 1")):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=line):
            History.load(path)


def test_pictures_are_returned(run):
    figure_module = pytest.importorskip("matplotlib.figure")
    figure = run.plot()
    assert isinstance(figure, figure_module.Figure) and len(figure.axes) == 3
    no_energy = History("b")
    no_energy.append({**run.last, "energy_wh": float("nan")}, {})
    assert len(no_energy.plot().axes) == 2
    both = plot.compare([run, no_energy])
    assert both.axes[1].get_xlabel() == "trainings, all nodes"
    assert [t.get_text() for t in both.axes[0].get_legend().get_texts()] == ["a run", "b"]
    line = both.axes[0].get_lines()[0]
    assert line.get_ydata().tolist() == [0.4, 0.8]
    with pytest.raises(ValueError, match="runs: expected at least one history"):
        plot.compare([])
