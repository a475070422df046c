"""Topologies and mixing matrices: every way to make one, and what each refuses."""

import copy
import math
import pickle
import re

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from collegium import _core
from collegium.dl import MixingMatrix, topology
from collegium.dl.topology import Topology

edge_sets = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1]))
    )
)


def same_as(graph, g):
    assert sorted(map(tuple, graph.edges.tolist())) == sorted(tuple(sorted(e)) for e in g.edges)
    assert graph.n == g.number_of_nodes()


# --- generators


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 100])
def test_ring_complete_star(n):
    if n > 2:
        same_as(topology.ring(n), nx.cycle_graph(n))
    same_as(topology.complete(n), nx.complete_graph(n))
    same_as(topology.star(n), nx.star_graph(n - 1))
    for g in (topology.ring(n), topology.complete(n), topology.star(n)):
        assert g.is_connected
        assert g.component_sizes == (n,)
        assert g.degrees.sum() == 2 * len(g.edges)


@pytest.mark.parametrize("rows, cols", [(1, 1), (1, 2), (2, 1), (1, 7), (2, 2), (2, 5), (3, 3), (4, 6)])
def test_torus(rows, cols):
    want = nx.Graph()
    want.add_nodes_from(range(rows * cols))
    for r in range(rows):
        for c in range(cols):
            for r2, c2 in ((r + 1, c), (r, c + 1)):
                i, j = r * cols + c, r2 % rows * cols + c2 % cols
                if i != j:
                    want.add_edge(i, j)
    same_as(topology.torus(rows, cols), want)


def test_regular():
    g = topology.regular(n=32, degree=6, seed=1)
    assert g.n == 32
    assert (g.degrees == 6).all()
    assert g.is_connected
    assert g.name == "regular(32, 6, seed=1)"
    assert g == topology.regular(32, 6, 1)
    assert hash(g) == hash(topology.regular(32, 6, 1))
    assert g != topology.regular(32, 6, 2)
    assert g != "regular"
    for seed in range(30):  # most first draws are in pieces here
        assert topology.regular(60, 2, seed).is_connected
    pieces = [topology.regular(60, 2, seed, allow_disconnected=True) for seed in range(30)]
    assert any(not p.is_connected for p in pieces)
    assert any(p.is_connected for p in pieces)
    assert topology.regular(2, 1).is_connected
    assert topology.regular(1, 0).is_connected
    assert topology.regular(10, 1, allow_disconnected=True).component_sizes == (2,) * 5


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: topology.ring(0), ValueError, "n: expected 1 to .*, got 0"),
        (lambda: topology.ring(3.0), TypeError, "n: expected an integer, got 3.0"),
        (lambda: topology.ring(True), TypeError, "n: expected an integer, got True"),
        (lambda: topology.ring("3"), TypeError, "n: expected an integer, got '3'"),
        (lambda: topology.star(-1), ValueError, "n: expected"),
        (lambda: topology.complete(46_341), ValueError, "n: expected 1 to 46340"),
        (lambda: topology.torus(0, 3), ValueError, "rows: expected"),
        (lambda: topology.torus(3, 1.5), TypeError, "cols: expected an integer"),
        (lambda: topology.torus(2**20, 2**20), ValueError, "rows, cols: expected fewer"),
        (lambda: topology.regular(10, 10), ValueError, "degree: expected less than n = 10, got 10"),
        (lambda: topology.regular(9, 3), ValueError, "degree: expected an even n \\* degree .*, got 9 \\* 3"),
        (lambda: topology.regular(10, -2), ValueError, "degree: expected at least 0, got -2"),
        (lambda: topology.regular(10, 2.0), TypeError, "degree: expected an integer, got 2.0"),
        (lambda: topology.regular(10, 1), ValueError, "degree: 1 gives 5 separate pairs"),
        (lambda: topology.regular(10, 0), ValueError, "degree: 0 gives 10 separate nodes"),
        (lambda: topology.regular(10, 3, seed=-1), ValueError, "seed: expected 0 to"),
        (lambda: topology.regular(10, 3, seed=None), TypeError, "seed: expected an integer, got None"),
    ],
)
def test_generators_refuse(make, error, text):
    with pytest.raises(error, match=text):
        make()


# --- the object


def test_what_a_topology_knows():
    g = topology.from_edges([(3, 1), (0, 1), (1, 2)])
    assert g.edges.dtype == np.int64
    assert g.edges.tolist() == [[0, 1], [1, 2], [1, 3]]
    assert g.degrees.dtype == np.int32
    assert g.degrees.tolist() == [1, 3, 1, 1]
    assert g.neighbors(1).tolist() == [0, 2, 3]
    assert g.neighbors(np.int64(3)).tolist() == [1]
    assert repr(g) == "<Topology edges: 4 nodes, 3 edges, degrees 1 to 3>"
    assert repr(topology.ring(5)) == "<Topology ring(5): 5 nodes, 5 edges, degree 2>"
    for bad in (4, -1):
        with pytest.raises(ValueError, match="i: expected 0 to 3"):
            g.neighbors(bad)
    same_as(g, g.to_networkx())


def test_a_topology_is_immutable():
    indptr, indices = np.array([0, 1, 2], np.int32), np.array([1, 0], np.int32)
    g = Topology(2, indptr, indices)
    indices[:] = 7
    assert g.neighbors(0).tolist() == [1]
    with pytest.raises(ValueError, match="read-only"):
        g.indices[0] = 0
    with pytest.raises(AttributeError):
        g.n = 3
    with pytest.raises((AttributeError, TypeError)):
        g.other = 3
    for twin in (copy.copy(g), copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert twin == g
        assert twin.lambda2 == g.lambda2


def test_the_constructor_checks():
    indptr, indices = np.array([0, 1, 2], np.int32), np.array([1, 0], np.int32)
    with pytest.raises(ValueError, match=r"indptr: expected shape \(4,\)"):
        Topology(3, indptr, indices)
    with pytest.raises(TypeError, match="indices: expected dtype int32, got int64"):
        Topology(2, indptr, indices.astype(np.int64))
    with pytest.raises(ValueError, match="self loop of node 0"):
        Topology(2, indptr, np.array([0, 1], np.int32))
    pieces = Topology(3, np.zeros(4, np.int32), np.zeros(0, np.int32))
    assert not pieces.is_connected
    assert pieces.component_sizes == (1, 1, 1)
    assert pieces.lambda2 == 1.0
    assert "3 components" in repr(pieces)


def test_mixing_and_lambda2():
    g = topology.star(6)
    w = g.mixing()
    w.check()
    assert w.n == 6
    assert w.is_symmetric
    assert g.lambda2 == w.lambda2 == g.lambda2
    assert w.lambda2 == pytest.approx(np.sort(np.abs(np.linalg.eigvalsh(w.toarray())))[-2], abs=1e-7)
    with pytest.raises(ValueError, match='kind: "uniform" needs equal degrees, got 1 to 5'):
        g.mixing("uniform")
    with pytest.raises(ValueError, match='kind: expected "metropolis" or "uniform", got \'max\''):
        g.mixing("max")
    uniform = topology.ring(7).mixing("uniform").toarray()
    np.testing.assert_allclose(uniform[uniform != 0], 1 / 3, atol=1e-7)


@pytest.mark.parametrize("degree, rounds", [(6, 17), (8, 13), (10, 10)])
def test_suggested_sync_rounds(degree, rounds):
    """SkipTrain, section 3: 17.0, 12.6 and 9.6 rounds for a hundredth of the disagreement."""
    g = topology.regular(256, degree, seed=1)
    suggested = g.suggested_sync_rounds(target=0.01)
    assert type(suggested) is int
    assert abs(suggested - rounds) <= 2
    assert g.lambda2**suggested <= 0.01 < g.lambda2 ** (suggested - 1)


def test_suggested_sync_rounds_at_the_ends():
    assert topology.complete(9).suggested_sync_rounds() == 1
    assert topology.ring(1).suggested_sync_rounds() == 1
    assert topology.ring(30).suggested_sync_rounds(0.999999) == 1
    for target in (0, 1, -0.5, math.nan, 2):
        with pytest.raises(ValueError, match="target: expected a number between 0 and 1"):
            topology.ring(9).suggested_sync_rounds(target)
    with pytest.raises(TypeError, match=r"target: expected a number, got '0.1'"):
        topology.ring(9).suggested_sync_rounds("0.1")
    apart = topology.from_edges([(0, 1), (2, 3)], allow_disconnected=True)
    with pytest.raises(ValueError, match="components of 2, 2 nodes: no number of rounds"):
        apart.suggested_sync_rounds()


# --- from edges


@given(edge_sets, st.randoms())
def test_from_edges(n_edges, random):
    n, edges = n_edges
    listed = [random.choice([(i, j), (j, i)]) for i, j in edges]
    random.shuffle(listed)
    want = nx.Graph()
    want.add_nodes_from(range(n))
    want.add_edges_from(edges)
    sizes = sorted(map(len, nx.connected_components(want)), reverse=True)
    for given_edges in (listed, np.array(listed, np.int32).reshape(-1, 2), (e for e in listed)):
        g = topology.from_edges(given_edges, n, allow_disconnected=True)
        same_as(g, want)
        assert g.component_sizes == tuple(sizes)
        assert g.is_connected == (len(sizes) == 1)
    if len(sizes) > 1:
        with pytest.raises(ValueError, match="topology: expected a connected graph"):
            topology.from_edges(listed, n)
    else:
        assert topology.from_edges(listed, n) == g


@pytest.mark.parametrize(
    "edges, n, error, text",
    [
        ([(0, 1), (1, 1)], None, ValueError, "edges[1]: expected two different nodes, got a self loop of 1"),
        ([(0, 1), (1, 2), (1, 0)], None, ValueError, "edges[2]: (1, 0) is already there as edges[0]"),
        ([(0, 1), (1, 2)], 2, ValueError, "edges[1]: expected node ids 0 to 1, got (1, 2)"),
        (np.array([[0, 1], [-1, 0]]), None, ValueError, "edges[1]: expected node ids 0 to 1, got (-1, 0)"),
        ([(0, 1), (-1, 0)], None, ValueError, "edges[1]: expected node ids 0 to 2**31 - 2, got (-1, 0)"),
        ([(0, 2**40)], None, ValueError, "edges[0]: expected node ids 0 to"),
        (np.array([[0, 2**40]]), None, ValueError, "edges[0]: expected node ids below"),
        (np.array([[0, 2**63]], np.uint64), None, ValueError, "edges[0]: expected node ids below"),
        ([(0, 1.0)], None, TypeError, "edges[0]: expected integers, got (0, 1.0)"),
        ([(0, True)], None, TypeError, "edges[0]: expected integers, got (0, True)"),
        ([(0, 1, 2)], None, ValueError, "edges[0]: expected two node ids, got (0, 1, 2)"),
        ([3], None, ValueError, "edges[0]: expected two node ids, got 3"),
        ("01", None, TypeError, "edges: expected pairs of node ids, got str"),
        (7, None, TypeError, "edges: expected pairs of node ids, got int"),
        (np.ones((3, 2)), None, TypeError, "edges: expected integers, got dtype float64"),
        (np.ones((3, 2), bool), None, TypeError, "edges: expected integers, got dtype bool"),
        (np.ones((3, 3), int), None, ValueError, "edges: expected shape (m, 2), got (3, 3)"),
        ([], None, ValueError, "n: expected the number of nodes when there are no edges"),
        ([(0, 1)], 0, ValueError, "n: expected 1 to"),
        ([(0, 1)], 2.0, TypeError, "n: expected an integer, got 2.0"),
        ([(0, 1), (2, 3)], 7, ValueError, "got components of 2, 2 nodes and 3 nodes without neighbours (allow_disc"),
        ([(0, 1), (2, 3), (3, 4), (2, 4)], 5, ValueError, "got components of 3, 2 nodes (allow_disconnected=True"),
        ([(0, 2_000_000_000)], None, ValueError, "components of 2 nodes and 1999999999 nodes without neighbours"),
    ],
)
def test_from_edges_refuses(edges, n, error, text):
    with pytest.raises(error, match=re.escape(text)):
        topology.from_edges(edges, n)


# --- files


def write(tmp_path, text):
    path = tmp_path / "graph.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "0 1\n1 2\n2 3\n3 0\n",
        "# a square\n\n0 1\n1 2 # side\n2 3\r\n\n3\t0",
        "\ufeff0 1\n1 2\n2 3\n3 0\n",
        "1 0\n2 1\n3 2\n0 3\n",
        "0 1\n1 0\n1 2\n2 1\n2 3\n3 2\n3 0\n0 3\n",  # both directions
        "4\n0 1\n0 3\n1 0\n1 2\n2 1\n2 3\n3 2\n3 0\n",  # as decentralizepy writes edges
        "4\n1 3\n0 2\n1 3\n0 2\n",  # as it reads adjacency lists
        "# n\n4\n3 1\n2 0\n\t1 3\n0 2\n\n\n",
    ],
)
def test_from_file_a_square(tmp_path, text):
    g = topology.from_file(write(tmp_path, text))
    assert g == topology.ring(4)
    assert g.name == "graph.txt"
    assert topology.from_file(str(write(tmp_path, text))) == g


def test_from_file_forms(tmp_path):
    same_lines = write(tmp_path, "5\n1 4\n0 2\n1 3\n2 4\n0 3\n")  # valid both ways, different graphs
    assert topology.from_file(same_lines) == topology.ring(5)
    assert topology.from_file(same_lines, form="edges").neighbors(0).tolist() == [2, 3]
    assert topology.from_file(write(tmp_path, "3\n0 1\n1 2\n")) == topology.from_edges([(0, 1), (1, 2)])
    assert topology.from_file(write(tmp_path, "1\n")) == topology.ring(1)
    alone = write(tmp_path, "3\n1\n0\n\n")
    assert topology.from_file(alone, allow_disconnected=True).component_sizes == (2, 1)
    with pytest.raises(ValueError, match="components of 2 nodes and 1 node without neighbours"):
        topology.from_file(alone)
    with pytest.raises(ValueError, match='form: expected "auto", "edges" or "adjacency", got'):
        topology.from_file(alone, form="csv")
    with pytest.raises(FileNotFoundError):
        topology.from_file(tmp_path / "none")


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("", "expected a graph, got no numbers"),
        ("# nothing\n", "expected a graph, got no numbers"),
        ("0 1\n1 1\n", "line 2: self loop of node 1"),
        ("0 1\n1 2\n0 1\n", "line 3: edge 0 1 is already there on line 1"),
        ("#\n0 1\n1 2\n1 0\n", "line 4: edge 1 0 is already there on line 2"),
        ("0 1\n1 x\n", "line 2: expected node numbers, got 'x'"),
        ("0 1\n1 -2\n", "line 2: expected node numbers, got '-2'"),
        ("0 1\n1 1.5\n", "line 2: expected node numbers, got '1.5'"),
        ("0 1\n1 1_0\n", "line 2: expected node numbers, got '1_0'"),
        ("0 \u0663\n", "line 1: expected node numbers"),
        ("0 1\n1 2 3\n", "line 2: expected two node numbers, got 3"),
        ("0 1\n1\n", "line 2: expected two node numbers, got 1"),
        ("0 1\n1 99999999999999999999\n", "line 2: expected numbers below 2**31 - 1"),
        (b"0 1\n\xff\xfe2\n", "line 2: expected UTF-8 text"),
        ("0\n", "line 1: expected a number of nodes of at least 1, got 0"),
        ("3\n0 1\n1 3\n", "line 3: expected nodes 0 to 2, got 3"),
        ("3\n1 2\n0\n0 1\n", "line 4: node 2 lists 1, but node 1 (line 3) does not list 2"),
        ("3\n1 2\n0 2 2\n0 1\n", "line 3: node 1 lists 2 twice"),
        ("3\n1 2\n0 1 2\n0 1\n", "line 3: self loop of node 1"),
        ("3\n1 2\n0 5 2\n0 1\n", "line 3: expected nodes 0 to 2, got 5"),
        ("3\n1 2\n0 2\n0 1\n\n0 2 1\n", "line 6: expected nothing after the 3 lines of neighbours"),
        ("4\n1 2 3\n0\n0\n", "line 1: expected 4 lines of neighbours after it, got 3"),
        ("4\n1 2\n1 3\n2 3\n3 0\n", 'form="edges"'),
        ("0 1\n2 3\n", "topology: expected a connected graph, got components of 2, 2 nodes"),
        ("900000000\n0 1\n", "got components of 2 nodes and 899999998 nodes without neighbours"),
    ],
)
def test_from_file_refuses(tmp_path, text, wrong):
    with pytest.raises(ValueError, match=re.escape(wrong)):
        topology.from_file(write(tmp_path, text))


def test_adjacency_form_wants_its_head(tmp_path):
    with pytest.raises(ValueError, match="line 1: expected the number of nodes alone, got 2 numbers"):
        topology.from_file(write(tmp_path, "0 1\n"), form="adjacency")


@given(edge_sets)
def test_save_and_read_again(tmp_path_factory, n_edges):
    n, edges = n_edges
    g = topology.from_edges(list(edges), n, allow_disconnected=True)
    path = tmp_path_factory.mktemp("save") / "g"
    g.save(path)
    assert topology.from_file(path, allow_disconnected=True) == g
    assert topology.from_file(path, form="adjacency", allow_disconnected=True) == g


graph_words = st.lists(
    st.lists(
        st.sampled_from(["0", "1", "2", "3", "4", "7", "#", "-1", "x", "\ufeff", "1e3", "99999999999"]), max_size=4
    ),
    max_size=8,
).map(lambda rows: "\n".join(map(" ".join, rows)))


@given(
    st.one_of(
        graph_words.map(str.encode), st.text(max_size=60).map(lambda s: s.encode("utf-8", "replace")), st.binary()
    ),
    st.sampled_from(["auto", "edges", "adjacency"]),
    st.booleans(),
)
@settings(max_examples=500)
def test_any_file(tmp_path_factory, content, form, allow):
    """A graph or a ValueError that says where, never anything else."""
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes(content)
    error = ""
    try:
        g = topology.from_file(path, form=form, allow_disconnected=allow)
    except ValueError as e:
        error = str(e)
    if error:
        assert error.startswith((f"{path}, line ", f"{path}: ", "topology: "))
        return
    assert g.is_connected or allow
    g.save(path)
    assert topology.from_file(path, allow_disconnected=True) == g


# --- from networkx and matrices


def test_from_networkx():
    same_as(topology.from_networkx(nx.petersen_graph()), nx.petersen_graph())
    g = nx.Graph([(2, 0), (0, 1)])  # integers 0 ... n-1 keep their numbers, whatever the order of g.nodes
    assert topology.from_networkx(g).edges.tolist() == [[0, 1], [0, 2]]
    g = nx.Graph([("b", "a"), ("a", "c")])
    assert topology.from_networkx(g).edges.tolist() == [[0, 1], [1, 2]]
    made = topology.regular(20, 4, seed=3)
    assert topology.from_networkx(made.to_networkx()) == made
    for bad in (nx.DiGraph([(0, 1)]), nx.MultiGraph([(0, 1)])):
        with pytest.raises(TypeError, match=r"g: expected an undirected networkx.Graph"):
            topology.from_networkx(bad)
    with pytest.raises(TypeError, match=r"g: expected a networkx.Graph, got list"):
        topology.from_networkx([(0, 1)])
    with pytest.raises(ValueError, match="got one at node 'x'"):
        topology.from_networkx(nx.Graph([("a", "x"), ("x", "x")]))
    with pytest.raises(ValueError, match="at least 1 node"):
        topology.from_networkx(nx.Graph())
    with pytest.raises(ValueError, match="components of 2, 2 nodes"):
        topology.from_networkx(nx.Graph([(0, 1), (2, 3)]))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.coo_array, sp.lil_matrix, np.asfortranarray])
def test_from_matrix(dtype, form):
    g = topology.regular(12, 3, seed=1)
    a = nx.to_numpy_array(g.to_networkx()).astype(dtype)
    assert topology.from_matrix(form(a)) == g


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize(
    "a, text",
    [
        ([[0, 1, 0], [1, 0, 1], [0, 0, 0]], "a: expected a symmetric matrix, got 1 at \\[1, 2\\] and 0 at \\[2, 1\\]"),
        ([[0, 1], [1, 2]], "a: expected a zero diagonal, got 2 at \\[1, 1\\]"),
        ([[0, math.nan], [math.nan, 0]], "a: expected numbers, got nan at \\[0, 1\\]"),
        ([[0, 1, 1]], "a: expected shape \\(n, n\\), n >= 1, got \\(1, 3\\)"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 0]], "components of 2 nodes and 1 node without neighbours"),
    ],
)
def test_from_matrix_refuses(form, a, text):
    with pytest.raises(ValueError, match=text):
        topology.from_matrix(form(a))


def test_from_matrix_refuses_other_things():
    for bad in ("graph", np.array([["a"]]), np.zeros((2, 2), complex), None):
        with pytest.raises((TypeError, ValueError), match=r"^a: expected"):
            topology.from_matrix(bad)


# --- MixingMatrix


def assert_same(w, dense):
    np.testing.assert_array_equal(w.toarray(), np.asarray(dense, np.float32))


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_from_any(n):
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.5)
    a[0, 0] = 0  # the diagonal is kept all the same
    w = MixingMatrix.from_any(a)
    assert w.indices[w.indptr[0] : w.indptr[1]].tolist()[0] == 0
    assert MixingMatrix.from_any(w) is w
    s = sp.csr_matrix(a)
    forms = (a, a.tolist(), a.astype(np.float32), np.asfortranarray(a), s, s.tocoo(), sp.csc_array(a), w.to_scipy())
    for form in (*forms, (s.indptr, s.indices, s.data), (s.indptr.tolist(), s.indices.tolist(), s.data.tolist())):
        assert_same(MixingMatrix.from_any(form), a)
    assert_same(w.T, a.T)
    assert_same(w.T.T, a)
    np.testing.assert_array_equal(w.to_scipy().toarray(), w.toarray(np.float32))
    assert w.toarray(np.float32).dtype == np.float32
    assert w.toarray().dtype == np.float64
    assert w.is_symmetric == (np.abs(a - a.T).max() <= 1e-6)
    assert repr(w) == f"MixingMatrix(n={n}, nnz={len(w.indices)})"


@pytest.mark.parametrize(
    "obj, error, text",
    [
        ([[1, math.nan], [0, 1]], ValueError, "weights: expected finite numbers, got nan at [0, 1]"),
        ([[1, 0], [-math.inf, 1]], ValueError, "weights: expected finite numbers, got -inf at [1, 0]"),
        ([[1e300, 0], [0, 1]], ValueError, "weights: expected finite numbers, got inf at [0, 0]"),
        (np.ones((2, 3)), ValueError, "W: expected shape (n, n), got (2, 3)"),
        (np.ones(4), ValueError, "W: expected shape (n, n), got (4,)"),
        ([[1, 2], [3]], ValueError, "W: expected shape (n, n)"),
        (sp.csr_matrix(np.ones((2, 3))), ValueError, "W: expected shape (n, n), got (2, 3)"),
        (np.eye(2, dtype=complex), TypeError, "weights: expected real numbers, got dtype complex128"),
        (np.eye(2, dtype=bool), TypeError, "weights: expected real numbers, got dtype bool"),
        (object(), TypeError, "W: expected a matrix, got object"),
        (topology.ring(3), TypeError, "use its .mixing()"),
        ((1, 2), ValueError, "W: expected a tuple (indptr, indices, weights), got 2 elements"),
        (([0, 1.5], [0], [1.0]), TypeError, "indptr: expected integers, got dtype float64"),
        (([0, 1], [[0]], [1.0]), ValueError, "indices: expected 1 dimension, got 2"),
        (([0, 1], [2**40], [1.0]), ValueError, "indices: expected values below 2**31"),
        (([0, 1], [3], [1.0]), ValueError, "indices: expected 0 to 0 at [0] (row 0), got 3"),
        (([0, 2, 2], [1, 0], [1.0, 1]), ValueError, "expected ascending columns in row 0, got 0 after 1"),
        (([0, 1], [0], [1.0, 2]), ValueError, "weights: expected shape (1,), got (2,)"),
    ],
)
def test_from_any_refuses(obj, error, text):
    with pytest.raises(error, match=re.escape(text)):
        MixingMatrix.from_any(obj)


def test_check():
    MixingMatrix.from_any(np.full((4, 4), 0.25)).check()
    MixingMatrix.from_any([[1.5, -0.5], [-0.5, 1.5]]).check()
    with pytest.raises(ValueError, match=r"got 1.5 in row 1 \(worst of 1\)"):
        MixingMatrix.from_any([[1, 0], [1, 0.5]]).check(symmetric=False)
    one_way = MixingMatrix.from_any([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])
    one_way.check(symmetric=False)
    assert not one_way.is_symmetric
    with pytest.raises(ValueError, match=r"symmetric matrix, got 0.5 at \[0, 1\] and 0 at \[1, 0\]"):
        one_way.check()
    with pytest.raises(ValueError, match="symmetric matrix"):
        _ = one_way.lambda2


def test_the_mixing_matrix_constructor_checks():
    indptr, indices, weights = np.array([0, 1, 2], np.int32), np.array([1, 0], np.int32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="expected the diagonal in every row, got none in row 0"):
        MixingMatrix(2, indptr, indices, weights)
    with pytest.raises(ValueError, match=r"indptr: expected shape \(4,\), got \(3,\)"):
        MixingMatrix(3, indptr, indices[::-1].copy(), weights)
    with pytest.raises(TypeError, match="weights: expected dtype float32, got float64"):
        MixingMatrix(2, indptr, indices, weights.astype(float))
    own = np.array([0, 1], np.int32)
    w = MixingMatrix(2, indptr, own, weights)
    own[:] = 9
    assert w.indices.tolist() == [0, 1]
    with pytest.raises(AttributeError):
        w.n = 5
    with pytest.raises(ValueError, match="read-only"):
        w.weights[0] = 2
    assert pickle.loads(pickle.dumps(w)).toarray().tolist() == w.toarray().tolist()


def test_lambda2_that_cannot_be_found_warns(monkeypatch):
    w = topology.ring(5).mixing()
    monkeypatch.setattr(_core, "lambda2", lambda *_: (0.9, 1e-3, 10))
    with pytest.warns(RuntimeWarning, match=r"only known to 1.0e-03 after 10 steps"):
        assert w.lambda2 == 0.9


@given(hnp.arrays(st.sampled_from(["f4", "f8", "i4"]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_any_dense_matrix(a):
    with np.errstate(over="ignore"):
        rounded = a.astype(np.float32)
    try:
        w = MixingMatrix.from_any(a)
    except ValueError:
        assert a.shape[0] != a.shape[1] or not np.isfinite(rounded).all()
        return
    assert_same(w, rounded)
    assert_same(w.T, rounded.T)
