"""The router's network in C against float64 NumPy and torch: probabilities, selection, gradients, Adam, dropout."""

import types

import numpy as np
import pytest

from collegium import _core

SHAPES = [  # (queries, statics, crosses, hidden1, hidden2), sources, widths of the encoders
    ((5, 3, 0, 7, 3), 1, (5,)),
    ((16, 20, 1, 16, 16), 4, (16,)),
    ((33, 0, 0, 31, 17), 3, (33,)),
    ((0, 6, 1, 9, 1), 5, (0,)),
    ((40, 9, 1, 48, 15), 7, (40, 24, 40)),
    ((768, 772, 0, 256, 128), 4, (768,)),
]
BETAS, EPS = (0.9, 0.999), 1e-8


def names(sizes):
    d, f, x, h1, h2 = sizes
    return {
        "fc1.weight": (h1, d + f + x), "fc1.bias": (h1,), "ln1.weight": (h1,), "ln1.bias": (h1,),
        "fc2.weight": (h2, h1), "fc2.bias": (h2,), "ln2.weight": (h2,), "ln2.bias": (h2,),
        "fc3.weight": (1, h2), "fc3.bias": (1,),
    }  # fmt: skip


def split(sizes, plain):
    out, at = {}, 0
    for name, shape in names(sizes).items():
        out[name] = plain[at : at + np.prod(shape)].reshape(shape)
        at += int(np.prod(shape))
    assert at == len(plain)
    return out


def random_plain(sizes, rng, scale=1.0):
    plain, _ = _core.router_sizes(sizes)
    out = rng.standard_normal(plain).astype("f4") * scale
    w = split(sizes, out)
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        w[name] /= np.sqrt(w[name].shape[1])
    return out


def normed(z, gain, bias):
    x = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)
    return gain * x + bias


def logits(w, x):
    """float64, from whole rows x (..., inputs)."""
    w = {k: v.astype("f8") for k, v in w.items()}
    h1 = np.maximum(normed(x @ w["fc1.weight"].T + w["fc1.bias"], w["ln1.weight"], w["ln1.bias"]), 0)
    h2 = np.maximum(normed(h1 @ w["fc2.weight"].T + w["fc2.bias"], w["ln2.weight"], w["ln2.bias"]), 0)
    return (h2 @ w["fc3.weight"].T + w["fc3.bias"])[..., 0]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def world(sizes, N, dims, batch=50, seed=0):
    """Random weights and inputs, the packed router, and the float64 probabilities (batch, N)."""
    rng = np.random.default_rng(seed)
    d, f, x, h1, h2 = sizes
    plain = random_plain(sizes, rng)
    w = split(sizes, plain)
    encoder = np.arange(N) % len(dims)
    statics = rng.standard_normal((N, f))
    centroids = rng.standard_normal((N, d)).astype("f4") / max(1, d) ** 0.5
    Q = tuple(rng.standard_normal((batch, k)).astype("f4") for k in dims)
    W = w["fc1.weight"]
    shift = (statics @ W[:, d : d + f].T.astype("f8") + w["fc1.bias"]).astype("f4")
    pack = _core.router_pack(
        np.array(dims), encoder, np.ascontiguousarray(W[:, :d]), shift, W[:, -1].copy() if x else None,
        centroids if x else None, plain[h1 * (d + f + x + 1) :], h2,
    )  # fmt: skip
    rows = np.zeros((batch, N, d + f + x))
    for s in range(N):
        k = dims[encoder[s]]
        rows[:, s, :k] = Q[encoder[s]]
        rows[:, s, d : d + f] = statics[s]
        if x:
            rows[:, s, -1] = Q[encoder[s]].astype("f8") @ centroids[s, :k]
    return types.SimpleNamespace(pack=pack, Q=Q, rows=rows, w=w, P=sigmoid(logits(w, rows)), plain=plain)


@pytest.mark.parametrize(("sizes", "N", "dims"), SHAPES)
def test_forward_against_float64(isa, threads, sizes, N, dims):
    t = world(sizes, N, dims)
    P = _core.router_forward(t.pack, t.Q)
    assert P.shape == t.P.shape
    np.testing.assert_allclose(P, t.P, rtol=0, atol=2e-5)  # |d logit| of some 1e-5, times p (1 - p) <= 1/4


@pytest.mark.parametrize(("sizes", "N", "dims"), SHAPES)
def test_a_query_alone_has_the_bits_it_has_in_a_batch(isa, threads, sizes, N, dims):
    t = world(sizes, N, dims, batch=71)
    P = _core.router_forward(t.pack, t.Q)
    for b in (0, 1, 31, 32, 70):
        assert np.array_equal(_core.router_forward(t.pack, tuple(q[b] for q in t.Q))[0], P[b])
        assert np.array_equal(_core.router_forward(t.pack, tuple(q[b : b + 1] for q in t.Q))[0], P[b])
    assert np.array_equal(_core.router_forward(t.pack, t.Q), P)
    assert _core.router_forward(t.pack, tuple(q[:0] for q in t.Q)).shape == (0, N)


def torch_net(torch, sizes, w):
    d, f, x, h1, h2 = sizes
    net = torch.nn.ModuleDict({
        "fc1": torch.nn.Linear(d + f + x, h1), "ln1": torch.nn.LayerNorm(h1), "fc2": torch.nn.Linear(h1, h2),
        "ln2": torch.nn.LayerNorm(h2), "fc3": torch.nn.Linear(h2, 1),
    })  # fmt: skip
    net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in w.items()})
    return net


def torch_logits(torch, net, rows, masks=(None, None)):
    relu, h = torch.relu, rows
    for i, mask in enumerate(masks, 1):
        h = relu(net[f"ln{i}"](net[f"fc{i}"](h)))
        h = h if mask is None else h * mask
    return net["fc3"](h)[..., 0]


@pytest.mark.parametrize(("sizes", "N", "dims"), SHAPES)
def test_logits_against_torch_and_constant_inputs(isa, need, sizes, N, dims):
    """Trap 3: LayerNorm has the biased variance, eps inside the root, and gain and bias after it."""
    torch = need("torch")
    t = world(sizes, N, dims)
    P = _core.router_forward(t.pack, t.Q).astype("f8")
    z = torch_logits(torch, torch_net(torch, sizes, t.w), torch.from_numpy(t.rows.astype("f4"))).detach().numpy()
    inside = np.abs(z) < 6
    assert np.abs(np.log(P / (1 - P)) - z)[inside].max() < 1e-4
    # Equal columns of z: its variance is zero, and eps alone decides.
    d, f, x, h1, h2 = sizes
    flat = t.plain.copy()
    w = split(sizes, flat)
    w["fc1.weight"][:] = 0
    w["fc1.bias"][:] = 1e-3 * np.arange(h1)  # variance of the order of eps
    pack = _core.router_pack(
        np.array([d]), np.zeros(1, "i8"), np.ascontiguousarray(w["fc1.weight"][:, :d]), w["fc1.bias"][None].copy(),
        None, None, flat[h1 * (d + f + x + 1) :], h2,
    )  # fmt: skip
    got = _core.router_forward(pack, (np.ones(d, "f4"),))
    want = torch_logits(torch, torch_net(torch, sizes, w), torch.zeros(1, d + f + x)).detach().numpy()
    assert abs(float(np.log(got / (1 - got))[0, 0]) - want[0]) < 1e-4


def test_select_follows_choose(isa):
    from collegium.rag.routing import ON_EMPTY, choose

    t = world((16, 20, 1, 16, 16), 4, (16,), batch=200)
    P = _core.router_forward(t.pack, t.Q)
    thresholds = [np.full(4, v, "f4") for v in (0.0, 0.5, 0.9, 2.0)] + [np.array([0.9, 0.1, 0.8, 0.2], "f4")]
    for threshold in thresholds:
        for empty in ON_EMPTY:
            for least, most in [(0, 4), (0, 1), (2, 4), (1, 2), (4, 4)]:
                got = _core.router_select(t.pack, t.Q, threshold, least, most, empty)
                want = choose(P, threshold, on_empty=empty, min_sources=least, max_sources=most)
                assert got.dtype == bool
                assert np.array_equal(got, want)


def test_plain_and_packed(isa):
    for sizes, _, _ in SHAPES:
        plain, packed = _core.router_sizes(sizes)
        a, b, c = np.arange(1, plain + 1, dtype="f4"), np.zeros(packed, "f4"), np.zeros(plain, "f4")
        _core.router_load(sizes, a, b)
        _core.router_store(sizes, b, c)
        assert np.array_equal(a, c)
        assert np.count_nonzero(b) == plain


# ---- training ----


def task(sizes, N, M=1, n=40, seed=0, **more):
    rng = np.random.default_rng(seed)
    d, f, x, *_ = sizes
    t = types.SimpleNamespace(
        sizes=sizes, queries=rng.standard_normal((M, n, d)).astype("f4"), encoder=np.arange(N) % M,
        statics=rng.standard_normal((N, f)).astype("f4"),
        crosses=rng.standard_normal((n, N)).astype("f4") if x else None,
        labels=(rng.random((n, N)) < 0.3).astype("u1"), seed=5, dropout=0.0, pos_weight=1.0, weight_decay=0.0,
        clip=0.0, rows=rng.permutation(n * N).astype("i4"), batch=32, lr=None, step=0,
    )  # fmt: skip
    t.plain = random_plain(sizes, rng)
    for name, value in more.items():
        assert hasattr(t, name)
        setattr(t, name, value)
    steps = -(-len(t.rows) // t.batch)
    t.lr = np.full(steps, 1e-3) if t.lr is None else t.lr
    return t


def run(t):
    """(plain parameters, first moments, loss) after the steps."""
    plain, packed = _core.router_sizes(t.sizes)
    state = [np.zeros(packed, "f4") for _ in range(3)]
    _core.router_load(t.sizes, t.plain, state[0])
    loss = _core.router_train(
        t.sizes, t.queries, t.encoder, t.statics, t.crosses, t.labels, t.seed, t.dropout, t.pos_weight,
        t.weight_decay, t.clip, t.rows, t.batch, t.lr, t.step, *state,
    )  # fmt: skip
    out = [np.zeros(plain, "f4") for _ in range(2)]
    for a, b in zip(out, state, strict=False):
        _core.router_store(t.sizes, b, a)
    return (*out, loss)


def whole_rows(t):
    N = len(t.encoder)
    q, s = t.rows // N, t.rows % N
    parts = [t.queries[t.encoder[s], q], t.statics[s]]
    if t.crosses is not None:
        parts.append(t.crosses[q, s][:, None])
    return np.concatenate(parts, 1), t.labels[q, s].astype("f4")


def masks(t, step, m):
    """The addressed dropout masks of a batch, scaled, one a layer."""
    out = []
    for layer, h in enumerate(t.sizes[3:]):
        half = (h + 1) // 2
        words = _core.random_u32(t.seed, _core.FOR_DROPOUT, layer, step, 0, m * half).reshape(m, half)
        bits = np.concatenate([words & 0xFFFF, words >> 16], axis=1)[:, :h]
        out.append(np.where(bits < round(t.dropout * 65536), 0, 1 / (1 - t.dropout)).astype("f4"))
    return out


def torch_run(torch, t, dtype):
    net = torch_net(torch, t.sizes, split(t.sizes, t.plain)).to(dtype)
    x, y = whole_rows(t)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=t.weight_decay)
    loss_of = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(t.pos_weight, dtype=dtype))
    losses, gradients = 0.0, []
    for i, lr in enumerate(t.lr):
        at = slice(i * t.batch, (i + 1) * t.batch)
        xb, yb = torch.from_numpy(x[at]).to(dtype), torch.from_numpy(y[at]).to(dtype)
        drop = [torch.from_numpy(m).to(dtype) for m in masks(t, t.step + i, len(xb))] if t.dropout else (None, None)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss = loss_of(torch_logits(torch, net, xb, drop), yb)
        loss.backward()
        if t.clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), t.clip)
        gradients.append(torch.cat([p.grad.ravel() for p in net.parameters()]).numpy())
        optimizer.step()
        losses += loss.item() * len(xb)
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach().numpy(), gradients, losses


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(("sizes", "N", "dims"), SHAPES)
def test_gradient_against_torch(isa, threads, need, sizes, N, dims, dropout):
    """From zero moments the first is a tenth of the gradient."""
    torch = need("torch")
    t = task(sizes, N, len(dims), dropout=dropout, pos_weight=2.5)
    t.rows, t.lr = t.rows[:29], np.zeros(1)
    _, want, losses = torch_run(torch, t, torch.float64)
    _, first, loss = run(t)
    scale = np.abs(want[0]).max()
    np.testing.assert_allclose(10 * first, want[0], rtol=0, atol=3e-6 * scale)
    assert loss == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize(("decay", "clip"), [(0.0, 0.0), (1e-2, 0.5), (0.0, 100.0)])
def test_steps_against_torch_adam(isa, need, decay, clip):
    torch = need("torch")
    t = task((16, 20, 1, 32, 16), 4, weight_decay=decay, clip=clip, dropout=0.3)
    t.lr = np.linspace(1e-3, 3e-3, 5)
    want, _, losses = torch_run(torch, t, torch.float64)
    got, _, loss = run(t)
    assert np.abs(got - t.plain).max() > 1e-3
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-5)
    assert loss == pytest.approx(losses, rel=1e-5)


def test_pos_weight_scales_the_gradient_of_a_positive_row(isa):
    """Trap 5."""
    t = task((16, 20, 0, 32, 16), 4)
    N, y = 4, t.labels.reshape(-1)
    for label in (1, 0):
        t.rows, t.lr = t.rows[y[t.rows] == label][:1] if label else np.flatnonzero(y == 0)[:1].astype("i4"), np.zeros(1)
        t.pos_weight = 1.0
        one = run(t)[1]
        t.pos_weight = 4.0
        four = run(t)[1]
        np.testing.assert_allclose(four, (4 if label else 1) * one, rtol=1e-6)
        t = task((16, 20, 0, 32, 16), N)


def test_bits_do_not_depend_on_threads_or_on_how_steps_are_cut(isa):
    t = task((40, 9, 1, 48, 15), 7, 3, n=60, dropout=0.4, clip=1.0, weight_decay=1e-5, batch=100)
    old, results = _core.num_threads(), []
    for threads in (1, 2):
        _core.set_num_threads(threads)
        results.append(run(t))
    _core.set_num_threads(old)
    assert np.array_equal(results[0][0], results[1][0])
    assert results[0][2] == results[1][2]
    plain, packed = _core.router_sizes(t.sizes)
    state = [np.zeros(packed, "f4") for _ in range(3)]
    _core.router_load(t.sizes, t.plain, state[0])
    for i in range(len(t.lr)):
        _core.router_train(
            t.sizes, t.queries, t.encoder, t.statics, t.crosses, t.labels, t.seed, t.dropout, t.pos_weight,
            t.weight_decay, t.clip, t.rows[i * 100 : (i + 1) * 100], 100, t.lr[:1], i, *state,
        )  # fmt: skip
    out = np.zeros(plain, "f4")
    _core.router_store(t.sizes, state[0], out)
    assert np.array_equal(out, results[0][0])


def test_dropout_keeps_the_share_and_is_addressed():
    t = task((16, 20, 0, 64, 32), 4, dropout=0.4)
    a, b = masks(t, 0, 500), masks(t, 1, 500)
    assert np.mean(a[0] == 0) == pytest.approx(0.4, abs=0.01)
    assert not np.array_equal(a[0], b[0])


# ---- errors ----


def test_bad_arguments():
    t = world((16, 20, 1, 16, 16), 4, (16,))
    q = t.Q[0].copy()
    q[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"queries\[0\]: expected finite"):
        _core.router_forward(t.pack, (q,))
    with pytest.raises(ValueError, match="expected shape"):
        _core.router_forward(t.pack, (q[:, :7].copy(),))
    with pytest.raises(TypeError, match="float32"):
        _core.router_forward(t.pack, (q.astype("f8"),))
    with pytest.raises(TypeError, match="tuple of 1"):
        _core.router_forward(t.pack, (q, q))
    with pytest.raises(ValueError, match="on_empty"):
        _core.router_select(t.pack, t.Q, np.zeros(4, "f4"), 0, 4, "some")
    with pytest.raises(ValueError, match="max_sources: expected 3 to 4"):
        _core.router_select(t.pack, t.Q, np.zeros(4, "f4"), 3, 2, "all")
    with pytest.raises(ValueError, match="hidden1"):
        _core.router_sizes((3, 3, 0, 0, 3))
    with pytest.raises(ValueError, match="at least one column"):
        _core.router_sizes((0, 0, 0, 4, 3))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": np.array([400], "i4")}, r"rows\[0\]: expected below 160"),
        ({"encoder": np.array([0, 0, 1, 0])}, r"encoder\[2\]"),
        ({"dropout": 1.0}, "dropout"),
        ({"pos_weight": 0.0}, "pos_weight"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"clip": float("nan")}, "clip"),
        ({"lr": np.zeros(3)}, "lr: expected shape"),
        ({"labels": np.zeros((40, 3), "u1")}, "expected shape"),
        ({"crosses": None}, "crosses"),
    ],
)
def test_bad_training_arguments(change, text):
    with pytest.raises(ValueError, match=text):
        run(task((16, 20, 1, 16, 16), 4, **change))
