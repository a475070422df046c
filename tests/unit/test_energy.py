"""Fleets of devices: the published figures, tables, budgets, bytes, and the same fleet over several processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from collegium import _core, dl
from collegium.dl.energy import DeviceFleet, Phone, round_energy

PUBLISHED = {  # SkipTrain, section 2.5: Wh of a round, rounds
    "cifar10": ([0.006532875, 0.005986076, 0.002556283, 0.008519120], [272, 324, 681, 272]),
    "femnist": ([0.021508007, 0.019707797, 0.008415981, 0.028047269], [413, 492, 1034, 413]),
}
FILES = {"cifar10": "skiptrain_energy_cifar-10.csv", "femnist": "skiptrain_energy_femnist.csv"}
HEAD = "device,energy_wh,rounds"


@pytest.fixture
def published():
    def path(task: str) -> Path:
        found = Path(os.environ.get("COLLEGIUM_DATA", "")) / "traces" / FILES[task]
        if "COLLEGIUM_DATA" not in os.environ or not found.is_file():
            pytest.skip(f"no traces/{FILES[task]}: set COLLEGIUM_DATA to the folder of the larger data sets")
        return found

    return path


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "fleet.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def same(a: DeviceFleet, b: DeviceFleet) -> None:
    assert a.names == b.names
    for name in ("e_wh", "rounds", "budget_wh", "joules_per_byte_sent", "joules_per_byte_received"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        np.testing.assert_array_equal(x, y, err_msg=name, strict=True)


# ---- the published figures ----


@pytest.mark.parametrize("task", PUBLISHED)
def test_trap_12_units_of_the_four_phones(task):
    fleet = DeviceFleet.phones(4, task=task)
    e, rounds = PUBLISHED[task]
    np.testing.assert_allclose(fleet.e_wh, e, rtol=0, atol=1e-9)
    assert fleet.rounds.tolist() == rounds
    share = {"cifar10": 0.1, "femnist": 0.5}[task]
    np.testing.assert_allclose(fleet.budget_wh, share * np.array([17.8, 19.4, 17.41, 23.2]), rtol=1e-15)
    # Written out: 3 inferences a sample, ms and W to Wh.
    assert round_energy(Phone("", 27, 17.7, 17.8), 89_834, 20, 32) == pytest.approx(
        17.7 * (3 * 27e-3 * 89_834 / 3_504_872 * 20 * 32) / 3600, rel=1e-14
    )


@pytest.mark.parametrize(
    "task, rounds, total, digits, budgets",
    [("cifar10", 1000, 1510.04, 0.01, 497.6), ("femnist", 3000, 14_914.4, 0.1, 2487)],
)
def test_network_totals_through_the_core(task, rounds, total, digits, budgets):
    fleet = DeviceFleet.phones(256, task=task)
    node_wh, cumulative = _core.energy(dl.DPSGD().plan(rounds, 256), fleet.e_wh)
    assert cumulative[-1] == pytest.approx(total, abs=digits)
    assert node_wh.sum() == pytest.approx(total, abs=digits)
    half = _core.energy(dl.SkipTrain(4, 4).plan(rounds, 256), fleet.e_wh)[1][-1]
    assert half == pytest.approx(cumulative[-1] / 2, rel=1e-12)
    assert (fleet.rounds * fleet.e_wh).sum() == pytest.approx(budgets, abs=0.5)


@pytest.mark.parametrize("task", PUBLISHED)
def test_published_files(task, published):
    fleet = DeviceFleet.from_csv(published(task))
    assert fleet.e_wh.tolist() == PUBLISHED[task][0]
    assert fleet.rounds.tolist() == PUBLISHED[task][1]
    assert fleet.names[2:] == ("OnePlus Nord 2 5G", "Xiaomi Poco X3")
    big = DeviceFleet.from_csv(published(task), n=256)
    assert len(big) == 256 and big.names[255] == "Xiaomi Poco X3" and big.names[:4] == fleet.names
    rounds, total, digits = {"cifar10": (1000, 1510.04, 0.01), "femnist": (3000, 14_914.4, 0.1)}[task]
    assert _core.energy(dl.DPSGD().plan(rounds, 256), big.e_wh)[1][-1] == pytest.approx(total, abs=digits)
    made = DeviceFleet.from_csv(published(task), task=task)  # of the file's times and powers
    np.testing.assert_allclose(made.e_wh, fleet.e_wh, rtol=0, atol=1e-9)
    assert made.rounds.tolist() == PUBLISHED[task][1]


def test_the_femnist_file_prints_the_whole_battery_where_rounds_fit_half(published):
    """Its column "Battery capacity for training" is therefore not the budget."""
    text = published("femnist").read_text(encoding="utf-8-sig").splitlines()
    at = text[0].split(",").index("Battery capacity for training")
    printed = np.array([float(row.split(",")[at]) for row in text[1:] if row])
    fleet = DeviceFleet.from_csv(published("femnist"))
    half, whole = (DeviceFleet.from_csv(published("femnist"), battery_fraction=f) for f in (0.5, 1.0))
    np.testing.assert_allclose(printed, whole.budget_wh)
    assert fleet.rounds.tolist() == half.rounds.tolist() != whole.rounds.tolist()
    assert (fleet.budget_wh <= half.budget_wh).all() and (fleet.budget_wh > 0.99 * half.budget_wh).all()


def test_a_byte_order_mark_is_accepted(published, table):
    """The original files begin with one."""
    raw = published("cifar10").read_bytes().removeprefix(b"\xef\xbb\xbf")
    same(DeviceFleet.from_csv(table(b"\xef\xbb\xbf" + raw)), DeviceFleet.from_csv(published("cifar10")))


# ---- trap 13: scaling ----


def test_trap_13_scaling_by_operations_and_the_word_model():
    """LeNet's 12 million multiply-adds cost far more than its 90,000 parameters say."""
    by_size = DeviceFleet.phones(4, task="cifar10")
    by_flops = DeviceFleet.phones(4, task="cifar10", flops_per_sample=24e6)
    np.testing.assert_allclose(by_flops.e_wh / by_size.e_wh, (24e6 / 6e8) / (89_834 / 3_504_872), rtol=1e-13)
    mobilenet = DeviceFleet.phones(1, flops_per_sample=6e8, local_steps=1, batch_size=1)
    assert mobilenet.e_wh[0] == pytest.approx(3 * 27 * 17.7 / 3.6e6, rel=1e-14)  # its own time, three times
    np.testing.assert_array_equal(mobilenet.budget_wh, [0.1 * 17.8])
    for text in (dl.energy.__doc__, DeviceFleet.__doc__, DeviceFleet.phones.__doc__):
        assert "model" in text and re.search(r"not (a measurement|measured)", text)
    assert "6e8" in DeviceFleet.phones.__doc__ and "Sandler" in DeviceFleet.phones.__doc__


def test_devices_of_your_own():
    fleet = DeviceFleet.phones(
        3,
        parameters=1000,
        local_steps=2,
        batch_size=4,
        battery_fraction=1,
        devices=[Phone("a", 10, 5, 9), Phone("b", 1, 2, 3)],
    )
    assert fleet.names == ("a", "b", "a")
    assert fleet.e_wh[1] == pytest.approx(2 * 3e-3 * 1000 / 3_504_872 * 8 / 3600, rel=1e-14)
    assert fleet.budget_wh.tolist() == [9, 3, 9]
    assert fleet.rounds[1] == int(3 / fleet.e_wh[1])


# ---- trap 14: by the number in the whole network ----


@pytest.mark.parametrize("first, n", [(0, 8), (4, 4), (3, 6), (5, 1), (2**40 + 1, 4)])
def test_first_node(first, n, table):
    names = [("x", "y", "z")[(first + i) % 3] for i in range(n)]
    phones = DeviceFleet.phones(n, task="cifar10", first_node=first)
    assert phones.names == tuple(dl.energy.PHONES[(first + i) % 4].name for i in range(n))
    path = table("device,energy_wh\nx,1\ny,2\nz,3\n")
    assert DeviceFleet.from_csv(path, n, first_node=first).names == tuple(names)


@pytest.mark.parametrize("per_process", [4, 3])
def test_trap_14_two_processes_make_the_fleet_of_one(per_process, tmp_path):
    one = DeviceFleet.phones(2 * per_process, task="femnist", joules_per_byte_sent=2e-7)
    one.to_csv(tmp_path / "whole.csv")
    code = (
        "import sys; from collegium.dl.energy import DeviceFleet as F; rank, n, folder = sys.argv[1:];"
        "rank, n = int(rank), int(n);"
        "a = F.phones(n, task='femnist', first_node=rank * n, joules_per_byte_sent=2e-7);"
        "a.to_csv(f'{folder}/made{rank}.csv');"
        "F.from_csv(f'{folder}/whole.csv', n, first_node=rank * n).to_csv(f'{folder}/read{rank}.csv')"
    )
    for rank in (0, 1):
        subprocess.run([sys.executable, "-c", code, str(rank), str(per_process), str(tmp_path)], check=True, timeout=60)
    for rank in (0, 1):
        part = one[rank * per_process : (rank + 1) * per_process]
        for kind in ("made", "read"):
            same(DeviceFleet.from_csv(tmp_path / f"{kind}{rank}.csv"), part)


def test_take_and_slices():
    fleet = DeviceFleet([1.0, 2, 3, 4], [1, 2, 3, 4], list("abcd"), joules_per_byte_received=[0, 1, 2, 3])
    same(fleet[1:3], fleet.take([1, 2]))
    back = fleet.take(np.array([3, 0, 3]))
    assert back.names == ("d", "a", "d") and back.e_wh.tolist() == [4, 1, 4] and back.rounds.tolist() == [4, 1, 4]
    assert back.joules_per_byte_received.tolist() == [3, 0, 3]
    assert fleet[::-1].names == tuple("dcba") and len(fleet[2:99]) == 2
    assert DeviceFleet([1.0, 2])[1:].rounds is None
    for ids, text in (
        ([4], r"ids: expected 0 to 3, got 4 at \[0\]"),
        ([0, -1], r"got -1 at \[1\]"),
        ([], "ids: expected node numbers"),
        ([1.0], "ids: expected node numbers"),
        ([True, False, True, True], "ids: expected node numbers"),
        (2, "ids: expected node numbers"),
    ):
        with pytest.raises(ValueError, match=text):
            fleet.take(ids)
    with pytest.raises(TypeError, match=r"nodes: expected a slice \(take\(ids\) takes numbers\), got 2"):
        fleet[2]
    with pytest.raises(ValueError, match="ids: expected node numbers"):
        fleet[4:]


# ---- budgets and bytes ----


def test_budget_and_rounds_give_each_other():
    fleet = DeviceFleet(e_wh=[0.1, 0.2, 0.3], budget_wh=[0.3, 0.5, 0])
    assert fleet.rounds.tolist() == [3, 2, 0]  # 0.3 / 0.1 is below 3
    assert fleet.rounds.dtype == np.int64
    np.testing.assert_allclose(DeviceFleet([0.1, 0.2], [3, 5]).budget_wh, [0.3, 1.0])
    free = DeviceFleet([0.1])
    assert free.rounds is None and free.budget_wh is None and free.names is None
    e = np.random.default_rng(0).uniform(1e-6, 1, 1000)
    k = np.random.default_rng(1).integers(0, 10**6, 1000)
    np.testing.assert_array_equal(DeviceFleet(e, budget_wh=k * e).rounds, k)
    plan = dl.SkipTrain(1, 0, budget=fleet.rounds).plan(10, 3)
    assert (_core.energy(plan, fleet.e_wh)[0] <= fleet.budget_wh * (1 + 1e-12)).all()


def test_arrays_are_read_only_copies():
    e = np.ones(3)
    fleet = DeviceFleet(e, [1, 2, 3])
    e[0] = 5
    assert fleet.e_wh[0] == 1
    for array in (fleet.e_wh, fleet.rounds, fleet.budget_wh, fleet.joules_per_byte_sent):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2


def test_energy_of_bytes():
    assert DeviceFleet.phones(4, "cifar10").communication_wh(10**9, 10**9).tolist() == [0, 0, 0, 0]
    fleet = DeviceFleet([1.0, 1.0], joules_per_byte_sent=3.6e-3, joules_per_byte_received=[0.0, 7.2e-3])
    np.testing.assert_allclose(fleet.communication_wh([10, 20], [5, 10]), [1e-5, 4e-5], rtol=1e-14)
    G = dl.topology.star(4)
    sent, received = dl.Mixing(weights=G.mixing()).step(np.ones((4, 5), np.float32), round=0)
    radio = DeviceFleet(np.ones(4), joules_per_byte_sent=1.0, joules_per_byte_received=2.0)
    np.testing.assert_allclose(radio.communication_wh(sent, received) * 3600, [180, 60, 60, 60], rtol=1e-14)


# ---- tables ----


@pytest.mark.parametrize("names", [None, ["a", "b, quoted", 'c"d']])
@pytest.mark.parametrize("more", [{}, {"rounds": [5, 0, 7]}, {"budget_wh": [1 / 3, 0.1, 5]}])
def test_what_is_written_reads_to_the_same_bits(names, more, tmp_path):
    e = np.random.default_rng(2).uniform(1e-9, 1, 3)
    fleet = DeviceFleet(e, names=names, **more, joules_per_byte_sent=[0.1, 1e-300, 3], joules_per_byte_received=1e-7)
    fleet.to_csv(tmp_path / "a.csv")
    same(DeviceFleet.from_csv(tmp_path / "a.csv"), fleet)


def test_any_order_and_other_columns(table):
    fleet = DeviceFleet.from_csv(table("colour, energy_wh ,device\r\nred,0.5,a\r\n\r\nblue, 1e-2 ,b\r\n"))
    assert fleet.e_wh.tolist() == [0.5, 0.01] and fleet.names == ("a", "b") and fleet.rounds is None
    made = DeviceFleet.from_csv(
        table("power_w,inference_ms\n17.7,27\n"), parameters=89_834, local_steps=20, batch_size=32
    )
    assert made.e_wh[0] == pytest.approx(0.006532875, abs=1e-9)
    kept = DeviceFleet.from_csv(table("energy_wh,budget_wh\n2,9\n"))
    assert kept.rounds.tolist() == [4]


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("", ": expected a header and at least one device, got no text"),
        ("\n ,\n", ": expected a header and at least one device, got no text"),
        (HEAD + "\n", ": expected a header and at least one device, got none"),
        ("device,rounds\na,3\n", ", row 1: missing column energy_wh (or 'Energy (Wh)'), or task="),
        ("device;energy_wh\na;3\n", ", row 1: missing column energy_wh"),
        (HEAD + "\na,0.5,3\nb,x,3\n", ", row 3: column 'energy_wh': expected a finite number above 0, got 'x'"),
        (HEAD + "\na,nan,3\n", ", row 2: column 'energy_wh': expected a finite number above 0, got 'nan'"),
        (HEAD + "\na,inf,3\n", ", row 2: column 'energy_wh': expected a finite number above 0, got 'inf'"),
        (HEAD + "\na,-1,3\n", ", row 2: column 'energy_wh': expected a finite number above 0, got '-1'"),
        (HEAD + "\na,0,3\n", ", row 2: column 'energy_wh': expected a finite number above 0, got '0'"),
        (HEAD + "\na,,3\n", ", row 2: column 'energy_wh': expected a finite number above 0, got ''"),
        (HEAD + "\na,1_0,3\n", ", row 2: column 'energy_wh': expected a finite number above 0, got '1_0'"),
        (HEAD + "\na,\u0663,3\n", ", row 2: column 'energy_wh': expected a finite number above 0"),
        (HEAD + '\na,"0,5",3\n', ", row 2: column 'energy_wh': expected a finite number above 0, got '0,5'"),
        (HEAD + "\na,1,-3\n", ", row 2: column 'rounds': expected a whole number of at least 0, got '-3'"),
        (HEAD + "\na,1,3.5\n", ", row 2: column 'rounds': expected a whole number"),
        (HEAD + "\na,1," + "9" * 30 + "\n", ", row 2: column 'rounds': expected a whole number"),
        (HEAD + "\n,1,3\n", ", row 2: column 'device': expected a name, got nothing"),
        (HEAD + "\na,1\n", ", row 2: expected 3 cells as in the header, got 2"),
        (HEAD + "\na,1,3\n\nb,1,3,4\n", ", row 4: expected 3 cells as in the header, got 4"),
        (HEAD + '\n"a\nb",1,3\nc,x,3\n', ", row 4: column 'energy_wh'"),
        ('device,energy_wh\n"a,1\n', ", row 2: expected comma-separated values"),
        ("energy_wh,device,energy_wh\n1,a,2\n", ", row 1: column 'energy_wh' is there twice"),
        ("x,energy_wh,x\n1,1,2\n", ", row 1: column 'x' is there twice"),
        ("energy_wh,Energy (Wh)\n1,2\n", ", row 1: column 'Energy (Wh)': energy_wh is already there as 'energy_wh'"),
        (
            "energy_wh,joules_per_byte_sent\n1,-1e-9\n",
            ", row 2: column 'joules_per_byte_sent': expected a finite number of",
        ),
        (
            "energy_wh,budget_wh\n1,-1\n",
            ", row 2: column 'budget_wh': expected a finite number of at least 0, got '-1'",
        ),
        ("energy_wh,battery_wh\n1,0\n", ", row 2: column 'battery_wh': expected a finite number above 0, got '0'"),
        ("energy_wh,power_w\n1,no\n", ", row 2: column 'power_w': expected a finite number above 0, got 'no'"),
        (b"energy_wh\n1\xff\n", ": expected UTF-8 text, got other bytes at 11"),
    ],
)
def test_bad_tables(text, wrong, table):
    path = table(text)
    with pytest.raises(ValueError) as error:
        DeviceFleet.from_csv(path)
    assert str(error.value).startswith(f"{path}{wrong}")


def test_ingredients_that_are_missing(table):
    only_energy = table("device,energy_wh\na,1\n")
    with pytest.raises(
        ValueError, match=r"row 1: missing column inference_ms, power_w \(or 'Inference time.*got device, e"
    ):
        DeviceFleet.from_csv(only_energy, task="cifar10")
    with pytest.raises(
        ValueError, match=r"row 1: missing column battery_wh .*, of which the budget is 0\.2; got device"
    ):
        DeviceFleet.from_csv(only_energy, battery_fraction=0.2)
    with pytest.raises(ValueError, match="task: expected 'cifar10' or 'femnist', or parameters"):
        DeviceFleet.from_csv(only_energy, local_steps=3)
    with pytest.raises(ValueError, match="n: expected at least 1, got 0"):
        DeviceFleet.from_csv(only_energy, 0)
    with pytest.raises(ValueError, match="first_node: expected at least 0, got -1"):
        DeviceFleet.from_csv(only_energy, 2, first_node=-1)
    with pytest.raises(FileNotFoundError):
        DeviceFleet.from_csv(only_energy.with_name("none.csv"))
    with pytest.raises(ValueError, match=r"missing column battery_wh .*, of which the budget is 0\.5"):
        DeviceFleet.from_csv(table("inference_ms,power_w\n1,1\n"), task="femnist")


# ---- refusals ----


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: DeviceFleet([1, 0]), ValueError, "e_wh: expected finite numbers above 0, got 0.0 at node 1"),
        (lambda: DeviceFleet([1, -2]), ValueError, "e_wh: .* got -2.0 at node 1"),
        (lambda: DeviceFleet([np.nan]), ValueError, "e_wh: .* got nan at node 0"),
        (lambda: DeviceFleet([np.inf]), ValueError, "e_wh: .* got inf at node 0"),
        (lambda: DeviceFleet([]), ValueError, r"e_wh: expected one number a node, got shape \(0,\)"),
        (lambda: DeviceFleet(1.0), ValueError, r"e_wh: expected one number a node, got shape \(\)"),
        (lambda: DeviceFleet(["a"]), TypeError, r"e_wh: expected a number or one a node, got \['a'\]"),
        (lambda: DeviceFleet([1, 1], [3]), ValueError, r"rounds: expected shape \(2,\), got \(1,\)"),
        (lambda: DeviceFleet([1, 1], [3, -1]), ValueError, "rounds: expected integers of at least 0, got -1 at node 1"),
        (lambda: DeviceFleet([1], [1.5]), ValueError, "rounds: expected integers of at least 0, got dtype float64"),
        (lambda: DeviceFleet([1, 1], names=["a"]), ValueError, "names: expected 2 names, got 1"),
        (lambda: DeviceFleet([1], budget_wh=[np.nan]), ValueError, "budget_wh: expected finite .* got nan at node 0"),
        (lambda: DeviceFleet([1, 1], budget_wh=[1, -1]), ValueError, "budget_wh: .* got -1.0 at node 1"),
        (
            lambda: DeviceFleet([1, 2], [3, 4], budget_wh=[3, 7]),
            ValueError,
            "rounds: expected at most 3, .* got 4 at node 1",
        ),
        (
            lambda: DeviceFleet([1, 1], joules_per_byte_sent=[1]),
            ValueError,
            r"joules_per_byte_sent: expected shape \(2,\)",
        ),
        (
            lambda: DeviceFleet([1], joules_per_byte_received=-1),
            ValueError,
            "joules_per_byte_received: .* got -1.0 at node 0",
        ),
        (lambda: DeviceFleet.phones(0, "cifar10"), ValueError, "n: expected at least 1, got 0"),
        (lambda: DeviceFleet.phones(1, "mnist"), ValueError, "task: expected one of 'cifar10', 'femnist', got 'mnist'"),
        (lambda: DeviceFleet.phones(1), ValueError, "task: expected 'cifar10' or 'femnist', or parameters"),
        (
            lambda: DeviceFleet.phones(1, "cifar10", first_node=-1),
            ValueError,
            "first_node: expected at least 0, got -1",
        ),
        (
            lambda: DeviceFleet.phones(1, "cifar10", battery_fraction=2),
            ValueError,
            "battery_fraction: expected at most 1",
        ),
        (lambda: DeviceFleet.phones(1, "cifar10", flops_per_sample=0), ValueError, "flops_per_sample: .* above 0"),
        (
            lambda: DeviceFleet.phones(1, "cifar10", parameters=1, flops_per_sample=1),
            ValueError,
            "expected one of them",
        ),
        (lambda: DeviceFleet.phones(1, "cifar10", devices=[]), ValueError, "devices: expected at least one"),
        (
            lambda: DeviceFleet.phones(1, "cifar10", devices=[Phone("a", 1, -1, 1)]),
            ValueError,
            r"devices\[0\].power_w: ",
        ),
        (lambda: round_energy(Phone("a", 1, 1, 1), 5, 1, 1, flops_per_sample=3.0), ValueError, "exactly one of them"),
        (lambda: round_energy(Phone("a", 1, 1, 1), None, 1, 1), ValueError, "exactly one of them"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()
