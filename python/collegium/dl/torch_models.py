"""The papers' networks for torch, as functions that make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class TorchModel:
    """A named network: call it for a fresh nn.Module, or give it to `Simulation(model=...)` as it is.

    input_shape: of one sample, for counting work.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]

    def __call__(self) -> nn.Module:
        """A new module with torch's default initialisation."""
        return self.build()

    def __repr__(self) -> str:
        return self.name


def gn_lenet(classes: int = 10, channels: int = 3) -> TorchModel:
    """LeNet with GroupNorm for 32x32 images, 89,834 parameters at the defaults (Hsieh et al., ICML 2020; SkipTrain's
    CIFAR-10 network): three 5x5 convolutions to 32, 32 and 64 channels, each with GroupNorm(2), ReLU and pooling by 2,
    and a linear layer."""

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in ((channels, 32), (32, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 5, padding=2), nn.GroupNorm(2, outputs), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, classes))

    return TorchModel(f"gn_lenet({classes}, {channels})", build, (channels, 32, 32))


def femnist_cnn(classes: int = 62) -> TorchModel:
    """LEAF's network for 28x28 characters, 1,690,046 parameters at 62 classes (Caldas et al., 2018; SkipTrain's FEMNIST
    network): two 5x5 convolutions to 32 and 64 channels, each with ReLU and pooling by 2, and two linear layers."""

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 7 * 7, 512), nn.ReLU(), nn.Linear(512, classes),
        )  # fmt: skip

    return TorchModel(f"femnist_cnn({classes})", build, (1, 28, 28))


def training_flops(model: TorchModel, batch_size: int) -> int:
    """Floating-point operations of one local step: forward and backward of a batch, as torch's FlopCounterMode counts
    them (a multiply-add is two)."""
    from torch.utils.flop_counter import FlopCounterMode

    module = model()
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(batch_size, *model.input_shape)).sum().backward()
    return int(counter.get_total_flops())
