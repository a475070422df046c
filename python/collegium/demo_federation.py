"""The third step of the demo: a learned router over servers that are processes of their own, two of which fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import data, rag
from .data import workloads

PACKAGES = ("stdlib", "numpy", "scipy", "sklearn", "pandas", "matplotlib")
DIM, K, QUESTIONS, PASSAGES, ASKED = 128, 10, 3000, 2000, 60
TIMEOUT, DEADLINE = 0.4, 0.6


def run(out: Path = Path("out")) -> Any:
    """Serves docstrings, one process a package; trains a router on questions cut out of them; asks all sources, the
    router's choice, and that again with one process stopped and one killed. Writes ``demo_federation.png`` to `out`.

    Returns the rows of the table. Raises ImportError without scikit-learn, aiohttp, starlette or uvicorn.
    """
    import aiohttp  # noqa: F401
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401

    vectors, texts, Q = _corpus()
    here = {name: rag.VectorSource(x, name=name) for name, x in vectors.items()}
    Y, counts = rag.build_labels(list(here.values()), Q, K, return_counts=True)
    train, validation, test = np.split(np.arange(len(Q)), [len(Q) // 2, len(Q) * 2 // 3])
    print(
        f"\na router over {len(here)} servers: {sum(map(len, vectors.values())):,} docstrings, one process a package, "
        f"{len(Q):,} questions of 12 words\ncut out of them; a source is worth asking if it holds one of the best "
        f"{K} of all (on average {Y.sum(1).mean():.1f} do)\n"
    )
    router = rag.SourceRouter(epochs=30, pos_weight="balanced", seed=0)
    router.fit(Q[train], Y[train], sources=[s.describe() for s in here.values()], ids=train, k=K)
    router.tune(Q[validation], Y[validation], counts=counts[validation], target_recall=0.9, confidence=0.9)
    learned = router.evaluate(Q[test], Y[test], ids=test, counts=counts[test], baselines=True)
    print(learned)
    with servers(vectors, texts) as (urls, processes), rag.FederatedRetriever(
        [rag.HttpSource(url, name=name) for name, url in urls.items()],
        k=K, timeout=TIMEOUT, deadline=DEADLINE, breaker=None,
    ) as ask_all, rag.FederatedRetriever(
        [rag.HttpSource(url, name=name) for name, url in urls.items()],
        router, k=K, timeout=TIMEOUT, deadline=DEADLINE,
    ) as routed:  # fmt: skip
        questions = Q[test[:ASKED]]
        truth = [_documents(ask_all.search(q)) for q in questions]
        rows = [_row("all sources", ask_all, questions, truth), _row("the router's choice", routed, questions, truth)]
        processes[0].send_signal(signal.SIGSTOP)
        rows.append(_row(f"{next(iter(urls))} stopped", routed, questions, truth))
        processes[1].kill()
        rows.append(_row(f"and {list(urls)[1]} killed", routed, questions, truth))
    _table(rows)
    _picture(learned, rows, out / "demo_federation.png")
    print(f"\npicture: {out / 'demo_federation.png'}")
    return rows


def _corpus() -> tuple[dict[str, NDArray[np.float32]], dict[str, list[str]], NDArray[np.float32]]:
    """(vectors by package, their texts, questions)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    found: dict[str, list[str]] = {}
    for package in PACKAGES:
        try:
            found[package] = data.docstrings([package], PASSAGES).passage_texts()
        except ValueError:
            continue  # not installed
    cloze = workloads.inverse_cloze([t for texts in found.values() for t in texts], QUESTIONS, seed=0)
    embed = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
    words = embed.fit_transform(cloze.passages)
    reduce = TruncatedSVD(DIM, random_state=0).fit(words)
    docs, Q = (normalize(reduce.transform(w)).astype(np.float32) for w in (words, embed.transform(cloze.queries)))
    # Some docstrings say the same: no question may be both learned from and tested on.
    Q = np.ascontiguousarray(Q[np.sort(np.unique(Q, axis=0, return_index=True)[1])])
    ends = np.cumsum([len(texts) for texts in found.values()])[:-1]
    texts = np.split(np.array(cloze.passages, object), ends)
    return dict(zip(found, np.split(docs, ends))), {n: t.tolist() for n, t in zip(found, texts)}, Q


@contextmanager
def servers(
    vectors: Mapping[str, NDArray[np.float32]], texts: Mapping[str, Sequence[str]] | None = None, encoder: str = ""
) -> Iterator[tuple[dict[str, str], list[subprocess.Popen[str]]]]:
    """`collegium serve-source` for each: (its address by name, the processes), which are gone afterwards."""
    processes: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for i, (name, x) in enumerate(vectors.items()):
                np.save(Path(folder, f"{i}.npy"), x)
                command = [
                    sys.executable, "-m", "collegium", "serve-source", "--vectors", f"{folder}/{i}.npy",
                    "--name", name, "--encoder", encoder, "--port", "0",
                ]  # fmt: skip
                if texts is not None:
                    lines = (json.dumps({"text": t[:300]}) for t in texts[name])
                    Path(folder, f"{i}.jsonl").write_text("\n".join(lines))
                    command += ["--passages", f"{folder}/{i}.jsonl"]
                environment = {**os.environ, "COLLEGIUM_NUM_THREADS": "1"}
                processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
            urls = {}
            for name, process in zip(vectors, processes):
                assert process.stdout is not None
                ready = process.stdout.readline()
                if not ready.startswith("serving"):
                    raise RuntimeError(f"the server of {name} did not start")
                urls[name] = ready.split()[-1]
            yield urls, processes
        finally:
            for process in processes:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()


def _documents(result: rag.FederatedResult) -> set[tuple[str, int]]:
    return {(h.source, h.id) for h in result.hits()}


def _row(
    name: str, retriever: rag.FederatedRetriever, questions: NDArray[np.float32], truth: list[set[tuple[str, int]]]
) -> dict[str, Any]:
    results = [retriever.search(q) for q in questions]
    total = np.array([r.timings["total"] for r in results]) * 1e3
    return {
        "asked": name,
        "sources a query": float(np.mean([len(r.selected) for r in results])),
        "recall": float(np.mean([len(_documents(r) & t) / len(t) for r, t in zip(results, truth)])),
        "partial": float(np.mean([r.is_partial for r in results])),
        "kB a query": sum(r.bytes_in + r.bytes_out for r in results) / len(results) / 1e3,
        "p50 ms": float(np.percentile(total, 50)),
        "max ms": float(total.max()),
    }


def _table(rows: list[dict[str, Any]]) -> None:
    print(f"\n{ASKED} held-out questions, top {K}, over HTTP; recall: of what all sources together have\n")
    print(f"{'':24}{'sources':>9}{'recall':>8}{'partial':>9}{'kB':>7}{'p50 ms':>8}{'max ms':>8}")
    for r in rows:
        print(
            f"{r['asked']:24}{r['sources a query']:9.2f}{r['recall']:8.3f}{r['partial']:9.0%}{r['kB a query']:7.1f}"
            f"{r['p50 ms']:8.1f}{r['max ms']:8.0f}"
        )
    print(
        f"\nA stopped process keeps its connection open and never answers: a query waits {TIMEOUT:g} s for it, "
        "and after three\nof them the breaker leaves it out. Nothing is lost: an answer says "
        "which sources are missing, and why."
    )


def _picture(learned: Any, rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, scores in learned.methods.items():
        left.plot(scores.cut, scores.document_recall, "o", label=name)
    left.set(xlabel="share of queries saved", ylabel=f"document recall@{K}", title="who is asked, held-out questions")
    left.legend(fontsize="small")
    left.grid(True, alpha=0.3)
    right.barh([r["asked"] for r in rows][::-1], [r["recall"] for r in rows][::-1], color="C0")
    right.set(xlabel=f"recall@{K}", xlim=(0, 1.02), title="over HTTP, while sources fail")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
