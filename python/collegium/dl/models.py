"""Built-in models, trained in C with no torch; and the papers' networks for torch, imported when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._check import choice, integer

if TYPE_CHECKING:
    from .torch_models import femnist_cnn as femnist_cnn
    from .torch_models import gn_lenet as gn_lenet


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron for classification: linear layers with ReLU or tanh between, logits at the end.

    ``MLP(64, 64, 10)``: 64 inputs, one hidden layer of 64, 10 classes. Parameters are those of a torch
    ``nn.Sequential`` of ``nn.Linear`` layers: ``fc1.weight`` (out, in), ``fc1.bias`` (out,), ``fc2.weight`` ...

    sizes: inputs, hidden widths ..., classes; at least two.  activation: "relu" or "tanh".
    """

    sizes: tuple[int, ...]
    activation: str = "relu"

    def __init__(self, *sizes: int, activation: str = "relu") -> None:
        if len(sizes) < 2:
            raise ValueError(f"sizes: expected inputs and classes at least, got {sizes}")
        object.__setattr__(self, "sizes", tuple(integer(s, "sizes", 1) for s in sizes))
        object.__setattr__(self, "activation", choice(activation, "activation", ("relu", "tanh")))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each parameter, in the order of the flat row."""
        out: dict[str, tuple[int, ...]] = {}
        for k, (fan_in, fan_out) in enumerate(zip(self.sizes, self.sizes[1:]), start=1):
            out[f"fc{k}.weight"] = (fan_out, fan_in)
            out[f"fc{k}.bias"] = (fan_out,)
        return out

    @property
    def size(self) -> int:
        """Number of parameters P."""
        return sum((i + 1) * o for i, o in zip(self.sizes, self.sizes[1:]))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.sizes[-1]


def Softmax(inputs: int, classes: int) -> MLP:
    """Softmax (multinomial logistic) regression: an MLP with no hidden layer."""
    return MLP(inputs, classes)


def __getattr__(name: str) -> Any:
    if name in ("gn_lenet", "femnist_cnn"):
        try:
            from . import torch_models
        except ImportError as e:
            raise ImportError(f"dl.models.{name} needs PyTorch: pip install 'collegium[torch]' ({e})") from e
        return getattr(torch_models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
