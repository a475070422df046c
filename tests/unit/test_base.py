"""csrc/base through its bindings: randomness, aligned matrices, instruction sets, threads, argument errors."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium import _core

RANDOM = [_core.random_u32, _core.random_f32]


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> list[int]:
    """Philox4x32-10 in plain integers, from the paper's definition (checked against the vectors below)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_reference_philox_gives_the_published_answers() -> None:
    assert philox((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert philox((ones,) * 4, (ones, ones)) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert philox(pi, (0xA4093822, 0x299F31D0)) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_zero_address_is_the_first_published_vector() -> None:
    words = _core.random_u32(0, 0, 0, 0, 0, 4)
    assert words.dtype == np.uint32
    assert words.tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


u32 = st.integers(0, 2**32 - 1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**16 - 1), u32, u32, st.integers(0, 2**50 - 40), st.integers(0, 40))
def test_every_word_stands_at_its_address(seed: int, purpose: int, node: int, round: int, first: int, n: int) -> None:
    def word(index: int) -> int:
        block = index // 4
        counter = (block & 0xFFFFFFFF, node, round, purpose | block >> 32 << 16)
        return philox(counter, (seed & 0xFFFFFFFF, seed >> 32))[index % 4]

    want = [word(i) for i in range(first, first + n)]
    assert _core.random_u32(seed, purpose, node, round, first, n).tolist() == want
    uniform = _core.random_f32(seed, purpose, node, round, first, n)
    assert uniform.dtype == np.float32
    assert uniform.tolist() == [(w >> 8) / 2**24 for w in want]


def test_uniform_numbers_stay_below_one() -> None:
    x = _core.random_f32(3, 64, 0, 0, 0, 1_000_000).astype(np.float64)
    assert 0 <= x.min() < 1e-5
    assert 1 - 1e-5 < x.max() < 1
    assert abs(x.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(x))
    assert abs(x.var() - 1 / 12) < 1e-3


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 64, 1000, 65_537])
def test_permutation_holds_every_number_once(n: int) -> None:
    order = _core.random_permutation(1, 2, 3, 4, n)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order, _core.random_permutation(1, 2, 3, 4, n))
    if n > 3:
        assert not np.array_equal(order, _core.random_permutation(1, 2, 3, 5, n))


def test_permutations_are_uniform() -> None:
    """All 24 orders of four, over 24 000 addresses: chi-square, 23 degrees of freedom, 1 - 1e-6 quantile."""
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for node in range(24_000):
        counts[tuple(_core.random_permutation(11, 2, node, 0, 4).tolist())] += 1
    chi2 = sum((c - 1000) ** 2 / 1000 for c in counts.values())
    assert chi2 < 76.0


def test_shuffled_positions_are_uniform() -> None:
    """Where 0 lands among 100, over 20 000 rounds: 99 degrees of freedom."""
    where = np.array([np.flatnonzero(_core.random_permutation(5, 2, 0, r, 100) == 0)[0] for r in range(20_000)])
    chi2 = ((np.bincount(where, minlength=100) - 200) ** 2 / 200).sum()
    assert chi2 < 184.0


# ---- aligned matrices ----


@pytest.mark.parametrize("rows", [0, 1, 2, 33])
@pytest.mark.parametrize("columns", [0, 1, 15, 16, 17, 32, 1024, 4096, 89_834])
def test_zeros_rows_are_aligned_padded_and_zero(rows: int, columns: int) -> None:
    x = _core.zeros_rows(rows, columns)
    assert x.shape == (rows, columns)
    assert x.dtype == np.float32
    assert x.flags.writeable
    assert not x.any()
    if x.size:
        ld = _core.leading_dimension(columns, 4)
        assert ld % 16 == 0
        assert ld // 16 % 2 == 1
        assert columns <= ld < columns + 32
        assert x.ctypes.data % 64 == 0
        if rows > 1:
            assert x.strides == (4 * ld, 4)
        x[:] = np.arange(x.size, dtype=np.float32).reshape(x.shape)
        assert x[-1, -1] == np.float32(x.size - 1)


def test_zeros_rows_owner_outlives_its_views() -> None:
    row = _core.zeros_rows(3, 100)[1, 5:50]
    row += 1  # the matrix itself is gone
    assert row.sum() == 45


@pytest.mark.parametrize(("rows", "columns"), [(2**62, 1), (2**40, 2**40), (1, 2**54), (2**63 - 1, 0)])
def test_zeros_rows_refuses_what_does_not_fit(rows: int, columns: int) -> None:
    with pytest.raises(MemoryError):
        _core.zeros_rows(rows, columns)


@given(st.integers(0, 2**40), st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
def test_leading_dimension_is_an_odd_number_of_lines(columns: int, itemsize: int) -> None:
    ld = _core.leading_dimension(columns, itemsize)
    lines, rest = divmod(ld * itemsize, 64)
    assert rest == 0
    assert lines % 2 == 1
    assert ld >= columns
    assert lines < 3 or (lines - 2) * 64 < columns * itemsize


# ---- instruction sets and threads ----


def test_isas_start_with_base_and_can_be_forced(isa: str) -> None:
    assert _core.isas()[0] == "base"
    assert _core.isa() == isa


@pytest.mark.parametrize("bad", ["", "sse", "AVX2", "base\0", "\udc80", None, 1, b"base"])
def test_force_isa_refuses(bad: Any) -> None:
    before = _core.isa()
    with pytest.raises(ValueError, match="isa: expected one of the names in isas\\(\\), got"):
        _core.force_isa(bad)
    assert _core.isa() == before


def in_a_new_process(code: str, **environment: str) -> str:
    run = [sys.executable, "-c", f"from collegium import _core; {code}"]
    return subprocess.run(
        run, env={**os.environ, **environment}, check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()


@pytest.mark.parametrize("name", _core.isas())
def test_environment_chooses_the_isa(name: str) -> None:
    assert in_a_new_process("print(_core.isa())", COLLEGIUM_ISA=name) == name


def test_environment_with_an_unknown_isa_takes_the_best() -> None:
    assert in_a_new_process("print(_core.isa())", COLLEGIUM_ISA="neon") == _core.isas()[-1]


def test_set_num_threads(threads: int) -> None:
    assert _core.num_threads() == threads


@pytest.mark.parametrize(("value", "want"), [("3", "3"), ("1", "1"), ("0", None), ("-2", None), ("many", None)])
def test_environment_chooses_the_threads(value: str, want: str | None) -> None:
    told = in_a_new_process("print(_core.num_threads())", COLLEGIUM_NUM_THREADS=value)
    assert told == (want or str(len(os.sched_getaffinity(0))))


@pytest.mark.parametrize("bad", [0, -1, 1025, 2**31, -(2**31) - 1, 2**70])
def test_set_num_threads_refuses_values(bad: int) -> None:
    before = _core.num_threads()
    with pytest.raises(ValueError, match=f"threads: expected .* got {bad}"):
        _core.set_num_threads(bad)
    assert _core.num_threads() == before


@pytest.mark.parametrize("bad", [1.0, "2", None, [1], np.float32(2)])
def test_set_num_threads_refuses_types(bad: Any) -> None:
    with pytest.raises(TypeError, match="threads: expected an integer, got"):
        _core.set_num_threads(bad)


def test_numpy_integers_are_integers() -> None:
    before = _core.num_threads()
    _core.set_num_threads(np.int64(before))
    assert _core.random_u32(np.uint64(2**64 - 1), np.int8(1), np.uint32(2), 3, 4, 5).shape == (5,)


# ---- arguments ----


@pytest.mark.parametrize("function", RANDOM, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((-1, 0, 0, 0, 0, 1), r"seed: expected 0 to 2\*\*64 - 1, got -1"),
        ((2**64, 0, 0, 0, 0, 1), r"seed: expected 0 to 2\*\*64 - 1, got 18446744073709551616"),
        ((0, 2**16, 0, 0, 0, 1), "purpose: expected 0 to 65535, got 65536"),
        ((0, 0, -1, 0, 0, 1), "node: expected 0 to 4294967295, got -1"),
        ((0, 0, 0, 2**32, 0, 1), "round: expected 0 to 4294967295, got 4294967296"),
        ((0, 0, 0, 0, -1, 1), "first: expected 0 to 1125899906842624, got -1"),
        ((0, 0, 0, 0, 2**50 + 1, 0), "first: expected 0 to"),
        ((0, 0, 0, 0, 2**50 - 1, 2), "n: expected 0 to 1, got 2"),
        ((0, 0, 0, 0, 0, -1), "n: expected 0 to"),
    ],
)
def test_random_refuses_values(function: Any, arguments: tuple[int, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        function(*arguments)


@pytest.mark.parametrize("position", range(6))
def test_random_refuses_types(position: int) -> None:
    names = ["seed", "purpose", "node", "round", "first", "n"]
    arguments: list[Any] = [0] * 6
    arguments[position] = 0.5
    with pytest.raises(TypeError, match=f"{names[position]}: expected an integer, got 0.5"):
        _core.random_u32(*arguments)


def test_asking_for_too_many_words_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        _core.random_u32(0, 0, 0, 0, 0, 2**50)


@pytest.mark.parametrize(
    ("name", "count"),
    [("random_u32", 6), ("random_f32", 6), ("random_permutation", 5), ("zeros_rows", 2), ("leading_dimension", 2)],
)
def test_number_of_arguments(name: str, count: int) -> None:
    for given_count in (0, count - 1, count + 1):
        with pytest.raises(TypeError, match=rf"{name}\(\) takes {count} arguments \({given_count} given\)"):
            getattr(_core, name)(*[1] * given_count)


junk = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.none(), st.booleans(), st.binary(max_size=3)
)


@given(st.sampled_from([*RANDOM, _core.random_permutation, _core.leading_dimension]), st.lists(junk, max_size=7))
def test_junk_raises_or_works_but_never_crashes(function: Any, arguments: list[Any]) -> None:
    if any(isinstance(a, int) and 10**6 < a < 2**51 for a in arguments[-1:]):
        return  # a valid request, for gigabytes
    try:
        function(*arguments)
    except (TypeError, ValueError, MemoryError) as error:
        assert str(error)
