"""Convolutions of rows on a device against torch's own in float64; gradients the same every time."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
rowconv = pytest.importorskip("collegium.dl.torch_rowconv")


def near(got, want):
    assert got.shape == want.shape
    assert (got.double() - want).abs().max() <= 4e-3 * want.abs().max()


@pytest.mark.parametrize(
    "rows, batch, c, o, size, kernel, pad",
    [(5, 4, 3, 32, 32, 5, 2), (4, 6, 32, 32, 16, 5, 2), (3, 9, 32, 64, 8, 5, 2), (2, 3, 11, 17, 13, 3, 1)],
)
def test_a_convolution_and_its_gradients(rows, batch, c, o, size, kernel, pad):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    torch.manual_seed(rows)
    x, gy = (torch.randn(rows, batch, n, size, size, device="cuda") for n in (c, o))
    w = torch.randn(rows, o * (c * kernel**2 + 1) + 1, device="cuda")
    bias, weight = w[:, 1 : o + 1], w[:, o + 1 :].view(rows, o, c, kernel, kernel)

    def loss(x, weight, bias, gy):
        y = torch.conv2d(x, weight, bias, padding=pad)
        return (y * gy).sum(), y

    def both(*of_rows):
        return torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2), has_aux=True))(*of_rows)

    with rowconv.fast():
        (gx, gw, gb), y = both(x, weight, bias, gy)
        again = both(x, weight, bias, gy)
    assert all(torch.equal(a, b) for a, b in zip((gx, gw, gb, y), (*again[0], again[1])))
    wanted, want = both(*(t.double() for t in (x, weight, bias, gy)))
    for a, b in zip((gx, gw, gb, y), (*wanted, want)):
        near(a, b)
