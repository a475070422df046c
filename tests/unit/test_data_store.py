"""collegium.data: where sets are looked for, and the cache of decoded arrays."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from collegium import data
from collegium.data import places
from collegium.data.store import cached


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("COLLEGIUM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "source.bin"
    path.write_bytes(b"1")
    return path


class Build:
    """Counts how often it is asked."""

    calls = 0

    def __call__(self):
        self.calls += 1
        return {"x": np.arange(3000, dtype=np.int64).reshape(30, 100), "empty": np.empty((0, 2), np.float32)}


def test_the_second_call_reads_what_the_first_built(source):
    build = Build()
    first, second = (cached("thing", [source], build) for _ in range(2))
    assert build.calls == 1
    for a in (first, second):
        np.testing.assert_array_equal(a["x"], build()["x"])
        assert a["x"].dtype == np.int64 and a["empty"].shape == (0, 2)
        assert not a["x"].flags.writeable and isinstance(a["x"].base, np.memmap)
    ds = data.Dataset(second["x"], second["x"][:, 0])
    assert np.shares_memory(ds.x, second["x"]) and type(ds.x) is np.ndarray
    assert ds.fetch([2])[0].flags.writeable


def test_a_changed_source_is_another_entry(source):
    build = Build()
    cached("thing", [source], build)
    os.utime(source, ns=(1, 1))
    cached("thing", [source], build)
    cached("thing", [source], build, version=2)
    assert build.calls == 3


def damage_bit(folder):
    raw = bytearray((folder / "x.npy").read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / "x.npy").write_bytes(raw)


@pytest.mark.parametrize(
    "damage",
    [
        damage_bit,
        lambda f: (f / "x.npy").write_bytes((f / "x.npy").read_bytes()[:-1]),
        lambda f: (f / "x.npy").write_bytes(b""),
        lambda f: (f / "x.npy").write_bytes(b"not an array, by far, but long enough to have had a header" * 9),
        lambda f: (f / "x.npy").unlink(),
        lambda f: (f / "index.json").write_text("{"),
        lambda f: (f / "index.json").write_text("[1]"),
        lambda f: (f / "index.json").unlink(),
    ],
)
def test_a_damaged_entry_is_built_again(source, damage):
    build = Build()
    cached("thing", [source], build)
    (folder,) = places.cache_folder().iterdir()
    damage(folder)
    for _ in range(2):
        np.testing.assert_array_equal(cached("thing", [source], build)["x"], Build()()["x"])
    assert build.calls == 2
    assert sorted(p.name for p in folder.iterdir()) == ["empty.npy", "index.json", "x.npy"]


def test_without_a_writable_folder_there_is_a_warning_and_no_cache(source, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")  # no folder can be made under a file, whoever asks
    monkeypatch.setenv("COLLEGIUM_CACHE", str(tmp_path / "file" / "cache"))
    build = Build()
    for _ in range(2):
        with pytest.warns(UserWarning, match="thing: decoded again each time, the cache cannot be written"):
            a = cached("thing", [source], build)
        assert a["x"][1, 0] == 100 and not a["x"].flags.writeable
    assert build.calls == 2


def test_processes_may_build_at_once(source):
    code = (
        "import sys, time, numpy as np; from pathlib import Path; from collegium.data.store import cached\n"
        "def build():\n"
        "    time.sleep(0.2)\n"
        "    return {'x': np.arange(100_000)}\n"
        "for _ in range(3): a = cached('thing', [Path(sys.argv[1])], build)['x']\n"
        "print(int(a.sum()), isinstance(a.base, np.memmap))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(source)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [p.communicate(timeout=60)[0] for p in processes] == ["4999950000 True\n"] * 4
    (folder,) = places.cache_folder().iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["index.json", "x.npy"]
    assert json.loads((folder / "index.json").read_text()).keys() == {"x"}


def test_folders_are_searched_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLEGIUM_DATA", "here")  # relative: made absolute
    monkeypatch.delenv("COLLEGIUM_CACHE", raising=False)
    home = tmp_path / "home" / ".cache" / "collegium"
    assert places.folders() == [tmp_path / "here", home] and places.cache_folder() == home / "decoded"
    assert data.find("a/b") is None
    for folder in (home, tmp_path / "here"):
        (folder / "a").mkdir(parents=True)
        (folder / "a" / "b").write_text("")
        assert data.find("a/b") == folder / "a" / "b"
    monkeypatch.delenv("COLLEGIUM_DATA")
    assert places.folders() == [home]


@pytest.mark.parametrize("name", [n for n in data.names() if n != "digits"])
def test_a_missing_set_says_where_it_looked_and_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLLEGIUM_DATA", str(tmp_path / "none"))
    with pytest.raises(data.MissingData) as caught:
        data.load(name)
    text = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert str(tmp_path / "none") in text and str(tmp_path / "home") in text
    assert f"collegium data fetch {name}" in text and "\n" not in text
    assert data.available() == ["digits"]
