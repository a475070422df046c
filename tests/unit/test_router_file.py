"""A router's file and torch's checkpoints: equal bits, what is recorded, damage."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from router_model import QUICK, quiet, world

from collegium.rag.features import FEATURES
from collegium.rag.router import SourceRouter
from collegium.rag.router_file import tensors
from collegium.rag.source import Source


@pytest.mark.parametrize("features", [("query", "centroid", "onehot"), FEATURES, ("dot",)])
@pytest.mark.parametrize("encoders", [1, 3])
def test_same_bits_after_loading(tmp_path, features, encoders):
    Q, Y, sources = world(100, encoders=encoders)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        router = SourceRouter(features, **QUICK, pos_weight=("balanced", 5.0), on_empty="all", max_sources=3).fit(
            Q, Y, sources=sources, k=10, template="{q}", ids=range(100), counts=Y * 2
        )
    router.save(tmp_path / "r.safetensors")
    back = SourceRouter.load(tmp_path / "r.safetensors")
    assert np.array_equal(back.predict_proba(Q), router.predict_proba(Q))
    assert np.array_equal(back.select(Q), router.select(Q))
    assert back.threshold == router.threshold
    for name in ("features", "hidden", "on_empty", "max_sources", "k", "template", "history", "pos_weight", "names"):
        assert getattr(back, name) == getattr(router, name)
    for a, b in zip(back.sources, router.sources, strict=True):
        assert (a.encoder, a.count, a.density, a.version) == (b.encoder, b.count, b.density, b.version)
        assert np.array_equal(a.centroid, b.centroid)
    assert back.seen(Q).all()
    assert back.seen(Q, range(100)).all()
    assert np.array_equal(back.prior, router.prior)
    assert back.tune(target_recall=0.1, confidence=0.5).recall == router.tune(target_recall=0.1, confidence=0.5).recall
    back.save(tmp_path / "again.safetensors")
    assert np.array_equal(SourceRouter.load(tmp_path / "again.safetensors").predict_proba(Q), router.predict_proba(Q))


def test_thresholds_and_changed_sources_are_kept(tmp_path):
    Q, Y, sources = world(60)
    router = quiet(Q, Y, sources, threshold=[0.1, 0.2, 0.3, 0.4])
    router.remove_source("s2")
    router.save(tmp_path / "r")
    back = SourceRouter.load(tmp_path / "r")
    assert back.names == ("s0", "s1", "s3")
    assert np.array_equal(back.threshold, router.threshold)
    assert np.array_equal(back.predict_proba(Q), router.predict_proba(Q))
    with pytest.warns(UserWarning, match="one-hot"):
        back.add_source(Source("new", sources[0].centroid))


def test_damage_is_found(tmp_path):
    Q, Y, sources = world(60)
    path = tmp_path / "r.safetensors"
    quiet(Q, Y, sources).save(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        SourceRouter.load(path)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="not a router file"):
        SourceRouter.load(path)


# ---- torch ----


@pytest.mark.parametrize("features", [("query", "centroid", "onehot"), FEATURES])
@pytest.mark.parametrize("encoders", [1, 3])
def test_to_torch_and_back(need, features, encoders):
    torch = need("torch")
    Q, Y, sources = world(80, encoders=encoders)
    router = quiet(Q, Y, sources, features=features)
    net = router.to_torch()
    assert [k for k, _ in net.named_parameters()] == [
        f"{layer}.{part}" for layer in ("fc1", "ln1", "fc2", "ln2", "fc3") for part in ("weight", "bias")
    ]
    assert not net.training
    t = tensors(router)
    back = SourceRouter.from_torch(
        net.state_dict(), sources, mean=t["mean"], scale=t["scale"], features=features, threshold=0.25
    )
    assert np.array_equal(back.predict_proba(Q), router.predict_proba(Q))
    assert back.threshold == 0.25
    assert back.hidden == router.hidden
    assert isinstance(net, torch.nn.Module)


def test_paper_sizes(need):
    """Parameters of the three set-ups: MedRAG, MMLU, FeB4RAG."""
    need("torch")
    from collegium.rag.torch_router import module

    for width, count in [(1540, 428_289), (1546, 429_825), (8205, 2_134_529)]:
        assert sum(p.numel() for p in module(width, (256, 128), 0.4).parameters()) == count


def test_from_torch_says_what_is_wrong(need):
    need("torch")
    Q, Y, sources = world(60)
    state = dict(quiet(Q, Y, sources).to_torch().state_dict())
    with pytest.raises(ValueError, match=r"fc1.weight: expected shape \(24, 35\).*got \(24, 36\)"):
        SourceRouter.from_torch(state, sources[:3])
    with pytest.raises(ValueError, match="'ln2.bias' is missing"):
        SourceRouter.from_torch({k: v for k, v in state.items() if k != "ln2.bias"}, sources)
    with pytest.raises(ValueError, match="mean: expected finite values of shape"):
        SourceRouter.from_torch(state, sources, mean=np.zeros(3))
    with pytest.raises(ValueError, match="a scale without zeros"):
        SourceRouter.from_torch(state, sources, scale=np.zeros(36))
    with pytest.raises(ValueError, match="dims: expected the width"):
        SourceRouter.from_torch(state, [Source("a")], features=("query",))
