"""Built-in models, trained in C with no torch; and the papers' networks for torch, imported when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._check import INT32_MAX, choice, integer, real

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


@dataclass(frozen=True)
class MatrixFactorization:
    """Ratings as mean + b_u + b_i + p_u . q_i: user and item biases and factors, trained by `dl.FactorizationLearner`.

    users, items: how many there are; ids run from 0.  factors: length of p_u and q_i.
    biases: False is the plain dot product p_u . q_i of the decentralized learning papers (users 610, items 9724,
      factors 20: P = 206,680).
    mean: in units of the ratings, not trained. None: with biases the mean of the learner's training ratings, else 0.

    Parameters are those of torch ``nn.Embedding`` layers: ``user.weight`` (users, factors), ``item.weight``, and with
    biases ``user_bias.weight`` (users,), ``item_bias.weight`` (items,).
    Source: Koren, Bell, Volinsky, "Matrix factorization techniques for recommender systems", IEEE Computer 2009, eq. 4.
    Raises TypeError or ValueError naming the argument.

    >>> MatrixFactorization(610, 9724, biases=False).size
    206680
    """

    users: int
    items: int
    factors: int = 20
    biases: bool = True
    mean: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "users", integer(self.users, "users", 1, INT32_MAX))
        object.__setattr__(self, "items", integer(self.items, "items", 1, INT32_MAX))
        object.__setattr__(self, "factors", integer(self.factors, "factors", 1, 2**20))
        if not isinstance(self.biases, bool):
            raise TypeError(f"biases: expected True or False, got {self.biases!r}")
        if self.mean is not None:
            object.__setattr__(self, "mean", real(self.mean, "mean"))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each parameter, in the order of the flat row."""
        out: dict[str, tuple[int, ...]] = {
            "user.weight": (self.users, self.factors),
            "item.weight": (self.items, self.factors),
        }
        if self.biases:
            out.update({"user_bias.weight": (self.users,), "item_bias.weight": (self.items,)})
        return out

    @property
    def size(self) -> int:
        """Number of parameters P."""
        return (self.users + self.items) * (self.factors + self.biases)


def __getattr__(name: str) -> Any:
    if name in ("gn_lenet", "femnist_cnn"):
        try:
            from . import torch_models
        except ImportError as e:
            raise ImportError(f"dl.models.{name} needs PyTorch: pip install 'collegium[torch]' ({e})") from e
        return getattr(torch_models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
