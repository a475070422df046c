"""`collegium serve-source` and `HttpSource` over real connections: forms, limits, tokens, TLS, bytes, signals."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'collegium[rag]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'collegium[rag]'")

from source_processes import DIM, real, start, stop, vectors

from collegium.rag.federated import FederatedRetriever
from collegium.rag.http_client import Usage
from collegium.rag.http_source import HttpSource, SourceError
from collegium.rag.local_source import VectorSource
from collegium.rag.server import SourceServer, app, serve_source

ONES = np.ones(DIM, np.float32)


def source(i=0, **named):
    return VectorSource(
        vectors(i), **{"name": f"s{i}", "passages": [{"text": f"s{i}/{j}"} for j in range(200)], **named}
    )


def best(i, q, k):
    return np.argsort(-(vectors(i) @ q), kind="stable")[:k].tolist()


def call(url, body=None, **headers):
    """(status, JSON): the request of someone without our client."""
    request = urllib.request.Request(url, data=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read() or b"null")


class Proxy:
    """Passes bytes on and counts them."""

    def __init__(self, url):
        self.target = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        self.up = self.down = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{url.partition('://')[0]}://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, server = self.listener.accept()[0], socket.create_connection(self.target)
                for a, b, name in ((client, server, "up"), (server, client, "down")):
                    threading.Thread(target=self.pump, args=(a, b, name), daemon=True).start()

    def pump(self, a, b, name):
        with contextlib.suppress(OSError):
            while data := a.recv(1 << 16):
                setattr(self, name, getattr(self, name) + len(data))  # one thread writes each: up or down
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    names = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-out", names[0], "-keyout", names[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return names


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("tls", [False, True])
def test_bytes_are_what_a_proxy_sees(binary, tls, request):
    """Trap 14: both directions, headers, handshakes; per query, and in sum over reused and new connections."""
    cert, key = request.getfixturevalue("certificate") if tls else (None, None)
    context = ssl.create_default_context(cafile=cert) if tls else None
    with SourceServer(source(), ssl_certfile=cert, ssl_keyfile=key) as server:
        proxy = Proxy(server.url)
        http = HttpSource(proxy.url, name="s0", binary=binary, ssl_context=context)
        with FederatedRetriever([http], k=5, timeout=10, deadline=20) as fr:
            time.sleep(0.2)
            at = proxy.up, proxy.down  # the statistics were read
            results = [fr.search(ONES) for _ in range(3)] + [fr.search(np.ones((50, DIM), np.float32))]

            async def together():
                return await asyncio.gather(*(fr.asearch(ONES) for _ in range(8)))

            results += asyncio.run(together())
            assert all(not r.is_partial for r in results)
            until = time.monotonic() + 5
            while proxy.down - at[1] < sum(r.bytes_in for r in results) and time.monotonic() < until:
                time.sleep(0.01)
            if not tls:  # TLS 1.3 tickets of a new connection come before or after the reply
                assert proxy.down - at[1] == sum(r.bytes_in for r in results)
            assert proxy.up - at[0] == sum(r.bytes_out for r in results)
            one, batch = results[1], results[3]
            assert one.bytes_out > 4 * DIM and batch.bytes_out > one.bytes_out + 49 * 4 * DIM
            assert fr.counters["collegium_federated_bytes_out_total"] == sum(r.bytes_out for r in results)


def test_json_as_curl_sends_it():
    with SourceServer(source(version="v3", encoder="toy")) as server:
        status, reply = call(server.url + "/v1/search", json.dumps({"vector": [1.0] * DIM, "k": 3}).encode())
        assert status == 200 and reply["ids"] == best(0, ONES, 3) and reply["version"] == "v3"
        assert reply["passages"] == [{"text": f"s0/{i}"} for i in reply["ids"]]
        status, reply = call(server.url + "/v1/search", json.dumps({"vector": [[1.0] * DIM] * 2, "k": 3}).encode())
        assert reply["ids"] == [best(0, ONES, 3)] * 2
        status, stats = call(server.url + "/v1/stats")
        assert (stats["count"], stats["dim"], stats["metric"], stats["encoder"]) == (200, DIM, "ip", "toy")
        assert np.allclose(stats["centroid"], vectors(0).mean(axis=0), atol=1e-6)
        assert call(server.url + "/healthz") == (200, {"status": "ok", "name": "s0"})
        status, counters = call(server.url + "/v1/counters")
        assert counters["collegium_source_requests_total"] == 2 and counters["collegium_source_queries_total"] == 3
        assert counters == server.counters


def test_our_client_alone():
    with SourceServer(source()) as server:
        for binary in (True, False):
            with HttpSource(server.url + "/", binary=binary) as http:
                assert http.name == "s0" and http.describe().count == 200 and "200 x 16" in repr(http)
                D, I = http.search(np.stack([ONES, -ONES]), 4)
                assert I.tolist() == [best(0, ONES, 4), best(0, -ONES, 4)] and D.dtype == np.float32
                assert np.allclose(D[0], (vectors(0) @ ONES)[I[0]], rtol=1e-5)
                assert asyncio.run(http.asearch(ONES, 300))[1][0, 199:].tolist()[1:] == [-1] * 100
                for bad in (np.ones(DIM + 1), np.full(DIM, np.inf)):
                    with pytest.raises(ValueError, match="s0"):
                        http.search(bad, 3)
    for url in ("127.0.0.1:9001", "ftp://x", "http://", "http://a@b:1", "http://a/?q", 7):
        with pytest.raises(ValueError, match="url: expected"):
            HttpSource(url)


def test_limits_and_bad_requests_leave_the_server_well():
    small = {"max_k": 5, "max_batch": 2, "max_body": 1000}
    with SourceServer(source(), **small) as server:
        url = server.url + "/v1/search"
        query = {"vector": [1.0] * DIM, "k": 3}

        def said(body, **headers):
            status, reply = call(url, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers)
            return status, reply["error"]

        assert said({**query, "k": 6}) == (413, "k: expected at most 5, got 6")
        assert said({**query, "vector": [[1.0] * DIM] * 3})[0] == 413
        assert said({**query, "vector": [1.0] * 3}) == (400, "vector: expected shape (16,) or (B, 16), got (1, 3)")
        assert said(b"x" * 1001) == (413, "body: expected at most 1000 bytes")
        assert (
            said(b"not json")[0] == 400 and said(b"not safetensors", Content_Type="application/octet-stream")[0] == 400
        )
        assert call(url)[0] == 405 and call(server.url + "/v2")[0] == 404
        chunked = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
        with chunked:  # no length told beforehand, and more than is allowed
            chunked.sendall(b"POST /v1/search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    chunked.sendall(b"100\r\n" + b" " * 256 + b"\r\n")
            assert b" 413 " in chunked.recv(100)
        gone = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
        gone.sendall(b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{")
        gone.close()
        assert call(url, json.dumps(query).encode())[1]["ids"] == best(0, ONES, 3)
        assert server.counters["collegium_source_refused_total"] >= 9
        with HttpSource(server.url) as http, pytest.raises(SourceError, match="http 413.*at most 5"):
            http.search(ONES, 6)


@pytest.mark.parametrize("binary", [True, False])
def test_a_large_batch_goes_as_several_requests(binary):
    Q = np.random.default_rng(3).standard_normal((300, DIM)).astype(np.float32)
    texts = [f"{j:04d}" + "x" * 1000 for j in range(200)]
    with SourceServer(source(passages=texts, version="v1"), max_batch=128) as server:
        with FederatedRetriever([HttpSource(server.url, binary=binary)], k=32, timeout=30, deadline=30) as fr:
            r = fr.search(Q)  # 9.8 MB of passages
            assert not r.is_partial and r.ids.tolist() == [best(0, q, 32) for q in Q]
            assert [h.passage for h in r.hits(299)] == [texts[i] for i in best(0, Q[299], 32)]
            assert r.bytes_in > 9_000_000 and r.bytes_out > Q.nbytes
            t = r.timings["sources"]["s0"]
            assert 0 <= t["t_connect"] <= t["t_first"] <= t["t_total"]
        assert server.counters["collegium_source_requests_total"] == 5
        with HttpSource(server.url, max_batch=100, timeout=30) as http:
            assert http.search(Q, 3)[1].tolist() == [best(0, q, 3) for q in Q]
            assert server.counters["collegium_source_requests_total"] == 8
            http.search(Q[:9], 1000)  # 4 queries at once
            assert server.counters["collegium_source_requests_total"] == 11
        message = "reply too large.*max_reply=9000: a larger.*max_batch=64: a smaller"
        with HttpSource(server.url, max_reply=9000) as http, pytest.raises(SourceError, match=message):
            http.search(Q, 32)
    with pytest.raises(ValueError, match="max_batch"):
        HttpSource(server.url, max_batch=0)


def test_a_batch_does_not_mix_versions():
    class Changing:
        name, version, asked, until = "s0", "", 0, 3

        def search(self, Q, k):
            Changing.asked += 1
            self.version = f"v{min(Changing.asked, self.until)}"
            return source().search(Q, k)

        def describe(self):
            return source().describe()

    Q = np.ones((4, DIM), np.float32)
    with SourceServer(Changing()) as server, HttpSource(server.url, max_batch=2) as http:
        assert http.search(Q, 3)[1].tolist() == [best(0, ONES, 3)] * 4 and Changing.asked == 4
        Changing.asked, Changing.until = 0, 99
        with pytest.raises(SourceError, match="version changed"):
            http.search(Q, 3)


@pytest.mark.parametrize("start", [b"X: ", b"X: 1\r\n" * 9000, b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: "])
def test_a_head_without_an_end_is_cut_off(start):
    with SourceServer(source()) as server:
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as s:
            s.settimeout(10)
            sent = 0
            with contextlib.suppress(ConnectionError):
                s.sendall(b"POST /v1/search HTTP/1.1\r\nHost: x\r\n" + start)
                while sent < 64 << 20:
                    s.sendall(b"x" * 65536)
                    sent += 65536
            assert sent < 16 << 20  # what fits into the buffers of the system
        query = json.dumps({"vector": [1.0] * DIM, "k": 3}).encode()
        assert call(server.url + "/v1/search", query, X="y" * 30_000)[1]["ids"] == best(0, ONES, 3)
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as s:
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (64 << 10))
            assert s.recv(100).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))  # 400: of h11


def test_a_token_is_asked_for():
    with SourceServer(source(), token="secret") as server:
        body = json.dumps({"vector": [1.0] * DIM, "k": 3}).encode()
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "secret"},
            {"Authorization": "Bearer \xe9"},
        ):
            assert call(server.url + "/v1/search", body, **headers)[0] == 401
            assert call(server.url + "/v1/stats", **headers)[0] == 401
        assert call(server.url + "/healthz")[0] == 200
        assert call(server.url + "/v1/search", body, Authorization="Bearer secret")[0] == 200
        with HttpSource(server.url, token="secret") as http:
            assert http.search(ONES, 2)[1][0].tolist() == best(0, ONES, 2)
        with HttpSource(server.url) as http, pytest.raises(SourceError, match="http 401"):
            http.describe()
    with pytest.raises(ValueError, match="token: expected a non-empty string"):
        SourceServer(source(), token="")


def test_tls_is_verified(certificate):
    cert, key = certificate
    with SourceServer(source(), ssl_certfile=cert, ssl_keyfile=key) as server:
        with HttpSource(server.url) as http, pytest.raises(SourceError, match="tls"):
            http.describe()
        with HttpSource(server.url, verify_ssl=False) as http:
            assert http.name == "s0"
        with HttpSource(server.url, ssl_context=ssl.create_default_context(cafile=cert)) as http:
            assert http.search(ONES, 2)[1][0].tolist() == best(0, ONES, 2)


def test_a_slow_search_keeps_nobody_waiting_and_a_failing_one_says_so(caplog):
    class Slow:
        name = "slow"

        def search(self, Q, k):
            if Q[0, 0] < 0:
                raise KeyError("shard 7")
            time.sleep(1.0)
            return source().search(Q, k)

        def describe(self):
            return source().describe()

    with SourceServer(Slow(), threads=8) as server:
        with HttpSource(server.url) as http:
            http.describe()
            began = time.monotonic()
            threads = [threading.Thread(target=http.search, args=(ONES, 3)) for _ in range(8)]
            for t in threads:
                t.start()
            time.sleep(0.1)
            assert call(server.url + "/healthz")[0] == 200 and any(t.is_alive() for t in threads)
            for t in threads:
                t.join()
            assert time.monotonic() - began < 7  # side by side, not eight seconds
            with caplog.at_level(logging.ERROR), pytest.raises(SourceError, match="http 500.*KeyError"):
                http.search(-ONES, 3)
            assert "shard 7" in caplog.text  # the trace is for the server's log, not for the caller
        assert server.counters["collegium_source_errors_total"] == 1


def test_a_source_inside_another_application():
    starlette = pytest.importorskip("starlette.applications")
    import uvicorn
    from starlette.routing import Mount

    inner = app(source())
    outer = starlette.Starlette(routes=[Mount("/stores/s0", inner)])
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(outer, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    try:
        with HttpSource(f"http://127.0.0.1:{sock.getsockname()[1]}/stores/s0", timeout=20) as http:
            assert http.search(ONES, 2)[1][0].tolist() == best(0, ONES, 2)
    finally:
        server.should_exit = True
        thread.join()


def test_a_restarted_source_and_its_new_version():
    with SourceServer(source(version="v1")) as server, FederatedRetriever([HttpSource(server.url)], k=3) as fr:
        seen = []
        fr.on_version_change.append(lambda *change: seen.append(change))
        fr.search(ONES)
        port = int(server.url.rsplit(":", 1)[1])
        server.close()
        with SourceServer(source(version="v2"), port=port):
            r = fr.search(ONES)  # the kept connection is dead
            assert not r.is_partial and seen == [("s0", "v1", "v2")]
            with pytest.raises(OSError, match="in use"):
                SourceServer(source(), port=port)


def test_sources_that_come_up_later():
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    http = HttpSource(f"http://127.0.0.1:{port}", name="s0")
    with pytest.raises(SourceError, match="connection refused .its name is not known"):
        FederatedRetriever([HttpSource(http.url)])
    with FederatedRetriever([http], k=3, breaker=None) as fr:
        assert fr.sources == {"s0": None} and fr.search(ONES).reasons == {"s0": "connection refused"}
        with SourceServer(source(encoder="toy", version="v1"), port=port):
            for _ in range(2):  # described on the way, then known
                assert [h.id for h in fr.search(ONES).hits()] == best(0, ONES, 3)
            assert fr.sources["s0"].encoder == "toy"
            with pytest.raises(ValueError, match="encoder 'toy'"):
                fr.search(np.ones(3))


def test_a_kept_connection_that_closes_under_the_query_is_tried_again():
    """The race of every keep-alive pool: the source closes while the query is on its way."""
    with SourceServer(source()) as server:
        proxy = Proxy(server.url)
        with HttpSource(proxy.url, name="s0") as http:
            http.search(ONES, 3)
            client = http._own()
            usage = Usage()

            async def poisoned():
                transport = next(iter(client.session.connector._conns.values()))[0][0].transport
                sock = transport.get_extra_info("socket")
                sock.shutdown(socket.SHUT_WR)  # sending fails from now on, and the pool does not know yet
                return await http.ask(client, ONES[None], 3, usage)

            assert client.run(poisoned()).I[0].tolist() == best(0, ONES, 3)
            assert not usage.reused  # the answer came over a new connection


def test_the_command_serves_an_index_until_it_is_told_to_stop(tmp_path, need):
    faiss = need("faiss")
    index = faiss.IndexFlatL2(DIM)
    index.add(vectors(3))
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    with gzip.open(tmp_path / "p.jsonl.gz", "wt") as f:
        f.writelines(json.dumps(f"passage {j}") + "\n" for j in range(200))
    (tmp_path / "token").write_text("abc\n")
    for stopping in (signal.SIGTERM, signal.SIGINT):
        process, line = start(
            "-m", "collegium.rag.serve_cli", "--index", str(tmp_path / "x.faiss"), "--passages",
            str(tmp_path / "p.jsonl.gz"), "--name", "notes", "--port", "0", "--token-file", str(tmp_path / "token"),
            "--encoder", "toy", "--version-tag", "v9",
        )  # fmt: skip
        try:
            assert line.startswith("serving notes: 200 x 16 at http://127.0.0.1:")
            http = HttpSource(line.split()[-1], token="abc")
            with FederatedRetriever([http], k=3, timeout=10, deadline=10) as fr:
                nearest = np.argsort(np.square(vectors(3) - ONES).sum(axis=1), kind="stable")[:3].tolist()
                assert [h.passage for h in fr.search(ONES).hits()] == [f"passage {i}" for i in nearest]
                s = fr.sources["notes"]
                assert (s.metric, s.encoder, s.version) == ("l2", "toy", "v9")
                process.send_signal(stopping)  # with a connection open
                assert process.wait(10) == 0
        finally:
            stop(process)


def test_the_command_explains_what_is_wrong(tmp_path):
    np.save(tmp_path / "x.npy", vectors(0))
    (tmp_path / "p.jsonl").write_text('"a"\n{\n')
    taken = socket.create_server(("127.0.0.1", 0))
    good = ["--name", "x", "--vectors", str(tmp_path / "x.npy")]
    for arguments, message in (
        (["--name", "x", "--vectors", str(tmp_path / "none.npy")], "none.npy"),
        ([*good, "--passages", str(tmp_path / "p.jsonl")], "p.jsonl, line 2: expected JSON"),
        ([*good, "--port", str(taken.getsockname()[1])], "in use"),
        ([*good, "--index", "y"], "not allowed with"),
        ([*good, "--port", "99999"], "port: expected at most 65535, got 99999"),
        ([*good, "--port", "-1"], "port: expected"),
        ([*good, "--port", "0", "--keyfile", "k.pem"], "ssl_keyfile: expected an ssl_certfile"),
        ([*good, "--port", "0", "--certfile", "none.pem"], "none.pem"),
        (good[2:], "--name"),
    ):
        command = [sys.executable, "-m", "collegium.rag.serve_cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    taken.close()
    with pytest.raises(ValueError, match="expected one of vectors, index, source, got none"):
        serve_source(name="x")
    with pytest.raises(TypeError, match="name: expected a string"):
        serve_source(vectors(0))


def test_the_command_stops_in_silence_with_half_a_request(tmp_path):
    np.save(tmp_path / "x.npy", vectors(0))
    command = [sys.executable, "-m", "collegium.rag.serve_cli", "--name", "x", "--port", "0", "--vectors"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "x.npy")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as half, socket.create_connection(("127.0.0.1", port)) as h:
            half.sendall(b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{")
            h.sendall(b"POST /v1/search HTTP/1.1\r\nHost")
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 0 and "Traceback" not in said, said
    finally:
        process.kill()
        process.wait(10)


def test_four_processes_are_one_index(tmp_path):
    with real(tmp_path, 4) as urls, FederatedRetriever([HttpSource(u) for _, u in urls], k=10) as fr:
        rng = np.random.default_rng(5)
        Q = rng.standard_normal((20, DIM)).astype(np.float32)
        r = fr.search(Q)
        union = np.concatenate([vectors(i) for i in range(4)])
        want = np.argsort(-(Q @ union.T), axis=1, kind="stable")[:, :10]
        assert (r.source * 200 + r.ids == want).all() and not r.is_partial
        t = r.timings["sources"]["s2"]
        assert 0 <= t["t_connect"] <= t["t_first"] <= t["t_total"] <= r.timings["retrieve"] <= r.timings["total"]
