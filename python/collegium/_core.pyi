# The C core. Arguments are positional, checked and never converted; errors name the argument.
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .rag.cache import Hit

class Timeout(TimeoutError): ...
class PeerLost(ConnectionError): ...
class CudaError(RuntimeError): ...

# ---- base ----

FOR_COIN: int
FOR_SAMPLE: int
FOR_INIT: int
FOR_TOPOLOGY: int
FOR_PARTITION: int
FOR_EVAL: int
FOR_TORCH: int
FOR_NOISE: int
FOR_USER: int

def num_threads() -> int: ...
def set_num_threads(threads: int, /) -> None: ...
def isa() -> str: ...
def isas() -> list[str]: ...
def force_isa(name: str, /) -> None: ...
def leading_dimension(columns: int, itemsize: int, /) -> int: ...
def zeros_rows(rows: int, columns: int, /) -> NDArray[np.float32]: ...
def random_u32(seed: int, purpose: int, node: int, round: int, first: int, n: int, /) -> NDArray[np.uint32]: ...
def random_f32(seed: int, purpose: int, node: int, round: int, first: int, n: int, /) -> NDArray[np.float32]: ...
def random_permutation(seed: int, purpose: int, node: int, round: int, n: int, /) -> NDArray[np.int32]: ...

# Standard normals, float32, of the address' words first ... first + n - 1 (in pairs): |x| < 6.77, the same bits on every
# instruction set, number of threads and device. Box-Muller; csrc/noise/normal_core.h.
def random_normal(seed: int, purpose: int, node: int, round: int, first: int, n: int, /) -> NDArray[np.float32]: ...

# Machine floors for benchmarks: GFLOP/s of fused multiply-adds on all threads; one copy of src to dst, kind "memcpy" or
# "stream" (non-temporal stores); one read of src, its sum.
def floor_fma() -> float: ...
def floor_copy(src: NDArray[np.float32], dst: NDArray[np.float32], kind: str, /) -> None: ...
def floor_read(src: NDArray[np.float32], /) -> float: ...

# ---- aggregate ----

_Csr = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]

# y = W_last ... W_1 W_0 x in one pass. table: [round][column block] of (indptr, indices, weights); y may be x.
def mix(
    x: NDArray[np.float32], y: NDArray[np.float32], table: Sequence[Sequence[_Csr]], col_start: NDArray[np.int64], /
) -> None: ...
def mask_edges(
    indptr: NDArray[np.int32], indices: NDArray[np.int32], weights: NDArray[np.float32], alive: NDArray[np.uint8], /
) -> NDArray[np.float32]: ...  # new weights: an edge dead in either direction gives its weight to both diagonals
def consensus(
    x: NDArray[np.float32], rows: NDArray[np.int64] | None, /
) -> tuple[NDArray[np.float64], float]: ...  # mean (p,), sum of squared distances to it
def find_nonfinite(
    x: NDArray[np.float32], rows: NDArray[np.int64] | None, /
) -> tuple[int, int] | None: ...  # first (row, column) of a NaN or Inf

# ---- local, and the packed product of base ----
# sizes: [inputs, hidden ..., classes]; P = sum((in + 1) * out). activation: "relu" | "tanh". rows: int64 (k,) or None
# for all n; x: float32 (n, P), rows contiguous. Row r of x is node node_ids[r] and owns samples
# part_idx[part_ptr[r]:part_ptr[r + 1]] of data (N, inputs), labels (N,).
def mlp_train(
    sizes: Sequence[int],
    activation: str,
    seed: int,
    rows: NDArray[np.int64] | None,
    x: NDArray[np.float32],
    velocity: NDArray[np.float32] | None,
    data: NDArray[np.float32],
    labels: NDArray[np.int64],
    part_ptr: NDArray[np.int64],
    part_idx: NDArray[np.int64],
    node_ids: NDArray[np.int64],
    steps_done: NDArray[np.int64],
    local_steps: int | NDArray[np.int64],
    batch: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    /,
) -> NDArray[np.float64]: ...  # mean loss over the steps (k,); x, velocity, steps_done in place
def mlp_gradients(
    sizes: Sequence[int],
    activation: str,
    seed: int,
    rows: NDArray[np.int64] | None,
    x: NDArray[np.float32],
    data: NDArray[np.float32],
    labels: NDArray[np.int64],
    part_ptr: NDArray[np.int64],
    part_idx: NDArray[np.int64],
    node_ids: NDArray[np.int64],
    steps_done: NDArray[np.int64],
    batch: int,
    out: NDArray[np.float32],
    /,
) -> NDArray[np.float64]: ...  # loss (k,); out (k, P) receives the gradients of the next batch
def mlp_apply(
    rows: NDArray[np.int64] | None,
    x: NDArray[np.float32],
    velocity: NDArray[np.float32] | None,
    gradients: NDArray[np.float32],
    part_ptr: NDArray[np.int64],
    steps_done: NDArray[np.int64],
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    /,
) -> None: ...  # one SGD step with gradients (k, P); rows without samples are left alone
def mlp_evaluate(
    sizes: Sequence[int],
    activation: str,
    rows: NDArray[np.int64] | None,
    x: NDArray[np.float32],
    data: NDArray[np.float32],
    labels: NDArray[np.int64],
    /,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...  # accuracy (k,), mean cross-entropy (k,)
def mlp_logits(
    sizes: Sequence[int], activation: str, params: NDArray[np.float32], data: NDArray[np.float32], /
) -> NDArray[np.float32]: ...  # (N, classes)
def mlp_init(sizes: Sequence[int], seed: int, nodes: NDArray[np.int64], x: NDArray[np.float32], /) -> None: ...
def sample_batches(
    seed: int, node: int, first_step: int, steps: int, m: int, batch: int, /
) -> tuple[NDArray[np.int32], NDArray[np.int64]]: ...  # positions in [0, m), flat; offsets (steps + 1,)

# act(a b^T + bias): a (m, k), b (n, k), bias (n,) or None; activation "none" | "relu" | "tanh" -> (m, n)
def gemm(
    a: NDArray[np.float32], b: NDArray[np.float32], bias: NDArray[np.float32] | None, activation: str, /
) -> NDArray[np.float32]: ...
def gemm_pack(b: NDArray[np.float32], /) -> NDArray[np.float32]: ...

# panels [ceil(n/16)][k][16], flat, 64-byte aligned
def gemm_packed(
    a: NDArray[np.float32], packed: NDArray[np.float32], n: int, bias: NDArray[np.float32] | None, activation: str, /
) -> NDArray[np.float32]: ...
def exp_f32(x: NDArray[np.float32], /) -> NDArray[np.float32]: ...
def tanh_f32(x: NDArray[np.float32], /) -> NDArray[np.float32]: ...

# Matrix factorization. model: (users, items, factors, biases, mean); x: float32 (n, P), P = (users + items) * (factors
# + biases); pairs: int32 (N, 2) user and item; ratings: (N,). Parts as in mlp_train. weight_decay: torch.optim.SGD's.
_Factorization = tuple[int, int, int, bool, float]

def mf_train(
    model: _Factorization,
    seed: int,
    rows: NDArray[np.int64] | None,
    x: NDArray[np.float32],
    pairs: NDArray[np.int32],
    ratings: NDArray[np.float32],
    part_ptr: NDArray[np.int64],
    part_idx: NDArray[np.int64],
    node_ids: NDArray[np.int64],
    steps_done: NDArray[np.int64],
    local_steps: int,
    batch: int,
    lr: float,
    weight_decay: float,
    /,
) -> NDArray[np.float64]: ...  # mean over the steps of the batch's mean squared error (k,); x, steps_done in place
def mf_evaluate(
    model: _Factorization,
    rows: NDArray[np.int64] | None,
    x: NDArray[np.float32],
    pairs: NDArray[np.int32],
    ratings: NDArray[np.float32],
    test_ptr: NDArray[np.int64] | None,
    batch: int,
    /,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...  # mean squared error (k,), mean of the batches' (k,)

# ---- gossip ----

def regular_graph(n: int, degree: int, seed: int, round: int, /) -> NDArray[np.int32]: ...
def components(indptr: NDArray[np.int32], indices: NDArray[np.int32], /) -> NDArray[np.int32]: ...
def metropolis_weights(
    indptr: NDArray[np.int32], indices: NDArray[np.int32], /
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]: ...
def check_mixing(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    sums: bool,
    symmetric: bool,
    /,
) -> None: ...
def lambda2(
    indptr: NDArray[np.int32], indices: NDArray[np.int32], weights: NDArray[np.float32], /
) -> tuple[float, float, int]: ...
def schedule(
    rounds: int,
    n: int,
    gamma_train: int,
    gamma_sync: int,
    threshold: NDArray[np.uint64] | None,
    budget: NDArray[np.int64] | None,
    seed: int,
    first_node: int,
    /,
) -> NDArray[np.uint8]: ...
def energy(action: NDArray[np.uint8], e: NDArray[np.float64], /) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

# ---- cache ----

class Cache:
    def __init__(
        self,
        dim: int,
        capacity: int,
        bucket_capacity: int,
        bits: int,
        probes: int,
        planes: NDArray[np.float32] | None,
        metric: int,
        eviction: int,
        tolerance: float,
        ttl: int | None,
        miss_on_nan: bool,
        spaces: dict[tuple[Hashable, Hashable], int],
        hit: type[Hit],
        /,
    ) -> None: ...
    @property
    def generation(self) -> int: ...
    def __len__(self) -> int: ...
    def lookup(
        self,
        q: ArrayLike,
        k: int | None = None,
        namespace: Hashable = None,
        tolerance: float | None = None,
        filter: Hashable = None,
    ) -> Hit | None: ...
    def nearest(
        self, q: ArrayLike, namespace: Hashable = None, filter: Hashable = None
    ) -> tuple[float, int] | None: ...
    def invalidate(self, slot: int, /) -> bool: ...
    def _lookup_batch(
        self,
        queries: NDArray[np.float32],
        k: int,
        space: int,
        tolerance: float | None,
        found: NDArray[np.uint8],
        ids: NDArray[np.int64],
        distances: NDArray[np.float32],
        /,
    ) -> None: ...
    def _insert(
        self,
        q: ArrayLike,
        ids: NDArray[np.int64],
        distances: NDArray[np.float32] | None,
        k: int,
        tolerance: float | None,
        ttl: int | None,
        space: int,
        /,
    ) -> int | None: ...
    def _remove_ids(self, ids: NDArray[np.int64], /) -> int: ...
    def _bump(self) -> int: ...
    def _stale(self, vectors: NDArray[np.float32], remove: bool, /) -> NDArray[np.int64]: ...
    def _export(self, keys: bool, /) -> dict[str, NDArray[Any]]: ...
    def _restore(self, columns: dict[str, NDArray[Any]], /) -> None: ...
    def _stats(self) -> dict[str, Any]: ...
    def _set_tolerance(self, tolerance: Any, /) -> None: ...
