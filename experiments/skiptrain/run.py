"""SkipTrain, reproduced: `collegium reproduce skiptrain`, or python experiments/skiptrain/run.py.

small    the 8x8 digits, 32 nodes, native learner: seconds (--kind torch: the same by torch, minutes)
cifar10  LeNet on CIFAR-10, 16 nodes: about ten minutes a seed on two cores
paper    256 nodes, CIFAR-10 and FEMNIST, every gamma: days without a GPU (--device cuda); --dry-run says what it takes
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import digits
import images

import collegium


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="collegium reproduce skiptrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=("small", "cifar10", "paper"), default="small")
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, and train nothing")
    parser.add_argument("--seeds", type=int, help="how many (small: 4, otherwise 1)")
    parser.add_argument("--kind", choices=("native", "torch"), default="native", help="learner of the small scale")
    parser.add_argument("--out", type=Path, default=Path("out/skiptrain"), help="checkpoints, histories, reports")
    parser.add_argument("--device", default="cpu", help="cuda: all nodes of the larger scales at once on a GPU")
    parser.add_argument("--task", choices=("cifar10", "femnist"), help="one task of the paper's scale")
    parser.add_argument("--degrees", type=int, nargs="+", help="graphs of the larger scales (default: the task's)")
    parser.add_argument("--only", metavar="SETTING", help="one setting of the larger scales, e.g. 'SkipTrain(4,4)'")
    parser.add_argument("--images", type=int, nargs=2, metavar=("TRAIN", "TEST"), help="so many of CIFAR-10 only")
    parser.add_argument("--eval-samples", type=int, help="test samples at an evaluation (default: the task's)")
    args = parser.parse_args(argv)
    if args.seeds is not None and args.seeds < 1:
        parser.error(f"--seeds: expected at least 1, got {args.seeds}")
    try:
        if args.scale == "small":
            if args.dry_run:
                print(f"digits: {digits.NODES} nodes, {len(digits.SETTINGS)} settings, 2 graphs: seconds, no torch")
            else:
                digits.table(args.seeds or 4, kind=args.kind)
            return 0
        for task in images.PAPER if args.scale == "paper" else (images.SMALL,):
            if args.task not in (None, task.name):
                continue
            task = replace(
                task,
                degrees=tuple(args.degrees or task.degrees),
                images=None if args.images is None else tuple(args.images),
                eval_samples=args.eval_samples or task.eval_samples,
                end_samples=args.eval_samples or task.end_samples,
            )
            if args.only is not None and args.only not in images.schedules(task):
                parser.error(f"--only: expected one of {', '.join(images.schedules(task))}, got {args.only}")
            if args.dry_run:
                images.dry_run(task)
            else:
                seeds = range(1, (args.seeds or 1) + 1)
                images.run(task, seeds, args.out, device=args.device, only=args.only)
    except (collegium.data.MissingData, ImportError) as e:
        print(f"{parser.prog}: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
