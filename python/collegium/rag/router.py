"""`SourceRouter`: a small network that predicts which sources hold documents a query needs.

Source: "Efficient Federated Search for Retrieval-Augmented Generation" (EuroMLSys 2025, arXiv 2502.19280) and its
extension "... using Lightweight Routing". The fitted router holds a centroid of every source and learned from which
sources answered which queries: that is information about each of them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._check import choice, integer, real
from .evaluation import RouterReport
from .evaluation import evaluate as evaluate_router
from .features import Layout, Scaler, checked_features, fold, identity, measure, standardised
from .given import described
from .router_network import NetworkRouter
from .routing import ON_EMPTY
from .seam import Floats
from .source import Queries, Source, queries
from .training import (
    SCHEDULES,
    SCORES,
    Fitted,
    Native,
    Recipe,
    split_queries,
    train,
    warn_of_labels,
    weight_of_positives,
)
from .tuning import Tuning, checked_counts, checked_labels, from_scores, tune

BACKENDS = ("c", "torch")


def fingerprints(values: Iterable[bytes]) -> NDArray[np.uint64]:
    """64 bits of BLAKE2b a value: enough to know it again, not to read it."""
    digests = [int.from_bytes(hashlib.blake2b(v, digest_size=8).digest(), "little") for v in values]
    return np.array(digests, np.uint64)


class SourceRouter(NetworkRouter):
    """Learns which sources are relevant for a query. scikit-learn style: options here, data in `fit`.

    features: columns of a row (query, source): "query", "centroid", "onehot", "dot" (query . centroid), "count",
      "density". For a fixed set of sources centroid and one-hot say the same; only the centroid speaks of a new source.
    hidden: units of the two layers. dropout: share of units. epochs, batch_size (rows), lr, weight_decay (L2 in Adam's
      gradient), clip: largest norm of a gradient, 0 for any.
    pos_weight: factor of positive labels in the loss. None: 1; "balanced": negatives / positives over the training
      rows; ("balanced", 5.0): five times that, as for the paper's MMLU; or a number. More of it raises the recall and
      lowers the cut.
    standardise: columns to mean 0 and deviation 1 over the training rows.
    schedule: "constant" ends after `patience` epochs without a better checkpoint; "paper" is the reference's cyclic
      schedule over all epochs.
    keep: the checkpoint kept is the best on the validation queries by "accuracy" or "f1", at 0.5.
    validation: share of the queries of fit held out for that and for the threshold.
    threshold: "youden" (from the validation queries), a number, or one a source. on_empty, min_sources, max_sources,
      budget: the policy of `select`, see `routing.choose`.
    backend: "c" or "torch"; they agree in statistics, not in bits. seed: of start, order, dropout and split. The same
      seed gives the same bits on any number of threads (backend "c").
    """

    def __init__(
        self,
        features: Any = ("query", "centroid", "onehot"),
        hidden: tuple[int, int] = (256, 128),
        *,
        dropout: float = 0.4,
        epochs: int = 150,
        batch_size: int = 128,
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        clip: float = 1.0,
        pos_weight: Any = None,
        standardise: bool = True,
        schedule: str = "constant",
        patience: int | None = 20,
        keep: str = "accuracy",
        validation: float = 0.1,
        threshold: Any = "youden",
        on_empty: str = "top1",
        min_sources: int = 0,
        max_sources: int | None = None,
        budget: float | None = None,
        backend: str = "c",
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.features = checked_features(features)
        h1, h2 = hidden
        self.hidden = integer(h1, "hidden", 1), integer(h2, "hidden", 1)
        self.standardise, self.progress = bool(standardise), progress
        self.pos_weight = float(pos_weight) if isinstance(pos_weight, np.number) else pos_weight
        self.dropout = real(dropout, "dropout", 0.0, 0.999)
        self.epochs, self.batch_size = integer(epochs, "epochs", 1), integer(batch_size, "batch_size", 1)
        self.lr, self.clip = real(lr, "lr", positive=True), real(clip, "clip", 0.0)
        self.weight_decay = real(weight_decay, "weight_decay", 0.0)
        self.schedule, self.keep = choice(schedule, "schedule", SCHEDULES), choice(keep, "keep", tuple(SCORES))
        self.patience = None if patience is None else integer(patience, "patience", 1)
        self.validation = real(validation, "validation", 0.0, 0.9)
        self.backend, self.seed = choice(backend, "backend", BACKENDS), integer(seed, "seed", 0, 2**64 - 1)
        self.on_empty = choice(on_empty, "on_empty", ON_EMPTY)
        self.min_sources = integer(min_sources, "min_sources", 0)
        self.max_sources = None if max_sources is None else integer(max_sources, "max_sources", 1)
        self.budget = None if budget is None else real(budget, "budget", 0.0)
        self.rule = threshold  # what fit makes the threshold from
        if not isinstance(threshold, str):
            self.threshold = threshold
        elif threshold != "youden":
            raise ValueError(f"threshold: expected 'youden', a number or one a source, got {threshold!r}")
        self.history: list[dict[str, float]] = []
        self._held: dict[str, NDArray[Any]] = {}  # P, Y, counts of the validation queries
        self._known = {"ids": np.empty(0, np.uint64), "vectors": np.empty(0, np.uint64)}

    def __repr__(self) -> str:
        state = f"{len(self.sources)} sources: {', '.join(self.names)}" if self.sources else "not fitted"
        return f"SourceRouter({'+'.join(self.features)}, hidden={self.hidden}; {state})"

    # ---- fit ----

    def fit(
        self, Q: Any, Y: Any, sources: Any, *, ids: Any = None, k: int | None = None, template: str = "",
        counts: Any = None,
    ) -> SourceRouter:  # fmt: skip
        """Trains on queries Q, float32 (n, d) or {encoder: (n, d)}, with labels Y (n, N): 1 where the query's global
        top-k holds a document of the source. Returns self.

        sources: `Source`s in the order of Y's columns, or things with describe(), or a mapping from names. ids: names
        of the queries. k, template: of the labels and of the text that was embedded; kept to warn of others later.
        counts: (n, N) documents of the top-k by source, for `tune` by recall.
        The validation share is split off by query. Ctrl-C keeps the best so far: the router is usable, and
        KeyboardInterrupt is raised. Raises ValueError, TypeError; RuntimeError where training diverges.
        """
        known = described(sources)
        arrays = queries(Q, known)
        n = len(next(iter(arrays.values())))
        labels = checked_labels(Y, n, len(known))
        weights = None if counts is None else checked_counts(counts, labels)
        if np.shape(self.threshold) not in ((), (len(known),)):
            raise ValueError(f"threshold: expected a number or shape ({len(known)},), got {np.shape(self.threshold)}")
        if n < 2:
            raise ValueError(f"Q: expected at least 2 queries, got {n}")
        if ids is not None and len(ids) != n:
            raise ValueError(f"ids: expected {n}, one a query, got {len(ids)}")
        at, held = split_queries(n, self.validation, self.seed)
        warn_of_labels(labels[at], labels[held], tuple(s.name for s in known))
        layout = Layout(self.features, tuple(s.name for s in known), {e: a.shape[1] for e, a in arrays.items()})
        inside = {e: a[at] for e, a in arrays.items()}
        outside = {e: a[held] for e, a in arrays.items()}
        scaler = measure(layout, inside, known) if self.standardise else identity(layout)
        fitted = self._train(layout, inside, labels[at], known, scaler, outside, labels[held])
        if fitted.plain is None:
            raise KeyboardInterrupt
        self.layout, self.scaler, self.plain, self.history = layout, scaler, fitted.plain, fitted.history
        self.k, self.template = None if k is None else integer(k, "k", 1), template
        self.prior = labels[at].mean(axis=0).astype(np.float32)
        self._known = {"vectors": np.unique(np.concatenate(_vectors(arrays))), "ids": _ids(ids)}
        self.sources = known
        self._repack()
        self._hold(outside, labels[held], None if weights is None else weights[held])
        if fitted.interrupted:
            raise KeyboardInterrupt
        return self

    def _train(
        self, layout: Layout, Q: Queries, Y: NDArray[np.uint8], sources: list[Source], scaler: Scaler,
        Q_held: Queries, Y_held: NDArray[np.uint8],
    ) -> Fitted:  # fmt: skip
        recipe = Recipe(
            self.hidden, self.dropout, self.epochs, self.batch_size, self.lr, self.weight_decay, self.clip,
            weight_of_positives(self.pos_weight, Y), self.schedule, self.patience, self.keep, self.seed, self.progress,
        )  # fmt: skip
        rows = standardised(layout, Q, sources, scaler)
        if self.backend == "torch":
            from .torch_router import Torch

            trainer: Any = Torch(recipe, rows, Y)
        else:
            trainer = Native(recipe, rows, Y)
        held = tuple(np.ascontiguousarray(Q_held[e]) for e in layout.dims)

        def validate(plain: Floats) -> Floats:
            return _core.router_forward(fold(layout, sources, scaler, plain, self.hidden), held)

        return train(trainer, recipe, Y.size, validate, Y_held)

    def _hold(self, Q: Queries, Y: NDArray[np.uint8], counts: NDArray[np.float64] | None) -> None:
        """Keeps what `tune` needs of the validation queries, and sets the threshold from them."""
        self._held = {"P": self.predict_proba(Q), "Y": Y} if len(Y) else {}
        if len(Y) and counts is not None:
            self._held["counts"] = counts
        if not isinstance(self.rule, str):
            self.threshold = self.rule
        elif len(Y):
            self.tune()
        else:
            warnings.warn("threshold: no validation queries to tune it on; 0.5 is taken", stacklevel=3)
            self.threshold = 0.5

    def tune(self, Q: Any = None, Y: Any = None, **how: Any) -> Tuning:
        """Sets the threshold, see `tuning.tune`: threshold, target_recall, confidence, counts.

        Without Q the validation queries of fit serve; they chose the checkpoint too, so that a bound on the recall is
        slightly optimistic.
        """
        if Q is not None:
            return tune(self, Q, Y, **how)
        if not self._held:
            raise ValueError("Q: expected queries: none were held out in fit (validation=0)")
        options = {"threshold": "youden", "target_recall": None, "confidence": 0.95, "counts": None, **how}
        counts = self._held.get("counts") if options["counts"] is None else options["counts"]
        options["counts"] = counts
        return from_scores(self, self._held["P"], self._held["Y"], **options)

    def evaluate(self, Q: Any, Y: Any, **how: Any) -> RouterReport:
        """Against labels and baselines, see `evaluation.evaluate`; queries of fit are refused."""
        return evaluate_router(self, Q, Y, **how)

    def seen(self, Q: Any, ids: Any = None) -> NDArray[np.bool_]:
        """Which queries were used in fit, bool (B,): those whose id, or whose vector of any encoder, was."""
        arrays = queries(Q, self.sources)
        out = np.any([np.isin(v, self._known["vectors"]) for v in _vectors(arrays)], axis=0)
        seen: NDArray[np.bool_] = out if ids is None else out | np.isin(_ids(ids), self._known["ids"])
        return seen

    # ---- files and torch ----

    def save(self, path: Any) -> None:
        """Writes a safetensors file (no pickle, with a checksum): network, scaler, sources, policy, what fit saw."""
        from .router_file import write

        self._fitted()
        write(self, path)

    @classmethod
    def load(cls, path: Any) -> SourceRouter:
        """Reads a file of `save`: the same probabilities, bit for bit. Raises ValueError for a damaged one."""
        from .router_file import read

        return read(cls, path)

    @classmethod
    def from_torch(
        cls, state_dict: Mapping[str, Any], sources: Sequence[Source], *, mean: Any = None, scale: Any = None,
        features: Any = ("query", "centroid", "onehot"), dims: Mapping[str, int] | None = None, **options: Any,
    ) -> SourceRouter:  # fmt: skip
        """A router from a checkpoint of the reference: keys fc1, ln1, fc2, ln2, fc3 x .weight, .bias.

        mean, scale: of its StandardScaler, (width,); None: no standardisation. sources: in the order of its one-hot
        columns. dims: width of each encoder's queries, where the sources do not know. options: of SourceRouter.
        """
        from .router_file import adopt

        return adopt(cls, state_dict, described(sources), mean, scale, features, dims, options)


def _vectors(Q: Queries) -> list[NDArray[np.uint64]]:
    """Fingerprints of the queries, (B,) an encoder: sources, and with them encoders, may go."""
    return [fingerprints(row.tobytes() for row in np.ascontiguousarray(a)) for a in Q.values()]


def _ids(ids: Any) -> NDArray[np.uint64]:
    return fingerprints(str(i).encode() for i in (() if ids is None else ids))
