"""What this installation can do: on, off, and the sentence that turns a thing on.

>>> import collegium
>>> collegium.show_config()                                               # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any, TextIO

# Optional Python packages: the name in the package index, and the extra of collegium that installs it.
_PACKAGES = {
    "torch": "torch",
    "pandas": "plot",
    "matplotlib": "plot",
    "networkx": "test",
    "scipy": "bench",
    "faiss-cpu": "rag",
    "aiohttp": "rag",
    "starlette": "rag",
    "uvicorn": "rag",
    "pynacl": "privacy",
}
_INSTEAD = {"faiss-cpu": ("faiss-gpu", "faiss-gpu-cu12")}  # packages that serve as well
_REBUILD = "then build again: pip install --force-reinstall --no-deps ."


def _version(package: str) -> str:
    """The installed version, found without importing the package; empty where there is none."""
    for name in (package, *_INSTEAD.get(package, ())):
        try:
            return importlib.metadata.version(name) or "of unknown version"
        except Exception:  # not installed, or its metadata is damaged: neither may stop a report
            continue
    return ""


def _built() -> dict[str, dict[str, Any]]:
    """What the build wrote down of each optional extension (setup.py); empty where it did not."""
    try:
        parts = json.loads(Path(__file__).with_name("_build.json").read_text())["parts"]
        return {name: dict(parts[name]) for name in parts}
    except (OSError, ValueError, TypeError, LookupError):
        return {}


def _part(name: str, said: dict[str, Any]) -> dict[str, Any]:
    """An optional extension: {"on", "text", "install"}. It is on if it can be used now, not only if it was built."""
    if not said.get("on"):
        install = f"{said['install']}, {_REBUILD}" if said.get("install") else f"install its tools, {_REBUILD}"
        return {"on": False, "text": said.get("text") or "not built", "install": install}
    try:
        module = importlib.import_module(f"{__package__}._{name}")
    except Exception as error:
        return {
            "on": False,
            "text": f"built with {said['text']}, but does not load: {error}",
            "install": said["install"],
        }
    if name != "cuda":
        return {"on": True, "text": said["text"], "install": ""}
    count, code, why = module.device_count()
    if count:
        return {"on": True, "text": f"{said['text']}, {count} device(s)", "install": ""}
    why = f"no usable device: {why or 'none found'} (CUDA error {code})"
    return {"on": False, "text": f"{said['text']}, {why}", "install": "install NVIDIA's driver, or run where a GPU is"}


def config() -> dict[str, Any]:
    """What show_config() prints, as a dictionary of plain values. Never raises; imports no optional package.

    Keys: version, python, platform, numpy; isa, isas, threads of the C core (where it does not load, "error" says why);
    cuda and gloo, each {"on", "text", "install"}; packages, {name: {"version", "install"}}.
    It asks the CUDA driver for its devices: not for a process that forks and uses CUDA in the child.
    """
    built = _built()
    report: dict[str, Any] = {
        "version": _version("collegium") or "not installed",
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "numpy": _version("numpy"),
        "isa": "",
        "isas": [],
        "threads": None,
        "error": "",
    }
    try:
        report["version"] = importlib.import_module(__package__).__version__
        core = importlib.import_module(f"{__package__}._core")
        report.update(isa=core.isa(), isas=list(core.isas()), threads=core.num_threads())
    except Exception as error:
        report["error"] = f"the C core does not load: {error}"
    for name in ("cuda", "gloo"):
        report[name] = _part(name, built.get(name, {}))
    report["packages"] = {
        name: {"version": _version(name), "install": f"pip install 'collegium[{extra}]'"}
        for name, extra in _PACKAGES.items()
    }
    return report


def show_config(file: TextIO | None = None) -> None:
    """Prints what is on, what is off, why, and the command that turns it on.

    file: where to (default: standard output). Never raises for what it reports; a closed `file` raises as print() does.
    """
    c = config()
    rows = [
        ("collegium", c["version"]),
        ("Python", c["python"]),
        ("platform", c["platform"]),
        ("NumPy", c["numpy"] or "missing: pip install numpy"),
        ("kernels", c["error"] or f"{c['isa']} (this machine runs: {', '.join(c['isas'])}; COLLEGIUM_ISA chooses)"),
        ("threads", c["error"] or f"{c['threads']} (COLLEGIUM_NUM_THREADS, collegium.set_num_threads)"),
    ]
    for label, part in (("CUDA", c["cuda"]), ("gloo", c["gloo"])):
        advice = "" if part["on"] else f"; to turn it on: {part['install']}"
        rows.append((label, f"{'on ' if part['on'] else 'off'}  {part['text']}{advice}"))
    for name, package in c["packages"].items():
        rows.append((name, package["version"] or f"off  {package['install']}"))
    print("\n".join(f"{label:11} {value}" for label, value in rows), file=file)
