"""collegium data list | fetch | verify, against a server of our own."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import zipfile

import pytest

from collegium import cli, data
from collegium.data import catalogue, fetch
from collegium.data.registry import Download, Entry, File


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty data folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLLEGIUM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLLEGIUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


@pytest.fixture
def server(tmp_path):
    """(folder, address) of a web server on this machine."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    thread.join()
    web.server_close()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "collegium", "data", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def described(path, content):
    return File(path, len(content), hashlib.sha256(content).hexdigest())


def test_fetch_checks_and_keeps(here, server, monkeypatch, capsys):
    folder, address = server
    raw, rows = os.urandom(3_000_000), b"userId,movieId,rating,timestamp\n1,1,4.0,9\n1,2,3.0,9\n"
    (folder / "a.bin").write_bytes(raw)
    with zipfile.ZipFile(folder / "ml.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("ml/ratings.csv", rows)
    ratings = described("ratings/ml-latest-small/ratings.csv", rows)
    monkeypatch.setitem(
        catalogue.CATALOGUE,
        "cifar100",
        Entry("", "", downloads=(Download(f"{address}/a.bin", described("images/a.bin", raw)),)),
    )
    monkeypatch.setitem(
        catalogue.CATALOGUE,
        "movielens",
        Entry("", "", downloads=(Download(f"{address}/ml.zip", ratings, member="ml/ratings.csv"),)),
    )
    assert cli.main(["data", "fetch", "cifar100"]) == 0 and cli.main(["data", "fetch", "movielens"]) == 0
    assert (here / "images" / "a.bin").read_bytes() == raw
    assert len(data.movielens(test=0)) == 2
    assert sorted(p.name for p in here.rglob("*") if p.is_file()) == ["a.bin", "ratings.csv"]
    assert {"cifar100", "movielens"} <= set(data.available())
    assert (
        cli.main(["data", "verify", "cifar100", "movielens"]) == 0
        and "2 files checked, all right" in capsys.readouterr().out
    )
    (folder / "a.bin").unlink()
    assert cli.main(["data", "fetch", "cifar100"]) == 0 and "already in" in capsys.readouterr().out
    (here / "images" / "a.bin").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert cli.main(["data", "verify"]) == 1
    out = capsys.readouterr().out
    assert "DAMAGED" in out and "expected SHA-256" in out and "2 files checked, 1 wrong or missing" in out


@pytest.mark.parametrize("case", ["other", "longer", "absent", "no archive", "no member", "refused"])
def test_a_bad_download_leaves_nothing(here, server, monkeypatch, capsys, case):
    folder, address = server
    (folder / "a").write_bytes(b"x" * (99 if case == "longer" else 10))
    if case == "no member":
        with zipfile.ZipFile(folder / "a", "w") as z:
            z.writestr("other", b"")
    url = {"absent": f"{address}/b", "refused": "http://127.0.0.1:9/a"}.get(case, f"{address}/a")
    member = "m" if case in ("no archive", "no member") else None
    entry = Entry("", "https://example.org/home", downloads=(Download(url, described("d/a", b"y" * 10), member),))
    monkeypatch.setitem(catalogue.CATALOGUE, "cifar100", entry)
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", "fetch", "cifar100"])
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert caught.value.code == 2 and err.startswith("collegium data fetch: ") and url in err
    assert {"other": "got 10 with", "longer": "got more with", "absent": "404", "no archive": "not a zip",
            "no member": "no item named", "refused": "refused"}[case] in err  # fmt: skip
    assert not [p for p in here.rglob("*") if p.is_file()]
    with pytest.raises(fetch.FetchError):
        fetch.fetch("cifar100")


def test_without_a_network_there_is_one_sentence(here, monkeypatch):
    # A proxy where nothing listens: no network, whatever this machine has.
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    done = run("fetch", "cifar10")
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1
    assert "collegium data fetch: cifar10: cannot get https://www.cs.toronto.edu/" in done.stderr


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            "mnist_writers",
            ["no official address has them", "https://github.com/facebookresearch/qmnist", "images/mnist_"],
        ),
        ("text/scifact", ["https://github.com/allenai/scifact", "text/scifact.queries.jsonl.gz"]),
        ("femnist", ["https://github.com/TalwalkarLab/leaf", "femnist/train/*.json"]),
        ("nonsense", ["name: expected one of cifar10, "]),
    ],
)
def test_what_cannot_be_fetched_says_where_to_go(here, name, texts):
    done = run("fetch", name)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and all(t in done.stderr for t in texts)
    if name != "nonsense":
        assert str(here) in done.stderr


def test_list_and_verify_of_nothing(here):
    done = run("list")
    assert done.returncode == 0 and all(name in done.stdout for name in data.names())
    assert f"0 of {len(catalogue.CATALOGUE)} in {here}" in done.stdout
    done = run("verify")
    assert done.returncode == 0 and "no files to check in" in done.stdout
    done = run("verify", "cifar10")
    assert done.returncode == 1 and "MISSING cifar10" in done.stdout
    assert run("verify", "nonsense").returncode == 2 and run("fetch", "digits").returncode == 0


def test_files_here_have_their_checksums():
    if data.available() == ["digits"]:
        pytest.skip("no data sets here: collegium data list says what there is")
    done = run("verify")
    assert done.returncode == 0 and "DAMAGED" not in done.stdout, done.stdout
