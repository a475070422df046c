"""Compiles the C core with the plain compiler and runs every program in tests/c: no Python in it.

COLLEGIUM_SANITIZE=address,undefined or =thread builds both with that sanitizer (`./run sanitize`).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted((ROOT / "tests" / "c").glob("test_*.c"))
CC = os.environ.get("CC", "cc")


def compile_with(*arguments: str | Path) -> None:
    done = subprocess.run([CC, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def rules() -> ModuleType:
    """setup.py as a module: the one place that knows the flags."""
    spec = importlib.util.spec_from_file_location("collegium_setup", ROOT / "setup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def library(rules: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """csrc without its bindings, as a static library: compiled once for all programs."""
    place = tmp_path_factory.mktemp("csrc")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        files = [f for f in rules.sources("csrc/*/*.c") if not f.startswith("csrc/python/")]
    objects = [place / (f.replace("/", "_") + ".o") for f in files]

    def one(file: str, made: Path) -> None:
        compile_with(*rules.c_flags(file), "-O1", "-g", *rules.sanitize_flags(rules.SANITIZE), "-c", file, "-o", made)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, files, objects))
    subprocess.run(["ar", "rcs", place / "libcsrc.a", *objects], check=True)
    return place / "libcsrc.a"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_c_program(program: Path, rules: ModuleType, library: Path, tmp_path: Path) -> None:
    made = tmp_path / program.stem
    flags = [*rules.c_flags(program.name), "-O1", "-g", *rules.WARNINGS_BY_LANGUAGE[".c"]]
    strict = ["-Werror"] if rules.DEV else []
    compile_with(*flags, *strict, *rules.sanitize_flags(rules.SANITIZE), program, library, "-lm", "-o", made)
    # Asking for more memory than there is must give NULL, as it does without a sanitizer.
    null = "allocator_may_return_null=1"
    sanitizers = {
        "ASAN_OPTIONS": null,
        "TSAN_OPTIONS": f"{null}:halt_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    done = subprocess.run([made], capture_output=True, text=True, timeout=300, env={**os.environ, **sanitizers})
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
