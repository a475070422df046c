"""The package as a user installs it: built from the files alone, in a clean environment, with and without options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OFF = {"COLLEGIUM_CUDA": "off", "COLLEGIUM_GLOO": "off"}


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COLLEGIUM_") and k != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=400
    )


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the source archive holds: no build outputs, nothing to run into."""
    place = tmp_path_factory.mktemp("tree")
    for name in ("csrc", "cuda", "python"):
        unwanted = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__", "_build.json")
        shutil.copytree(ROOT / name, place / name, ignore=unwanted)
    for name in (
        "pyproject.toml",
        "setup.py",
        "setup_finders.py",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
    ):
        shutil.copy(ROOT / name, place / name)
    return place


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with no index at all: setuptools and NumPy are there."""
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", out, "."]
    good(run(*pip, cwd=tree, **OFF))
    (found,) = out.glob("collegium-*.whl")
    return found


def test_wheel_holds_what_it_should(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    built = [n for n in names if n.endswith(".so")]
    assert len(built) == 1
    assert built[0].startswith("collegium/_core.")
    assert ("cp310-abi3" in wheel.name) == built[0].endswith(".abi3.so")
    for name in ("__init__.py", "py.typed", "_build.json", "_cuda.pyi", "config.py"):
        assert f"collegium/{name}" in names
    assert not [n for n in names if n.endswith((".c", ".h", ".cu", ".o"))]
    metadata = next(n for n in names if n.endswith("/METADATA"))
    assert "\nLicense: Apache-2.0\n" in zipfile.ZipFile(wheel).read(metadata).decode()


def test_wheel_works_with_numpy_alone(wheel: Path, tmp_path: Path) -> None:
    """Installed into a folder of its own, and imported in isolation from this source tree."""
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", tmp_path / "site", wheel]
    good(run(*pip, cwd=tmp_path))
    code = "from collegium import config; print(config.__file__); config.show_config()"
    told = good(run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")))
    assert told.startswith(str(tmp_path))
    assert "off  COLLEGIUM_CUDA=off at build time; to turn it on: install the CUDA toolkit" in told
    assert "off  COLLEGIUM_GLOO=off at build time; to turn it on: apt-get install g++ libgloo-dev" in told
    assert "does not load" not in told


@pytest.mark.slow
@pytest.mark.net
def test_pip_install_into_a_clean_environment(tree: Path, tmp_path: Path) -> None:
    """`pip install .` with build isolation: no torch, no CUDA, no gloo, no BLAS."""
    good(run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path))
    python = tmp_path / "venv" / "bin" / "python"
    own = shutil.copytree(tree, tmp_path / "tree", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    done = run(python, "-m", "pip", "install", "-q", own, cwd=tmp_path, **OFF)
    if done.returncode and "No matching distribution found" in done.stderr:
        pytest.skip("no package index can be reached: pip install needs setuptools, wheel, NumPy, safetensors and tqdm")
    good(done)
    code = "import collegium.config as c, sys; c.show_config(); sys.exit('torch' in sys.modules)"
    told = good(run(python, "-c", code, cwd=tmp_path))
    assert "torch       off  pip install 'collegium[torch]'" in told
    good(run(python, "-m", "pip", "check", cwd=tmp_path))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (
            {"COLLEGIUM_CUDA": "on", "CUDA_HOME": "/nonexistent"},
            "COLLEGIUM_CUDA=on, but nvcc not found in /nonexistent: install the CUDA toolkit (nvcc), or set CUDA_HOME",
        ),
        (
            {"COLLEGIUM_GLOO": "on", "GLOO_HOME": "/nonexistent"},
            "COLLEGIUM_GLOO=on, but gloo/config.h not found in /nonexistent/include: apt-get install g++ libgloo-dev",
        ),
        ({"COLLEGIUM_CUDA": "yes"}, "COLLEGIUM_CUDA: expected auto, on or off, got 'yes'"),
        ({"COLLEGIUM_GLOO": ""}, "COLLEGIUM_GLOO: expected auto, on or off, got ''"),
        ({"COLLEGIUM_X86": "no"}, "COLLEGIUM_X86: expected auto, on or off, got 'no'"),
    ],
)
def test_build_stops_with_the_sentence(tree: Path, environment: dict[str, str], told: str) -> None:
    done = run(sys.executable, "setup.py", "build_ext", cwd=tree, **{**OFF, **environment})
    assert done.returncode != 0
    assert told in done.stderr


def build(tree: Path, lib: Path, *options: str | Path, **environment: str) -> str:
    """Objects are shared with the wheel's build: only what differs is compiled."""
    return good(run(sys.executable, "setup.py", "build_ext", "--build-lib", lib, *options, cwd=tree, **environment))


def test_missing_tool_chains_are_left_out_with_the_reason(tree: Path, wheel: Path, tmp_path: Path) -> None:
    told = build(tree, tmp_path, CUDA_HOME="/nonexistent", GLOO_HOME="/nonexistent")
    assert "CUDA  off  nvcc not found in /nonexistent (install the CUDA toolkit (nvcc), or set CUDA_HOME)" in told
    assert "GLOO  off  gloo/config.h not found in /nonexistent/include (apt-get install g++ libgloo-dev)" in told


def test_broken_tool_chain_is_left_out_and_its_old_output_removed(tree: Path, wheel: Path, tmp_path: Path) -> None:
    headers = tmp_path / "gloo" / "include" / "gloo"
    headers.mkdir(parents=True)
    (headers / "config.h").write_text("#define GLOO_VERSION_MAJOR 9\n#error this gloo is broken\n")
    stale = tmp_path / "collegium" / "_gloo.abi3.so"
    stale.parent.mkdir()
    stale.touch()
    environment = {"COLLEGIUM_CUDA": "off", "GLOO_HOME": str(tmp_path / "gloo")}
    told = build(tree, tmp_path, **environment)
    assert "GLOO  off  9 found, but building failed: " in told
    assert "this gloo is broken" in told
    assert not stale.exists()
    done = run(sys.executable, "setup.py", "build_ext", cwd=tree, **environment, COLLEGIUM_GLOO="on")
    assert done.returncode != 0
    assert "this gloo is broken" in done.stderr


def test_rebuild_compiles_only_what_a_header_reaches(tree: Path, wheel: Path, tmp_path: Path) -> None:
    def compiled() -> set[str]:
        lines = build(tree, tmp_path, **OFF).splitlines()
        return {line.split()[1] for line in lines if line.startswith("  compiling")}

    assert compiled() == set()
    (tree / "csrc" / "base" / "philox.h").touch()
    touched = compiled()
    assert "csrc/base/philox.c" in touched
    assert "csrc/base/pool.c" not in touched
    assert compiled() == set()


@pytest.mark.slow
def test_portable_build_has_only_base_kernels(tree: Path, tmp_path: Path) -> None:
    told = build(tree, tmp_path, "--build-temp", tmp_path / "objects", COLLEGIUM_X86="off", **OFF)
    assert "csrc/base/pool.c" in told
    assert "_avx" not in told
    shutil.copytree(tree / "python" / "collegium", tmp_path / "collegium", dirs_exist_ok=True)
    code = "from collegium import _core; print(_core.isas())"
    assert good(run(sys.executable, "-c", code, cwd=tmp_path)).strip() == "['base']"
