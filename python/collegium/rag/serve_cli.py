"""``collegium serve-source``: vectors or an index file, behind HTTP."""

from __future__ import annotations

import argparse
import gzip
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from .source import METRICS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--vectors", type=Path, metavar="X.npy", help="float32 (n, d), searched exactly")
    what.add_argument("--index", type=Path, metavar="X.faiss", help="a FAISS index")
    parser.add_argument("--passages", type=Path, metavar="P.jsonl[.gz]", help="one JSON value a line, by row")
    parser.add_argument("--name", required=True, help="of the source, as routers know it")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)"
    )
    parser.add_argument("--port", type=int, default=9001, help="0 picks a free one (default 9001)")
    parser.add_argument("--token-file", type=Path, help="callers must send the token that is in this file")
    parser.add_argument("--certfile", type=Path, help="PEM certificate: serve https")
    parser.add_argument("--keyfile", type=Path, help="PEM key of the certificate")
    parser.add_argument("--metric", choices=METRICS, help="of --vectors (default ip); an index has its own")
    parser.add_argument("--encoder", default="", help="name of the embedding model")
    parser.add_argument("--version-tag", default="", help="changes when the documents do: caches in front are cleared")
    parser.add_argument("--max-k", type=int, default=1000, help="most results a query (default 1000)")
    parser.add_argument("--max-batch", type=int, default=1024, help="most queries a request (default 1024)")
    parser.add_argument("--threads", type=int, help="searches at once (default: processors, at least 4)")


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM. Returns the exit status: 0, or 2 for bad arguments."""
    try:
        from .server import SourceServer, serve_source
    except ImportError as e:
        print(
            f"collegium serve-source: needs starlette and uvicorn: pip install 'collegium[rag]' ({e})", file=sys.stderr
        )
        return 2

    def ready(server: SourceServer) -> None:
        about = server.source.describe()
        print(f"serving {about.name}: {about.count} x {about.dim} at {server.url}", flush=True)

    # uvicorn answers what is under way, then raises the signal again: ours ends the process as having done its work.
    signal.signal(signal.SIGTERM, _leave)
    try:
        serve_source(
            vectors=None if args.vectors is None else np.load(args.vectors, mmap_mode="r", allow_pickle=False),
            index=None if args.index is None else _index(args.index),
            name=args.name,
            passages=None if args.passages is None else _passages(args.passages),
            metric=args.metric,
            encoder=args.encoder,
            version=args.version_tag,
            host=args.host,
            port=args.port,
            token=None if args.token_file is None else args.token_file.read_text().strip(),
            max_k=args.max_k,
            max_batch=args.max_batch,
            threads=args.threads,
            ssl_certfile=None if args.certfile is None else str(args.certfile),
            ssl_keyfile=None if args.keyfile is None else str(args.keyfile),
            on_ready=ready,
        )
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as e:
        print(f"collegium serve-source: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _index(path: Path) -> Any:
    try:
        import faiss
    except ImportError as e:
        raise ImportError(f"--index: needs faiss: pip install faiss-cpu ({e})") from e
    return faiss.read_index(str(path))


def _passages(path: Path) -> list[Any]:
    out = []
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                out.append(json.loads(line))
            except ValueError as e:
                raise ValueError(f"--passages: {path}, line {number}: expected JSON: {e}") from None
    return out


if __name__ == "__main__":
    command = argparse.ArgumentParser(prog="collegium serve-source", description="Serves one data source over HTTP.")
    add_arguments(command)
    raise SystemExit(run(command.parse_args()))
