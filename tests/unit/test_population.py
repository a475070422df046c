"""dl.Population: layout, views, files."""

from __future__ import annotations

import numpy as np
import pytest

from collegium import _files, dl

SHAPES = {"fc.weight": (3, 5), "fc.bias": (3,), "scale": ()}


@pytest.fixture
def population():
    p = dl.Population(4, SHAPES)
    p.X[...] = np.arange(4 * 19, dtype=np.float32).reshape(4, 19)
    return p


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 48, 1024, 4810])
def test_rows_are_an_odd_number_of_cache_lines_apart_and_aligned(columns):
    p = dl.Population(3, {"w": (columns,)})
    assert p.X.shape == (3, columns) and p.X.dtype == np.float32 and not p.X.any()
    step = p.X.strides[0]
    assert step == p.leading_dimension * 4 and step % 64 == 0 and step // 64 % 2 == 1 and step >= 4 * columns
    assert p.X.ctypes.data % 64 == 0
    assert p.nbytes == 3 * step


def test_views_share_memory_and_follow_the_order_of_shapes(population):
    p = population
    assert p.size == 19 and p.numpy() is p.X
    np.testing.assert_array_equal(p.row(2)["fc.weight"], p.X[2, :15].reshape(3, 5))
    np.testing.assert_array_equal(p.parameter("fc.bias"), p.X[:, 15:18])
    assert p.parameter("scale").shape == (4,)
    p.parameter("fc.weight")[1, 2, 4] = -7
    p.row(3)["scale"][...] = 9
    assert p.X[1, 14] == -7 and p.X[3, 18] == 9
    assert [p.describe(c) for c in (0, 14, 15, 17, 18)] == ["fc.weight"] * 2 + ["fc.bias"] * 2 + ["scale"]


def test_load_row_is_all_or_nothing(population):
    before = population.X.copy()
    state = {"fc.weight": np.ones((3, 5)), "fc.bias": np.ones(3), "scale": np.float64(1)}
    with pytest.raises(ValueError, match=r"missing \['scale'\], not known here \['scales'\]"):
        population.load_row(0, {"fc.weight": state["fc.weight"], "fc.bias": state["fc.bias"], "scales": 1})
    with pytest.raises(ValueError, match=r"state\['fc.bias'\]: expected shape \(3,\), got \(4,\)"):
        population.load_row(0, {**state, "fc.bias": np.ones(4)})
    np.testing.assert_array_equal(population.X, before)
    population.load_row(0, state)
    assert (population.X[0] == 1).all()


def test_consensus_against_float64(population):
    population.X[...] = np.random.default_rng(0).normal(size=(4, 19)).astype(np.float32)
    mean, distance = population.consensus()
    wide = population.X.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-6)
    assert distance == pytest.approx(np.sqrt(((wide - wide.mean(0)) ** 2).sum() / 4), rel=1e-12)


def test_safetensors_round_trip_readable_by_others(population, tmp_path):
    path = tmp_path / "p.safetensors"
    population.save(path)
    again = dl.Population.load(path)
    assert list(again.shapes.items()) == list(SHAPES.items()) and again.digest() == population.digest()
    np.testing.assert_array_equal(again.X, population.X)
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(path)["fc.weight"], population.parameter("fc.weight"))
    assert [f.name for f in tmp_path.iterdir()] == ["p.safetensors"]  # no temporary file stays


def test_save_to_a_missing_folder_leaves_nothing(population, tmp_path):
    with pytest.raises(FileNotFoundError):
        population.save(tmp_path / "no" / "p.safetensors")


def test_damaged_files_are_refused(population, tmp_path):
    path = tmp_path / "p.safetensors"
    population.save(path)
    whole = path.read_bytes()
    for cut in (0, 4, 40, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="not a population file"):
            dl.Population.load(path)
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match="checksum"):
        dl.Population.load(path)
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(ValueError, match="not a population file"):
        dl.Population.load(path)
    uneven = {"a": np.zeros((3, 2), np.float32), "b": np.zeros((4, 2), np.float32)}
    _files.save_tensors(path, "population", uneven, {"names": ["a", "c"]})
    with pytest.raises(ValueError, match="not a population file, or a damaged one"):
        dl.Population.load(path)
    _files.save_tensors(path, "population", uneven, {"names": ["a", "b"]})
    with pytest.raises(ValueError, match="one number of nodes"):
        dl.Population.load(path)


@pytest.mark.parametrize(
    ("n", "shapes", "error", "text"),
    [
        (0, SHAPES, ValueError, "n: expected at least 1, got 0"),
        (2.0, SHAPES, TypeError, "n: expected an integer, got 2.0"),
        (True, SHAPES, TypeError, "n: expected an integer, got True"),
        (2, {}, ValueError, "shapes: expected at least one parameter"),
        (2, {"a": (0,)}, ValueError, "shapes: expected at least one parameter"),
        (2, {"a": (-1,)}, ValueError, r"shapes\['a'\]: expected at least 0, got -1"),
        (2, {"a": (1.5,)}, TypeError, r"shapes\['a'\]: expected an integer, got 1.5"),
        (2, [("a", (1,)), ("a", (2,))], ValueError, "shapes: 'a' is there twice"),
        (2, {3: (1,)}, TypeError, "shapes: expected names of parameters, got 3"),
        (2**40, {"a": (2**30,)}, MemoryError, "no memory"),
    ],
)
def test_bad_arguments(n, shapes, error, text):
    with pytest.raises(error, match=text):
        dl.Population(n, shapes)


def test_unknown_names(population):
    with pytest.raises(KeyError, match="no parameter 'x'; there are fc.weight"):
        population.parameter("x")
    with pytest.raises(ValueError, match="i: expected 0 to 3, got 4"):
        population.row(4)
