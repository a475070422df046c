"""Sources as processes for the fault tests: real ones by `serve_cli`, and one that misbehaves in every known way."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

DIM = 16


def vectors(i: int, n: int = 200) -> Any:
    return np.random.default_rng(i).standard_normal((n, DIM)).astype(np.float32)


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """(process, the line it prints when it is ready)."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"{arguments} ended with {process.wait(10)}"
    return process, line


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(10)
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def real(folder: Path, count: int, *more: str) -> Iterator[list[tuple[subprocess.Popen[str], str]]]:
    """Processes that serve vectors(0), vectors(1), ... as s0, s1, ...: (process, url) of each."""
    started = []
    try:
        for i in range(count):
            path, passages = folder / f"s{i}.npy", folder / f"s{i}.jsonl"
            np.save(path, vectors(i))
            passages.write_text("".join(json.dumps({"text": f"s{i}/{j}"}) + "\n" for j in range(200)))
            process, line = start(
                "-m", "collegium.rag.serve_cli", "--vectors", str(path), "--passages", str(passages),
                "--name", f"s{i}", "--port", "0", *more,
            )  # fmt: skip
            started.append((process, line.split()[-1]))
            assert line.startswith(f"serving s{i}: 200 x {DIM} at http"), line
        yield started
    finally:
        for process, _ in started:
            stop(process)


@contextmanager
def faulty() -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """(process, {fault: url}) of the process that misbehaves."""
    process, line = start(__file__)
    try:
        yield process, {fault: f"http://127.0.0.1:{port}" for fault, port in json.loads(line).items()}
    finally:
        stop(process)


class Fault:
    """Answers /v1/stats well and /v1/search as its kind says; query and reply are JSON."""

    KINDS = (
        "slow first byte", "slow body", "http 500", "malformed json", "not http", "half a body", "reset", "endless",
        "long", "nan", "unsorted", "wrong k", "wrong rows", "huge id", "float id", "text scores", "wrong dimension",
        "late", "redirect", "deep json", "few", "bad passages", "large",
    )  # fmt: skip

    def __init__(self, kind: str) -> None:
        self.kind, self.asked = kind, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) != b"":
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                if b"/v1/stats" in head.split(b"\r\n")[0]:
                    dim = DIM + 1 if self.kind == "wrong dimension" else DIM
                    self.reply(writer, json.dumps({"name": self.kind, "dim": dim, "metric": "ip"}).encode())
                else:
                    await self.search(writer, json.loads(body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def reply(
        self, writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", length: int | None = None
    ) -> None:
        n = len(body) if length is None else length
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n".encode())
        writer.write(f"Content-Length: {n}\r\nLocation: /elsewhere\r\n\r\n".encode() + body)

    async def search(self, writer: asyncio.StreamWriter, query: dict[str, Any]) -> None:
        kind, k = self.kind, query["k"]
        self.asked += 1
        good = {"ids": [7, 8, 9], "scores": [3.0, 2.0, 1.0], "passages": ["seven", "eight", "nine"]}
        if kind == "slow first byte":
            await asyncio.sleep(30)
        if kind == "slow body":
            self.reply(writer, b'{"ids": [7', length=1000)
            await writer.drain()
            await asyncio.sleep(30)
        if kind == "late":  # the answer is the query itself, and the first one takes its time
            good = {"ids": [int(query["vector"][0][0])], "scores": [1.0]}
            if self.asked == 1:
                await asyncio.sleep(0.5)
        if kind == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: close() sends a reset
            raise ConnectionError
        if kind == "not http":
            writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
            raise ConnectionError
        if kind == "half a body":
            self.reply(writer, b'{"ids": [7', length=1000)
            raise ConnectionError
        if kind == "endless":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                await writer.drain()
        if kind == "long":
            return self.reply(writer, b"{", length=10**12)
        if kind in ("http 500", "redirect"):
            return self.reply(writer, b"{}", {"http 500": "500 Oops", "redirect": "307 Moved"}[kind])
        bad: dict[str, Any] = {
            "nan": {**good, "scores": [3.0, float("nan"), float("inf")]},
            "unsorted": {"ids": [9, 7, 8], "scores": [1.0, 3.0, 2.0], "passages": ["nine", "seven", "eight"]},
            "wrong k": {"ids": list(range(k + 1)), "scores": [1.0] * (k + 1)},
            "wrong rows": {"ids": [[7], [8]], "scores": [[1.0], [2.0]]},
            "huge id": {"ids": [2**63], "scores": [1.0]},
            "float id": {"ids": [7.5], "scores": [1.0]},
            "text scores": {"ids": [7], "scores": ["1.0"]},
            "few": {"ids": [7], "scores": [1.0]},
            "large": {**good, "passages": [[n] * 400_000 for n in (1, 2, 3)]},
            "bad passages": {**good, "passages": ["seven"]},
        }
        text = json.dumps(bad.get(kind, good))
        text = {"malformed json": '{"ids": [7', "deep json": "[" * 100_000}.get(kind, text)
        return self.reply(writer, text.encode())


async def _serve_faults() -> None:
    servers = {kind: await asyncio.start_server(Fault(kind).serve, "127.0.0.1", 0) for kind in Fault.KINDS}
    print(json.dumps({kind: s.sockets[0].getsockname()[1] for kind, s in servers.items()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_faults())
