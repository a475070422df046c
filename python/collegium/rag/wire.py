"""Bodies that a retriever and a source exchange over HTTP: JSON, or one safetensors buffer. Whatever comes is checked.

``POST /v1/search`` takes ``{"vector": [..] | [[..], ..], "k": 10}``, or as ``application/octet-stream`` a tensor
``vector``, float32 (d,) or (B, d), with ``k`` in the metadata. The reply has ``ids`` int64 and ``scores`` float32 of
shape (m,) or (B, m), m <= k, ``passages`` (a list of the same shape, None where there is none) and ``version``. In
JSON rows may be shorter than m; in a tensor id -1 stands for "no more", and passages are JSON in a uint8 tensor.
What JSON cannot hold in a passage is sent as `_plain` says: null for NaN, text for bytes and dates.
The binary form of a query of 768 numbers is a fifth of its text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from .seam import Floats, Ids
from .source import Source

JSON, TENSORS = "application/json", "application/octet-stream"
_deserialize: Any = deserialize  # which is not typed
_TYPES: dict[Any, Any] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}
_STATS = ("name", "count", "dim", "metric", "normalised", "centroid", "density", "encoder", "version", "cost")


class Refused(ValueError):
    """A request that a source does not answer. status: of HTTP, 400, 401, or 413 for what is too large."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Malformed(ValueError):
    """A reply that is none."""


class Query(NamedTuple):
    """A checked request. vectors: float32 (B, d). k: results wanted. single: it came as (d,), the reply has one row."""

    vectors: Floats
    k: int
    single: bool


@dataclass(frozen=True)
class Reply:
    """What a source said. D: float32 (B, k), I: int64 (B, k), best first, -1 for "no more".

    passages: document id -> passage, of those that came with one. version: tag of the documents, None if not told.
    """

    D: Floats
    I: Ids
    passages: Mapping[int, Any] = field(default_factory=dict)
    version: str | None = None


def encode_query(Q: Floats, k: int, binary: bool = True) -> bytes:
    """The body for float32 (B, d), as tensors or as JSON."""
    if binary:
        return bytes(save({"vector": np.ascontiguousarray(Q, "<f4")}, {"k": str(k)}))
    return json.dumps({"vector": Q.tolist(), "k": k}).encode()


def decode_query(body: bytes, kind: str, dim: int | None, max_k: int, max_batch: int) -> Query:
    """Reads a request. kind: its content type. dim: of the vectors, None for any. Raises Refused."""
    try:
        if kind.partition(";")[0].strip() == TENSORS:
            tensors, metadata = _read_tensors(body)
            vectors, k = tensors.get("vector"), _integer(metadata.get("k"))
            if vectors is None or vectors.dtype != np.float32:
                raise ValueError("vector: expected a float32 tensor of that name")
        else:
            fields = _read_json(body)
            vectors, k = _numbers(fields.get("vector"), "vector", "fi"), fields.get("k")
    except ValueError as e:
        raise Refused(str(e)) from e
    if type(k) is not int or k < 1:
        raise Refused(f"k: expected an integer of at least 1, got {k!r}")
    if k > max_k:
        raise Refused(f"k: expected at most {max_k}, got {k}", 413)
    single = vectors.ndim == 1
    vectors = vectors[None] if single else vectors
    if vectors.ndim != 2 or not vectors.size or (dim is not None and vectors.shape[1] != dim):
        raise Refused(f"vector: expected shape ({dim or 'd'},) or (B, {dim or 'd'}), got {vectors.shape}")
    if len(vectors) > max_batch:
        raise Refused(f"vector: expected at most {max_batch} rows, got {len(vectors)}", 413)
    with np.errstate(over="ignore"):  # a number beyond float32 becomes an infinity, which the next line reports
        out = np.ascontiguousarray(vectors, np.float32)
    if not np.isfinite(out).all():
        raise Refused("vector: expected finite numbers")
    return Query(out, k, single)


def encode_reply(
    D: Floats, I: Ids, passages: Sequence[Sequence[Any]] | None, version: str, *, single: bool, accept: str
) -> tuple[bytes, str]:
    """(body, content type) for D float32 and I int64, both (B, k). passages: (B, k) or None. accept: as in HTTP."""
    if TENSORS in accept:
        tensors: dict[str, NDArray[Any]] = {
            "ids": np.ascontiguousarray(I, "<i8"),
            "scores": np.ascontiguousarray(D, "<f4"),
        }
        if passages is not None:
            tensors["passages"] = np.frombuffer(_text(passages), np.uint8)
        return bytes(save(tensors, {"version": version})), TENSORS
    there = I >= 0
    fields: dict[str, Any] = {
        "ids": [row[t].tolist() for row, t in zip(I, there)],
        "scores": [row[t].tolist() for row, t in zip(D, there)],
    }
    if passages is not None:
        fields["passages"] = [[p for p, there_ in zip(row, t) if there_] for row, t in zip(passages, there)]
    if single:
        fields = {name: rows[0] for name, rows in fields.items()}
    return _text({**fields, "version": version}), JSON


def decode_reply(body: bytes, kind: str, B: int, k: int) -> Reply:
    """Reads the reply to B queries for k documents. Results without a finite score are dropped. Raises Malformed."""
    try:
        if kind.partition(";")[0].strip() == TENSORS:
            tensors, metadata = _read_tensors(body)
            if "ids" not in tensors or "scores" not in tensors:
                raise ValueError(f"expected tensors ids and scores, got {sorted(tensors)}")
            D, I = tensors["scores"], tensors["ids"]
            rows: Any = tensors.get("passages")
            version: Any = metadata.get("version")
        else:
            fields = _read_json(body)
            single = B == 1 and not any(isinstance(row, list) for row in _list(fields.get("ids"), "ids")[: k + 1])
            I = _rows(fields.get("ids"), "ids", "i", single, B, k)
            D = _rows(fields.get("scores"), "scores", "fi", single, B, k).astype(np.float32)
            rows = fields.get("passages")
            rows = [rows] if single and rows is not None else rows
            version = fields.get("version")
        if I.dtype != np.int64 or D.dtype != np.float32:
            raise ValueError(f"expected int64 ids and float32 scores, got {I.dtype} and {D.dtype}")
        found = results(D, I, B, k)
        if isinstance(rows, np.ndarray):  # as JSON: read last, what is refused anyway is not built
            rows = json.loads(rows.tobytes())
        return Reply(*found, _passages(rows, I), version if isinstance(version, str) else None)
    except (ValueError, RecursionError) as e:
        raise Malformed(str(e)) from e


def results(D: Any, I: Any, B: int, k: int) -> tuple[Floats, Ids]:
    """(D, I) of a search as float32 and int64 (B, k), filled up with id -1; what has no finite score is gone.

    Raises Malformed for other shapes, more than k columns, ids that are no integers or below -1.
    """
    D, I = np.asarray(D), np.asarray(I)
    if I.dtype.kind not in "iu" or D.dtype.kind != "f":
        raise Malformed(f"expected integer ids and float scores, got {I.dtype} and {D.dtype}")
    if I.shape != D.shape or I.ndim != 2 or len(I) != B or I.shape[1] > k:
        raise Malformed(f"expected ids and scores of shape ({B}, <= {k}), got {I.shape} and {D.shape}")
    if (I < -1).any() or (I.dtype == np.uint64 and (I >= 2**63).any()):
        raise Malformed(f"ids: expected -1 to 2**63 - 1, got {I.min()} to {I.max()}")
    D, I = D.astype(np.float32, copy=False), I.astype(np.int64, copy=False)
    lost = ~np.isfinite(D)
    if lost.any():
        I = np.where(lost, -1, I)
    if I.shape[1] == k:
        return D, I
    pad = ((0, 0), (0, k - I.shape[1]))
    return np.pad(D, pad, constant_values=np.nan), np.pad(I, pad, constant_values=-1)


def best_first(D: Any, I: Any, larger_is_better: bool) -> tuple[Floats, Ids]:
    """The same results (B, k) as float32 and int64, sorted within rows; what has no finite score is gone (id -1)."""
    D, I = np.asarray(D, np.float32), np.asarray(I, np.int64)
    absent = (I < 0) | ~np.isfinite(D)
    key = np.where(absent, np.inf, -D if larger_is_better else D)
    if not absent.any() and (key[:, 1:] >= key[:, :-1]).all():
        return D, I
    order = np.argsort(key, axis=1, kind="stable")
    D = np.take_along_axis(np.where(absent, np.float32(np.nan), D), order, axis=1)
    return D, np.take_along_axis(np.where(absent, -1, I), order, axis=1)


def encode_stats(source: Source) -> bytes:
    """JSON of what is known of a source."""
    fields = {name: getattr(source, name) for name in _STATS}
    if source.centroid is not None:
        fields["centroid"] = source.centroid.tolist()
    return _text(fields)


def decode_stats(body: bytes) -> Source:
    """The Source that another process described. Raises Malformed."""
    try:
        fields = {name: value for name, value in _read_json(body).items() if name in _STATS and value is not None}
        if "centroid" in fields:
            fields["centroid"] = _numbers(fields["centroid"], "centroid", "fi")
        for name in ("encoder", "version"):
            if not isinstance(fields.get(name, ""), str):
                raise ValueError(f"{name}: expected a string, got {fields[name]!r}")
        if "dim" in fields and (type(fields["dim"]) is not int or fields["dim"] < 1):
            raise ValueError(f"dim: expected an integer of at least 1, got {fields['dim']!r}")
        return Source(**fields)
    except (ValueError, TypeError, RecursionError) as e:
        raise Malformed(str(e)) from e


def _text(value: Any) -> bytes:
    try:
        return _dump(value)
    except Exception:  # one passage among many: the others must not be lost with it
        return _dump(_plain(value))


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any, depth: int = 32, inside: frozenset[int] = frozenset()) -> Any:
    """What JSON can hold of a value: null for NaN, infinities and what is nested too deep or in itself; NumPy's values
    as Python's; bytes as UTF-8, with replacement characters; sets as lists; for the rest, dates too, their str()."""
    try:
        if isinstance(value, (np.ndarray, np.generic)):
            value = value.tolist()
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, (bytes, bytearray)):
            return bytes(value).decode(errors="replace")
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            if not depth or id(value) in inside:
                return None
            inside |= {id(value)}
        if isinstance(value, dict):
            return {_key(n): _plain(v, depth - 1, inside) for n, v in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_plain(v, depth - 1, inside) for v in value]
        return str(value).encode(errors="replace").decode()  # no half surrogates
    except Exception:  # of its str()
        return None


def _key(name: Any) -> str:
    plain = _plain(name, 1)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        out = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"expected JSON, got {len(body)} bytes that are none: {e}") from e
    if not isinstance(out, dict):
        raise ValueError(f"expected a JSON object, got {type(out).__name__}")
    return out


def _read_tensors(body: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """(tensors, metadata). `deserialize` checks the header and every size, and gives all but the metadata."""
    try:
        found = _deserialize(body)
    except SafetensorError as e:
        raise ValueError(f"expected safetensors, got {len(body)} bytes that are none: {e}") from e
    unknown = [t["dtype"] for _, t in found if t["dtype"] not in _TYPES]
    if unknown:
        raise ValueError(f"expected tensors of {', '.join(_TYPES)}, got {unknown[0]}")
    tensors = {name: np.frombuffer(t["data"], _TYPES[t["dtype"]]).reshape(t["shape"]) for name, t in found}
    header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    return tensors, header.get("__metadata__", {})


def _integer(text: Any) -> Any:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10 else text


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name}: expected a list, got {type(value).__name__}")
    return value


def _numbers(value: Any, name: str, kinds: str) -> NDArray[Any]:
    """A list of numbers as an array; kinds: "i" for integers only. NumPy would take strings and booleans as well."""
    wanted = "integers below 2**63" if kinds == "i" else "numbers"
    _only_numbers(_list(value, name), {int} if kinds == "i" else {int, float}, f"{name}: expected {wanted}")
    try:
        out = np.asarray(value)
    except (ValueError, OverflowError) as e:
        raise ValueError(f"{name}: expected numbers in rows of one length: {e}") from e
    if out.size == 0:
        return out.astype(np.int64)
    if out.dtype.kind not in kinds:
        raise ValueError(f"{name}: expected {wanted}, got {out.dtype}")
    return out


def _only_numbers(values: list[Any], types: set[type], expected: str, depth: int = 3) -> None:
    """NumPy would make one long string among numbers as many strings of that length."""
    if depth and values and isinstance(values[0], list):
        for row in values:
            _only_numbers(_list(row, expected), types, expected, depth - 1)
    elif not types.issuperset(map(type, values)):
        raise ValueError(f"{expected}, got {next(type(v).__name__ for v in values if type(v) not in types)}")


def _rows(value: Any, name: str, kinds: str, single: bool, B: int, k: int) -> NDArray[Any]:
    """A list of B lists of up to k, possibly of several lengths, as one array with -1 at the end of the shorter ones.

    Lengths are looked at before anything is built of them.
    """
    lists = [_list(row, name) for row in ([value] if single else _list(value, name)[: B + 1])]
    if len(lists) > B:
        raise ValueError(f"{name}: expected shape ({B}, <= {k}), got {len(value)} rows")
    longest = max(map(len, lists), default=0)
    if longest > k:
        raise ValueError(f"{name}: expected rows of at most {k}, got one of {longest}")
    rows = [_numbers(row, name, kinds) for row in lists]
    if any(row.ndim != 1 for row in rows):
        raise ValueError(f"{name}: expected rows of numbers, got shapes {[row.shape for row in rows][:4]}")
    out = np.full((len(rows), longest), -1, np.int64 if kinds == "i" else np.float64)
    for to, row in zip(out, rows):
        to[: len(row)] = row
    return out


def _passages(rows: Any, I: Ids) -> dict[int, Any]:
    if rows is None:
        return {}
    if len(_list(rows, "passages")) != len(I):
        raise ValueError(f"passages: expected {len(I)} rows, got {len(rows)}")
    out: dict[int, Any] = {}
    for row, ids in zip(rows, I.tolist()):
        if not len(_list(row, "passages")) >= sum(i >= 0 for i in ids):
            raise ValueError(f"passages: expected as many as ids, got {len(row)}")
        out.update((i, p) for i, p in zip(ids, row) if i >= 0 and p is not None)
    return out
