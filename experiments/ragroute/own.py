"""At your own size: statistics, labels, split, router, report, each kept in a folder and not done twice.

The paper's: MedRAG's four corpora, 54.2 million MedCPT vectors of 768 (166 GB), with MIRAGE's 7,663 questions, k = 32;
Wikipedia-DPR in ten clusters (21 million of 768, 65 GB) with MMLU, k = 10; FeB4RAG's 13 corpora in 8 encoders, k = 10.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from collegium import rag
from collegium._files import replacing
from collegium.rag import baselines

STEP = 1000  # questions a part of the labels: what an interruption costs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("the paper's scale")
    own.add_argument("--source", nargs="+", metavar="NAME=FILE", help=".npy (n, d) or FAISS index of each source")
    own.add_argument("--questions", type=Path, help=".npy, float32 (questions, d), by the sources' encoder")
    own.add_argument("--k", type=int, default=32, help="documents a question (default 32)")
    own.add_argument("--metric", choices=("ip", "l2"), default="ip", help="of .npy sources")
    own.add_argument("--target-recall", type=float, default=0.9, help="the threshold is tuned for (default 0.9)")
    own.add_argument("--seed", type=int, default=42, help="of split and training (default 42)")
    own.add_argument("--out", type=Path, default=Path("out/ragroute"), help="everything is kept here")


def dry_run() -> None:
    print(
        "MIRAGE: 7,663 questions, 4 sources, 54.2 M x 768 float32 (166 GB); MMLU: 2,905 questions, 10 sources, 21 M x"
        "\n768 (65 GB); FeB4RAG: 790 requests, 13 sources in 8 encoders. Labels need one exact search of every\n"
        "question in every source (MIRAGE: 640 TFLOP, vectors read once for 1,000 questions); training takes seconds\n"
        "to a minute on two cores. Not run here: encoders, accuracy of a language model."
    )


def run(args: argparse.Namespace) -> None:
    """Raises ValueError saying what is missing."""
    if not args.source or args.questions is None:
        raise ValueError("--source NAME=FILE ... and --questions: expected both for --scale paper")
    Q = np.load(args.questions, mmap_mode="r", allow_pickle=False)
    sources = [_source(text, args.metric) for text in args.source]
    args.out.mkdir(parents=True, exist_ok=True)
    known = [s.describe() for s in sources]
    _same(args.out / "inputs.json", {
        "questions": _digest([np.asarray(Q)]), "k": args.k, "seed": args.seed, "metric": args.metric,
        "sources": {s.name: [s.count, _digest([] if s.centroid is None else [s.centroid])] for s in known},
    })  # fmt: skip
    _keep(args.out / "sources.json", [{"name": s.name, "count": s.count, "dim": s.dim} for s in known])
    counts = _labels(sources, Q, args.k, args.out)
    Y = (counts > 0).astype(np.uint8)
    split = _split(len(Q), args.seed, args.out / "split.json")
    rows = split["train"] + split["validation"]
    router = rag.SourceRouter(pos_weight="balanced", validation=0.1, seed=args.seed, progress=True)
    file = args.out / "router.safetensors"
    if file.exists():
        print(f"{file}: here already")
        router = rag.SourceRouter.load(file)
    else:
        router.fit(Q[rows], Y[rows], known, ids=rows, k=args.k, counts=counts[rows])
        print(router.tune(target_recall=args.target_recall))
        router.save(file)
    test = split["test"]
    logistic = baselines.LogisticRouter().fit(Q[rows], Y[rows], known)
    report = router.evaluate(Q[test], Y[test], ids=test, counts=counts[test], baselines=[logistic])
    print(report)
    _keep(args.out / "report.json", report.rows())
    print("\nserve it, one process a source:")
    for text in args.source:
        name, _, path = text.partition("=")
        kind = "vectors" if path.endswith(".npy") else "index"
        print(f"  collegium serve-source --{kind} {path} --name {name} --port 0")


def _source(text: str, metric: str) -> Any:
    name, _, path = text.partition("=")
    if not path:
        raise ValueError(f"--source: expected NAME=FILE, got {text!r}")
    if path.endswith(".npy"):
        return rag.VectorSource(np.load(path, mmap_mode="r", allow_pickle=False), name=name, metric=metric)
    import faiss

    return rag.FaissSource(faiss.read_index(path, faiss.IO_FLAG_MMAP), name=name)


def _digest(arrays: list[np.ndarray]) -> str:
    """Of contents, whatever the files are called. A source is known by its centroid."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(np.ascontiguousarray(a))
    return digest.hexdigest()


def _same(file: Path, inputs: dict[str, Any]) -> None:
    """Raises ValueError if the folder holds what was made of other inputs."""
    if file.exists():
        before = json.loads(file.read_text())
        other = [name for name, value in inputs.items() if before.get(name) != value]
        if other:
            raise ValueError(f"--out: {file.parent} holds results of other {', '.join(other)}: choose another folder")
    _keep(file, inputs)


def _labels(sources: list[Any], Q: np.ndarray, k: int, out: Path) -> np.ndarray:
    """int32 (questions, sources): how many of a question's best k each source holds; in parts that stay."""
    parts = []
    for start in range(0, len(Q), STEP):
        file = out / f"counts.k{k}.{start}.npy"
        if not file.exists():
            found = rag.build_labels(sources, np.asarray(Q[start : start + STEP]), k, return_counts=True)[1]
            with replacing(file) as temporary, open(temporary, "wb") as f:
                np.save(f, found)
            print(f"labels: {min(start + STEP, len(Q)):,} of {len(Q):,}")
        parts.append(np.load(file))
    return np.concatenate(parts)


def _split(n: int, seed: int, file: Path) -> dict[str, list[int]]:
    """40 % to train, a tenth of it to validate; by question."""
    if not file.exists():
        order = np.random.default_rng(seed).permutation(n)
        cut = round(0.4 * n)
        held = round(0.1 * cut)
        split = {"train": order[held:cut], "validation": order[:held], "test": order[cut:]}
        _keep(file, {name: np.sort(rows).tolist() for name, rows in split.items()})
    found: dict[str, list[int]] = json.loads(file.read_text())
    return found


def _keep(file: Path, value: Any) -> None:
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(value))
