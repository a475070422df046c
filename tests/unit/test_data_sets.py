"""Every loader against what is known of its set, skipped without it; small files of each form are always tested."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import time

import numpy as np
import pytest

from collegium import data


@pytest.fixture
def get():
    """get("cifar10"): that set, or a skip with the sentence that gets it."""

    def load(name, **options):
        try:
            return data.load(name, **options)
        except data.MissingData as e:
            pytest.skip(str(e))

    return load


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, and a cache of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLLEGIUM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLLEGIUM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def mapped(a):
    """Whether an array, or what it is a view of, lies in a file."""
    return a is not None and (isinstance(a, np.memmap) or mapped(a.base))


def test_cifar10(get):
    get("cifar10")
    start = time.perf_counter()
    ds = data.cifar10()
    print(f"cifar10() from the cache: {time.perf_counter() - start:.3f} s")
    assert ds.x.shape == (50000, 3, 32, 32) and ds.x_test.shape == (10000, 3, 32, 32) and ds.x.dtype == np.uint8
    assert mapped(ds.x) and not ds.x.flags.writeable
    assert np.bincount(ds.y).tolist() == [5000] * 10 and np.bincount(ds.y_test).tolist() == [1000] * 10
    assert ds.y_test[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    sums = ds.x.sum(axis=(0, 2, 3), dtype=np.int64) / (50000 * 1024 * 255)
    squares = np.array([np.square(ds.x[:, c], dtype=np.uint32).sum(dtype=np.int64) for c in range(3)])
    np.testing.assert_allclose(sums, [0.49140, 0.48216, 0.44653], atol=6e-6)
    spread = np.sqrt(squares / (50000 * 1024 * 255**2) - sums**2)
    np.testing.assert_allclose(spread, [0.24703, 0.24349, 0.26159], atol=6e-6)
    assert ds.classes == 10 and ds.test_size == 10000 and ds.name == "cifar10"
    kept = data.cifar10(lossless=True)
    if data.find("images/cifar10.npz"):
        assert len(kept) == 50000 - 81 and kept.test_size == 10000 - 23


def test_shards_of_cifar10_use_every_sample_once_and_two_labels_a_node(get):
    for n in (32, 7, 256):  # 64 shards of 781 or 782, ragged 14 of 3571, 512 of 97 or 98
        parts = get("cifar10").partition(n, kind="shards", shards=2, seed=1)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts.indices)), np.arange(50000))
        labels = (parts.class_counts() > 0).sum(axis=1)
        # A shard holds one label, two where it lies over one of the nine borders; short shards lie over one at most.
        assert labels.max() <= 4 and np.maximum(labels - 2, 0).sum() <= 9
        assert parts.sizes.min() >= 2 * (50000 // (2 * n)) and parts.sizes.max() <= 2 * -(-50000 // (2 * n))


def test_cifar100(get):
    ds = get("cifar100")
    assert ds.x.shape == (6400, 3, 32, 32) and ds.x_test.shape == (1600, 3, 32, 32) and ds.classes == 100
    assert np.bincount(np.concatenate([ds.y, ds.y_test])).tolist() == [80] * 100
    everything = get("cifar100", test=0)
    assert len(everything) == 8000 and everything.x_test is None and mapped(everything.x)
    np.testing.assert_array_equal(everything.x[6400:6410], ds.x_test[:10])
    # Neighbouring pixels of a photograph are alike; residuals taken for pixels are not.
    assert np.abs(np.diff(everything.x[:500].astype(np.int16), axis=3)).mean() < 15
    means = everything.x.mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.5074, 0.4867, 0.4411], atol=0.02)  # of the full set
    with pytest.raises(ValueError, match="test: expected 0 to 7999, got 8000"):
        data.cifar100(test=8000)


def test_mnist_writers(get):
    ds = get("mnist_writers")
    assert ds.x.shape == (60000, 1, 28, 28) and ds.x_test.shape == (10000, 1, 28, 28) and ds.x.dtype == np.uint8
    assert np.bincount(ds.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert ds.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] and ds.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    _, sizes = np.unique(ds.groups, return_counts=True)
    assert len(sizes) == 539 and (sizes.min(), np.median(sizes), sizes.max()) == (19, 116, 131)
    assert len(np.unique(ds.groups_test)) == 297 and not np.intersect1d(ds.groups, ds.groups_test).size
    assert abs(float(ds.x.mean()) / 255 - 0.1307) < 1e-4
    parts = ds.partition(50, kind="groups")
    owners = [set(ds.groups[i]) for i in parts.indices]
    assert sum(map(len, owners)) == 539 and parts.sizes.sum() == 60000


@pytest.mark.parametrize("split", ["user", "random"])
def test_movielens(get, split):
    ds = get("movielens", split=split)
    assert (ds.users, ds.items, len(ds) + ds.test_size) == (610, 9724, 100836)
    assert ds.x.dtype == np.int64 and ds.x.shape[1:] == (2,) and ds.y.dtype == np.float32
    x, y = np.concatenate([ds.x, ds.x_test]), np.concatenate([ds.y, ds.y_test])
    assert len(np.unique(x, axis=0)) == 100836  # no rating is in both sets
    assert np.array_equal(np.unique(x[:, 0]), np.arange(610)) and np.array_equal(np.unique(x[:, 1]), np.arange(9724))
    assert np.unique(y).tolist() == [0.5 * k for k in range(1, 11)]
    assert len(ds.item_ids) == 9724 and ds.item_ids[:2].tolist() == [1, 2] and (np.diff(ds.item_ids) > 0).all()
    known = x[:, 0] == 0  # the first lines of the file: user 1 gave film 1 four stars, and film 6
    assert y[known & (x[:, 1] == 0)].tolist() == [4.0]
    assert abs(ds.test_size / 100836 - 0.2) < 1e-3
    counts = np.bincount(ds.x_test[:, 0], minlength=610) / np.bincount(x[:, 0])
    if split == "user":
        assert np.abs(counts - 0.2).max() <= 0.5 / 20
    else:
        assert np.abs(counts - 0.2).max() > 0.05
    np.testing.assert_array_equal(ds.groups, ds.x[:, 0])
    parts = ds.partition(610, kind="groups")
    assert all(len(np.unique(ds.x[i, 0])) == 1 for i in parts.indices)
    assert not np.array_equal(get("movielens", split=split, seed=1).x_test, ds.x_test)
    np.testing.assert_array_equal(get("movielens", split=split).x_test, ds.x_test)
    assert get("movielens", split=split, test=0).x_test is None
    with pytest.raises(TypeError, match="y: classes need integer labels, got float32"):
        ds.classes  # noqa: B018
    with pytest.raises(ValueError, match="kind: 'shards' needs integer labels"):
        ds.partition(4, kind="shards")
    assert ds.partition(4).sizes.sum() == len(ds)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"test": 1.0}, "test: expected below 1, got 1.0"),
        ({"test": -0.1}, "test: expected at least 0.0, got -0.1"),
        ({"split": "time"}, "split: expected one of 'user', 'random', got 'time'"),
    ],
)
def test_movielens_refuses(options, text):
    with pytest.raises(ValueError, match=text):
        data.movielens(**options)


def test_movielens_as_downloaded(folder):
    path = folder / "ratings" / "ml-latest-small" / "ratings.csv"
    path.parent.mkdir(parents=True)
    path.write_text("userId,movieId,rating,timestamp\n7,30,4.0,1\n7,10,0.5,2\n9,30,5.0,3\n")
    ds = data.movielens(test=0)
    assert ds.x.tolist() == [[0, 1], [0, 0], [1, 1]] and ds.y.tolist() == [4.0, 0.5, 5.0]
    assert ds.item_ids.tolist() == [10, 30] and ds.users == 2
    path.write_text("a,b\n")
    with pytest.raises(ValueError, match=r"ratings.csv: expected columns userId,movieId,rating, got a,b"):
        data.movielens()


def test_ag_news(get):
    ds = get("ag_news")
    assert len(ds) == 6000 and ds.test_size == 1600 and ds.classes == 4 and ds.x.shape == (6000, 64)
    assert np.bincount(np.concatenate([ds.y, ds.y_test])).tolist() == [1900] * 4
    assert len(ds.texts) == 6000 and len(set(ds.texts + ds.texts_test)) > 7500
    # The numbers say the words: back through the vocabulary.
    words = [ds.vocabulary[i] for i in ds.x[0] if i]
    assert all(w in ds.texts[0].lower() for w in words if w != "<unk>") and len(words) > 5
    assert ds.vocabulary[:2] == ("<pad>", "<unk>") and "the" in ds.vocabulary[:10]
    assert ds.x_test.max() < len(ds.vocabulary) and (ds.x_test == 1).any() and not (ds.x == 1).all()
    own = get("ag_news", test=0, tokenizer=lambda texts: [[len(t)] for t in texts])
    assert own.x.shape == (7600, 1) and own.x[3, 0] == len(own.texts[3]) and own.vocabulary == ()
    with pytest.raises(TypeError, match=r"tokenizer: expected integers \(7600, ...\), got float64"):
        get("ag_news", tokenizer=lambda texts: np.zeros(len(texts)))
    for option in ("length", "words"):
        with pytest.raises(ValueError, match=f"{option}: expected at least 1, got 0"):
            get("ag_news", **{option: 0})


def test_sent140(get):
    ds = get("sent140")
    assert len(ds) == 2134 and ds.test_size == 8484 and ds.classes == 2 and ds.x.shape == (2134, 40)
    assert len(np.unique(ds.groups)) == 50 and len(np.unique(ds.groups_test)) == 772
    assert np.isin(ds.groups, ds.groups_test).all()
    assert ds.partition(50, kind="groups").sizes.sum() == 2134


@pytest.mark.parametrize(
    ("source", "passages", "queries", "relevant"),
    [
        ("scifact", 5183, 1109, 1.13), ("pubmed", 14435, 3310, 4.56), ("medquad", 19501, 14337, 1.40),
        ("regulatory", 12515, 5574, 1.32), ("finance", 2971, 3330, 1.33), ("privacypolicy", 1071, 5063, 1.55),
        ("wikipedia", 6342, 1190, 1.00), ("climate", 5240, 1061, 2.59), ("electronics", 11426, 93, 22.4),
        ("news", 7594, 7594, 1.00),
    ],
)  # fmt: skip
def test_text_and_its_vectors(get, source, passages, queries, relevant):
    corpus, v = get(f"text/{source}"), get(f"embeddings/{source}")
    assert (len(corpus.passages), len(corpus.queries)) == (passages, queries)
    rows = corpus.relevant()
    assert abs(np.mean([len(r) for r in rows]) - relevant) < 0.06
    assert v.passages.shape == (passages, 384) and v["queries"].shape == (queries, 384)
    for a in v.values():
        assert a.dtype == np.float32 and mapped(a)
        np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
    # Rows belong together: the relevant passage is far nearer to its query than any other.
    some = range(0, queries, max(1, queries // 200))
    right = np.mean([(v.passages[rows[i]] @ v.queries[i]).max() for i in some])
    other = np.mean([(v.passages @ v.queries[i]).mean() for i in some])
    assert right > other + 0.25
    assert corpus.query_texts()[0] == corpus.queries[0]["text"] and len(corpus.passage_texts()) == passages


def test_pairs(get):
    q, p = get("pairs/quora_dev"), get("pairs/paws_wiki_dev")
    assert (len(q.a), len(q.b), int(q.same.sum())) == (20212, 20212, 7585)
    assert (len(p.a), len(p.b), int(p.same.sum())) == (8000, 8000, 3539)
    for pairs, same, different in ((q, 0.48, 0.88), (p, 0.17, 0.22)):
        v = get(f"embeddings/{pairs.name}")
        distance = np.linalg.norm(v.a - v.b, axis=1)
        assert abs(np.median(distance[pairs.same == 1]) - same) < 0.01
        assert abs(np.median(distance[pairs.same == 0]) - different) < 0.01
    b, c = get("pairs/banking77"), get("pairs/clinc150")
    assert len(b.texts) == 13083 and len(b.names) == 77 and b.split.count("train") == 10003
    assert len(c.texts) == 23700 and len(c.names) == 151 and (c.y == c.names.index("oos")).sum() == 1200
    assert b.names[b.y[0]] == "card_arrival" and b.texts[0] == "I am still waiting on my card?"


def test_questions(get):
    m = get("mirage")
    counts = {"medqa": 1273, "medmcqa": 4183, "pubmedqa": 500, "bioasq": 618, "mmlu": 1089}
    assert {k: len(v) for k, v in m.items()} == counts
    assert {k: len(v) for k, v in get("embeddings/mirage").items()} == counts
    assert all({"id", "question", "options", "answer"} <= q.keys() for v in m.values() for q in v)
    q = get("mmlu")
    assert [sum(r["split"] == s for r in q) for s in ("test", "val", "dev")] == [14042, 1531, 285]
    assert len({r["subject"] for r in q}) == 57
    texts, grades = get("feb4rag")
    assert len(texts) == 790 and len(grades) == 790 * 16 and {q for q, _ in grades} == set(texts)
    assert 0 <= min(grades.values()) and max(grades.values()) == 90
    left_out = {"robust04", "trec-news", "signal1m"}
    kept = [g > 0 for (_, e), g in grades.items() if e not in left_out]
    assert len(kept) == 790 * 13 and round(sum(kept) / 790, 3) == 9.404
    known = {"pubmed", "statpearls", "textbooks", "wikipedia"}
    labels = get("ragroute")
    assert set(labels) <= set(counts) and all(set(c) <= known for v in labels.values() for c in v.values())


def test_traces(get):
    phones = get("traces/ai_benchmark_phones")
    assert len(phones.Model) == 333 and (phones.AI_Score.min(), phones.AI_Score.max()) == (212, 76206)
    energy = get("traces/skiptrain_energy_cifar-10")
    assert len(energy["Device Name"]) == 4 and energy["Number of training rounds"][0] == 272
    assert abs(energy["Energy (Wh)"][0] - 0.006532875) < 1e-12
    assert get("traces/skiptrain_energy_femnist")["Number of training rounds"][0] == 413
    a = get("traces/smartphone_availability")
    assert len(a.user) == 4334 and len(np.unique(a.user)) == 776 and a.offsets[-1] == len(a.session_ms)
    b = get("traces/mobile_bandwidth")
    assert len(b.hsdpa3g_names) == 86 and len(b.lte4g_names) == 40
    mean = (b.lte4g_kbps * b.lte4g_duration_ms).sum() / b.lte4g_duration_ms.sum()
    assert 25_000 < mean < 35_000
    n = get("traces/netlatency")
    rtt = n.planetlab_rtt_ms_median
    assert rtt.shape == (490, 490) and np.array_equal(rtt, rtt.T) and abs(np.median(rtt[rtt > 0]) - 135) < 2
    assert get("traces/moe_routing").switch128_token_expert.shape == (40800, 6)
    with pytest.raises(AttributeError, match="no array 'nothing': there are "):
        n.nothing  # noqa: B018


def leaf(folder, split, users, seed):
    rng = np.random.default_rng(seed)
    made = {u: (rng.integers(0, 256, (k, 784)), rng.integers(0, 62, k)) for u, k in users.items()}
    file = {
        "users": list(users),
        "num_samples": list(users.values()),
        "user_data": {u: {"x": (x / 255).tolist(), "y": y.tolist()} for u, (x, y) in made.items()},
    }
    path = folder / "femnist" / split / f"part_{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(file))
    return made


def test_femnist_in_leafs_form(folder):
    first = leaf(folder, "train", {"f0001": 3, "f0000": 2}, 0)
    leaf(folder, "train", {"f0009": 4}, 1)
    test = leaf(folder, "test", {"f0009": 1, "f0003": 2}, 2)
    ds = data.femnist()
    assert ds.x.shape == (9, 1, 28, 28) and ds.x.dtype == np.uint8 and ds.x_test.shape == (3, 1, 28, 28)
    np.testing.assert_array_equal(ds.x[:3].reshape(3, 784), first["f0001"][0])
    np.testing.assert_array_equal(ds.y[3:5], first["f0000"][1])
    np.testing.assert_array_equal(ds.x_test[1:].reshape(2, 784), test["f0003"][0])
    assert ds.groups.tolist() == [1, 1, 1, 0, 0, 3, 3, 3, 3] and ds.groups_test.tolist() == [3, 2, 2]
    assert sorted(ds.partition(3, kind="groups").sizes) == [2, 3, 4]
    assert data.available() == ["digits", "femnist"]
    again = data.femnist()
    assert mapped(again.x)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ('{"users": ["a"]}', "user_data"),
        ('{"users": ["a"], "user_data": {"a": {"x": [[1, 2]], "y": [1]}}}', "cannot reshape"),
        (json.dumps({"users": ["a"], "user_data": {"a": {"x": [[0.33] * 784], "y": [1]}}}), "steps of 1/255"),
        (json.dumps({"users": ["a"], "user_data": {"a": {"x": [[2] * 784], "y": [1]}}}), "0 ... 1"),
        (json.dumps({"users": ["a"], "user_data": {"a": {"x": [[0] * 784], "y": [1, 2]}}}), "one label a row"),
    ],
)
def test_femnist_names_the_file_that_is_wrong(folder, text, reason):
    leaf(folder, "test", {"a": 1}, 0)
    leaf(folder, "train", {"a": 1}, 1)
    (folder / "femnist" / "train" / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.json: expected LEAF's JSON for FEMNIST: .*{re.escape(reason)}"):
        data.femnist()


def test_cifar10_from_the_official_archive(folder):
    rng = np.random.default_rng(0)
    batches = {f"data_batch_{i}": rng.integers(0, 256, (4, 3073), np.uint8) for i in range(1, 6)}
    batches["test_batch"] = rng.integers(0, 256, (3, 3073), np.uint8)
    for records in batches.values():
        records[:, 0] %= 10
    path = folder / "images" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()

    def write(names):
        with tarfile.open(path, "w:gz") as tar:
            for name in names:
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
                info.size = batches[name].nbytes
                tar.addfile(info, io.BytesIO(batches[name].tobytes()))

    write(batches)
    ds = data.cifar10(lossless=True)
    assert ds.x.shape == (20, 3, 32, 32) and ds.x_test.shape == (3, 3, 32, 32)
    np.testing.assert_array_equal(ds.x[4].reshape(-1), batches["data_batch_2"][0, 1:])
    np.testing.assert_array_equal(ds.y_test, batches["test_batch"][:, 0])
    write(["test_batch"])
    with pytest.raises(ValueError, match="expected a file cifar-10-batches-bin/data_batch_1.bin in it"):
        data.cifar10()


def test_a_cut_text_file_is_named(folder):
    path = folder / "pairs" / "quora_dev.jsonl.gz"
    path.parent.mkdir()
    whole = gzip.compress(b'{"a": "x", "b": "y", "same": 1}\n' * 100)
    path.write_bytes(whole[:-12])
    with pytest.raises(ValueError, match=r"quora_dev\.jsonl\.gz: expected gzipped JSON lines"):
        data.pairs("quora_dev")
    path.write_bytes(whole)
    assert data.pairs("quora_dev").same.sum() == 100


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: data.load("mnist"), "name: expected one of digits, cifar10, "),
        (lambda: data.load("text"), "name: expected one of"),
        (lambda: data.text("web"), "source: expected one of 'climate', "),
        (lambda: data.embeddings("web"), "source: expected one of 'climate', "),
        (lambda: data.pairs("mrpc"), "name: expected one of 'quora_dev', "),
        (lambda: data.traces("web"), "name: expected one of 'skiptrain_energy_cifar-10', "),
    ],
)
def test_unknown_names(call, text):
    with pytest.raises(ValueError, match=text):
        call()
