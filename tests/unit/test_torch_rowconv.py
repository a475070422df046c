"""Convolutions by rows under vmap, on a device whose kernels run on the CPU, against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest

from collegium import cuda

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
rowconv = pytest.importorskip("collegium.dl.torch_rowconv")
torch_fast = pytest.importorskip("collegium.dl.torch_fast")
rows_of = pytest.importorskip("collegium.dl.torch_rows")
nn, grad, vmap = torch.nn, torch.func.grad, torch.func.vmap


@pytest.fixture
def taken(twin, monkeypatch):
    """Every tensor counts as the device's; the problems that went by rows."""
    went = []
    real = rowconv._launch

    def launch(c, *rest):
        went.append(c)
        real(c, *rest)

    monkeypatch.setattr(torch_fast, "usable", lambda t: True)
    monkeypatch.setattr(rowconv, "_launch", launch)
    with cuda.stream(1):
        yield went


def near(got, want, scale=1.0):
    assert got.shape == want.shape
    assert (got.double() - want).abs().max() <= 2e-3 * scale * max(float(want.abs().max()), 1e-6)


def of_rows(x, w, b, pad, gy):
    """y and the gradients of sum(y gy), by vmap over the rows."""

    def loss(x, w, b, gy):
        y = torch.conv2d(x, w, b, padding=pad)
        return (y * gy).sum(), y

    dims = (0 if x.ndim == 5 else None, 0, 0, 0)
    (gx, gw, gb), y = vmap(grad(loss, argnums=(0, 1, 2), has_aux=True), in_dims=dims)(x, w, b, gy)
    return y, gx, gw, gb


@pytest.mark.parametrize(
    "rows, batch, c, o, height, width, kernel, pad",
    [(3, 2, 3, 5, 7, 9, (3, 5), (1, 2)), (2, 3, 9, 33, 8, 8, (5, 5), 2), (1, 1, 1, 1, 4, 3, (2, 2), 0)],
)
def test_gradients_of_rows(taken, rows, batch, c, o, height, width, kernel, pad):
    torch.manual_seed(rows)
    matrix = torch.randn(rows, 3 + o * (c * kernel[0] * kernel[1] + 1))  # weights lie in the population's rows
    size = matrix.shape[1] - 3 - o
    w, b = matrix[:, 3 : 3 + size].view(rows, o, c, *kernel), matrix[:, 3 + size :]
    x = torch.randn(rows, batch, c, height, width)
    with torch.no_grad():
        shape = torch.conv2d(x[0], w[0], padding=pad).shape
    gy = torch.randn(rows, *shape)
    with torch_fast.fast():
        got = of_rows(x, w, b, pad, gy)
    assert len(taken) == 2 and taken[0].rows == rows  # forward, input gradient
    for a, z in zip(got, of_rows(x.double(), w.double(), b.double(), pad, gy.double())):
        near(a, z)


def test_samples_shared_by_rows(taken):
    torch.manual_seed(0)
    x, w, b, gy = (torch.randn(s) for s in ((2, 3, 6, 5), (4, 7, 3, 3, 3), (4, 7), (4, 2, 7, 6, 5)))
    with torch_fast.fast():
        got = of_rows(x, w, b, 1, gy)
    assert taken[0].pitch == 0
    for a, z in zip(got, of_rows(*(t.double() for t in (x, w, b)), 1, gy.double())):
        near(a, z)


def test_one_row_without_vmap(taken):
    torch.manual_seed(0)
    x, w = torch.randn(2, 3, 6, 5, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch_fast.fast():
        nn.functional.conv2d(x, w).square().sum().backward()
    x64, w64 = (t.detach().double().requires_grad_() for t in (x, w))
    torch.conv2d(x64, w64).square().sum().backward()
    assert len(taken) == 2
    near(x.grad, x64.grad, 2), near(w.grad, w64.grad, 2)


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding": "same"}, {"padding": 3}, {"padding": (1, 4)}],
    ids=str,
)
def test_others_go_the_way_of_torch(taken, options):
    x, w = torch.randn(2, 4, 9, 9), torch.randn(6, 4 // options.get("groups", 1), 3, 3)
    with torch_fast.fast():
        y = torch.conv2d(x, w, **options)
    assert not taken and torch.equal(y, torch.conv2d(x, w, **options))


def test_no_device_no_change():
    x, w = torch.randn(2, 4, 9, 9), torch.randn(6, 4, 3, 3)
    with torch_fast.fast():
        assert torch.equal(torch.conv2d(x, w), torch.conv2d(x, w))


def test_a_module_of_rows(taken, monkeypatch):
    """RowModule's gradients and scores of a small smooth LeNet, against torch in float64."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2), nn.GroupNorm(2, 8), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(8, 12, 5, padding=2), nn.Tanh(), nn.Flatten(), nn.Linear(12 * 16, 5),
    )  # fmt: skip
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    rows = torch.stack([flat + 0.05 * torch.randn_like(flat) for _ in range(3)])
    x, y = torch.randn(3, 4, 3, 8, 8), torch.from_numpy(np.arange(12).reshape(3, 4) % 5)
    module = rows_of.RowModule(model, shapes, None)
    weight = torch.full((3, 4), 0.25)
    g, losses = module.gradients(rows, {}, x, y, weight)
    assert len(taken) == 3  # two forward, one input gradient: that of the samples is nobody's wish
    score, _ = module.scores(rows, {}, x[0], y[0])
    assert len(taken) == 5
    monkeypatch.setattr(torch_fast, "usable", lambda t: False)
    want, want_losses = module.gradients(rows.double(), {}, x.double(), y, weight.double())
    near(losses, want_losses), near(g, want, 2)
    near(score, module.scores(rows.double(), {}, x[0].double(), y[0])[0])


def test_a_wrong_bias_or_weight_is_told_of_by_torch(taken):
    x, w = torch.randn(2, 3, 6, 6), torch.randn(5, 3, 3, 3)
    for weight, bias in [(w, torch.zeros(1)), (w[0], torch.zeros(5))]:
        with torch_fast.fast(), pytest.raises(RuntimeError):
            torch.conv2d(x, weight, bias)
    assert not rowconv.takes(x, w.to("meta"), None, (0, 0))
    assert rowconv.takes(x, w, torch.zeros(5), (0, 0))
    assert taken == []


def test_numpys_integers_and_autocast(taken):
    x, w = torch.randn(2, 3, 6, 6), torch.randn(5, 3, 3, 3)
    with torch_fast.fast():
        y = torch.conv2d(x, w, padding=np.int64(1))
        assert len(taken) == 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.conv2d(x, w).dtype == torch.bfloat16
    assert len(taken) == 1
    near(y, torch.conv2d(x.double(), w.double(), padding=1))


def test_tf32_is_asked_for_by_either_name(taken):
    x, w, cudnn = torch.randn(2, 3, 6, 6), torch.randn(5, 3, 3, 3), torch.backends.cudnn
    before = cudnn.allow_tf32
    try:
        cudnn.allow_tf32 = False
        assert not rowconv.takes(x, w, None, (0, 0))
    finally:
        cudnn.allow_tf32 = before
    assert rowconv.tf32() == before
    if hasattr(cudnn, "conv"):
        precision = cudnn.conv.fp32_precision
        try:
            cudnn.conv.fp32_precision = "ieee"
            assert not rowconv.tf32()
        finally:
            cudnn.conv.fp32_precision = precision
    assert rowconv.tf32() == before


def test_work_goes_on_torchs_stream_whatever_is_named_to_collegium(taken):
    launched = []
    x, w = torch.randn(2, 3, 6, 6), torch.randn(5, 3, 3, 3)
    with cuda.stream(77), torch_fast.fast():
        assert rowconv._stream(x) == 1
        launched.append(torch.conv2d(x, w))
    near(launched[0], torch.conv2d(x.double(), w.double()))
