"""The command line: ``collegium info | demo | data | reproduce | bench | serve-source``."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from ._version import __version__
from .rag import serve_cli


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status (2: bad arguments)."""
    try:
        return _run(argv)
    except BrokenPipeError:  # the reader of our output has seen enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="collegium", description="Collaborative and distributed machine learning.")
    parser.add_argument("--version", action="version", version=f"collegium {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("info", help="what is on, off and why")

    demo = commands.add_parser("demo", help="decentralized training on real digits: a table and a picture")
    demo.add_argument("--nodes", type=int, default=32, help="number of nodes (default 32)")
    demo.add_argument("--degree", type=int, default=3, help="neighbours of each node (default 3)")
    demo.add_argument("--rounds", type=int, default=160, help="rounds, a multiple of 8 (default 160)")
    demo.add_argument("--seeds", type=int, default=4, help="repetitions with other seeds (default 4)")
    demo.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture and the table")

    data = commands.add_parser("data", help="data sets: what there is, downloads, checksums")
    actions = data.add_subparsers(dest="action", required=True, metavar="list | fetch | verify")
    actions.add_parser("list", help="every data set, and whether it is here")
    fetch = actions.add_parser("fetch", help="download a data set from its official address")
    fetch.add_argument("name", help="one of `collegium data list`")
    verify = actions.add_parser("verify", help="compare files with their SHA-256")
    verify.add_argument("names", nargs="*", metavar="name", help="data sets (default: all that are here)")

    reproduce = commands.add_parser("reproduce", help="a paper's experiment again: its claims, small or at full size")
    reproduce.add_argument("system", help="skiptrain")
    reproduce.add_argument("rest", nargs=argparse.REMAINDER, help="passed on (--scale small|paper, --dry-run, --help)")

    bench = commands.add_parser("bench", help="time the kernels of a family against their floor and peers")
    bench.add_argument("family", nargs="?", help="aggregate, gossip, local or engine; all of them if left out")
    bench.add_argument("rest", nargs=argparse.REMAINDER, help="passed on to the benchmark (--quick, --json)")

    serve = commands.add_parser("serve-source", help="serve passages to federated retrievers over HTTP")
    serve_cli.add_arguments(serve)

    args = parser.parse_args(argv)
    if args.command == "serve-source":
        return serve_cli.run(args)
    if args.command == "info":
        from .config import show_config

        show_config()
        return 0
    if args.command == "demo":
        from .demo import run

        try:
            run(nodes=args.nodes, degree=args.degree, rounds=args.rounds, seeds=args.seeds, out=args.out)
        except (ValueError, ImportError) as e:
            parser.exit(2, f"collegium demo: {e}\n")
        from .demo_retrieval import run as run_retrieval

        try:
            run_retrieval(args.out)
        except ImportError as e:
            print(f"\nthe second step, a cache before FAISS, is left out: pip install 'collegium[demo]' ({e})")
        from .demo_federation import run as run_federation

        try:
            run_federation(args.out)
        except ImportError as e:
            print(f"\nthe third step, a router over servers, is left out: pip install 'collegium[demo]' ({e})")
        return 0
    if args.command == "data":
        return _data(parser, args)
    if args.command == "reproduce":
        return _reproduce(parser, args.system, args.rest)
    return _bench(parser, args.family, args.rest)


def _data(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    from .data import cli
    from .data.fetch import FetchError

    try:
        if args.action == "verify":
            return cli.verify(args.names)
        if args.action == "fetch":
            cli.fetch_set(args.name)
        else:
            cli.list_sets()
    except (ValueError, FetchError) as e:
        parser.exit(2, f"collegium data {args.action}: {e}\n")
    return 0


def _experiments(parser: argparse.ArgumentParser, command: str) -> Path:
    """Experiments are scripts of the source tree, next to their results; they are not part of the package."""
    places = (p / "experiments" for p in (Path.cwd(), *Path(__file__).parents))
    folder = next((p for p in places if (p / "bench").is_dir()), None)
    if folder is None:
        parser.exit(2, f"collegium {command}: needs a source checkout of collegium: run it there\n")
    return folder


def _reproduce(parser: argparse.ArgumentParser, system: str, rest: list[str]) -> int:
    known = {p.parent.name: p for p in sorted(_experiments(parser, "reproduce").glob("*/run.py"))}
    if system not in known:
        parser.exit(2, f"collegium reproduce: expected one of {', '.join(known)}, got {system!r}\n")
    main = runpy.run_path(str(known[system]), run_name=f"reproduce.{system}")["main"]
    return int(main(rest))


def _bench(parser: argparse.ArgumentParser, family: str | None, rest: list[str]) -> int:
    folder = _experiments(parser, "bench") / "bench"
    known = {p.stem.removeprefix("bench_"): p for p in sorted(folder.glob("bench_*.py"))}
    if family is not None and family not in known:
        parser.exit(2, f"collegium bench: expected one of {', '.join(known)}, got {family!r}\n")
    for name in known if family is None else [family]:
        sys.argv = [str(known[name]), *rest]
        sys.path.insert(0, str(folder))
        try:
            runpy.run_path(str(known[name]), run_name="__main__")
        finally:
            sys.path.remove(str(folder))
    return 0
