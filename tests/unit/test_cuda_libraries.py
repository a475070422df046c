"""cuBLAS and NCCL by dlopen: found, absent, or not what their name says. A library of ours stands in for cuBLAS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cuda_twin import build

from collegium import CudaError, cuda
from collegium.cuda import libraries

# Column-major c = op(a) op(b), as cuBLAS: only what libraries.c asks for.
FAKE = """
int cublasGetProperty(int which, int *value) { *value = which == 0 ? 13 : which == 1 ? 1 : 2; return 0; }
int cublasCreate_v2(void **handle) { static int h; *handle = &h; return 0; }
int cublasSetStream_v2(void *handle, void *stream) { return handle == 0 || stream == (void *)77; }
int cublasSgemm_v2(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
                   const float *b, int ldb, const float *beta, float *c, int ldc) {
    if (!handle || ta != 1 || tb != 0 || *alpha != 1 || *beta != 0) return 7;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float s = 0;
            for (int l = 0; l < k; l++) s += a[i * (long)lda + l] * b[j * (long)ldb + l];
            c[j * (long)ldc + i] = s;
        }
    return 0;
}
int ncclGetVersion(int *v) { *v = 22809; return 0; }
"""


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fake")
    source, made = place / "fake.c", place / "libfake.so"
    source.write_text(FAKE)
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", source, "-o", made], check=True, timeout=60)
    return made


@pytest.fixture
def twin_module(tmp_path: Path) -> ModuleType:
    """One of its own for every test: what is open stays open."""
    return build(tmp_path)


@pytest.fixture(autouse=True)
def forget():
    libraries.library.cache_clear()
    yield
    libraries.library.cache_clear()


def test_absent_names_what_was_tried(twin, monkeypatch):
    monkeypatch.setattr(libraries, "_files", lambda name: iter(["libnowhere.so.9", "libm.so.6"]))
    for name, title in (("cublas", "cuBLAS"), ("nccl", "NCCL")):
        with pytest.raises(RuntimeError) as e:
            libraries.library(name)
        text = str(e.value)
        assert text.startswith(f"{title} not found: libnowhere.so.9: cannot open shared object file")
        assert f"libm.so.6: is not {title}" in text
        assert text.endswith("pip install 'collegium[cuda]'")
    a = cuda.from_numpy(np.ones((2, 3), np.float32))
    with pytest.raises(RuntimeError, match="cuBLAS not found"):
        libraries.sgemm(a, a)
    with pytest.raises(ValueError, match="cuBLAS is not open"):
        twin.cublas_gemm(0, 1, 2, 2, 3, a.address, 3, a.address, 3, a.address, 3)


def test_where_it_looks(tmp_path, monkeypatch):
    (tmp_path / "nvidia" / "cu13" / "lib").mkdir(parents=True)
    (tmp_path / "nvidia" / "cu13" / "lib" / "libcublas.so.13").touch()
    monkeypatch.setattr("sys.path", ["", str(tmp_path)])
    assert list(libraries._files("cublas")) == [
        "libcublas.so.13",
        "libcublas.so.12",
        str(tmp_path / "nvidia/cu13/lib/libcublas.so.13"),
    ]
    with pytest.raises(ValueError, match="name: expected one of 'cublas', 'nccl', got 'cudnn'"):
        libraries.library("cudnn")


def test_gemm_through_the_library(twin, fake, monkeypatch):
    monkeypatch.setattr(libraries, "_files", lambda name: iter(["libnowhere.so.9", str(fake)]))
    assert libraries.library("cublas") == "13.1.2"
    assert libraries.library("nccl") == "2.28.9"
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(3, 7)).astype(np.float32)
    x, y = cuda.from_numpy(a, padded=True), cuda.from_numpy(b)
    assert np.allclose(libraries.sgemm(x, y).numpy_sync(), a @ b.T, atol=1e-5)
    with pytest.raises(ValueError, match=r"b: expected shape \(n, 7\), got \(2, 3\)"):
        libraries.sgemm(x, cuda.from_numpy(np.ones((2, 3), np.float32)))
    with cuda.stream(77), pytest.raises(CudaError, match="cublasSgemm: status 1 on CUDA device 0"):
        libraries.sgemm(x, y)
