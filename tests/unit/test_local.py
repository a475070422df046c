"""Native trainers of csrc/local against a float64 NumPy reference of the whole loop."""

import contextlib
import types
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium import _core

NETS = [(5, 3), (64, 10), (7, 9, 4), (64, 64, 10), (17, 33, 15, 3), (6, 16, 31, 5, 2), (3, 1, 1, 1), (20, 48, 17, 18)]
CG_FOR_SAMPLE, CG_FOR_INIT = 2, 3


def parameters(sizes):
    return sum((a + 1) * b for a, b in pairwise(sizes))


def unflatten(sizes, row):
    out, at = [], 0
    for a, b in pairwise(sizes):
        out.append((row[at : at + a * b].reshape(b, a), row[at + a * b : at + a * b + b]))
        at += (a + 1) * b
    return out


def reference(sizes, activation, row, x, y):
    """Mean cross-entropy and its gradient in float64."""
    layers, acts = unflatten(sizes, row), [x.astype("f8")]
    for i, (w, b) in enumerate(layers):
        z = acts[-1] @ w.T + b
        acts.append(z if i == len(layers) - 1 else np.maximum(z, 0) if activation == "relu" else np.tanh(z))
    z = acts.pop()
    z = z - z.max(1, keepdims=True)
    p = np.exp(z)
    lse = np.log(p.sum(1))
    loss = np.mean(lse - z[np.arange(len(y)), y])
    d = p / p.sum(1, keepdims=True)
    d[np.arange(len(y)), y] -= 1
    d /= len(y)
    grads = []
    for w, _ in reversed(layers):
        a = acts.pop()
        grads.insert(0, np.concatenate([(d.T @ a).ravel(), d.sum(0)]))
        d = d @ w
        d *= (a > 0) if activation == "relu" else 1 - a * a
    return loss, np.concatenate(grads)


def sgd(w, v, g, lr, momentum, decay, nesterov):
    g = g + decay * w
    if momentum:
        v[:] = momentum * v + g
        g = g + momentum * v if nesterov else v
    w -= lr * g


def order(seed, node, epoch, m):
    return _core.random_permutation(seed, CG_FOR_SAMPLE, node, epoch, m)


def batch_of(seed, node, step, m, batch):
    nb = -(-m // batch)
    return order(seed, node, step // nb, m)[step % nb * batch :][:batch]


def world(sizes, parts=(13, 5, 0, 29), samples=60, seed=0, activation="relu", **more):
    """All arguments of mlp_train, as names; parts: samples of each node."""
    rng = np.random.default_rng(seed)
    n = len(parts)
    x = _core.zeros_rows(n, parameters(sizes))
    _core.mlp_init(sizes, seed, np.arange(n), x)
    ptr = np.concatenate([[0], np.cumsum(parts)]).astype("i8")
    w = types.SimpleNamespace(
        sizes=sizes, activation=activation, seed=seed, rows=None, x=x, velocity=_core.zeros_rows(n, parameters(sizes)),
        data=rng.standard_normal((samples, sizes[0])).astype("f4"), labels=rng.integers(0, sizes[-1], samples),
        part_ptr=ptr, part_idx=rng.integers(0, samples, ptr[-1]), node_ids=np.arange(n) * 3 + 1,
        steps_done=np.arange(n) * 2, local_steps=7, batch=4, lr=0.2, momentum=0.9, weight_decay=0.01, nesterov=False,
    )  # fmt: skip
    for name, value in more.items():
        assert hasattr(w, name)
        setattr(w, name, value)
    return w


def train(w):
    return _core.mlp_train(*vars(w).values())


def gradients(w, out):
    return _core.mlp_gradients(
        w.sizes, w.activation, w.seed, w.rows, w.x, w.data, w.labels, w.part_ptr, w.part_idx, w.node_ids, w.steps_done,
        w.batch, out,
    )  # fmt: skip


def apply(w, g):
    _core.mlp_apply(w.rows, w.x, w.velocity, g, w.part_ptr, w.steps_done, w.lr, w.momentum, w.weight_decay, w.nesterov)


def copy(w):
    new = types.SimpleNamespace(**vars(w))
    for name in ("x", "velocity", "steps_done"):
        value = getattr(w, name)
        setattr(new, name, None if value is None else value.copy())
    return new


def expect(w):
    """What train(w) should leave behind, in float64: x, velocity, steps_done, loss."""
    x, done = w.x.astype("f8"), w.steps_done.copy()
    v = np.zeros_like(x) if w.velocity is None else w.velocity.astype("f8")
    rows = range(len(x)) if w.rows is None else w.rows
    loss = np.full(len(rows), np.nan)
    for q, r in enumerate(rows):
        part = w.part_idx[w.part_ptr[r] : w.part_ptr[r + 1]]
        steps = w.local_steps if np.ndim(w.local_steps) == 0 else w.local_steps[q]
        if len(part) == 0 or steps == 0:
            continue
        losses = []
        for _ in range(steps):
            b = part[batch_of(w.seed, w.node_ids[r], done[r], len(part), w.batch)]
            value, g = reference(w.sizes, w.activation, x[r], w.data[b], w.labels[b])
            sgd(x[r], v[r], g, w.lr, w.momentum, w.weight_decay, w.nesterov)
            losses.append(value)
            done[r] += 1
        loss[q] = np.mean(losses)
    return x, v, done, loss


def check_train(w):
    x, v, done, loss = expect(w)
    got = train(w)
    np.testing.assert_allclose(w.x, x, rtol=0, atol=5e-5)  # 7 steps of float32: errors of some 100 eps
    if w.velocity is not None:
        np.testing.assert_allclose(w.velocity, v if w.momentum else 0, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(w.steps_done, done)
    np.testing.assert_allclose(got, loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", NETS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_train_against_float64(isa, threads, sizes, activation):
    check_train(world(sizes, activation=activation))


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.5, False), (0.9, True)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("batch", [1, 3, 8, 13, 100])
def test_optimizers_and_batches(isa, momentum, nesterov, decay, batch):
    check_train(world((11, 18, 5), momentum=momentum, nesterov=nesterov, weight_decay=decay, batch=batch))
    if not momentum:
        check_train(world((11, 18, 5), momentum=0.0, velocity=None, weight_decay=decay, batch=batch))


def test_rows_and_steps_of_each(isa, threads):
    check_train(world((9, 12, 3), rows=np.array([3, 2, 0])))
    check_train(world((9, 12, 3), rows=np.array([3, 2, 0, 1]), local_steps=np.array([1, 4, 0, 9])))
    check_train(world((9, 12, 3), rows=np.array([], "i8")))
    w = world((9, 12, 3), rows=np.array([1]))
    before = w.x.copy()
    train(w)
    assert np.array_equal(np.delete(w.x, 1, 0), np.delete(before, 1, 0))
    assert not np.array_equal(w.x[1], before[1])


def test_one_thread_equals_two(isa):
    old = _core.num_threads()
    for sizes in [(64, 10), (64, 64, 10), (30, 40, 20, 7)]:
        a = world(sizes, parts=(20, 3, 0, 31, 7, 12, 9, 40, 25), batch=6)
        b = copy(a)
        try:
            _core.set_num_threads(1)
            loss = train(a), _core.mlp_evaluate(sizes, "relu", None, a.x, a.data, a.labels)
            _core.set_num_threads(2)
            again = train(b), _core.mlp_evaluate(sizes, "relu", None, b.x, b.data, b.labels)
        finally:
            _core.set_num_threads(old)
        assert np.array_equal(a.x, b.x)
        assert np.array_equal(a.velocity, b.velocity)
        np.testing.assert_equal(loss, again)


def test_a_row_does_not_depend_on_the_others(isa):
    a = world((12, 20, 4))
    b = copy(a)
    b.rows = np.array([3])
    train(a), train(b)
    assert np.array_equal(a.x[3], b.x[3])


def test_two_calls_equal_one(isa):
    a = world((12, 20, 4), local_steps=9)
    b = copy(a)
    train(a)
    for steps in (4, 5):
        b.local_steps = steps
        train(b)
    assert np.array_equal(a.x, b.x)
    assert np.array_equal(a.steps_done, b.steps_done)


@pytest.mark.parametrize(
    "momentum, nesterov, decay", [(0, False, 0), (0, False, 0.1), (0.9, False, 0), (0.8, True, 0.2)]
)
def test_gradients_then_apply_is_a_step(isa, threads, momentum, nesterov, decay):
    for sizes in [(10, 3), (10, 17, 3), (10, 17, 16, 3)]:
        a = world(sizes, momentum=float(momentum), nesterov=nesterov, weight_decay=float(decay), local_steps=6)
        a.rows = np.array([3, 0, 2])
        b = copy(a)
        loss, g, losses = train(a), np.full((3, parameters(sizes)), np.nan, "f4"), []
        for _ in range(6):
            losses.append(gradients(b, g))
            assert not g[2].any()  # row 2 has no samples
            apply(b, g)
        assert np.array_equal(a.x, b.x)
        assert np.array_equal(a.velocity, b.velocity)
        assert np.array_equal(a.steps_done, b.steps_done)
        np.testing.assert_allclose(np.mean(losses, 0), loss, rtol=1e-12)


@pytest.mark.parametrize("sizes", NETS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_against_finite_differences(isa, sizes, activation):
    w = world(sizes, activation=activation, batch=100, parts=(12,))
    g = np.empty((1, parameters(sizes)), "f4")
    loss = gradients(w, g)
    row = w.x[0].astype("f8")
    part = w.part_idx
    value, exact = reference(sizes, activation, row, w.data[part], w.labels[part])
    np.testing.assert_allclose(g[0], exact, rtol=0, atol=2e-6)
    np.testing.assert_allclose(loss[0], value, rtol=1e-6)
    for i in np.random.default_rng(1).choice(len(row), min(len(row), 20), replace=False):
        h = np.zeros_like(row)
        h[i] = 1e-6
        up = reference(sizes, activation, row + h, w.data[part], w.labels[part])[0]
        down = reference(sizes, activation, row - h, w.data[part], w.labels[part])[0]
        assert abs((up - down) / 2e-6 - g[0, i]) < 1e-5


def test_it_learns(isa):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    data = (rng.standard_normal((4, 16))[y] * 2 + rng.standard_normal((400, 16))).astype("f4")
    w = world((16, 24, 4), parts=(200,), local_steps=200, batch=16, lr=0.05)
    w.data, w.labels, w.part_idx = data, y, np.arange(200)
    train(w)
    accuracy, _ = _core.mlp_evaluate(w.sizes, "relu", None, w.x, data[200:], y[200:])
    assert accuracy[0] > 0.95


# ---- samples ----


@pytest.mark.parametrize("m, batch", [(1, 1), (10, 3), (10, 5), (7, 100), (64, 1)])
def test_batches_by_address(m, batch):
    indices, offsets = _core.sample_batches(9, 4, 3, 25, m, batch)
    assert indices.dtype == np.int32
    assert offsets.dtype == np.int64
    assert offsets.shape == (26,)
    for i in range(25):
        assert np.array_equal(indices[offsets[i] : offsets[i + 1]], batch_of(9, 4, 3 + i, m, batch))
    nb = -(-m // batch)
    indices, offsets = _core.sample_batches(9, 4, 5 * nb, nb, m, batch)
    assert sorted(indices) == list(range(m))  # every sample once an epoch
    far, _ = _core.sample_batches(9, 4, nb * (2**32 - 1), 1, m, batch)
    assert len(far) == min(m, batch)


def test_batches_errors():
    assert [len(a) for a in _core.sample_batches(0, 0, 0, 0, 5, 2)] == [0, 1]
    for args, text in [
        ((0, -1, 0, 1, 5, 2), "node: expected 0 to"),
        ((0, 0, -1, 1, 5, 2), "first_step: expected 0"),
        ((0, 0, 0, 1, 0, 2), "m: expected 1 to"),
        ((0, 0, 0, 1, 5, 0), "batch: expected 1 to"),
        ((0, 0, 2**62, 1, 5, 2), "would pass epoch"),
        ((0, 0, 2**63 - 1, 2**31 - 1, 5, 2), "would pass epoch"),
        ((-1, 0, 0, 1, 5, 2), "seed: expected"),
    ]:
        with pytest.raises(ValueError, match=text):
            _core.sample_batches(*args)


# ---- start, logits, evaluation ----


@pytest.mark.parametrize("sizes", NETS)
def test_init(sizes):
    x = _core.zeros_rows(3, parameters(sizes))
    _core.mlp_init(sizes, 11, np.array([0, 5, 0]), x)
    assert np.array_equal(x[0], x[2])
    assert not np.array_equal(x[0], x[1])
    for r, node in [(0, 0), (1, 5)]:
        for i, (w, b) in enumerate(unflatten(sizes, x[r])):
            for tensor, value in [(2 * i, w), (2 * i + 1, b)]:
                u = _core.random_f32(11, CG_FOR_INIT, node, tensor, 0, value.size)
                want = (2 * u - 1) * np.float32(1 / np.sqrt(sizes[i]))
                assert np.array_equal(value.ravel(), want)


@pytest.mark.parametrize("sizes", NETS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_logits_and_evaluation(isa, threads, sizes, activation):
    for samples in (1, 95, 96, 97, 300):
        w = world(sizes, samples=samples, seed=samples, parts=(1,) * 5)
        rows = np.array([4, 1])
        accuracy, loss = _core.mlp_evaluate(sizes, activation, rows, w.x, w.data, w.labels)
        for q, r in enumerate(rows):
            z = _core.mlp_logits(sizes, activation, np.ascontiguousarray(w.x[r]), w.data)
            h = w.data.astype("f8")
            for i, (k, b) in enumerate(layers := unflatten(sizes, w.x[r].astype("f8"))):
                h = h @ k.T + b
                if i < len(layers) - 1:
                    h = np.maximum(h, 0) if activation == "relu" else np.tanh(h)
            assert z.shape == h.shape
            assert z.dtype == np.float32
            np.testing.assert_allclose(z, h, rtol=0, atol=2e-5)
            assert accuracy[q] == np.mean(z.argmax(1) == w.labels)
            want = np.mean(np.log(np.exp(h - h.max(1)[:, None]).sum(1)) + h.max(1) - h[np.arange(samples), w.labels])
            np.testing.assert_allclose(loss[q], want, rtol=1e-5)


def test_evaluation_of_many_and_of_large(isa):
    """More rows than share a packing, more blocks than a task; the two ways give the same bits."""
    sizes = (8, 12, 5)
    w = world(sizes, samples=96 * 40 + 7, parts=(1,) * 40)
    many = _core.mlp_evaluate(sizes, "relu", None, w.x, w.data, w.labels)
    few = _core.mlp_evaluate(sizes, "relu", np.array([0, 39]), w.x, w.data, w.labels)
    assert np.array_equal(many[0][[0, 39]], few[0])
    assert np.array_equal(many[1][[0, 39]], few[1])


def test_evaluation_ties_and_extremes(isa):
    sizes = (1, 3)
    x = np.zeros((3, 6), "f4")
    x[1, 3:] = [0, 1e30, -1e30]
    x[2, 3:] = [0, np.nan, 0]
    data, y = np.ones((4, 1), "f4"), np.array([0, 1, 2, 0])
    accuracy, loss = _core.mlp_evaluate(sizes, "relu", None, x, data, y)
    assert np.array_equal(accuracy, [0.5, 0.25, 0])  # ties go to the first class; NaN is never right
    np.testing.assert_allclose(loss, [np.log(3), 1e30, np.nan], rtol=1e-6)
    accuracy, loss = _core.mlp_evaluate(sizes, "relu", None, x, data[:0], y[:0])
    assert np.isnan(accuracy).all()
    assert np.isnan(loss).all()
    assert [len(a) for a in _core.mlp_evaluate(sizes, "relu", None, x[:0], data, y)] == [0, 0]
    assert _core.mlp_logits(sizes, "relu", x[0], data[:0]).shape == (0, 3)


# ---- bad input ----


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_nan_reaches_its_own_row_only(isa, threads, value, activation):
    """A broken sample spoils the loss and the parameters of the nodes that have it, and nobody else's."""
    w = world((9, 17, 6, 3), activation=activation, parts=(10, 10, 10, 10), local_steps=10)
    w.part_idx = np.arange(40)
    clean = copy(w)
    train(clean)
    w.data[15, 4] = value  # node 1's
    loss = train(w)
    assert np.isnan(w.x[1]).any() or (activation == "tanh" and np.isinf(value))
    assert np.isnan(loss[1]) or (activation == "tanh" and np.isinf(value))
    assert np.array_equal(np.delete(w.x, 1, 0), np.delete(clean.x, 1, 0))
    w = world((9, 17, 3), activation=activation)
    w.x[0, 0] = np.nan
    assert np.isnan(train(w)[0])
    assert np.isfinite(w.x[[1, 2, 3]]).all()


def test_nodes_without_samples_stay(isa):
    w = world((4, 3), parts=(0, 0, 5), steps_done=np.array([2**62, 7, 0]))
    before = copy(w)
    loss = train(w)
    assert np.isnan(loss[:2]).all()
    assert np.isfinite(loss[2])
    assert np.array_equal(w.x[:2], before.x[:2])
    assert np.array_equal(w.steps_done, [2**62, 7, 7])
    w = world((4, 3), parts=(0,), data=np.zeros((0, 4), "f4"), labels=np.zeros(0, "i8"))
    assert np.isnan(train(w)[0])
    assert np.isnan(train(world((4, 3), local_steps=0))).all()


def edited(name, index, value):
    def edit(w):
        array = getattr(w, name).copy()
        array[index] = value
        setattr(w, name, array)

    return edit


def setting(name, value):
    return lambda w: setattr(w, name, value(w) if callable(value) else value)


BAD = [
    (setting("sizes", (9,)), ValueError, "sizes: expected 2 to 65 widths"),
    (setting("sizes", (9, 0, 3)), ValueError, r"sizes\[1\]: expected 1 to"),
    (setting("sizes", (9, 2**30, 2**30, 3)), ValueError, "x: expected shape"),
    (setting("sizes", (9,) + (2**30,) * 9), ValueError, "sizes: too many parameters"),
    (setting("sizes", (2,) * 70), ValueError, "sizes: expected 2 to 65 widths .* got 70"),
    (setting("sizes", "93"), TypeError, "sizes: expected a sequence of integers"),
    (setting("sizes", (9, 2.5, 3)), TypeError, "sizes: expected an integer, got 2.5"),
    (setting("sizes", (9, 8, 3)), ValueError, r"x: expected shape \(4, 107\), got \(4, 159\)"),
    (setting("activation", "gelu"), ValueError, "activation: expected 'relu' or 'tanh', got 'gelu'"),
    (setting("seed", -1), ValueError, "seed: expected 0 to"),
    (setting("rows", np.array([0, 4])), ValueError, r"rows\[1\]: expected 0 to 3, got 4"),
    (setting("rows", np.array([-1])), ValueError, r"rows\[0\]: expected 0 to 3, got -1"),
    (setting("rows", np.array([1, 0, 1])), ValueError, r"rows\[2\]: row 1 is named twice"),
    (setting("rows", np.array([1, 0], "i4")), TypeError, "rows: expected dtype int64, got int32"),
    (setting("x", lambda w: w.x.astype("f8")), TypeError, "x: expected dtype float32, got float64"),
    (setting("x", lambda w: w.x[:, ::-1]), ValueError, "x: rows must be contiguous"),
    (setting("velocity", None), ValueError, "velocity: needed with a momentum"),
    (setting("velocity", lambda w: w.velocity[:3]), ValueError, "velocity: expected shape"),
    (setting("velocity", lambda w: w.x), ValueError, "velocity: overlaps x"),
    (setting("data", lambda w: w.data[:, :5]), ValueError, "data: expected shape"),
    (setting("labels", lambda w: w.labels[:-1]), ValueError, "labels: expected shape"),
    (setting("labels", lambda w: w.labels.astype("f4")), TypeError, "labels: expected dtype int64, got float32"),
    (edited("labels", slice(None), 3), ValueError, r"labels\[\d+\]: expected 0 to 2, got 3"),
    (edited("labels", slice(None), -1), ValueError, r"labels\[\d+\]: expected 0 to 2, got -1"),
    (edited("part_idx", 46, 60), ValueError, r"part_idx\[46\]: expected 0 to 59, got 60"),
    (edited("part_idx", 0, -1), ValueError, r"part_idx\[0\]: expected 0 to 59, got -1"),
    (edited("part_ptr", 0, -1), ValueError, r"part_ptr\[0\]: expected at least 0"),
    (edited("part_ptr", 1, 40), ValueError, r"part_ptr\[2\]: expected at least 40, got 18"),
    (edited("part_ptr", 4, 48), ValueError, r"part_ptr\[4\]: expected at most 47"),
    (setting("part_ptr", lambda w: w.part_ptr[:-1]), ValueError, r"part_ptr: expected shape \(5,\), got \(4,\)"),
    (edited("node_ids", 0, -1), ValueError, "node: expected 0 to 4294967295, got -1"),
    (edited("node_ids", 3, 2**32), ValueError, "node: expected 0 to"),
    (edited("steps_done", 0, -1), ValueError, "first step: expected at least 0, got -1"),
    (edited("steps_done", 0, 2**63 - 2), ValueError, "steps: node 1 would pass epoch"),
    (setting("steps_done", lambda w: w.part_idx[:4]), ValueError, "steps_done: overlaps part_idx"),
    (setting("steps_done", lambda w: w.part_ptr[1:]), ValueError, "steps_done: overlaps part_ptr"),
    (setting("local_steps", -1), ValueError, "local_steps: expected 0 to"),
    (setting("local_steps", np.array([1, 1, -1, 1])), ValueError, "local_steps: expected at least 0, got -1"),
    (setting("local_steps", np.ones(3, "i8")), ValueError, "local_steps: expected shape"),
    (setting("local_steps", 2.0), TypeError, "local_steps: expected an integer, got 2.0"),
    (setting("batch", 0), ValueError, "batch: expected 1 to"),
    (setting("lr", -1.0), ValueError, "lr: expected a finite number"),
    (setting("lr", float("nan")), ValueError, "lr: expected a finite number"),
    (setting("lr", "fast"), TypeError, "lr: expected a number, got 'fast'"),
    (setting("momentum", -0.1), ValueError, "momentum: expected a finite number"),
    (setting("weight_decay", float("inf")), ValueError, "weight_decay: expected a finite number"),
    (setting("nesterov", 1), TypeError, "nesterov: expected True or False, got 1"),
]


@pytest.mark.parametrize("edit, error, text", BAD)
def test_bad_input_is_named_and_changes_nothing(edit, error, text):
    w = world((9, 12, 3))
    before = copy(w)
    changed = copy(w)
    changed.x, changed.velocity = w.x, w.velocity
    edit(changed)
    with pytest.raises(error, match=text):
        train(changed)
    assert np.array_equal(w.x, before.x)
    assert np.array_equal(w.velocity, before.velocity)


def test_other_errors():
    w = world((9, 12, 3))
    g = np.zeros((4, w.x.shape[1]), "f4")
    with pytest.raises(ValueError, match="nesterov: needs a momentum"):
        apply(world((9, 12, 3), momentum=0.0, nesterov=True), g)
    x, done = w.x.copy(), w.steps_done.copy()
    x.flags.writeable = done.flags.writeable = False
    with pytest.raises(ValueError, match="x: is read-only"):
        train(world((9, 12, 3), x=x))
    with pytest.raises(ValueError, match="steps_done: is read-only"):
        train(world((9, 12, 3), steps_done=done))
    with pytest.raises(ValueError, match="out: expected shape"):
        gradients(w, g[:3])
    with pytest.raises(ValueError, match="out: overlaps x"):
        gradients(w, w.x)
    with pytest.raises(ValueError, match="x: overlaps gradients"):
        apply(w, w.x)
    with pytest.raises(ValueError, match="gradients: expected shape"):
        apply(w, g[:, :-1])
    with pytest.raises(ValueError, match="steps_done: expected 0 to"):
        apply(world((9, 12, 3), steps_done=np.array([-1, 0, 0, 0])), g)
    with pytest.raises(ValueError, match=r"labels\[0\]: expected 0 to 2, got 3"):
        _core.mlp_evaluate(w.sizes, "relu", None, w.x, w.data, np.full(60, 3))
    with pytest.raises(ValueError, match=r"nodes\[1\]: expected 0 to"):
        _core.mlp_init(w.sizes, 0, np.array([0, -1, 0, 0]), w.x)
    with pytest.raises(ValueError, match="params: expected shape"):
        _core.mlp_logits(w.sizes, "relu", np.zeros(3, "f4"), w.data)
    with pytest.raises(TypeError, match="mlp_train\\(\\) takes 18 arguments \\(0 given\\)"):
        _core.mlp_train()


ODD = st.one_of(
    st.none(), st.integers(-2, 5), st.integers(-(2**70), 2**70), st.floats(), st.sampled_from(["relu", "", True]),
    st.lists(st.integers(-1, 12), max_size=4),
    st.builds(
        lambda shape, dtype, value, step: np.full(shape, value).astype(dtype)[::step],
        st.lists(st.integers(0, 6), min_size=1, max_size=3),
        st.sampled_from(["f4", "i8", "f8", "i4", ">f4", "O"]),
        st.sampled_from([0, 1, -1, 4]),
        st.sampled_from([1, 1, 2, -1]),
    ),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 17), ODD, st.integers(0, 17), ODD)
def test_train_never_crashes(i, first, j, second):
    """Any one or two arguments replaced by anything: an exception, or a result with nothing cast."""
    args = list(vars(world((4, 5, 3), local_steps=2)).values())
    args[i], args[j] = first, second
    if isinstance(args[12], int) and args[12] > 1000:
        args[12] = 1000  # thousands of millions of steps are legal and slow
    try:
        loss = _core.mlp_train(*args)
    except (TypeError, ValueError, MemoryError, OverflowError):
        return
    assert loss.dtype == np.float64


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_others_never_crash(data):
    w = world((4, 5, 3))
    g = np.zeros((4, w.x.shape[1]), "f4")
    name, args = data.draw(
        st.sampled_from(
            [
                ("mlp_gradients", [w.sizes, "relu", 1, None, w.x, w.data, w.labels, w.part_ptr, w.part_idx,
                                   w.node_ids, w.steps_done, 3, g]),
                ("mlp_apply", [None, w.x, None, g, w.part_ptr, w.steps_done, 0.1, 0.0, 0.0, False]),
                ("mlp_evaluate", [w.sizes, "tanh", None, w.x, w.data, w.labels]),
                ("mlp_logits", [w.sizes, "relu", w.x[0].copy(), w.data]),
                ("mlp_init", [w.sizes, 3, w.node_ids, w.x]),
                ("sample_batches", [1, 2, 3, 4, 5, 6]),
            ]
        )
    )  # fmt: skip
    for _ in range(2):
        i = data.draw(st.integers(0, len(args) - 1))
        value = data.draw(ODD)
        if name == "sample_batches" and isinstance(value, int) and value > 10**6:
            value = 10**6  # millions of steps are legal and slow
        args = [*args[:i], value, *args[i + 1 :]]
    with contextlib.suppress(TypeError, ValueError, MemoryError, OverflowError):
        getattr(_core, name)(*args)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=5), st.lists(st.integers(0, 20), min_size=1, max_size=5),
    st.integers(1, 25), st.sampled_from(["relu", "tanh"]), st.sampled_from([0.0, 0.9]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_network(sizes, parts, batch, activation, momentum, seed):
    w = world(tuple(sizes), parts=parts, seed=seed, activation=activation, momentum=momentum, batch=batch, lr=0.05)
    check_train(w)
