"""What ``collegium data`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .catalogue import CATALOGUE
from .fetch import check, fetch, known
from .places import find, folders


def list_sets() -> None:
    """Prints every data set: name, size, where it lies, what it is."""
    width = max(map(len, CATALOGUE))
    print(f"{'name':{width}}  {'MB':>6}  {'here':4}  what")
    print(f"{'digits':{width}}  {0.1:6.1f}  {'yes':4}  8x8 digits, 1,437 + 360; comes with the package")
    places: dict[Path | None, int] = {}
    for name, entry in CATALOGUE.items():
        place = entry.present()
        places[place] = places.get(place, 0) + 1
        size = f"{entry.size / 1e6:6.1f}" if entry.size else f"{'?':>6}"
        print(f"{name:{width}}  {size}  {'yes' if place else 'no':4}  {entry.what} ({entry.home})")
    for folder in folders():
        print(f"{places.get(folder, 0)} of {len(CATALOGUE)} in {folder}")


def fetch_set(name: str) -> None:
    """Downloads a data set and says where it is. Raises as `fetch`."""
    if name == "digits":
        print("digits: comes with the package")
        return
    before = known(name).present()
    folder = fetch(name)
    print(f"{name}: {'already ' if before else ''}in {folder}")


def verify(names: Sequence[str]) -> int:
    """Checks the files of the named sets, or of all that are here, against their SHA-256. Returns 1 if one is wrong."""
    wrong = checked = 0
    for name in names or CATALOGUE:
        entry = known(name)
        for file in entry.known_files():
            path = find(file.path)
            if path is not None:
                fault = check(file)
                print(f"{'DAMAGED' if fault else 'ok':8}{path}{f': {fault}' if fault else ''}")
                checked, wrong = checked + 1, wrong + bool(fault)
        if names and entry.present() is None:
            print(f"MISSING {name}: get it with `collegium data fetch {name}`")
            wrong += 1
        elif names and not entry.known_files():
            print(f"unknown {name}: no checksums are published for it")
    if not checked and not wrong:
        print(f"no files to check in {' or '.join(map(str, folders()))}")
    else:
        print(f"{checked} files checked, {f'{wrong} wrong or missing' if wrong else 'all right'}")
    return 1 if wrong else 0
