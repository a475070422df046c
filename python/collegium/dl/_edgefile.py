"""Graphs in text files: edge lists and adjacency lists, with the line number in every complaint."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from .._check import INT32_MAX

Line = tuple[int, list[int]]  # its number in the file, from 1, and the numbers on it
Pairs = npt.NDArray[np.int64]


def read(path: Path, form: str) -> tuple[int, Pairs]:
    """Number of nodes and edges (m, 2), each once, of the file; the rules are those of `topology.from_file`."""
    if form not in ("auto", "edges", "adjacency"):
        raise ValueError(f'form: expected "auto", "edges" or "adjacency", got {form!r}')
    lines = _lines(path)
    filled = [k for k, (_, numbers) in enumerate(lines) if numbers]
    if not filled:
        raise ValueError(f"{path}: expected a graph, got no numbers")
    head = filled[0]
    number, first = lines[head]
    body = lines[head + 1 :]
    n = None
    if len(first) == 1:
        n = first[0]
        if n < 1:
            _bad(path, number, f"expected a number of nodes of at least 1, got {n}")
    elif form == "adjacency":
        _bad(path, number, f"expected the number of nodes alone, got {len(first)} numbers")
    if n is None:
        return _edges(path, lines, None)
    either = _looks_like_edges(body)
    n_lines = len(body) >= n and not any(numbers for _, numbers in body[n:])
    if form == "adjacency" or (form == "auto" and (n_lines or not either)):
        return _adjacency(path, n, number, body, hint=form == "auto" and either)
    return _edges(path, body, n)


def _bad(path: Path, line: int, what: str) -> NoReturn:
    raise ValueError(f"{path}, line {line}: {what}")


def _lines(path: Path) -> list[Line]:
    """Every line that is not only a comment; blank ones count, except what follows the last line end."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _bad(path, raw.count(b"\n", 0, error.start) + 1, "expected UTF-8 text, got other bytes")
    rows = text.split("\n")
    if rows[-1].strip() == "":
        rows.pop()
    lines: list[Line] = []
    for number, row in enumerate(rows, 1):
        content, comment, _ = row.partition("#")
        words = content.split()
        if words or not comment:
            lines.append((number, [_number(path, number, word) for word in words]))
    return lines


def _number(path: Path, line: int, word: str) -> int:
    """Digits only: int() would also take '1_0' and other scripts' digits."""
    if not (word.isascii() and word.isdecimal()):
        _bad(path, line, f"expected node numbers, got {word[:40]!r}")
    digits = word.lstrip("0") or "0"
    if len(digits) > 10 or int(digits) >= INT32_MAX:
        _bad(path, line, f"expected numbers below 2**31 - 1, got {word[:40]}")
    return int(digits)


def _looks_like_edges(body: list[Line]) -> bool:
    return all(len(numbers) in (0, 2) for _, numbers in body)


def _check(path: Path, line: int, n: int | None, i: int, j: int) -> None:
    for node in (i, j):
        if n is not None and node >= n:
            _bad(path, line, f"expected nodes 0 to {n - 1}, got {node}")
    if i == j:
        _bad(path, line, f"self loop of node {i}")


def _edges(path: Path, lines: list[Line], n: int | None) -> tuple[int, Pairs]:
    at, listed = [], []
    for line, numbers in lines:
        if not numbers:
            continue
        if len(numbers) != 2:
            _bad(path, line, f"expected two node numbers, got {len(numbers)}")
        _check(path, line, n, numbers[0], numbers[1])
        at.append(line)
        listed.append(numbers)
    pairs = np.array(listed, dtype=np.int64).reshape(-1, 2)
    again = first_repeat(pairs)
    if again is None:
        turned = np.sort(pairs, axis=1)
        again = first_repeat(turned)
        if again is not None and len(np.unique(turned, axis=0)) * 2 == len(pairs):
            pairs, again = pairs[pairs[:, 0] < pairs[:, 1]], None  # every edge in both directions
    if again is not None:
        k, first = again
        _bad(path, at[k], f"edge {listed[k][0]} {listed[k][1]} is already there on line {at[first]}")
    return (int(pairs.max()) + 1 if n is None else n), pairs


def _adjacency(path: Path, n: int, head: int, body: list[Line], hint: bool) -> tuple[int, Pairs]:
    advice = ' (form="edges" reads it as a list of edges)' if hint else ""
    if len(body) < n:
        _bad(path, head, f"expected {n} lines of neighbours after it, got {len(body)}{advice}")
    for line, numbers in body[n:]:
        if numbers:
            _bad(path, line, f"expected nothing after the {n} lines of neighbours")
    lists = [set(numbers) for _, numbers in body[:n]]
    for node, (line, numbers) in enumerate(body[:n]):
        for other in numbers:
            _check(path, line, n, node, other)
            if node not in lists[other]:
                what = f"node {node} lists {other}, but node {other} (line {body[other][0]}) does not list {node}"
                _bad(path, line, what + advice)
        if len(lists[node]) != len(numbers):
            twice = next(v for k, v in enumerate(numbers) if v in numbers[:k])
            _bad(path, line, f"node {node} lists {twice} twice")
    pairs = [(node, other) for node in range(n) for other in sorted(lists[node]) if node < other]
    return n, np.array(pairs, dtype=np.int64).reshape(-1, 2)


def first_repeat(pairs: Pairs) -> tuple[int, int] | None:
    """Positions of the first row that equals an earlier one, and of that one; None if all differ. Values below 2^31."""
    key = pairs[:, 0] * (INT32_MAX + 1) + pairs[:, 1]
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order[1:]] == key[order[:-1]])
    if not same.size:
        return None
    k = same[np.argmin(order[same + 1])]
    return int(order[k + 1]), int(order[k])
