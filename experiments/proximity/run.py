"""Proximity, reproduced: `collegium reproduce proximity`, or python experiments/proximity/run.py.

small  200 PubMedQA questions in four wordings, TF-IDF and (if the model is installed) MiniLM embeddings: minutes
paper  your own index and embeddings at the paper's size, --index and --wordings; --dry-run says what that takes
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import claims
import paper
import streams

from collegium import data, rag
from collegium.data import workloads

SMALL = ("r1", "r2", "r3", "r4", "r5", "r6", "r7", "guarantee", "pairs")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("small", "paper"), default="small")
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, and run nothing")
    parser.add_argument("--only", choices=SMALL, nargs="+", default=SMALL, help="these tables of the small scale")
    parser.add_argument("--embeddings", choices=("tfidf", "minilm"), nargs="+", default=("tfidf", "minilm"))
    parser.add_argument("--task", choices=tuple(paper.TASKS), default="mmlu", help="of the paper's scale")
    parser.add_argument("--index", type=Path, help="FAISS index file (paper's scale)")
    parser.add_argument("--wordings", type=Path, help=".npy, float32 (questions, 4, dim) (paper's scale)")
    args = parser.parse_args(argv)
    try:
        if args.scale == "paper":
            if args.dry_run:
                for task in paper.TASKS.values():
                    paper.dry_run(task)
            else:
                rows = paper.from_files(paper.TASKS[args.task], args.index, args.wordings)
                print(rag.Report(rows, ceiling=claims.CEILING))
            return 0
        if args.dry_run:
            print(f"small: {', '.join(args.only)}; 800 queries, five seeds; a minute, MiniLM half a minute more")
            return 0
        small(args.only, args.embeddings)
    except (data.MissingData, ImportError, ValueError) as e:
        print(f"{parser.prog}: {e}", file=sys.stderr)
        return 2
    return 0


def small(only: Sequence[str], embeddings: Sequence[str]) -> None:
    """Prints the tables. Embeddings that cannot be had here are left out with a sentence."""
    tables: dict[str, Callable[[], None]] = {"r1": table_r1, "r6": table_r6, "r7": table_r7}
    for name in only:
        if name in tables:
            tables[name]()
    by_world = [name for name in ("r2", "r3", "r4", "r5", "guarantee") if name in only]
    worlds = []
    for name in embeddings if by_world else ():
        try:
            worlds.append(getattr(streams, name)())
        except ImportError as e:
            print(f"\n{name}: left out: {e}")
    for world in worlds:
        for name in by_world:
            globals()[f"table_{name}"](world)
    if "pairs" in only:
        table_pairs()


def table_r1() -> None:
    print("\nR1: hits of a perfect matcher on the paper's shuffles (seeds 42-46), beside the published hit rates")
    print("| workload | batches | " + " | ".join(f"c={c}" for c in claims.CAPACITIES) + " |")
    print("| --- | --- |" + " ---: |" * len(claims.CAPACITIES))
    for name, (questions, queries, tau, published) in claims.PAPER.items():
        for mode, label in (
            ("sequential", "one by one"),
            ("snapshot", "snapshots of 32"),
            ("coalesce", "coalesce, 32"),
        ):
            rates = [
                sum(claims.r1(questions, c, s, mode) for s in streams.SEEDS) / (5 * queries) for c in claims.CAPACITIES
            ]
            print(f"| {name} | {label} | " + " | ".join(f"{r:.1%}" for r in rates) + " |")
        print(f"| {name} | paper, {tau} | " + " | ".join(f"{p}%" for p in published) + " |")


def table_r2(world: streams.World) -> None:
    print(f"\nR2, {world.name}: hit rate / same-question share of hits / recall@10 over all queries; five seeds")
    print("| c | " + " | ".join(f"tau {t:g}" for t in claims.TOLERANCES) + " |")
    print("| ---: |" + " ---: |" * len(claims.TOLERANCES))
    for capacity in (50, 100, 200, 300):
        cells = [claims.mean(world, capacity, t) for t in claims.TOLERANCES]
        rag.Report(cells)  # refuses what hides its price
        print(
            f"| {capacity} | "
            + " | ".join(f"{m.hit_rate:.1%} / {m.same_question:.2f} / {m.recall:.3f}" for m in cells)
            + " |"
        )


def table_r3(world: streams.World) -> None:
    print(f"\nR3, {world.name}: hit rate / recall@10, c = 300, five seeds, by re-ranking factor")
    print("| rho | tau 0.4 | tau 0.6 | tau 0.8 |\n| ---: | ---: | ---: | ---: |")
    for rho in (1, 2, 4, 8):
        cells = [claims.mean(world, 300, t, rho) for t in (0.4, 0.6, 0.8)]
        print(f"| {rho} | " + " | ".join(f"{m.hit_rate:.1%} / {m.recall:.3f}" for m in cells) + " |")


def table_r4(world: streams.World) -> None:
    r = claims.r4(world, 0.6)
    print(
        f"\nR4, {world.name}: {r['docs']} documents, {r['plain_ms']:.2f} ms a search without the cache, "
        f"{r['cached_ms']:.2f} ms with it: {r['reduction']:.1%} less at a hit rate of {r['hit_rate']:.1%} "
        "(paper: 59.6 % less at 69.3 %, 70.8 % less at 73.3 %)"
    )


def table_r5(world: streams.World) -> None:
    print(
        f"\nR5, {world.name}: Zipf s = 1 over 200 questions x 4 wordings (paper: 77.2 % fewer calls, exponent unknown)"
    )
    for size in (2_000, 10_000):
        s = world.zipf(size)
        rows = []
        for label, tau, capacity, named in (
            ("FLAT c=300", 0.3, 300, {}),
            ("FLAT c=300", 0.4, 300, {}),
            ("FLAT c=300", 0.6, 300, {}),
            ("LSH L=8 b=20", 0.8, None, {"index": "lsh"}),
            ("LSH L=8 b=20, 2 probes", 0.8, None, {"index": "lsh", "probes": 2}),
            *((f"FLAT c=50 {e}", 0.8, 50, {"eviction": e}) for e in ("fifo", "lru", "lfu", "clock", "sieve", "s3fifo")),
        ):
            m = claims.measure(s, capacity, tau, **named)
            rows.append(
                {
                    "cache": label,
                    "tau": tau,
                    "hit_rate": m.hit_rate,
                    "same_question": m.same_question,
                    "recall": m.recall,
                    "recall_hits": m.recall_hits,
                    "ceiling": m.ceiling,
                }
            )
        print(f"{size} queries\n{rag.Report(rows)}")


def table_r6() -> None:
    few, many = claims.r6(1_000), claims.r6(100_000)
    print(
        f"\nR6: LSH lookup through Python {few:.2f} us at 1,000 entries, {many:.2f} us at 100,000: {many / few:.2f} x"
    )


def table_r7() -> None:
    r = claims.r7()
    print("\nR7: a miss, d = 768, c = 300, us: " + ", ".join(f"{name} {t:.2f}" for name, t in r.items()))


def table_guarantee(world: streams.World) -> None:
    print(f"\nGuarantee, {world.name}: learned tolerances on Zipf s = 1, 10,000 queries, c = 300, against fixed ones")
    s = world.zipf(10_000)
    rows = []
    for tau in (0.3, 0.4, 0.6, 1.0):
        m = claims.measure(s, 300, tau)
        rows.append(
            {
                "tolerance": f"fixed {tau:g}",
                "hit_rate": m.hit_rate,
                "same_question": m.same_question,
                "recall": m.recall,
            }
        )
        rows[-1].update(recall_hits=m.recall_hits)
    for label, named in (
        ("loss <= .05", {"max_loss": 0.05}),
        ("loss <= .10", {"max_loss": 0.1}),
        ("loss <= .10, audits 2 %", {"max_loss": 0.1, "audit_rate": 0.02}),
        ("recall < .6 in <= 5 %", {"max_loss": 0.05, "min_recall": 0.6}),
        ("per entry, recall < .7 in <= 10 %", {"max_loss": 0.1, "min_recall": 0.7, "mode": "per_entry"}),
    ):
        g = claims.guaranteed(s, **named)
        rows.append(dict(tolerance=label, **{n: g[n] for n in ("hit_rate", "same_question", "recall", "recall_hits")}))
        rows[-1].update(reached=g["tolerance"], audited=g["audited"], lcb=g["recall_lcb"])
    print(rag.Report(rows))


def table_pairs() -> None:
    print("\nReal pairs: sentence a is cached, b is asked (MiniLM). PAWS shares words whether or not it means the same")
    for name in ("quora_dev", "paws_wiki_dev"):
        print(workloads.replay(data.pairs(name), data.embeddings(name), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8]))
    print("\nIntents as streams, every miss is cached (TF-IDF + SVD)")
    for name in ("banking77", "clinc150"):
        intents = data.pairs(name)
        rows = range(0, len(intents.texts), 4)  # every fourth: the stream is quadratic in time
        part = data.Intents(name, [intents.texts[i] for i in rows], intents.y[::4], intents.names, [])
        vectors = streams.tfidf_encoder(part.texts)(part.texts)
        print(workloads.replay(part, vectors, [0.1, 0.3, 0.5, 0.7, 0.9]))


if __name__ == "__main__":
    raise SystemExit(main())
