"""Sources that stop, die, lie and dawdle: every query is answered, in time, with what the others found, and says so."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'collegium[rag]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'collegium[rag]'")

from source_processes import DIM, faulty, real, vectors

from collegium.rag import http_source, wire
from collegium.rag.breaker import Breaker
from collegium.rag.federated import AllSourcesFailed, FederatedRetriever
from collegium.rag.http_source import HttpSource, SourceError
from collegium.rag.local_source import VectorSource

SLACK = 0.5  # s beyond the deadline that a busy machine may take; 50 ms on a quiet one
ONES = np.ones(DIM, np.float32)


def expected(which, q, k):
    """(source number, id) of the best k in the union."""
    scores = np.concatenate([vectors(i) @ q for i in which])
    return [(which[j // 200], j % 200) for j in np.argsort(-scores, kind="stable")[:k]]


def found(result):
    return [(int(h.source[1:]), h.id) for h in result.hits()]


@pytest.fixture(scope="module")
def faults():
    with faulty() as (_, urls):
        yield urls


def test_one_of_four_stopped(tmp_path):
    """P6: kill -STOP. The reference answers 504 after 300 s and loses the three good answers."""
    rng = np.random.default_rng(0)
    limits = {"timeout": 0.3, "deadline": 0.4, "breaker": lambda: Breaker(backoff=0.4)}
    with real(tmp_path, 4) as sources, FederatedRetriever([HttpSource(u) for _, u in sources], k=5, **limits) as fr:
        q = rng.standard_normal(DIM).astype(np.float32)
        whole = fr.search(q)
        assert found(whole) == expected([0, 1, 2, 3], q, 5) and not whole.is_partial
        os.kill(sources[2][0].pid, signal.SIGSTOP)
        for i in range(8):
            q = rng.standard_normal(DIM).astype(np.float32)
            began = time.monotonic()
            r = fr.search(q)
            assert time.monotonic() - began < 0.4 + SLACK
            assert r.is_partial and r.answered == ("s0", "s1", "s3")
            assert r.reasons["s2"] == ("timeout" if i < 3 else r.reasons["s2"])
            assert found(r) == expected([0, 1, 3], q, 5)
            assert [h.passage["text"] for h in r.hits()] == [f"{h.source}/{h.id}" for h in r.hits()]
        assert fr.breakers["s2"].opened >= 1
        os.kill(sources[2][0].pid, signal.SIGCONT)
        until = time.monotonic() + 20
        while fr.search(q).is_partial:  # the breaker's probe finds it well again
            assert time.monotonic() < until
            time.sleep(0.05)
        assert found(fr.search(q)) == expected([0, 1, 2, 3], q, 5)


def test_one_of_four_killed(tmp_path):
    limits = {"timeout": 5, "deadline": 10, "breaker": lambda: Breaker(backoff=60)}
    with real(tmp_path, 4) as sources, FederatedRetriever([HttpSource(u) for _, u in sources], k=5, **limits) as fr:
        fr.search(ONES)
        sources[1][0].kill()
        sources[1][0].wait(10)
        reasons = []
        for _ in range(5):
            began = time.monotonic()
            r = fr.search(ONES)
            assert time.monotonic() - began < 2  # at once, not at a limit
            assert r.is_partial and found(r) == expected([0, 2, 3], ONES, 5)
            reasons.append(r.reasons["s1"])
        assert reasons[-2:] == ["breaker open"] * 2 and set(reasons[:3]) <= {"connection refused", "reset"}
        assert fr.breakers["s1"].state == "open" and "s1" in r.skipped


REASONS = {
    "slow first byte": "timeout", "slow body": "timeout", "http 500": "http 500", "malformed json": "malformed reply",
    "not http": "malformed reply", "half a body": "reset", "reset": "reset", "endless": "reply too large",
    "long": "reply too large", "wrong k": "malformed reply", "wrong rows": "malformed reply",
    "huge id": "malformed reply", "float id": "malformed reply", "text scores": "malformed reply",
    "redirect": "http 307", "deep json": "malformed reply", "bad passages": "malformed reply",
}  # fmt: skip


@pytest.mark.parametrize("fault", REASONS)
def test_a_fault_has_its_reason_and_spoils_nothing(faults, fault):
    good = VectorSource(vectors(0), name="good")
    bad = HttpSource(faults[fault], name="bad", binary=False)
    with FederatedRetriever([good, bad], k=5, timeout=0.3 if "slow" in fault else 5.0, deadline=6) as fr:
        r = fr.search(ONES)
        assert r.failed == {"bad": REASONS[fault]} and r.is_partial and r.answered == ("good",), r.details
        assert [h.id for h in r.hits()] == [i for _, i in expected([0], ONES, 5)]
        assert f'source="bad",reason="{REASONS[fault]}"' in " ".join(fr.counters)


def test_all_at_once_and_the_answers_that_can_be_used(faults):
    """NaN and infinite scores are dropped, unsorted ones sorted, fewer than k taken: those sources answered."""
    with FederatedRetriever({f: HttpSource(u, binary=False) for f, u in faults.items() if f not in
                             ("wrong dimension", "late", "large")}, k=10, timeout=1.0, deadline=1.5) as fr:  # fmt: skip
        began = time.monotonic()
        r = fr.search(ONES)
        assert time.monotonic() - began < 1.5 + SLACK
        assert r.failed == REASONS and sorted(r.answered) == ["few", "nan", "unsorted"]
        assert [(h.source, h.id, h.score) for h in r.hits()] == [
            ("nan", 7, 3.0), ("unsorted", 7, 3.0), ("unsorted", 8, 2.0), ("unsorted", 9, 1.0), ("few", 7, 1.0),
        ]  # fmt: skip
        assert [h.passage for h in r.hits()] == ["seven", "seven", "eight", "nine", None]
        assert fr.search(ONES).ids.tolist() == r.ids.tolist()


def test_wrong_dimension_is_found_before_or_at_the_first_answer(faults):
    good = VectorSource(vectors(0), name="good")
    with pytest.raises(ValueError, match="dim"):
        FederatedRetriever([good, HttpSource(faults["wrong dimension"], binary=False)])
    bad = HttpSource("http://127.0.0.1:1", name="bad", binary=False)  # not there at first
    with FederatedRetriever([good, bad], k=3) as fr:
        assert fr.sources["bad"] is None and fr.search(ONES).failed == {"bad": "connection refused"}
        bad.url = faults["wrong dimension"]
        r = fr.search(ONES)
        assert r.failed["bad"] in ("wrong dimension", "not comparable") and len(r.hits()) == 3


def test_a_large_reply_is_read_beside_the_loop(faults, monkeypatch):
    decode, where = wire.decode_reply, []
    monkeypatch.setattr(wire, "decode_reply", lambda *a: where.append(threading.current_thread().name) or decode(*a))
    monkeypatch.setattr(http_source, "INLINE", 1000)
    with HttpSource(faults["large"], binary=False) as large, HttpSource(faults["few"], binary=False) as few:
        assert large.search(ONES, 3)[1].tolist() == [[7, 8, 9]]
        assert few.search(ONES, 3)[1].tolist() == [[7, -1, -1]]
        loop = few._client._running().thread.name
        assert where[1] == loop != where[0] != large._client._running().thread.name


def test_a_decoder_that_takes_long_does_not_hold_the_deadline(faults, monkeypatch):
    decode = wire.decode_reply
    monkeypatch.setattr(wire, "decode_reply", lambda body, *a: time.sleep(3 * (len(body) > 1000)) or decode(body, *a))
    good, large = (HttpSource(faults[f], name=f, binary=False) for f in ("few", "large"))
    with FederatedRetriever([good, large], k=3, timeout=1, deadline=1) as fr:
        began = time.monotonic()
        r = fr.search(ONES)
        assert time.monotonic() - began < 1 + SLACK and r.answered == ("few",), r.reasons
        assert set(r.reasons) == {"large"}


def test_a_late_reply_never_answers_the_next_query(faults):
    """Trap 15: the first query times out; its answer comes while the connection could be serving the second."""
    with FederatedRetriever([HttpSource(faults["late"], binary=False)], k=1, timeout=0.2, breaker=None) as fr:
        assert fr.search(ONES * 111).failed == {"late": "timeout"}
        for n in (222, 333, 444, 555, 666, 777):
            assert [h.id for h in fr.search(ONES * n).hits()] == [n]
            time.sleep(0.1)


def test_alone_a_source_raises_its_reason(faults):
    for fault, reason in (("http 500", "http 500"), ("malformed json", "malformed reply"), ("reset", "reset")):
        with HttpSource(faults[fault], binary=False) as source:
            with pytest.raises(SourceError, match=reason) as e:
                source.search(ONES, 3)
            assert e.value.reason == reason
    with (
        HttpSource(faults["slow body"], binary=False, timeout=0.2) as source,
        pytest.raises(SourceError, match="timeout"),
    ):
        source.search(ONES, 3)
    with pytest.raises(SourceError, match="connection refused"):
        HttpSource("http://127.0.0.1:1").describe()


def test_policies_when_nobody_answers(faults):
    sources = {"a": HttpSource(faults["http 500"], binary=False), "b": HttpSource(faults["slow body"], binary=False)}
    with FederatedRetriever(sources, k=3, timeout=0.2) as fr:
        r = fr.search(ONES)
        assert not r.hits() and r.is_partial and r.reasons == {"a": "http 500", "b": "timeout"}
    with FederatedRetriever(sources, k=3, timeout=0.2, on_failure="raise") as fr:
        with pytest.raises(AllSourcesFailed, match="a: http 500, b: timeout") as e:
            fr.search(ONES)
        assert e.value.reasons == {"a": "http 500", "b": "timeout"} and e.value.result.is_partial


@pytest.mark.slow
def test_load_with_two_of_ten_faulty(tmp_path, faults):
    """Trap of every proxy: nothing lost, nobody late, nothing leaked."""
    with real(tmp_path, 2) as sources:
        named = {f"s{i}": HttpSource(sources[i][1]) for i in range(2)}
        named |= {f"s{i}": VectorSource(vectors(i), name=f"s{i}") for i in range(2, 8)}
        named |= {"s8": HttpSource(faults["slow body"], binary=False), "s9": HttpSource(faults["reset"], binary=False)}
        rng = np.random.default_rng(1)
        Q = rng.standard_normal((100, DIM)).astype(np.float32)

        async def one(fr, q):
            began = time.monotonic()
            r = await fr.asearch(q)
            return r, time.monotonic() - began

        async def load(fr):
            return await asyncio.gather(*(one(fr, q) for q in Q))

        gc.collect()
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        with FederatedRetriever(named, k=5, timeout=4, deadline=5, breaker=lambda: Breaker(backoff=0.2)) as fr:
            asyncio.run(load(fr))  # everything that is made once is made
            open_then = len(os.listdir("/proc/self/fd"))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for _ in range(4):
                answers = asyncio.run(load(fr))
                assert len(answers) == len(Q)
                for q, (r, seconds) in zip(Q, answers):
                    assert seconds < 5 + SLACK
                    assert set(r.reasons) <= {"s8", "s9"} and len(r.answered) == 8, r.reasons
                    assert found(r) == expected(list(range(8)), q, 5)
            assert len(os.listdir("/proc/self/fd")) <= open_then + 10
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
            assert grown < 32 << 10, f"{grown} KiB more after 400 queries"
        for _ in range(50):
            gc.collect()
            if (len(os.listdir("/proc/self/fd")), threading.active_count()) <= before:
                break
            time.sleep(0.1)
        assert len(os.listdir("/proc/self/fd")) <= before[0] and threading.active_count() <= before[1]
