"""Image sets. x is uint8 (N, channels, height, width), the layout torch's convolutions take, memory-mapped."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import integer
from .datasets import Dataset
from .places import MissingData, folders, locate
from .store import Named, cached


def cifar10(lossless: bool = False) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 colour images in 10 classes, official order. x uint8 (N, 3, 32, 32), RGB; y 0 ... 9.

    Reads ``images/cifar10.npz`` (repacked: 81 training and 23 test images are JPEG copies), or the official
    ``images/cifar-10-binary.tar.gz``. The first call decodes (about ten seconds).
    lossless: leave those 104 images out (this copies the rest; the official archive has none).
    Raises MissingData. Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    path = locate("cifar10", "images/cifar10.npz", "images/cifar-10-binary.tar.gz")
    a = cached("cifar10", [path], lambda: _cifar10_npz(path) if path.suffix == ".npz" else _cifar10_official(path))
    x, y, x_test, y_test = a["x"], a["y"], a["x_test"], a["y_test"]
    if lossless:
        x, y = np.delete(x, a["lossy"], 0), np.delete(y, a["lossy"])
        x_test, y_test = np.delete(x_test, a["lossy_test"], 0), np.delete(y_test, a["lossy_test"])
    return Dataset(x, y, x_test, y_test, name="cifar10")


def cifar100(test: int = 1600) -> Dataset:
    """8,000 images of CIFAR-100, 80 a class, NOT the official split. x uint8 (N, 3, 32, 32), RGB; y 0 ... 99.

    Meant as a public set without labels (distillation), or a small 100-class task. Official training and test images
    are mixed and in random order; the last `test` of them make the test set (0: none).
    Reads ``images/cifar100_8k.npz``. Raises MissingData. Source: as cifar10.
    """
    test = integer(test, "test", 0, 7999)
    path = locate("cifar100", "images/cifar100_8k.npz")
    a = cached("cifar100", [path], lambda: _cifar100(path))
    cut = len(a["y"]) - test
    held = (a["x"][cut:], a["y"][cut:]) if test else (None, None)
    return Dataset(a["x"][:cut], a["y"][:cut], *held, name="cifar100")


def mnist_writers() -> Dataset:
    """MNIST, 60,000 + 10,000 digits with the writer of each as group. x uint8 (N, 1, 28, 28); y 0 ... 9.

    539 training writers with 19 to 131 digits each, 297 test writers, none in both: a real split by user.
    groups are NIST's writer numbers. Reads ``images/mnist_writers.npz``. Raises MissingData.
    Source: Y. LeCun et al., 1998; writers: C. Yadav and L. Bottou, "Cold case: the lost MNIST digits", NeurIPS 2019.
    """
    path = locate("mnist_writers", "images/mnist_writers.npz")
    a = cached("mnist_writers", [path], lambda: _mnist_writers(path))
    return Dataset(
        a["x"], a["y"], a["x_test"], a["y_test"], groups=a["groups"], groups_test=a["groups_test"], name="mnist_writers"
    )


def femnist() -> Dataset:
    """FEMNIST: characters in 62 classes with the writer of each as group. x uint8 (N, 1, 28, 28); y 0 ... 61.

    Reads what LEAF's preprocessing leaves: ``femnist/train/*.json`` and ``femnist/test/*.json``, each with "users" and
    "user_data": {user: {"x": [784 numbers in 0 ... 1], "y": [...]}}. Numbers are kept in steps of 1/255, as LEAF made
    them. A writer has one number in groups and groups_test. The first call parses, which may take minutes.
    Raises MissingData; ValueError naming a file of another form. Source: S. Caldas et al., "LEAF", 2018.
    """
    needed = [f"femnist/{split}" for split in ("train", "test")]
    folder = next((f for f in folders() if all(any((f / p).glob("*.json")) for p in needed)), None)
    if folder is None:
        looked = " or ".join(str(f / "femnist" / "train") for f in folders())
        raise MissingData(f"femnist: no *.json in {looked} (and test): how to get it: `collegium data fetch femnist`")
    train, test = (sorted((folder / p).glob("*.json")) for p in needed)
    a = cached("femnist", [*train, *test], lambda: _femnist(train, test))
    return Dataset(
        a["x"], a["y"], a["x_test"], a["y_test"], groups=a["groups"], groups_test=a["groups_test"], name="femnist"
    )


def _pixels(residuals: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(3, N, 32, 32) differences of the planes G, R-G, B-G along rows and columns -> (N, 3, 32, 32) RGB, modulo 256."""
    p = np.cumsum(np.cumsum(residuals, 2, dtype=np.uint8), 3, dtype=np.uint8)
    return np.stack([p[1] + p[0], p[0], p[2] + p[0]], 1)


def _cifar10_npz(path: Path) -> Named:
    with np.load(path) as z:
        out: Named = {"lossy": z["lossy_train"].astype(np.int64), "lossy_test": z["lossy_test"].astype(np.int64)}
        for end, split in (("", "train"), ("_test", "test")):
            out[f"x{end}"], out[f"y{end}"] = _pixels(z[f"r_{split}"]), z[f"y_{split}"].astype(np.int64)
    return out


def _cifar10_official(path: Path) -> Named:
    """Records of one label byte and 3 x 32 x 32 pixels."""
    batches = {"": [f"data_batch_{i}" for i in range(1, 6)], "_test": ["test_batch"]}
    out: Named = {"lossy": np.empty(0, np.int64), "lossy_test": np.empty(0, np.int64)}
    with tarfile.open(path) as tar:
        for end, files in batches.items():
            raw = b"".join(_member(tar, path, f"cifar-10-batches-bin/{f}.bin") for f in files)
            records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            out[f"x{end}"], out[f"y{end}"] = records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)
    return out


def _member(tar: tarfile.TarFile, path: Path, name: str) -> bytes:
    try:
        file = tar.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise ValueError(f"{path}: expected a file {name} in it")
    return file.read()


def _cifar100(path: Path) -> Named:
    with np.load(path) as z:
        return {"x": _pixels(z["r"]), "y": z["y_fine"].astype(np.int64)}


def _mnist_writers(path: Path) -> Named:
    out: Named = {}
    with np.load(path) as z:
        for end, split in (("", "train"), ("_test", "test")):
            out[f"x{end}"] = z[f"x_{split}"][:, None]
            out[f"y{end}"] = z[f"y_{split}"].astype(np.int64)
            out[f"groups{end}"] = z[f"writer_{split}"].astype(np.int64)
    return out


def _femnist(train: list[Path], test: list[Path]) -> Named:
    splits = {"": [_leaf(p) for p in train], "_test": [_leaf(p) for p in test]}
    users = sorted({user for files in splits.values() for file in files for user, _, _ in file})
    number = {user: i for i, user in enumerate(users)}
    out: Named = {}
    for end, files in splits.items():
        samples = [s for file in files for s in file]
        out[f"x{end}"] = np.concatenate([x for _, x, _ in samples])
        out[f"y{end}"] = np.concatenate([y for _, _, y in samples])
        out[f"groups{end}"] = np.repeat([number[u] for u, _, _ in samples], [len(y) for _, _, y in samples])
    return out


def _leaf(path: Path) -> list[tuple[str, NDArray[np.uint8], NDArray[np.int64]]]:
    """(user, x, y) of each user of one of LEAF's files."""
    out = []
    try:
        with path.open("rb") as f:
            file: dict[str, Any] = json.load(f)
        for user in file["users"]:
            values = np.asarray(file["user_data"][user]["x"], np.float64).reshape(-1, 1, 28, 28)
            y = np.asarray(file["user_data"][user]["y"], np.int64)
            x = np.rint(values * 255)
            if len(x) != len(y) or np.abs(x - values * 255).max(initial=0) > 0.01 or not ((0 <= x) & (x <= 255)).all():
                raise ValueError(f"user {user}: expected one label a row of 784 steps of 1/255 in 0 ... 1")
            out.append((str(user), x.astype(np.uint8), y))
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{path}: expected LEAF's JSON for FEMNIST: {e}") from None
    return out
