"""The CUDA back end; may be absent. Imports without a driver.

Arguments are positional numbers: device numbers, streams (addresses; 1 and 2 are the legacy and the per-thread default
stream), addresses in the device's memory, sizes and strides in elements, pitches in bytes. `collegium.cuda` knows their
names and shapes and checks them; nobody else calls these. Work is put on the stream; only *_sync waits for it.
Raise CudaError, MemoryError (names the bytes), ValueError.
"""

from typing import Any

from ._core import CudaError as CudaError

def device_count() -> tuple[int, int, str]: ...  # devices this process can use, CUDA error code (0: none), its text
def runtime_version() -> int: ...  # 1000 * major + 10 * minor
def describe(
    device: int, /
) -> tuple[
    str, int, int, int, int, int
]: ...  # name, capability (2), multiprocessors, shared bytes a block, memory bytes
def memory(device: int, /) -> tuple[int, int]: ...  # bytes free, in all
def alloc(device: int, stream: int, bytes: int, /) -> tuple[int, Any]: ...  # address, owner: gone with it
def copy_in(
    device: int, stream: int, to: int, to_pitch: int, from_host: int, from_pitch: int, width: int, rows: int, /
) -> None: ...
def copy(
    device: int, stream: int, to: int, to_pitch: int, from_: int, from_pitch: int, width: int, rows: int, /
) -> None: ...
def copy_out_sync(
    device: int, stream: int, to_host: int, to_pitch: int, from_: int, from_pitch: int, width: int, rows: int, /
) -> None: ...
def zero(device: int, stream: int, to: int, bytes: int, /) -> None: ...
def stream_wait(device: int, stream: int, other: int, /) -> None: ...  # on the device: stream waits for other
def stream_sync(device: int, stream: int, /) -> None: ...
def dlpack_open(
    capsule: Any, /
) -> tuple[int, int, int, int, int, int, tuple[int, ...], tuple[int, ...] | None, bool, Any]: ...  # address,

# device type and number, type code, bits, lanes, shape, strides, read-only, owner: the tensor goes back with it
def dlpack_make(
    address: int,
    device: int,
    code: int,
    bits: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    owner: Any,
    /,
) -> Any: ...  # a capsule that holds the owner

# ---- aggregate ----
def mix_tile(
    device: int, n: int, rounds: int, /
) -> tuple[int, int]: ...  # columns of a tile, 1 if all rounds are one launch
def mix(
    device: int,
    stream: int,
    n: int,
    rounds: int,
    blocks: int,
    columns: int,
    col_start: int,
    first_tile: int,
    which: int,
    start: int,
    entries: int,
    tiles: int,
    width: int,
    fused: int,
    x: int,
    ldx: int,
    y: int,
    ldy: int,
    work: int | None,
    /,
) -> None: ...
def consensus(
    device: int,
    stream: int,
    p: int,
    x: int,
    ldx: int,
    k: int,
    rows: int | None,
    mean: int,
    part: int,
    sum_sq: int,
    /,
) -> None: ...
def average(
    device: int, stream: int, p: int, x: int, ldx: int, k: int, rows: int | None, weights: int, out: int, /
) -> None: ...
def find_nonfinite(
    device: int, stream: int, p: int, x: int, ldx: int, k: int, rows: int | None, part: int, out: int, /
) -> None: ...

# ---- products, nearest keys (cache), router: row-major float32, c = a b^T ----
def gemm(
    device: int, stream: int, m: int, n: int, k: int, a: int, lda: int, b: int, ldb: int, c: int, ldc: int, /
) -> None: ...
def norms(device: int, stream: int, rows: int, dim: int, x: int, ld: int, out: int, /) -> None: ...
def nearest(
    device: int,
    stream: int,
    batch: int,
    keys: int,
    dim: int,
    q: int,
    ldq: int,
    k: int,
    ldk: int,
    qq: int,
    kk: int,
    lo: int,
    hi: int,
    bound: float,
    index: int,
    distance: int,
    /,
) -> None: ...
def router_layer(
    device: int,
    stream: int,
    rows: int,
    width: int,
    group: int,
    z: int,
    ldz: int,
    shift: int,
    dots: int | None,
    cross: int | None,
    gain: int,
    bias: int,
    out: int,
    /,
) -> None: ...
def router_head(
    device: int,
    stream: int,
    rows: int,
    width: int,
    group: int,
    h: int,
    w: int,
    b: int,
    sources: int,
    column: int,
    p: int,
    /,
) -> None: ...

# ---- convolutions of rows: sizes as collegium.cuda.rowconv.RowConv lists them ----
def rowconv_work(
    device: int,
    rows: int,
    batch: int,
    channels: int,
    outputs: int,
    height: int,
    width: int,
    kh: int,
    kw: int,
    ph: int,
    pw: int,
    ldx: int,
    /,
) -> tuple[int, int]: ...
def rowconv(
    device: int,
    stream: int,
    rows: int,
    batch: int,
    channels: int,
    outputs: int,
    height: int,
    width: int,
    kh: int,
    kw: int,
    ph: int,
    pw: int,
    ldx: int,
    flipped: int,
    x: int,
    weight: int,
    ldw: int,
    bias: int | None,
    ldb: int,
    work: int,
    y: int,
    /,
) -> None: ...
def rowconv_weight(
    device: int,
    stream: int,
    rows: int,
    batch: int,
    channels: int,
    outputs: int,
    height: int,
    width: int,
    kh: int,
    kw: int,
    ph: int,
    pw: int,
    ldx: int,
    gy: int,
    x: int,
    work: int,
    gw: int,
    /,
) -> None: ...

# ---- cuBLAS and NCCL, opened by file or name: 10000 major + 100 minor + patch ----
def cublas_open(file: str, /) -> int: ...
def nccl_open(file: str, /) -> int: ...
def cublas_gemm(
    device: int, stream: int, m: int, n: int, k: int, a: int, lda: int, b: int, ldb: int, c: int, ldc: int, /
) -> None: ...

# ---- base, noise ----
def random(
    device: int,
    stream: int,
    kind: int,  # 0: uint32 words, 1: float32 in [0, 1), 2: float32 normal
    seed: int,
    purpose: int,
    node: int,
    round: int,
    first: int,
    n: int,
    out: int,
    /,
) -> None: ...
