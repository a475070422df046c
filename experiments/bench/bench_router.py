"""The router's network against the reference's way with torch and scikit-learn, and against the machine's floors.

    python experiments/bench/bench_router.py [--quick] [--json]

Selection of one query through Python, on one thread, for the paper's three shapes: MedRAG (4 sources, 768 dimensions),
MMLU (10 sources) and FeB4RAG (13 sources, 8 encoders of 768, 1024 and 4096 dimensions). The reference builds a row a
source, scales them with a StandardScaler and runs torch. Floors: the weights read once, and the flops at the FMA peak.
Batches of 1,000 queries: share of the FMA peak. Training: 40 % of MIRAGE's 7,663 questions on 4 sources, against a
torch loop on rows built beforehand; seconds for the paper's 150 epochs.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # peers choose their own kernels
    os.environ.pop(name, None)
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import common  # noqa: E402
import numpy as np  # noqa: E402

from collegium import _core  # noqa: E402
from collegium.rag.features import Rows  # noqa: E402
from collegium.rag.router import SourceRouter  # noqa: E402
from collegium.rag.router_file import tensors  # noqa: E402
from collegium.rag.source import Source  # noqa: E402
from collegium.rag.training import Native, Recipe  # noqa: E402

try:
    import torch
    from sklearn.preprocessing import StandardScaler
except ImportError:  # peers are left out
    torch = None

FEB4RAG = (768, 768, 1024, 768, 4096, 768, 1024, 768)  # widths of the encoders; which has which is not published
SHAPES = {"MedRAG 4 x 768": (4, (768,)), "MMLU 10 x 768": (10, (768,)), "FeB4RAG 13, 8 encoders": (13, FEB4RAG)}
HIDDEN = (256, 128)


class Shape:
    """A router of a shape, barely trained, queries, and the reference's way with the same weights.

    Standardised where the paper does: not FeB4RAG.
    """

    def __init__(self, sources: int, widths: tuple[int, ...], queries: int) -> None:
        rng = np.random.default_rng(1)
        self.N, self.widths = sources, widths
        names = [f"e{i}" for i in range(len(widths))]
        self.sources = [
            Source(f"s{i}", rng.standard_normal(widths[i % len(widths)]).astype("f4"), encoder=names[i % len(widths)])
            for i in range(sources)
        ]
        self.Q = {e: rng.standard_normal((queries, w)).astype("f4") for e, w in zip(names, widths, strict=True)}
        few = {e: q[:100] for e, q in self.Q.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.router = SourceRouter(epochs=1, standardise=len(widths) == 1, threshold=0.5).fit(
                few, rng.integers(0, 2, (100, sources)), sources=self.sources
            )
        self.one = self.given({e: q[0] for e, q in self.Q.items()})

    def given(self, Q: dict[str, np.ndarray]) -> object:
        """As a user has them: an array where there is one encoder."""
        return Q if len(Q) > 1 else next(iter(Q.values()))

    def flops(self, queries: int) -> float:
        h1, h2 = HIDDEN
        return 2.0 * queries * (sum(self.widths) * h1 + self.N * h1 * h2)

    def weights(self) -> int:
        """Floats that one query reads: each width once, the second layer."""
        return sum(set(self.widths)) * HIDDEN[0] + HIDDEN[0] * HIDDEN[1]

    def reference(self) -> Callable[[int], object]:
        """A function of the number of queries: rows, scaler, network, threshold, as the reference serves."""
        t, d = tensors(self.router), max(self.widths)
        net = self.router.to_torch()
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_, scaler.n_features_in_ = t["mean"], t["scale"], len(t["mean"])
        onehot = np.eye(self.N, dtype="f4")

        def padded(v: np.ndarray) -> np.ndarray:
            return np.pad(v, (0, d - len(v))) if len(v) < d else v

        centroids = [padded(s.centroid) for s in self.sources]

        def run(queries: int) -> object:
            torch.set_num_threads(_core.num_threads())
            rows = np.stack([
                np.concatenate([padded(self.Q[s.encoder][b]), centroids[i], onehot[i]])
                for b in range(queries)
                for i, s in enumerate(self.sources)
            ])  # fmt: skip
            if len(self.widths) == 1:
                rows = scaler.transform(rows).astype("f4")
            with torch.no_grad():
                return (torch.sigmoid(net(torch.from_numpy(rows))) > 0.5).numpy().reshape(queries, self.N)

        return run


def one_query(repeats: int) -> list[common.Row]:
    """Selection of one query, microseconds."""
    _core.set_num_threads(1)
    peak, rows = _core.floor_fma(), []
    for name, (N, widths) in SHAPES.items():
        shape = Shape(N, widths, 100)
        read = common.aligned(shape.weights())
        router, q = shape.router, shape.one
        fns: dict[str, Callable[[], object]] = {
            "floor: weights read": lambda read=read: _core.floor_read(read),
            "predict_proba": lambda router=router, q=q: router.predict_proba(q),
            "select": lambda router=router, q=q: router.select(q),
        }
        if torch:
            reference = shape.reference()
            assert np.array_equal(
                reference(20), router.select({e: a[:20] for e, a in shape.Q.items()}, on_empty="none")
            )
            fns["torch + StandardScaler"] = lambda reference=reference: reference(1)
        times = common.interleave(fns, repeats)
        for what, t in times.items():
            row: common.Row = {"shape": name, "what": what, "us": t.median * 1e6, "best us": t.best * 1e6}
            row["x floor"] = t.median / times["floor: weights read"].median
            if what in ("predict_proba", "select"):
                row["% of FMA peak"] = 100 * shape.flops(1) / t.median * 1e-9 / peak
            row["ratio"] = t.median / times["select"].median
            rows.append(row)
    return rows


def batches(queries: int, repeats: int) -> list[common.Row]:
    """Probabilities of many queries, on one and two threads."""
    rows = []
    for name, (N, widths) in SHAPES.items():
        shape = Shape(N, widths, queries)
        Q = shape.given(shape.Q)
        for threads in (1, 2):
            _core.set_num_threads(threads)
            fns: dict[str, Callable[[], object]] = {
                "predict_proba": lambda shape=shape, Q=Q: shape.router.predict_proba(Q)
            }
            if torch and len(widths) == 1:
                reference = shape.reference()
                fns["torch + StandardScaler"] = lambda reference=reference: reference(queries)
            peaks = [_core.floor_fma()]
            times = {}
            for what, fn in fns.items():  # in turn: torch's threads spin on into the next one's time
                times |= common.interleave({what: fn}, repeats)
                peaks.append(_core.floor_fma())
            for what, t in times.items():
                rows.append({
                    "shape": name, "threads": threads, "what": what, "ms": t.median * 1e3,
                    "best ms": t.best * 1e3, "% of FMA peak": 100 * shape.flops(queries) / t.median * 1e-9 / max(peaks)
                    if what == "predict_proba" else None, "ratio": t.median / times["predict_proba"].median,
                })  # fmt: skip
    return rows


class Training:
    """`steps` batches of 128 rows of a MIRAGE-sized training set: 2,758 queries and 4 sources, random."""

    QUERIES, N = 2758, 4  # 40 % of 7,663, less a tenth for validation

    def __init__(self, d: int, steps: int) -> None:
        rng = np.random.default_rng(1)
        self.steps, self.d = steps, d
        statics = np.concatenate([rng.standard_normal((self.N, d)), np.eye(self.N)], axis=1).astype("f4")
        self.rows = Rows(
            rng.standard_normal((1, self.QUERIES, d)).astype("f4"), np.zeros(self.N, np.int64), statics, None
        )
        self.Y = rng.integers(0, 2, (self.QUERIES, self.N)).astype("u1")
        self.order = _core.random_permutation(0, _core.FOR_SHUFFLE, 0, 0, self.Y.size)[: steps * 128].copy()
        self.recipe = Recipe(HIDDEN, 0.4, 150, 128, 1e-3, 1e-5, 1.0, 1.0, "constant", None, "accuracy", 0, False)

    def native(self) -> Callable[[], object]:
        trainer, lr = Native(self.recipe, self.rows, self.Y), np.full(self.steps, 1e-3)
        return lambda: trainer.steps(self.order, lr)

    def flops(self) -> float:
        """Forward, gradients of weights and of the hidden layer; the sources' products once a step."""
        h1, h2 = HIDDEN
        batch = 2.0 * 128 * (2 * self.d * h1 + 3 * h1 * h2)
        return self.steps * (batch + 4.0 * self.N * (self.d + self.N) * h1)

    def loop(self, loader: bool = False) -> Callable[[], object]:
        """The same in torch, on rows that lie ready, (n N, 2 d + N): batches by one gather, or as the reference does
        it, row by row through a DataLoader, from float64 as its scaler leaves them."""
        from collegium.rag.torch_router import module

        q, s = np.divmod(np.arange(self.Y.size), self.N)
        given = np.concatenate([self.rows.queries[0][q], self.rows.statics[s]], axis=1)
        x, y = torch.from_numpy(given), torch.from_numpy(self.Y.reshape(-1).astype("f4"))
        net = module(x.shape[1], HIDDEN, 0.4).train()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-5)
        loss_of, order = torch.nn.BCEWithLogitsLoss(), torch.from_numpy(self.order).long()

        class RowByRow(torch.utils.data.Dataset if torch else object):  # type: ignore[misc]
            doubles = given.astype("f8") if loader else given

            def __len__(self) -> int:
                return len(y)

            def __getitem__(self, i: int) -> tuple[object, object]:
                return torch.tensor(self.doubles[i], dtype=torch.float32), y[i]

        rows = torch.utils.data.DataLoader(RowByRow(), batch_size=128, sampler=order.tolist())

        def run() -> None:
            torch.set_num_threads(_core.num_threads())
            ready = ((x[b], y[b]) for b in order.split(128))
            for features, labels in rows if loader else ready:
                optimizer.zero_grad()
                loss_of(net(features), labels).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()

        return run


def training(steps: int, repeats: int) -> list[common.Row]:
    """Seconds of 150 epochs, from some steps of one."""
    rows = []
    per_epoch = -(-Training.QUERIES * Training.N // 128)
    for d in (384, 768):
        work = Training(d, steps)
        for threads in (1, 2):
            _core.set_num_threads(threads)
            fns = {"router_train": work.native()}
            if torch:
                fns |= {"torch, rows gathered": work.loop(), "torch, DataLoader as the reference": work.loop(True)}
            peaks = [_core.floor_fma()]
            times = common.interleave(fns, repeats)
            peaks.append(_core.floor_fma())
            for what, t in times.items():
                rows.append({
                    "d": d, "threads": threads, "what": what, "ms a step": t.median / steps * 1e3,
                    "150 epochs s": 150 * per_epoch * t.median / steps,
                    "% of FMA peak": 100 * work.flops() / t.median * 1e-9 / max(peaks) if what == "router_train"
                    else None, "ratio": t.median / times["router_train"].median,
                })  # fmt: skip
    return rows


def main() -> None:
    args = common.parser(__doc__).parse_args()
    quick = args.quick
    tables = {
        "one query": one_query(50 if quick else 1000),
        "batch of 1000": batches(100 if quick else 1000, 3 if quick else 15),
        "training": training(3 if quick else 20, 3 if quick else 9),
    }
    result = common.save("router", tables, quick=quick)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(common.machine(("torch", "sklearn")))
    for title, rows in tables.items():
        common.table(title, rows)


if __name__ == "__main__":
    main()
