"""RAGRoute, reproduced: `collegium reproduce ragroute`, or python experiments/ragroute/run.py.

small  docstrings, ten text sources with people's questions, the same in clusters, MIRAGE and FeB4RAG labels: minutes
paper  your own questions, labels and vectors at the paper's size, --questions, --labels, --vectors; --dry-run says
       what that takes
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import corpora
import measures
import numpy as np
import own

from collegium import data

WORLDS: dict[str, Callable[[], corpora.World]] = {
    "c1": corpora.c1,
    "c2": corpora.c2,
    "c2-tfidf": lambda: corpora.c2("tfidf"),
    "c3": corpora.c3,
    "c4": corpora.c4,
    "c4-tfidf": lambda: corpora.c4("tfidf"),
    "c5": corpora.c5,
}
SMALL = (*WORLDS, "coverage", "bytes", "faults")
COLUMNS = ("accuracy", "f1", "auc", "cut", "document_recall")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("small", "paper"), default="small")
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, and run nothing")
    parser.add_argument("--only", choices=SMALL, nargs="+", default=SMALL, help="these tables of the small scale")
    parser.add_argument("--seeds", type=int, nargs="+", default=measures.SEEDS, help="of split and training")
    own.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        if args.scale == "paper":
            if args.dry_run:
                own.dry_run()
            else:
                own.run(args)
        elif args.dry_run:
            print(f"small: {', '.join(args.only)}; {len(args.seeds)} seeds; about fifteen minutes on two cores")
        else:
            small(args.only, args.seeds)
    except (data.MissingData, ImportError, ValueError) as e:
        print(f"{parser.prog}: {e}", file=sys.stderr)
        return 2
    return 0


def small(only: Sequence[str], seeds: Sequence[int]) -> None:
    for name, make in WORLDS.items():
        if name in only:
            table(make(), seeds)
    if "coverage" in only:
        table_coverage()
    if "bytes" in only:
        table_bytes()
    if "faults" in only:
        table_faults()


def table(world: corpora.World, seeds: Sequence[int]) -> None:
    """Held-out queries, means over seeds; then the cut where 90 % of the documents are found."""
    reports = [measures.report(world, seed) for seed in seeds]
    n, sources = world.Y.shape
    print(
        f"\n{world.name}: {n:,} queries, {sources} sources, k = {world.k}, {world.Y.sum(axis=1).mean():.2f} relevant on"
        f" average; held-out queries, {len(seeds)} seed(s)"
    )
    print("| method | accuracy | F1 | AUC | query cut | document recall |\n| --- |" + " ---: |" * len(COLUMNS))
    for method in reports[0]:
        values = [[getattr(r[method], c) for r in reports] for c in COLUMNS]
        cells = ["" if v[0] is None else f"{np.mean(v):.3f}" for v in values]
        print(f"| {method} | " + " | ".join(cells) + " |")
    if len(np.unique(world.part)) > 1 and world.counts is None:
        table_parts(world, seeds)
    if world.counts is None:
        return
    rows = [measures.p1(world, seed) for seed in seeds]
    mean = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
    last = ("tuned cut", "tuned recall", "random, as many")
    print(
        "\nquery cut at 90 % of the documents: "
        + ", ".join(f"{name} {v:.3f}" for name, v in mean.items() if name not in last)
        + f"; router tuned beforehand with 95 % confidence: cut {mean['tuned cut']:.3f}, recall "
        f"{mean['tuned recall']:.3f} (random, as many sources: {mean['random, as many']:.3f})"
    )


def table_parts(world: corpora.World, seeds: Sequence[int]) -> None:
    reports = [measures.by_part(world, seed) for seed in seeds]
    columns = list(next(iter(reports[0].values())))
    print("\n| benchmark | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
    for part in reports[0]:
        values = [float(np.mean([r[part][c] for r in reports])) for c in columns]
        print(f"| {part} | {values[0]:.0f} | " + " | ".join(f"{v:.3f}" for v in values[1:]) + " |")


def table_coverage() -> None:
    print("\nhow often a threshold tuned for 90 % of the documents keeps it on fresh queries (200 splits)")
    print(
        "| corpus | kept, 90 % confidence | mean recall | cut | kept, tuned without a bound |\n| --- |" + " ---: |" * 4
    )
    for name in ("c1", "c2", "c3"):
        world = WORLDS[name]()
        c = measures.coverage(world)
        print(
            f"| {world.name} | {c['kept']:.1%} | {c['recall']:.3f} | {c['cut']:.3f} | "
            f"{c['kept without the bound']:.1%} |"
        )


def table_bytes() -> None:
    b = measures.p3(corpora.c2(passages=1500))
    print("\nten server processes, C2 with 1,500 passages a source: " + ", ".join(f"{k} {v:.3f}" for k, v in b.items()))


def table_faults() -> None:
    print("\nfour server processes, deadline 0.6 s\n| event | median s | worst s | partial | breakers open |")
    print("| --- |" + " ---: |" * 4)
    for event, f in measures.p6(corpora.c2(passages=1500)).items():
        print(f"| {event} | {f['median s']:.3f} | {f['worst s']:.3f} | {f['partial']:.0%} | {f['breakers open']} |")


if __name__ == "__main__":
    sys.exit(main())
