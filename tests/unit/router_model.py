"""What the tests of `SourceRouter` share: a small federation, a quick fit, whole rows as the reference builds them."""

import warnings

import numpy as np

from collegium.rag.router import SourceRouter
from collegium.rag.source import Source

QUICK = {"hidden": (24, 12), "epochs": 6, "batch_size": 64}


def world(n=300, d=16, N=4, seed=0, encoders=1, noise=0.4):
    """Queries near one or two of the sources' centroids; labels say which. Q is a mapping where there are several
    encoders, of widths d, d - 3, d ..."""
    rng = np.random.default_rng(seed)
    C = np.random.default_rng(99).standard_normal((N, d)).astype("f4")
    Y = (rng.random((n, N)) < 0.35).astype("u1")
    Q = (Y @ C + noise * rng.standard_normal((n, d))).astype("f4")
    widths = {f"e{i}": d - 3 * (i % 2) for i in range(encoders)} if encoders > 1 else {"": d}
    names = list(widths)
    sources = [
        Source(f"s{i}", centroid=c[: widths[names[i % encoders]]], count=100 + 7 * i, density=0.1 * i,
               encoder=names[i % encoders])
        for i, c in enumerate(C)
    ]  # fmt: skip
    return ({e: np.ascontiguousarray(Q[:, :w]) for e, w in widths.items()} if encoders > 1 else Q), Y, sources


def quiet(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SourceRouter(**{**QUICK, **kwargs}).fit(*args[:2], sources=args[2])


def plain_rows(router, Q):
    """The rows as the reference builds them, plain order, standardised: (n, N, width)."""
    from collegium.rag.router_file import tensors

    Q = Q if isinstance(Q, dict) else {router.sources[0].encoder: Q}
    d, N, n = router.layout.dim, len(router.sources), len(next(iter(Q.values())))

    def padded(v):
        return np.pad(v.astype("f8"), (0, d - len(v)))

    rows = [
        [
            np.concatenate([
                {
                    "query": lambda q, s, i: padded(q),
                    "centroid": lambda q, s, i: padded(s.centroid),
                    "onehot": lambda q, s, i: np.eye(N)[i],
                    "dot": lambda q, s, i: [q.astype("f8") @ s.centroid],
                    "count": lambda q, s, i: [s.count],
                    "density": lambda q, s, i: [s.density],
                }[f](Q[s.encoder][b], s, i)
                for f in router.features
            ])
            for i, s in enumerate(router.sources)
        ]
        for b in range(n)
    ]  # fmt: skip
    t = tensors(router)
    return (np.array(rows) - t["mean"]) / t["scale"]
