"""The command line, and what an import costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from collegium import cli


def command(*arguments, timeout=240):
    return subprocess.run(
        [sys.executable, "-m", "collegium", *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


def test_info_tells_what_is_on():
    done = command("info")
    assert done.returncode == 0 and done.stderr == ""
    assert "collegium" in done.stdout and "cuda" in done.stdout.lower() and "gloo" in done.stdout.lower()


def test_demo_writes_a_table_and_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    done = command("demo", "--nodes", "8", "--rounds", "16", "--seeds", "1", "--out", str(tmp_path / "o"))
    assert done.returncode == 0, done.stderr
    for word in ("D-PSGD", "SkipTrain(4, 4)", "Greedy", "mean model", "Wh", "consensus"):
        assert word in done.stdout
    assert (tmp_path / "o" / "demo.png").read_bytes()[:4] == b"\x89PNG"
    lines = (tmp_path / "o" / "demo.csv").read_text().splitlines()
    assert len(lines) == 6
    trainings = {row.split('"')[1] if '"' in row else row.split(",")[0]: row for row in lines[1:]}
    assert ",128," in trainings["D-PSGD"].replace(".0", "") and ",64," in trainings["SkipTrain(4, 4)"].replace(".0", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["demo", "--rounds", "12"], "rounds: expected a multiple of 8"),
        (["demo", "--seeds", "0"], "seeds: expected at least 1"),
        (["demo", "--degree", "40"], "degree"),
        (["bench", "nothing"], "expected one of"),
        (["reproduce", "nothing"], "expected one of"),
        (["reproduce", "skiptrain", "--scale", "huge"], "invalid choice"),
        (["data", "fetch", "nothing"], "nothing"),
        (["nonsense"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_bad_arguments_end_with_status_2_and_a_sentence(arguments, text):
    done = command(*arguments)
    assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr


def test_bench_outside_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site" / "cli.py"))
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "aggregate"])
    assert caught.value.code == 2 and "source checkout" in capsys.readouterr().err


def test_reproduce_says_what_it_would_take():
    done = command("reproduce", "skiptrain", "--dry-run")
    assert done.returncode == 0 and "digits: 32 nodes" in done.stdout
    done = command("reproduce", "skiptrain", "--help")
    assert done.returncode == 0 and "usage: collegium reproduce skiptrain" in done.stdout


def test_output_may_be_cut_off():
    script = f"{sys.executable} -m collegium data list | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "" and done.stdout.startswith("name")


def test_importing_pulls_in_nothing_heavy():
    code = (
        "import sys, collegium; heavy = {'torch', 'pandas', 'matplotlib', 'scipy', 'tqdm', 'networkx', 'safetensors'};"
        "print(sorted(heavy & set(sys.modules)), 'collegium.dl' in sys.modules); import collegium.dl, collegium.data;"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:2] == ["[] False", "[]"]
