"""Convolutions of many rows' models at once, each with weights and samples of its own, in TF32: the launches.

For whoever has tensors in hand (`dl.torch_rowconv`): addresses and sizes only, no array is looked at.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from .door import need


class RowConv(NamedTuple):
    """x (rows, batch, channels, height, width) and weights (rows, outputs, channels, kh, kw), zero padding ph, pw.

    pitch: floats from one row of x to the next; 0: all rows have the same.
    """

    rows: int
    batch: int
    channels: int
    outputs: int
    height: int
    width: int
    kh: int
    kw: int
    ph: int
    pw: int
    pitch: int

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Of y: (rows, batch, outputs, height, width)."""
        height, width = self.height + 2 * self.ph - self.kh + 1, self.width + 2 * self.pw - self.kw + 1
        return self.rows, self.batch, self.outputs, height, width

    @property
    def back(self) -> RowConv:
        """The convolution of the gradient of y, with flipped weights, that is the gradient of x."""
        rows, batch, outputs, height, width = self.shape
        return RowConv(
            rows, batch, outputs, self.channels, height, width, self.kh, self.kw, self.kh - 1 - self.ph,
            self.kw - 1 - self.pw, batch * outputs * height * width,
        )  # fmt: skip

    def fits(self, device: int) -> bool:
        """Whether this convolution and its gradients can be computed on this device."""
        if min(self) < 0 or min(self[1:8]) < 1 or self.ph >= self.kh or self.pw >= self.kw or min(self.shape[1:]) < 1:
            return False
        return max(self[1:8]) < 2**16 and self.work(device)[0] > 0 and self.back.work(device)[0] > 0

    def work(self, device: int) -> tuple[int, int]:
        """Floats of work for `forward` and for `weight_gradient`; zeros: too large."""
        return _work(device, self)

    def forward(
        self, device: int, stream: int, x: int, weight: int, ldw: int, bias: int | None, ldb: int, work: int, y: int,
        *, flipped: bool = False,
    ) -> None:  # fmt: skip
        """y = the convolution of x, plus bias (rows, outputs). ldw, ldb: floats from one row to the next.

        flipped: weight is (rows, channels, outputs, kh, kw), read from its last tap to its first: what `back` wants.
        """
        need().rowconv(device, stream, *self, int(flipped), x, weight, ldw, bias, ldb, work, y)

    def weight_gradient(self, device: int, stream: int, gy: int, x: int, work: int, gw: int) -> None:
        """gw (rows, outputs, channels, kh, kw), contiguous, of gy and x. Same bits every time."""
        need().rowconv_weight(device, stream, *self, gy, x, work, gw)


@functools.lru_cache(maxsize=256)
def _work(device: int, c: RowConv) -> tuple[int, int]:
    forward, gradient = need().rowconv_work(device, *c)
    return forward, gradient
