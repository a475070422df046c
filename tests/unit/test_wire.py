"""What goes over the wire: both forms say the same, and nothing that comes is believed."""

from __future__ import annotations

import datetime
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from collegium.rag import wire
from collegium.rag.source import Source
from collegium.rag.wire import JSON, TENSORS, Malformed, Refused

KINDS = [JSON, TENSORS]


@pytest.mark.parametrize("kind", KINDS)
@given(B=st.integers(1, 4), d=st.integers(1, 9), k=st.integers(1, 99), seed=st.integers(0, 99))
def test_queries_come_back(kind, B, d, k, seed):
    Q = np.random.default_rng(seed).standard_normal((B, d)).astype(np.float32)
    query = wire.decode_query(wire.encode_query(Q, k, kind == TENSORS), kind, d, 100, 10)
    assert query.vectors.tobytes() == Q.tobytes() and query.k == k and not query.single


@pytest.mark.parametrize("kind", KINDS)
@given(B=st.integers(1, 3), k=st.integers(1, 5), have=st.integers(0, 5), seed=st.integers(0, 99), told=st.booleans())
def test_replies_come_back(kind, B, k, have, seed, told):
    have = min(have, k)
    rng = np.random.default_rng(seed)
    I = rng.permuted(np.arange(B * 10).reshape(B, 10), axis=1)[:, :k].astype(np.int64) + 2**53
    I[:, have:] = -1
    D = rng.standard_normal((B, k)).astype(np.float32)
    rows = [[{"text": f"é {i}"} if i >= 0 else None for i in row] for row in I.tolist()] if told else None
    body, sent = wire.encode_reply(D, I, rows, "v7", single=B == 1, accept=kind)
    assert sent == kind
    reply = wire.decode_reply(body, kind, B, k)
    assert reply.I.tolist() == I.tolist() and reply.version == "v7"
    assert reply.D[I >= 0].tolist() == D[I >= 0].tolist()
    assert reply.passages == ({i: {"text": f"é {i}"} for i in I[I >= 0].tolist()} if told else {})


def test_json_is_what_curl_shows():
    query = wire.decode_query(b'{"vector": [1, 2.5], "k": 2}', "application/json; charset=utf-8", 2, 10, 10)
    assert query.single and query.vectors.tolist() == [[1, 2.5]]
    D, I = np.array([[2, 1, 0]], np.float32), np.array([[5, 3, -1]])
    body, _ = wire.encode_reply(D, I, [["five", None, None]], "v1", single=True, accept="*/*")
    assert json.loads(body) == {"ids": [5, 3], "scores": [2, 1], "passages": ["five", None], "version": "v1"}


def tensors(k="3", **named):
    return save({n: np.asarray(v) for n, v in named.items()}, {"k": k})


ONE = np.ones((1, 4), np.float32)


@pytest.mark.parametrize(
    "kind, body, status, message",
    [
        (JSON, b"", 400, "expected JSON"),
        (JSON, b"[1]", 400, "expected a JSON object, got list"),
        (JSON, b"[" * 100_000, 400, "expected JSON"),
        (JSON, b'{"k": 3}', 400, "vector: expected a list, got NoneType"),
        (JSON, b'{"vector": "no", "k": 3}', 400, "vector: expected a list, got str"),
        (JSON, b'{"vector": [1, 2, 3], "k": 3}', 400, r"vector: expected shape \(4,\) or \(B, 4\), got \(1, 3\)"),
        (JSON, b'{"vector": [[1, 2, 3, 4], [1]], "k": 3}', 400, "vector: expected numbers in rows of one length"),
        (JSON, b'{"vector": [], "k": 3}', 400, "vector: expected shape"),
        (JSON, b'{"vector": [[[1, 2, 3, 4]]], "k": 3}', 400, "vector: expected shape"),
        (JSON, b'{"vector": ["1", "2", "3", "4"], "k": 3}', 400, "vector: expected numbers, got str"),
        (JSON, b'{"vector": [true, true, true, true], "k": 3}', 400, "vector: expected numbers, got bool"),
        (JSON, b'{"vector": [NaN, 1, 1, 1], "k": 3}', 400, "vector: expected finite numbers"),
        (JSON, b'{"vector": [1e99, 1, 1, 1], "k": 3}', 400, "vector: expected finite numbers"),
        (JSON, b'{"vector": [1, 2, 3, 4]}', 400, "k: expected an integer of at least 1, got None"),
        (JSON, b'{"vector": [1, 2, 3, 4], "k": 0}', 400, "k: expected an integer of at least 1, got 0"),
        (JSON, b'{"vector": [1, 2, 3, 4], "k": true}', 400, "k: expected an integer of at least 1, got True"),
        (JSON, b'{"vector": [1, 2, 3, 4], "k": 2.5}', 400, "k: expected an integer"),
        (JSON, b'{"vector": [1, 2, 3, 4], "k": 101}', 413, "k: expected at most 100, got 101"),
        (JSON, b'{"vector": [1, 2, 3, 4], "k": ' + b"9" * 5000 + b"}", 400, "expected JSON"),
        (TENSORS, b"", 400, "expected safetensors"),
        (TENSORS, struct.pack("<Q", 2**62), 400, "expected safetensors"),
        (TENSORS, tensors(vector=ONE)[:-1], 400, "expected safetensors"),
        (TENSORS, tensors(vector=ONE) + b"x", 400, "expected safetensors"),
        (TENSORS, tensors(query=ONE), 400, "vector: expected a float32 tensor"),
        (TENSORS, tensors(vector=ONE.astype(np.float64)), 400, "expected tensors of F32"),
        (TENSORS, tensors(vector=ONE.astype(np.int64)), 400, "vector: expected a float32 tensor"),
        (TENSORS, tensors(vector=ONE, k="-3"), 400, "k: expected an integer of at least 1, got '-3'"),
        (TENSORS, tensors(vector=ONE, k="9" * 9), 413, "k: expected at most 100"),
        (TENSORS, tensors(vector=ONE, k="9" * 99), 400, "k: expected an integer"),
        (TENSORS, tensors(vector=ONE * np.inf), 400, "vector: expected finite numbers"),
        (TENSORS, tensors(vector=ONE[0, :3]), 400, "vector: expected shape"),
        (TENSORS, tensors(vector=np.ones((11, 4), np.float32)), 413, "vector: expected at most 10 rows, got 11"),
    ],
)
def test_bad_requests(kind, body, status, message):
    with pytest.raises(Refused, match=message) as e:
        wire.decode_query(body, kind, 4, 100, 10)
    assert e.value.status == status


def reply(**named):
    return json.dumps({"ids": [1, 2], "scores": [2.0, 1.0], **named}).encode()


I64, F32 = np.array([[1, 2]]), np.array([[2, 1]], np.float32)


@pytest.mark.parametrize(
    "kind, body, message",
    [
        (JSON, b"<html>", "expected JSON"),
        (JSON, b"{}", "ids: expected a list, got NoneType"),
        (JSON, reply(ids=[1]), "expected ids and scores of shape"),
        (JSON, reply(ids=[1, 2, 3, 4], scores=[4, 3, 2, 1]), "rows of at most 3"),
        (JSON, reply(ids=[[1, 2], [3, 4]], scores=[[1, 2], [3, 4]]), r"shape \(1, <= 3\), got 2 rows"),
        (JSON, reply(ids=[1, 2**63]), "ids: expected"),
        (JSON, reply(ids=[1, 2**64]), "ids: expected"),
        (JSON, reply(ids=[1, -2]), "ids: expected -1 to"),
        (JSON, reply(ids=[1, 2.5]), "ids: expected integers below 2"),
        (JSON, reply(ids=["1", "2"]), "ids: expected integers below 2"),
        (JSON, reply(scores=["a", "b"]), "scores: expected numbers"),
        (JSON, reply(scores=None), "scores: expected a list"),
        (JSON, reply(scores=[[1, 2], [3]]), "scores: expected numbers in rows"),
        (JSON, reply(scores=[1, [2]]), "scores: expected numbers, got list"),
        (JSON, reply(scores=[[1], 2]), "expected a list, got int"),
        (JSON, reply(ids=[True, 2]), "ids: expected integers below 2.*got bool"),
        (JSON, reply(passages=["one"]), "passages: expected as many as ids"),
        (JSON, reply(passages="one"), "passages: expected a list"),
        (TENSORS, b"\0" * 40, "expected safetensors"),
        (TENSORS, tensors(ids=I64), "expected tensors ids and scores"),
        (TENSORS, tensors(ids=I64, scores=F32[:, :1]), "expected ids and scores of shape"),
        (TENSORS, tensors(ids=F32, scores=F32), "expected int64 ids and float32 scores"),
        (TENSORS, tensors(ids=np.ones((1, 4), np.int64), scores=np.ones((1, 4), np.float32)), "<= 3"),
        (TENSORS, tensors(ids=I64[0], scores=F32[0]), "expected ids and scores of shape"),
        (TENSORS, tensors(ids=I64, scores=F32, passages=np.zeros(3, np.uint8)), "Expecting value"),
    ],
)
def test_bad_replies(kind, body, message):
    with pytest.raises(Malformed, match=message):
        wire.decode_reply(body, kind, 1, 3)


@given(st.binary(max_size=200), st.sampled_from(KINDS))
def test_any_bytes_are_refused_in_order(body, kind):
    with pytest.raises(Refused):
        wire.decode_query(body, kind, 4, 10, 10)
    with pytest.raises(Malformed):
        wire.decode_reply(body, kind, 1, 3)
    with pytest.raises(Malformed):
        wire.decode_stats(body)


@given(st.data())
def test_a_damaged_buffer_never_reads_outside(data):
    body = bytearray(wire.encode_reply(F32, I64, [["a", "b"]], "v", single=False, accept=TENSORS)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = wire.decode_reply(bytes(body), TENSORS, 1, 3)
    except Malformed:
        return
    assert found.I.shape == found.D.shape == (1, 3) and (found.I >= -1).all()


def test_scores_that_are_no_numbers_take_their_documents_with_them():
    found = wire.decode_reply(b'{"ids": [1, 2, 3], "scores": [NaN, Infinity, 1]}', JSON, 1, 4)
    assert found.I.tolist() == [[-1, -1, 3, -1]]


def test_best_first():
    D, I = np.array([[1, 3, np.nan, 2]], np.float32), np.array([[10, 11, 12, -1]])
    d, i = wire.best_first(D, I, True)
    assert i.tolist() == [[11, 10, -1, -1]] and d[0, :2].tolist() == [3, 1]
    assert wire.best_first(D, I, False)[1].tolist() == [[10, 11, -1, -1]]
    d, i = wire.best_first(d[:, :2], i[:, :2], True)
    assert i.tolist() == [[11, 10]]  # in order: as it was


def test_statistics_come_back():
    s = Source("wiki", np.arange(4.0), 9, 0.5, "l2", True, "minilm", "2026-01", 2.0)
    t = wire.decode_stats(wire.encode_stats(s))
    assert t.centroid.tolist() == s.centroid.tolist()
    for name in ("name", "count", "density", "metric", "normalised", "encoder", "version", "cost", "dim"):
        assert getattr(t, name) == getattr(s, name)
    t = wire.decode_stats(wire.encode_stats(Source("bare", dim=3)))
    assert t.centroid is None and t.count is None and t.dim == 3


@pytest.mark.parametrize(
    "fields, message",
    [
        ({}, "name"),
        ({"name": 3}, "name: expected a non-empty string"),
        ({"name": "a", "metric": "hamming"}, "metric: expected one of"),
        ({"name": "a", "centroid": [float("nan")]}, "centroid: expected finite"),
        ({"name": "a", "centroid": ["x"]}, "centroid: expected numbers"),
        ({"name": "a", "centroid": [1, 2], "dim": 3}, "dim: expected 2"),
        ({"name": "a", "dim": 0}, "dim: expected an integer of at least 1"),
        ({"name": "a", "dim": "7"}, "dim: expected an integer"),
        ({"name": "a", "count": -1}, "count: expected at least 0"),
        ({"name": "a", "version": 7}, "version: expected a string"),
    ],
)
def test_bad_statistics(fields, message):
    with pytest.raises(Malformed, match=message):
        wire.decode_stats(json.dumps(fields).encode())


def test_one_long_string_among_numbers_is_not_multiplied():
    """NumPy makes [1, 1, ..., "long"] as many strings of that length: 1000 of 4 MB here."""
    row = [1] * 999 + ["x" * 1_000_000]
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match="scores: expected numbers, got str"):
            wire.decode_reply(reply(ids=list(range(1000)), scores=row), JSON, 1, 1000)
        with pytest.raises(Refused, match="vector: expected numbers, got str"):
            wire.decode_query(json.dumps({"vector": row, "k": 1}).encode(), JSON, 1000, 10, 10)
        with pytest.raises(Refused, match="vector: expected numbers, got str"):
            wire.decode_query(json.dumps({"vector": [row], "k": 1}).encode(), JSON, 1000, 10, 10)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("single", [True, False])
def test_too_long_a_reply_is_refused_before_arrays_are_made_of_it(single, monkeypatch):
    monkeypatch.setattr(wire, "_numbers", None)
    many = list(range(100_000))
    with pytest.raises(Malformed, match="ids: expected rows of at most 3, got one of 100000"):
        wire.decode_reply(reply(ids=many if single else [many], scores=many), JSON, 1, 3)
    with pytest.raises(Malformed, match=r"ids: expected shape \(2, <= 3\), got 100000 rows"):
        wire.decode_reply(reply(ids=[[i] for i in many]), JSON, 2, 3)


class Unspeakable:
    def __str__(self):
        raise RuntimeError


INSIDE_ITSELF: list = []
INSIDE_ITSELF.append(INSIDE_ITSELF)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "passage, sent",
    [
        (float("nan"), None),
        ({"score": float("inf"), "text": "a"}, {"score": None, "text": "a"}),
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
        (np.float32(0.5), 0.5),
        (np.float32("nan"), None),
        ({"vector": np.array([1.0, np.nan])}, {"vector": [1.0, None]}),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        ({(1, 2): "x", None: "y", 3: "z", "w": {4}}, {"[1, 2]": "x", "null": "y", "3": "z", "w": [4]}),
        ("half \ud800", "half ?"),
        (Unspeakable(), None),
        ({Unspeakable(): 1}, {"null": 1}),
    ],
)
def test_a_passage_that_json_cannot_hold_spoils_nothing(kind, passage, sent):
    body, kind = wire.encode_reply(F32, I64, [[passage, "whole \u00e9"]], "v", single=False, accept=kind)
    found = wire.decode_reply(body, kind, 1, 2)
    assert found.I.tolist() == [[1, 2]] and found.passages.get(1) == sent and found.passages[2] == "whole \u00e9"


@pytest.mark.parametrize("kind", KINDS)
def test_a_passage_inside_itself_ends(kind):
    body, kind = wire.encode_reply(F32, I64, [[INSIDE_ITSELF, "whole"]], "v", single=False, accept=kind)
    assert wire.decode_reply(body, kind, 1, 2).passages[2] == "whole"


def test_a_passage_inside_itself():
    knot = ["x"]
    knot += [knot, knot]
    assert wire._plain(knot) == ["x", None, None]
