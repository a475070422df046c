"""From what a user hands to a Simulation to the learner that trains it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np

from ..data.datasets import Parts, as_parts
from ..engine import Learner
from .factorization import FactorizationLearner
from .learners import NativeLearner
from .models import MLP, MatrixFactorization


def learner_for(model: Any, data: Any, n: int, test: Any, device: str, options: Mapping[str, Any]) -> Learner:
    """The native learner of a built-in model; TorchLearner for a module or a function that makes one, the batched one
    for another device or with batched=True among the options."""
    parts = as_parts(data)
    if len(parts) != n:
        raise ValueError(f"data: expected one part a node ({n}), got {len(parts)}")
    if test is not None:
        parts = Parts(parts.dataset.with_test(test), parts.indices)
    options, device = dict(options), str(device)
    if device == "auto":
        device = "cuda" if callable(model) and _torch_sees_a_gpu() else "cpu"
    batched = options.pop("batched", False)
    if not isinstance(batched, bool):
        raise TypeError(f"batched: expected True or False, got {batched!r}")
    if isinstance(model, MLP | MatrixFactorization) and (batched or device != "cpu"):
        asked = "batched: " if device == "cpu" else f"device: {device!r}: "
        raise ValueError(
            f"{asked}built-in models are trained in C on the CPU, all nodes in one call; give a torch module"
        )
    if isinstance(model, MLP):
        return NativeLearner(model, parts, **options)
    if isinstance(model, MatrixFactorization):
        return FactorizationLearner(model, parts, **options)
    if not callable(model):
        raise TypeError(
            f"model: expected a built-in model, a torch module or a function that makes one, got {type(model).__name__}"
        )
    try:
        from .torch_batched import BatchedTorchLearner
        from .torch_learner import TorchLearner
    except ImportError as e:
        raise ImportError(f"model: a torch model needs PyTorch: pip install 'collegium[torch]' ({e})") from e
    if batched or device != "cpu":
        _check_options(options, BatchedTorchLearner, TorchLearner, "all nodes at once; without device and batched")
        return BatchedTorchLearner(model, parts, device=device, **options)
    _check_options(options, TorchLearner, BatchedTorchLearner, "one node after another; with a device or batched=True")
    return TorchLearner(model, parts, **options)


def _check_options(options: Mapping[str, Any], kind: type, other: type, how: str) -> None:
    """Raises TypeError for an option that only the other learner has."""
    known, others = (signature(k).parameters for k in (kind, other))
    for name in options:
        if name not in known and name in others:
            raise TypeError(f"{name}: no option of training {how}, dl.{other.__name__} takes it")


def _torch_sees_a_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def place_of(learner: Learner) -> str:
    """The device that a learner wants its population on, where the CUDA extension can work there; else the CPU, with a
    warning."""
    device = str(getattr(learner, "device", "cpu"))
    if not device.startswith("cuda"):
        return "cpu"
    from .. import cuda

    module, reason = cuda.status()
    if module is None:
        warnings.warn(
            f"device: the models stay on the CPU and are copied in every round, collegium.cuda is off: {reason}",
            stacklevel=3,
        )
        return "cpu"
    return device


def with_validation(data: Any, test: Any, validation: Any) -> tuple[Any, Any]:
    """(test, validation), where samples of validation are put behind the test set, and counted, so that the learner
    has one set to evaluate on. A share of the test set, or None, is passed on."""
    if validation is None or isinstance(validation, (float, np.floating)):
        return test, validation
    if isinstance(validation, Parts):
        held = np.concatenate(validation.indices)
        validation = validation.dataset.x[held], validation.dataset.y[held]
    if test is None and isinstance(data, Parts):
        test = getattr(data.dataset, "test", None) or (data.dataset.x_test, data.dataset.y_test)
    if isinstance(test, tuple) and isinstance(validation, tuple) and test[0] is not None:
        x, y = (np.concatenate([np.asarray(a), np.asarray(b)]) for a, b in zip(test, validation))
        return (x, y), len(validation[1])
    if test is not None and hasattr(validation, "__getitem__") and not isinstance(validation, (str, tuple)):
        from torch.utils.data import ConcatDataset

        return ConcatDataset([test, validation]), len(validation)
    raise TypeError(
        f"validation: expected a share of the test set, (x, y), the held parts, or a torch Dataset where test is one; "
        f"got {type(validation).__name__}"
    )
