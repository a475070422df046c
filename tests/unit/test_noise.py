"""Gaussian noise: the same bits everywhere, close to the true Box-Muller, and normal."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from collegium import _core

HEADER = Path(__file__).parents[2] / "csrc" / "noise" / "normal_core.h"
AT = (7, _core.FOR_NOISE, 3, 11)
MOST = math.sqrt(2 * 33 * math.log(2))  # 6.76: of the smallest u
ERROR = 5 * 2.0**-24  # of the radius; 4.2 measured over 44 million pairs


def draw(first, n):
    return _core.random_normal(*AT, first, n)


def bits(x):
    return x.view(np.uint32)


def true_pairs(r0, r1):
    """(k, 2) in float64, and the radius, of the words' pair."""
    radius = np.sqrt(-2 * np.log((r0 + 0.5) * 2.0**-32))
    place = ((r1 << 2) | 2).astype(np.uint32).view(np.int32)
    angle = (r1 >> 30) * (np.pi / 2) + place * (np.pi / 2) * 2.0**-32
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), radius


@pytest.fixture(scope="module")
def many():
    """Four million normals."""
    return draw(0, 4_000_000).astype(np.float64)


# ---- bits ----


def test_the_bits_are_part_of_every_saved_run(isa):
    want = "38d4e53e898187bf0e6711be73fe843fd4f891be468cb83f62d24f3f39876b3d"
    assert bits(_core.random_normal(1, 16, 2, 3, 0, 8)).tobytes().hex() == want


def test_every_instruction_set_offset_size_and_number_of_threads(isa, threads):
    _core.force_isa("base")
    whole = draw(0, 40_000)  # several tasks of the pool
    _core.force_isa(isa)
    for first in (*range(9), 1_003):
        for n in (*range(72), 20_001, 38_000):
            np.testing.assert_array_equal(bits(draw(first, n)), bits(whole[first : first + n]))


@pytest.mark.parametrize("first", [2**34 - 37, 2**36 - 128, 2**50 - 72])
def test_far_along_an_address(isa, first):
    """Blocks beyond 2^32 go on in the purpose's word: a vector of blocks may lie across."""
    words = _core.random_u32(*AT, first - first % 2, 72)
    want, radius = true_pairs(*words.astype(np.int64).reshape(-1, 2).T)
    got = draw(first, 70)
    skip = first % 2
    assert (np.abs(got - want.reshape(-1)[skip : skip + 70]) <= ERROR * radius.max()).all()
    np.testing.assert_array_equal(bits(got), bits(np.concatenate([draw(first + i, 1) for i in range(70)])))


def test_other_addresses_are_other_numbers():
    base = draw(0, 64)
    for at in ((8, *AT[1:]), (7, 64, *AT[2:]), (*AT[:2], 4, 11), (*AT[:3], 12), (7 + 2**32, *AT[1:])):
        assert not np.isin(_core.random_normal(*at, 0, 64), base).any()


def test_calls_from_many_threads_at_once():
    want = draw(5, 200_000)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: draw(5, 200_000), range(8)):
            np.testing.assert_array_equal(bits(got), bits(want))


# ---- closeness to Box-Muller ----


def test_close_to_float64(many):
    want, radius = true_pairs(*_core.random_u32(*AT, 0, len(many)).astype(np.int64).reshape(-1, 2).T)
    apart = np.abs(many.reshape(-1, 2) - want).max(axis=1)
    assert (apart <= ERROR * radius).all() and apart.max() < 1e-6


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """normal_core.h on words of our choice, by whatever C compiler is here: the extremes have no known address."""
    compiler = shutil.which(sysconfig.get_config_var("CC").split()[0]) or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on PATH")
    folder = tmp_path_factory.mktemp("noise")
    text = f"""#include "{HEADER}"
        void pairs(long n, const uint32_t *r, float *out) {{
            for (long i = 0; i < n; i++) cg_normal_pair(r[2 * i], r[2 * i + 1], out + 2 * i, out + 2 * i + 1);
        }}"""
    (folder / "pair.c").write_text(text)
    command = [compiler, "-std=c11", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "pair.c", "-o", "pair.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    pairs = ctypes.CDLL(str(folder / "pair.so")).pairs

    def call(r0, r1):
        r = np.ascontiguousarray(np.stack([r0, r1], axis=1), np.uint32)
        out = np.empty(r.shape, np.float32)
        pairs(ctypes.c_long(len(r)), r.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
        return out

    return call


def test_extreme_words(pair):
    edges = [0, 1, 2, 2**23, 2**24 + 1, 2**30, 2**30 - 1, 2**31 - 1, 2**31, 2**31 + 1, 3 * 2**30, 2**32 - 2, 2**32 - 1]
    half = int(math.sqrt(0.5) * 2**32)  # where the mantissa's range begins
    r0, r1 = (g.reshape(-1) for g in np.meshgrid([*edges, *range(half - 300, half + 300)], edges))
    got = pair(r0, r1)
    want, radius = true_pairs(r0.astype(np.int64), r1.astype(np.int64))
    assert (np.abs(got - want) <= ERROR * radius[:, None]).all()
    assert (got != 0).all() and np.abs(got).max() <= MOST * (1 + 1e-6)
    np.testing.assert_allclose(np.hypot(*pair([0], [0])[0].astype(float)), MOST, rtol=1e-6)  # all 32 bits: not 5.9
    np.testing.assert_allclose(pair([2**32 - 1], [0])[0, 0], 2.0**-16, rtol=1e-6)  # and at the other end


def test_the_angle_goes_round_evenly(pair):
    r1 = np.arange(0, 2**32, 2**20, dtype=np.int64) + 2**19
    x = pair(np.full_like(r1, 2**31), r1).astype(np.float64)
    angles = np.sort(np.mod(np.arctan2(x[:, 1], x[:, 0]), 2 * np.pi))
    np.testing.assert_allclose(angles, 2 * np.pi * (np.arange(len(r1)) + 0.5) / len(r1), atol=1e-6)


# ---- normality ----


def test_moments(many):
    n = len(many)
    assert abs(many.mean()) < 4 / math.sqrt(n)
    for power, moment, variance in ((2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)):
        assert abs((many**power).mean() - moment) < 4 * math.sqrt(variance / n), power


def test_kolmogorov_smirnov(many, need):
    stats = need("scipy.stats")
    for values in (many, many[::2], many[1::2], many[:10_000]):
        assert stats.kstest(values, "norm").pvalue > 1e-3


def test_tails(many):
    for least in (3.0, 4.0, 4.5):
        expected = len(many) * math.erfc(least / math.sqrt(2))
        found = int((np.abs(many) > least).sum())
        assert abs(found - expected) < 4.5 * math.sqrt(expected), least
    assert 4.5 < np.abs(many).max() < MOST


def test_values_next_to_each_other_are_independent(many):
    n = len(many)
    for apart in (1, 2, 3, 4, 8, 16, 32, 64):
        for f in (np.asarray, np.abs, np.square):
            a, b = f(many[:-apart]), f(many[apart:])
            assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / math.sqrt(n), (apart, f)
    quadrants = np.bincount((many[::2] > 0) * 2 + (many[1::2] > 0), minlength=4)
    assert np.abs(quadrants - n / 8).max() < 4.5 * math.sqrt(n / 8)


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1, 16, 0, 0, 0, 1), ValueError, "seed"),
        ((1, 2**16, 0, 0, 0, 1), ValueError, "purpose"),
        ((1, 16, 0, 0, 2**50, 1), ValueError, "n: "),
        ((1, 16, 0, 0, 0.5, 1), TypeError, "first"),
        ((1, 16, 0, 0, 0), TypeError, r"random_normal\(\) takes 6 arguments \(5 given\)"),
    ],
)
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        _core.random_normal(*arguments)


def test_no_numbers():
    assert draw(3, 0).shape == (0,) and draw(3, 0).dtype == np.float32
