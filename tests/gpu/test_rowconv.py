"""Layers of rows on a device against torch's own in float64 on the CPU; gradients the same every time."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
fast = pytest.importorskip("collegium.dl.torch_fast").fast

F = torch.nn.functional


def near(got, want, tolerance):
    assert got.shape == want.shape
    assert (got.cpu().double() - want).abs().max() <= tolerance * want.abs().max()


def agree(function, x, weight, bias, gy, tolerance):
    """y and the gradients of sum(y gy) on the device, twice, and on the CPU in float64."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")

    def loss(x, weight, bias, gy):
        y = function(x, weight, bias)
        return (y * gy).sum(), y

    def both(*of_rows):
        gradients, y = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2), has_aux=True))(*of_rows)
        return *gradients, y

    with fast():
        one, again = (both(*(t.cuda() for t in (x, weight, bias, gy))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again))
    for a, b in zip(one, both(*(t.double() for t in (x, weight, bias, gy)))):
        near(a, b, tolerance)


@pytest.mark.parametrize(
    "rows, batch, c, o, height, width, kernel, pad",
    [
        (2, 2, 3, 32, 32, 32, 5, 2),
        (2, 3, 32, 32, 16, 16, 5, 2),
        (2, 5, 32, 64, 8, 8, 5, 2),
        (3, 2, 11, 17, 13, 9, 3, 1),
    ],
)
def test_rowconv_and_its_gradients(rows, batch, c, o, height, width, kernel, pad):
    torch.manual_seed(rows)
    w = torch.randn(rows, o * (c * kernel**2 + 1) + 1)
    bias, weight = w[:, 1 : o + 1], w[:, o + 1 :].view(rows, o, c, kernel, kernel)
    x, gy = torch.randn(rows, batch, c, height, width), torch.randn(rows, batch, o, height, width)
    agree(lambda x, w, b: torch.conv2d(x, w, b, padding=pad), x, weight, bias, gy, 4e-3)


@pytest.mark.parametrize("shape", [(3, 4, 32, 16, 16), (600, 64, 4, 3, 5)])
def test_groups_of_rows(shape):
    """The second has more groups than one call of torch's kernels takes."""
    torch.manual_seed(0)
    weight, bias = torch.randn(2, shape[0], shape[2])
    x, gy = torch.randn(shape), torch.randn(shape)
    agree(lambda x, w, b: F.group_norm(x, 2, w, b), x, weight, bias, gy, 1e-4)
