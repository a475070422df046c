"""Group normalisation of rows in one call, against torch's own in float64, row by row."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
norms = pytest.importorskip("collegium.dl.torch_groupnorm")
fast = pytest.importorskip("collegium.dl.torch_fast").fast

F = torch.nn.functional


def near(got, want):
    assert got.shape == want.shape
    assert (got.double() - want).abs().max() <= 1e-5 * max(1.0, float(want.abs().max()))


def by_rows(x, w, b, gy):
    """y and the gradients of sum(y gy), by vmap over the rows."""

    def loss(x, w, b, gy):
        y = F.group_norm(x, 3, w, b, 1e-3)
        return (y * gy).sum(), y

    grads, y = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2), has_aux=True))(x, w, b, gy)
    return y, *grads


@pytest.mark.parametrize("most", [65535, 7])
@pytest.mark.parametrize("shape", [(4, 2, 6, 5, 7), (1, 1, 3, 2, 2), (3, 2, 9, 4)])
def test_gradients_of_rows(monkeypatch, shape, most):
    """most: two blocks of rows are three calls of three or six groups where seven are one call's most."""
    monkeypatch.setattr(norms, "_MOST", most)
    torch.manual_seed(shape[0])
    matrix = torch.randn(shape[0], 2 * shape[2] + 5)  # weights lie in the population's rows
    w, b = matrix[:, 2 : 2 + shape[2]], matrix[:, 2 + shape[2] : 2 + 2 * shape[2]]
    x, gy = 1 + torch.randn(shape), torch.randn(shape)
    calls = []
    real = torch.native_group_norm
    monkeypatch.setattr(torch, "native_group_norm", lambda *a: calls.append(1) or real(*a))
    with fast():
        got = by_rows(x, w, b, gy)
    assert len(calls) == (1 if most > 7 else shape[0])
    for row in range(shape[0]):
        one = [t[row].double().requires_grad_() for t in (x, w, b)]
        y = F.group_norm(one[0], 3, one[1], one[2], 1e-3)
        for a, z in zip(got, (y.detach(), *torch.autograd.grad(y, one, gy[row].double()))):
            near(a[row], z)


def test_one_row_without_vmap_and_shared_samples():
    torch.manual_seed(0)
    x, w, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 6, 4, 4), (6,), (6,)))
    with fast():
        assert torch.autograd.gradcheck(lambda *a: F.group_norm(a[0], 2, *a[1:]), (x, w, b))
        several = torch.func.vmap(lambda w: F.group_norm(x, 2, w, b))(torch.stack([w, 2 * w]))
    near(several[1].detach(), F.group_norm(x, 2, 2 * w, b).detach())


@pytest.mark.parametrize("x, affine", [((2, 4), True), ((2, 4, 3, 3), False), ((0, 4, 3, 3), True)])
def test_others_go_the_way_of_torch(monkeypatch, x, affine):
    monkeypatch.delattr(norms, "GroupNorm")
    module, x = torch.nn.GroupNorm(2, 4, affine=affine), torch.randn(x)
    with fast():
        assert torch.equal(module(x), F.group_norm(x, 2, module.weight, module.bias))
