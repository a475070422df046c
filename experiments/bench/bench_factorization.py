"""Matrix factorization: an epoch of SGD and evaluation, against NumPy and torch, with a copy in cache as floor.

    python experiments/bench/bench_factorization.py [--quick] [--json]

The size is MovieLens ml-latest-small's in the decentralized learning papers: 610 users, 9,724 items, 20 factors without
biases, 70,580 training and 30,256 test ratings, batches of 32; ids are uniform, which is worse for caches than real
ones. Floor: 16 bytes a factor and 24 a rating (ids, rating, order, index), at the speed at which one thread copies 256
KiB within its cache, times the threads: out of reach for many models, whose rows come from memory. Peers take the same
batches: NumPy (np.subtract.at), torch with dense embeddings, as in the papers' code, and with sparse ones, neither with
a DataLoader.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import common
import numpy as np

from collegium import _core

try:
    import torch
except ImportError:  # peers are left out
    torch = None

USERS, ITEMS, FACTORS, BATCH, LR, SEED = 610, 9724, 20, 32, 0.075, 7
MODEL = (USERS, ITEMS, FACTORS, False, 0.0)
P = (USERS + ITEMS) * FACTORS
COPY, TURNS = 1 << 16, 16  # floats and times: so short a copy stays on one thread and in its second-level cache


class Fleet:
    """n models, each on the ratings of its own users, and everything mf_train and mf_evaluate want."""

    def __init__(self, n: int, train: int, test: int) -> None:
        rng = np.random.default_rng(1)
        count = train + test
        self.pairs = np.stack([rng.integers(0, USERS, count), rng.integers(0, ITEMS, count)], 1).astype("i4")
        self.ratings = rng.integers(1, 11, count).astype("f4") / 2
        self.test_pairs, self.test_ratings = self.pairs[train:].copy(), self.ratings[train:].copy()
        self.n, self.train_count = n, train
        node = self.pairs[:train, 0] * n // USERS  # whole users, in the order of their ids
        self.part_idx = np.argsort(node, kind="stable")
        self.part_ptr = np.searchsorted(node[self.part_idx], np.arange(n + 1))
        self.x = _core.zeros_rows(n, P)
        self.x[...] = rng.uniform(-0.05, 0.05, P)
        self.nodes, self.done = np.arange(n), np.zeros(n, np.int64)
        self.steps = -(-train // n // BATCH)

    def train(self, weight_decay: float = 0.0) -> None:
        """About one epoch of every node."""
        _core.mf_train(
            MODEL, SEED, None, self.x, self.pairs, self.ratings, self.part_ptr, self.part_idx, self.nodes, self.done,
            self.steps, BATCH, LR, weight_decay,
        )  # fmt: skip

    def evaluate(self) -> None:
        """All models on all test ratings."""
        _core.mf_evaluate(MODEL, None, self.x, self.test_pairs, self.test_ratings, None, BATCH)

    def batches(self) -> list[np.ndarray]:
        """Rating numbers of each batch of node 0's first epoch."""
        part = self.part_idx[: self.part_ptr[1]]
        flat, cut = _core.sample_batches(SEED, 0, 0, self.steps, len(part), BATCH)
        return np.split(part[flat], cut[1:-1])

    def numpy_epoch(self) -> Callable[[], None]:
        """One epoch of node 0, batch by batch in NumPy."""
        row = self.x[0].copy()
        p, q = row[: USERS * FACTORS].reshape(-1, FACTORS), row[USERS * FACTORS :].reshape(-1, FACTORS)

        def run() -> None:
            for b in self.batches():
                u, i = self.pairs[b].T
                pu, qi = p[u], q[i]
                d = (np.einsum("bf,bf->b", pu, qi) - self.ratings[b]) * np.float32(2 * LR / len(b))
                np.subtract.at(p, u, d[:, None] * qi)
                np.subtract.at(q, i, d[:, None] * pu)

        return run

    def torch_epoch(self, sparse: bool) -> Callable[[], None]:
        """One epoch of node 0 with torch.nn.Embedding and torch.optim.SGD."""
        user, item = (torch.nn.Embedding(k, FACTORS, sparse=sparse) for k in (USERS, ITEMS))
        with torch.no_grad():
            user.weight.uniform_(-0.05, 0.05)
            item.weight.uniform_(-0.05, 0.05)
        optimizer = torch.optim.SGD([user.weight, item.weight], lr=LR)
        pairs, ratings = torch.from_numpy(self.pairs.astype("i8")), torch.from_numpy(self.ratings)

        def run() -> None:
            torch.set_num_threads(1)  # more only slow these sizes down
            for b in map(torch.from_numpy, self.batches()):
                u, i = pairs[b].T
                optimizer.zero_grad()
                torch.nn.functional.mse_loss((user(u) * item(i)).sum(1), ratings[b]).backward()
                optimizer.step()

        return run


def under(isa: str, fn: Callable[[], None]) -> Callable[[], None]:
    """fn under an instruction set."""

    def run() -> None:
        _core.force_isa(isa)
        fn()

    return run


def copies() -> Callable[[], None]:
    """Copies 256 KiB to another place, many times."""
    a, b = common.aligned(COPY), common.aligned(COPY)

    def run() -> None:
        for _ in range(TURNS):
            _core.floor_copy(a, b, "memcpy")

    return run


def rows_of(
    title: str,
    fns: dict[str, Callable[[], None]],
    threads: int,
    bytes_moved: float,
    repeats: int,
    peer_share: float = 1.0,
) -> list[common.Row]:
    """Times the functions and the floor in turn.

    peer_share: the share of the work that a peer ("NumPy", "torch") does.
    """
    _core.set_num_threads(threads)
    times = common.interleave({**fns, "copy": copies()}, repeats, warmup=1)
    speed = threads * TURNS * 2 * 4 * COPY / times.pop("copy").median
    best = _core.isas()[-1]
    rows: list[common.Row] = []
    for what, t in times.items():
        peer = what.startswith(("NumPy", "torch"))
        seconds = t.median / peer_share if peer else t.median
        row: common.Row = {"workload": title, "threads": 1 if peer else threads, "what": what, "ms": seconds * 1e3}
        row["% of floor"] = 100 * bytes_moved / speed / seconds
        row["time / ours"] = seconds / times[best].median
        rows.append(row)
    rows.append({"workload": title, "threads": threads, "what": "floor", "ms": bytes_moved / speed * 1e3})
    return rows


def main() -> None:
    """Runs everything, prints the tables and saves experiments/bench/results/factorization.json."""
    args = common.parser(__doc__).parse_args()
    many, few = (3, 2) if args.quick else (15, 9)
    isa, threads = _core.isa(), _core.num_threads()
    one, fleet = Fleet(1, 70_580, 30_256), Fleet(10 if args.quick else 100, 70_580, 30_256)
    best = _core.isas()[-1]

    epoch = {name: under(name, one.train) for name in _core.isas()}
    epoch[f"{best}, weight decay"] = under(best, lambda: one.train(1e-4))
    epoch["NumPy"] = one.numpy_epoch()
    if torch:
        epoch["torch, dense"], epoch["torch, sparse"] = one.torch_epoch(False), one.torch_epoch(True)
    moved = 70_580 * (16.0 * FACTORS + 24)
    read = fleet.n * 30_256 * (8.0 * FACTORS + 12)

    def numpy_evaluation() -> None:
        for row in fleet.x[:4]:
            p, q = row[: USERS * FACTORS].reshape(-1, FACTORS), row[USERS * FACTORS :].reshape(-1, FACTORS)
            u, i = fleet.test_pairs.T
            np.mean((np.einsum("bf,bf->b", p[u], q[i]) - fleet.test_ratings) ** 2)

    result: dict[str, list[common.Row]] = {"epoch": rows_of("1 model, 70,580 ratings", epoch, 1, moved, few)}
    result["fleet"], result["evaluation"] = [], []
    for k in (1, 2):
        each = {name: under(name, fleet.train) for name in _core.isas()}
        result["fleet"] += rows_of(f"{fleet.n} models, 70,580 ratings in all", each, k, moved, many)
        all_models = {name: under(name, fleet.evaluate) for name in _core.isas()} | {"NumPy": numpy_evaluation}
        title = f"{fleet.n} models x 30,256 ratings"
        result["evaluation"] += rows_of(title, all_models, k, read, few, peer_share=4 / fleet.n)
    _core.force_isa(isa)
    _core.set_num_threads(threads)
    saved = common.save("factorization", result, quick=args.quick)
    if args.json:
        print(json.dumps(saved, indent=1))
        return
    print(saved["machine"])
    for title, rows in result.items():
        common.table(title, rows)


if __name__ == "__main__":
    main()
