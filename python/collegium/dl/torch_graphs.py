"""CUDA graphs of a training step: recorded once for its memory and shapes, then replayed in one launch."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

Step = Callable[..., torch.Tensor]  # step(*held, *inputs): changes held in place
_WARM, _KEPT = 2, 8


def record(step: Step, arguments: tuple[Any, ...]) -> tuple[Callable[[], None], torch.Tensor]:
    """(replay, out) of step(*arguments), which is not run now; `out` is written by every replay."""
    graph = torch.cuda.CUDAGraph()
    device = next(a.device for a in arguments if a is not None)
    with torch.cuda.device(device), torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):
        out = step(*arguments)
    return graph.replay, out


class Graphs:
    """Runs a step, from its third time at the same addresses and shapes on as a graph.

    The first times are real steps too: libraries choose their algorithms then. At most eight graphs are kept.
    required: a step that cannot be recorded raises; else it runs without a graph, with one warning.
    """

    def __init__(self, step: Step, required: bool, record: Callable[..., Any] = record) -> None:
        self._step, self._required, self._record = step, required, record
        self._seen: OrderedDict[Any, Any] = OrderedDict()  # key -> times run, or (replay, inputs, out)
        self._off = False

    def __call__(self, held: tuple[torch.Tensor | None, ...], inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """step(*held, *inputs). held: changed in place, known by address.  inputs: copied to where the graph reads."""
        key = (tuple(map(_place, held)), tuple((t.shape, t.dtype) for t in inputs))
        entry = self._seen.pop(key, 0)
        if entry == _WARM and not self._off:
            entry = self._recorded(held, inputs)
        if isinstance(entry, int):
            out = self._step(*held, *inputs)
            entry = min(entry + 1, _WARM)
        else:
            replay, places, out = entry
            for place, t in zip(places, inputs):
                place.copy_(t)
            replay()
        self._seen[key] = entry
        if len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return out

    def _recorded(self, held: tuple[torch.Tensor | None, ...], inputs: tuple[torch.Tensor, ...]) -> Any:
        places = tuple(t.clone() for t in inputs)
        try:
            replay, out = self._record(self._step, (*held, *places))
        except RuntimeError as e:
            if self._required:
                raise
            self._off = True
            warnings.warn(f"cuda_graph: the training step could not be recorded and runs without ({e})", stacklevel=2)
            return _WARM
        return replay, places, out


def _place(t: torch.Tensor | None) -> Any:
    return None if t is None else (t.data_ptr(), t.shape, t.stride())
