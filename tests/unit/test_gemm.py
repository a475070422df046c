"""The packed product of csrc/base/gemm.c and the functions of vmath.c, against float64."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collegium import _core

EPS = float(np.finfo(np.float32).eps)
SIZES = [0, 1, 5, 6, 7, 11, 12, 13, 15, 16, 17, 31, 33, 64, 97, 200]
ACTIVATIONS = {"none": lambda z: z, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}


def matrix(rng, rows, cols):
    return rng.standard_normal((rows, cols)).astype("f4")


def check(a, b, bias, activation):
    c = _core.gemm(a, b, bias, activation)
    z = a.astype("f8") @ b.astype("f8").T
    size = np.abs(a).astype("f8") @ np.abs(b).astype("f8").T
    if bias is not None:
        z, size = z + bias, size + np.abs(bias)
    # k products and additions, each off by at most eps / 2 of the sum of magnitudes, and tanh's own 2 ULP.
    bound = (a.shape[1] + 2) * EPS * size + 4 * EPS
    assert c.shape == z.shape
    assert c.dtype == np.float32
    assert np.all(np.abs(c - ACTIVATIONS[activation](z)) <= bound)
    return c


@pytest.mark.parametrize("m", SIZES)
def test_against_float64(isa, m):
    rng = np.random.default_rng(m)
    for n in SIZES:
        for k in (0, 1, 3, 4, 17, 64):
            check(matrix(rng, m, k), matrix(rng, n, k), None, "none")


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("with_bias", [False, True])
def test_epilogue(isa, threads, activation, with_bias):
    rng = np.random.default_rng(3)
    for m, n, k in [(1, 1, 1), (7, 19, 33), (50, 130, 20), (0, 4, 4), (3, 5, 0)]:
        bias = rng.standard_normal(n).astype("f4") if with_bias else None
        check(matrix(rng, m, k), matrix(rng, n, k), bias, activation)


def test_large(isa, threads):
    rng = np.random.default_rng(4)
    check(matrix(rng, 301, 768), matrix(rng, 519, 768), None, "relu")


def test_value_depends_on_its_row_and_column_only(isa):
    """The bits of c[i][j] are the same whatever else is in the product, and for any number of threads."""
    rng = np.random.default_rng(5)
    a, b, bias = matrix(rng, 211, 150), matrix(rng, 333, 150), rng.standard_normal(333).astype("f4")
    old = _core.num_threads()
    try:
        _core.set_num_threads(1)
        whole = _core.gemm(a, b, bias, "tanh")
        _core.set_num_threads(2)
        assert np.array_equal(whole, _core.gemm(a, b, bias, "tanh"))
    finally:
        _core.set_num_threads(old)
    for i in range(0, 211, 10):
        for m in (1, 2, 3, 5, 9):
            assert np.array_equal(whole[i : i + m], _core.gemm(a[i : i + m], b, bias, "tanh"))
    for j in (0, 1, 16, 100, 332):
        assert np.array_equal(whole[:, j : j + 40], _core.gemm(a, b[j : j + 40], bias[j : j + 40], "tanh"))


def test_one_chain_over_k():
    """fma(a[K-1], b[K-1], ... fma(a[0], b[0], 0)): exact in float64 for these sizes of product, rounded each step."""
    if _core.isa() == "base":
        pytest.skip("the portable kernel rounds product and sum apart")
    rng = np.random.default_rng(6)
    a, b = matrix(rng, 1, 40), matrix(rng, 1, 40)
    s = np.float32(0)
    for x, y in zip(a[0], b[0], strict=True):
        s = np.float32(np.longdouble(x) * np.longdouble(y) + np.longdouble(s))
    assert _core.gemm(a, b, None, "none")[0, 0] == s


def test_strided_rows(isa):
    rng = np.random.default_rng(7)
    a, b = matrix(rng, 30, 50)[::2, 3:40], matrix(rng, 40, 60)[1::3, :37]
    check(a, b, None, "none")


def test_panels(isa, threads):
    rng = np.random.default_rng(8)
    for n, k in [(1, 1), (16, 16), (17, 5), (40, 33), (5, 0), (0, 5)]:
        b = matrix(rng, n, k)
        panels = _core.gemm_pack(b)
        want = np.zeros((-(-n // 16) * 16, k), "f4")
        want[:n] = b
        assert np.array_equal(panels, want.reshape(len(want) // 16, 16, k).transpose(0, 2, 1).ravel())
        assert panels.ctypes.data % 64 == 0
        a = matrix(rng, 9, k)
        assert np.array_equal(_core.gemm_packed(a, panels, n, None, "relu"), _core.gemm(a, b, None, "relu"))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_nan_and_infinity_pass(isa, activation):
    a, b = np.ones((9, 20), "f4"), np.ones((21, 20), "f4")
    a[4, 7], a[6, 3] = np.nan, np.inf
    c = _core.gemm(a, b, None, activation)
    assert np.isnan(c[4]).all()
    assert np.isfinite(np.delete(c, [4, 6], 0)).all()
    assert (c[6] == (1 if activation == "tanh" else np.inf)).all()
    b[20, 0] = -np.inf
    c = _core.gemm(a, b, None, activation)
    assert c[0, 20] == {"none": -np.inf, "relu": 0, "tanh": -1}[activation]
    assert np.isnan(c[6, 20])


def test_errors():
    a, b = np.ones((3, 4), "f4"), np.ones((5, 4), "f4")
    with pytest.raises(TypeError, match="gemm\\(\\) takes 4 arguments \\(2 given\\)"):
        _core.gemm(a, b)
    with pytest.raises(TypeError, match="a: expected dtype float32, got float64"):
        _core.gemm(a.astype("f8"), b, None, "none")
    with pytest.raises(ValueError, match="b: expected shape \\(5, 4\\), got \\(5, 3\\)"):
        _core.gemm(a, np.ones((5, 3), "f4"), None, "none")
    with pytest.raises(ValueError, match="a: rows must be contiguous"):
        _core.gemm(np.ones((4, 3), "f4").T, b, None, "none")
    with pytest.raises(ValueError, match="bias: expected shape \\(5,\\), got \\(4,\\)"):
        _core.gemm(a, b, np.ones(4, "f4"), "none")
    with pytest.raises(ValueError, match="activation: expected 'none', 'relu' or 'tanh', got 'gelu'"):
        _core.gemm(a, b, None, "gelu")
    with pytest.raises(TypeError, match="activation"):
        _core.gemm(a, b, None, None)
    with pytest.raises(ValueError, match="packed: expected shape \\(64,\\), got \\(63,\\)"):
        _core.gemm_packed(a, np.ones(63, "f4"), 5, None, "none")
    with pytest.raises(ValueError, match="n: expected 0 to"):
        _core.gemm_packed(a, np.ones(64, "f4"), -1, None, "none")
    with pytest.raises(ValueError, match=r"n: .* do not fit"):
        _core.gemm_packed(np.ones((1, 1000), "f4"), np.ones(64, "f4"), 2**56, None, "none")


def ulps(got, want):
    """Distance in units of the last place of the true value (of the smallest normal number below it)."""
    unit = np.spacing(np.maximum(np.abs(want).astype("f4"), np.finfo("f4").tiny)).astype("f8")
    return np.abs(got.astype("f8") - want) / unit


def test_exp(isa):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-104, 88.7, 400_001), rng.standard_normal(100_000) * 1e-3]).astype("f4")
    assert ulps(_core.exp_f32(x), np.exp(x.astype("f8"))).max() < 1.1
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 89, 200, 3e38, -104, -3e38], "f4")
    want = np.array([1, 1, np.inf, 0, np.nan, np.inf, np.inf, np.inf, 0, 0], "f4")
    assert np.array_equal(_core.exp_f32(x), want, equal_nan=True)


def test_tanh(isa):
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(-12, 12, 400_001), rng.standard_normal(100_000) * 1e-2]).astype("f4")
    assert ulps(_core.tanh_f32(x), np.tanh(x.astype("f8"))).max() < 2
    x = np.array([0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45], "f4")
    want = np.array([0, 1, -1, np.nan, 1, -1, 1e-45], "f4")
    assert np.array_equal(_core.tanh_f32(x), want, equal_nan=True)


@pytest.mark.parametrize("f", [_core.exp_f32, _core.tanh_f32])
def test_functions_do_not_depend_on_the_place(isa, f):
    x = np.random.default_rng(3).standard_normal(67).astype("f4")
    whole = f(x)
    for i in range(40):
        assert np.array_equal(f(x[i:].copy()), whole[i:])
    assert f(x[:0]).shape == (0,)
    with pytest.raises(TypeError, match="x: expected dtype float32"):
        f(x.astype("f8"))
    with pytest.raises(ValueError, match="x: must be C-contiguous"):
        f(x[::2])


arrays = st.builds(
    lambda shape, dtype, step, value: np.full(tuple(s * 2 for s in shape), value).astype(dtype)[
        tuple(slice(None, s, step) for s in shape)
    ],
    st.lists(st.integers(0, 9), min_size=0, max_size=3).map(tuple),
    st.sampled_from(["f4", "f4", "f4", "f8", "i8", "i4", ">f4", "O"]),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([0, 1, -2.5, 3]),
)
anything = st.one_of(arrays, st.none(), st.integers(-3, 40), st.sampled_from(["none", "relu", "tanh", ""]))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["gemm", "gemm_pack", "gemm_packed", "exp_f32", "tanh_f32"]), st.lists(anything, max_size=5))
def test_never_crashes(name, args):
    try:
        out = getattr(_core, name)(*args)
    except (TypeError, ValueError, MemoryError):
        return
    assert out.dtype == np.float32
    assert all(a.dtype == np.float32 for a in args if isinstance(a, np.ndarray))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 40), st.integers(0, 70), st.integers(0, 40), st.booleans(), st.sampled_from(list(ACTIVATIONS)),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_shape(m, n, k, with_bias, activation, seed):
    rng = np.random.default_rng(seed)
    check(matrix(rng, m, k), matrix(rng, n, k), rng.standard_normal(n).astype("f4") if with_bias else None, activation)
