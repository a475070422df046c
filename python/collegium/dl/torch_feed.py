"""The samples of many nodes' local steps, step by step, in tensors that train in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from .. import _core
from ..data.datasets import Dataset
from .torch_learner import _tensors
from .torch_rows import each

_SHARE = 4  # samples stay on a device where they take less than one part in so many of its free memory


Numbers: TypeAlias = "NDArray[np.int64] | torch.Tensor"


class Batch(NamedTuple):
    """What some of the rows take in one step.

    rows: (g,) positions among the rows that train, or None: all.  x: (g, b, ...), transformed.  y: (g, b, ...).
    weight: (g, b), 1 / size of the node's batch, and 0 for padding; None: nothing is padded.
    """

    rows: torch.Tensor | None
    x: Any
    y: torch.Tensor
    weight: torch.Tensor | None


class Source:
    """Reads samples by number and puts them on a device; samples that fit are kept there whole."""

    def __init__(self, dataset: Dataset, test: bool, device: torch.device) -> None:
        self._fetch = dataset.fetch_test if test else dataset.fetch
        self._device = device
        self._kept: tuple[torch.Tensor, torch.Tensor] | None = None
        if device.type != "cpu" and type(dataset) is Dataset:
            x, y = (dataset.x_test, dataset.y_test) if test else (dataset.x, dataset.y)
            assert x is not None and y is not None
            if x.nbytes < torch.cuda.mem_get_info(device)[0] // _SHARE:
                self._kept = torch.tensor(x, device=device), torch.tensor(y, device=device)

    def numbers(self, samples: NDArray[np.int64]) -> Numbers:
        """Sample numbers on the side where the samples are: one copy for many steps, since each copy waits for the
        device to have nothing else to do."""
        return samples if self._kept is None else torch.from_numpy(samples).to(self._device)

    def __call__(self, samples: Numbers, transform: Callable[[Any], Any]) -> tuple[Any, torch.Tensor]:
        """(x, y) of the samples (k,): x transformed, both on the device."""
        if self._kept is not None:
            at = samples if isinstance(samples, torch.Tensor) else torch.from_numpy(samples).to(self._device)
            x, y = (t.index_select(0, at) for t in self._kept)
            return transform(x), y
        x, y = self._fetch(samples)
        x = transform(each(_tensors(x), lambda t: t.to(self._device)))
        return x, torch.as_tensor(y).to(self._device)


class Plan:
    """The samples of `steps` local steps of some nodes: those of `dl.TorchLearner`, in the same batches.

    parts: (m_i,) sample numbers of each of these nodes, none empty.  nodes: (k,) their numbers.  done: (k,) steps each
    has done before.
    """

    def __init__(
        self, seed: int, nodes: NDArray[np.int64], parts: list[NDArray[np.int64]], done: NDArray[np.int64],
        steps: int, batch_size: int,
    ) -> None:  # fmt: skip
        k, width = len(nodes), min(batch_size, max(map(len, parts)))
        self.sizes = np.empty((steps, k), np.int64)
        self.samples = np.empty((steps, k, width), np.int64)  # beyond its size a batch repeats its last sample
        for j, (i, own) in enumerate(zip(nodes.tolist(), parts)):
            picked, starts = _core.sample_batches(seed, i, int(done[j]), steps, len(own), batch_size)
            self.sizes[:, j] = np.diff(starts)
            last = self.sizes[:, j, None] - 1
            self.samples[:, j] = own[picked[starts[:-1, None] + np.minimum(np.arange(width), last)]]

    def batches(
        self, source: Source, transform: Callable[[Any], Any], device: torch.device, pad: bool, fixed: bool
    ) -> Iterator[list[Batch]]:
        """For each step what there is to do: one padded batch of all rows, or one batch a size that occurs.

        fixed: pad all steps to one width, as graphs need it.
        """
        if pad:
            full = int(self.sizes.max())
            weights, numbers = torch.from_numpy(_weights(self.sizes, full)).to(device), source.numbers(self.samples)
            for size, weight, samples in zip(self.sizes, weights, numbers):
                width = full if fixed else int(size.max())
                yield [Batch(None, *_read(source, samples[:, :width], transform), weight[:, :width])]
        else:
            for size, samples in zip(self.sizes, self.samples):
                yield [self._of_size(int(b), size, samples, source, transform, device) for b in np.unique(size)]

    @staticmethod
    def _of_size(
        b: int, size: NDArray[np.int64], samples: NDArray[np.int64], source: Source,
        transform: Callable[[Any], Any], device: torch.device,
    ) -> Batch:  # fmt: skip
        rows = np.flatnonzero(size == b)
        at = None if len(rows) == len(size) else torch.from_numpy(rows).to(device)
        return Batch(at, *_read(source, samples[rows, :b], transform), None)


def _weights(size: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    return ((np.arange(width) < size[..., None]) / size[..., None]).astype(np.float32)


def _read(source: Source, samples: Numbers, transform: Callable[[Any], Any]) -> tuple[Any, torch.Tensor]:
    x, y = source(samples.reshape(-1), transform)

    def of_rows(t: torch.Tensor) -> torch.Tensor:
        return t.reshape(*samples.shape, *t.shape[1:])

    return each(x, of_rows), of_rows(y)
