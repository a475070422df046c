"""A real text corpus on every machine: the docstrings of installed Python packages."""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .._check import integer
from .retrieval import Corpus

PACKAGES = ("numpy", "pandas", "matplotlib")
_SHORT, _LONG = 120, 2000  # characters a docstring must have, and at which a passage is cut


def docstrings(packages: Sequence[str] = PACKAGES, limit: int = 4000) -> Corpus:
    """Passages: docstrings of the functions, classes and methods of these packages; queries: the first sentence of
    each, whose relevant passage is the one it was cut from (known-item search, not human questions).

    packages: those that are not installed are left out; none is imported, their source files are read. "stdlib" is the
    standard library. limit: the most passages, spread evenly over all there are. The corpus depends on the installed
    versions. Raises ValueError if there is no docstring at all.
    """
    if isinstance(packages, str):
        raise TypeError(f"packages: expected a sequence of names, got {packages!r}")
    limit = integer(limit, "limit", 1)
    found = [entry for name in packages for entry in _of_package(name)]
    if not found:
        raise ValueError(f"packages: no docstrings in {', '.join(packages) or 'none'}; is one of them installed?")
    unique = list({text: (name, summary, text) for name, summary, text in found}.values())
    unique = unique[:: max(1, -(-len(unique) // limit))]
    passages: list[dict[str, Any]] = []
    queries: list[dict[str, Any]] = []
    for k, (name, summary, text) in enumerate(unique):
        passages.append({"id": f"docstrings:{k}", "title": name, "text": text[:_LONG], "source": "docstrings"})
        queries.append({"id": f"docstrings:q{k}", "text": summary, "relevant": [f"docstrings:{k}"]})
    return Corpus("docstrings", passages, queries)


def _of_package(package: str) -> Iterator[tuple[str, str, str]]:
    if package == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
    else:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return
        root = Path(next(iter(spec.submodule_search_locations)))
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root).parts
        if not {"tests", "test", "site-packages", "dist-packages"}.isdisjoint(inside):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue  # a file of another Python version is no reason to stop
        module = ".".join((package, *path.relative_to(root).with_suffix("").parts))
        members = [n for c in tree.body if isinstance(c, ast.ClassDef) for n in c.body]
        for node in [*tree.body, *members]:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                text = " ".join((ast.get_docstring(node) or "").split())
                summary = text.partition(". ")[0]
                if len(text) >= _SHORT and 20 <= len(summary) <= 200 and len(text) > 2 * len(summary):
                    yield f"{module}.{node.name}", summary, text[len(summary) :].lstrip(". ")
