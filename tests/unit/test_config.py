"""show_config(): complete, truthful, and never in the way."""

from __future__ import annotations

import builtins
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collegium import _core, config


def text_of() -> str:
    out = io.StringIO()
    config.show_config(out)
    return out.getvalue()


def test_report_agrees_with_the_core() -> None:
    c = config.config()
    assert c["isa"] == _core.isa()
    assert c["isas"] == _core.isas()
    assert c["threads"] == _core.num_threads()
    assert c["error"] == ""
    json.dumps(c)  # plain values only
    for word in ("collegium", "NumPy", "kernels", "threads", "CUDA", "gloo", "torch", _core.isa()):
        assert word in text_of()


def test_prints_to_standard_output_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    config.show_config()
    assert capsys.readouterr().out == text_of()


def test_what_is_off_says_how_to_turn_it_on() -> None:
    c = config.config()
    for part in (c["cuda"], c["gloo"]):
        assert part["text"]
        assert part["on"] or part["install"]
    for name, package in c["packages"].items():
        assert package["install"].startswith("pip install 'collegium["), name
    off = [p["install"] for p in c["packages"].values() if not p["version"]]
    assert all(sentence in text_of() for sentence in off)


def test_imports_no_optional_package() -> None:
    code = "import sys; from collegium import config; config.config(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "pandas", "matplotlib", "scipy", "networkx", "faiss", "nacl", "aiohttp", "tqdm"}


def test_a_build_that_wrote_nothing_down_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "__file__", "/nonexistent/config.py")
    c = config.config()
    assert (c["cuda"]["on"], c["cuda"]["text"]) == (False, "not built")
    assert "not built" in text_of()


def test_a_damaged_note_of_the_build_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for damaged in ("", "[1", "3", "[]", '{"parts": 5}', '{"parts": {"cuda": []}}', "\x00"):
        (tmp_path / "_build.json").write_text(damaged)
        monkeypatch.setattr(config, "__file__", str(tmp_path / "config.py"))
        assert not config.config()["gloo"]["on"]


def test_a_core_that_does_not_load_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def broken(name: str, *rest: Any) -> Any:
        if name.startswith("collegium._"):
            raise ImportError("libsomething.so: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(config.importlib, "import_module", broken)
    c = config.config()
    assert "libsomething.so" in c["error"]
    assert "libsomething.so" in text_of()
    assert not c["cuda"]["on"]


def test_damaged_metadata_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> str:
        raise builtins.ValueError("damaged")

    monkeypatch.setattr(config.importlib.metadata, "version", broken)
    assert text_of()


@pytest.mark.parametrize("part", ["cuda", "gloo"])
def test_optional_extension_loads_where_it_was_built(part: str) -> None:
    note = json.loads((Path(config.__file__).with_name("_build.json")).read_text())["parts"][part]
    if not note["on"]:
        pytest.skip(f"collegium._{part} was not built: {note['text']} ({note['install']})")
    module = importlib.import_module(f"collegium._{part}")
    if part == "cuda":
        count, code, text = module.device_count()
        assert count >= 0
        assert (code == 0) == (text == "")
        assert code == 0 or count == 0
        assert module.runtime_version() >= 11000
        assert module.device_count() == (count, code, text)  # asking changes nothing
        assert config.config()["cuda"]["on"] == (count > 0)
    else:
        assert module.version().count(".") == 2
        assert config.config()["gloo"]["on"]
