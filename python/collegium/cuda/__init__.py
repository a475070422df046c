"""The CUDA back end: whether it is there, arrays on a device, and the kernels over them.

>>> import collegium.cuda
>>> module, reason = collegium.cuda.status()                              # doctest: +SKIP

Usually none of this is called by name: public functions such as `dl.mix` look where the data is. Arrays of torch, CuPy
or anything else that speaks DLPack or `__cuda_array_interface__` are taken as they are; work goes on the caller's
current stream (torch's, CuPy's, or one named with `stream`), and nothing waits for it unless its name ends in `_sync`
or it returns a number to the host.

Compiled for sm_80, sm_90a and sm_100; run on an H200 (sm_90), nowhere else yet. The kernels' bodies are tested on the
CPU as well.
"""

from __future__ import annotations

from .aggregate import MixPlan, mix
from .array import Array, empty, from_numpy, to_host_sync, zeros_rows
from .door import View, current_stream, device_number, need, status, stream, view
from .fleet import average, consensus, consensus_sync, find_nonfinite_sync
from .libraries import library, sgemm
from .nearest import KeyTable, nearest
from .noise import normal_f32, random_f32, random_u32
from .router import RouterForward

__all__ = [
    "Array",
    "KeyTable",
    "MixPlan",
    "RouterForward",
    "View",
    "average",
    "consensus",
    "consensus_sync",
    "current_stream",
    "device_number",
    "empty",
    "find_nonfinite_sync",
    "from_numpy",
    "library",
    "mix",
    "nearest",
    "need",
    "normal_f32",
    "random_f32",
    "random_u32",
    "sgemm",
    "status",
    "stream",
    "to_host_sync",
    "view",
    "zeros_rows",
]
