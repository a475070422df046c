"""Downloads from official addresses, and checksums of what is here."""

from __future__ import annotations

import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import IO

from .catalogue import CATALOGUE
from .places import find, folders
from .registry import Download, Entry, File
from .store import atomic

_CHUNK = 1 << 20


class FetchError(RuntimeError):
    """A data set could not be had; the message says why and what to do."""


def fetch(name: str, timeout: float = 30.0) -> Path:
    """Downloads the data set `name` into the first data folder, and returns that folder. A set already here stays.

    Each file is checked against its SHA-256 before it appears under its name. timeout: seconds without an answer.
    Raises ValueError for an unknown name, FetchError with a sentence for everything else.
    """
    entry = known(name)
    here = entry.present()
    if here is not None:
        return here
    folder = folders()[0]
    if not entry.downloads:
        raise FetchError(_by_hand(name, entry, folder))
    for download in entry.downloads:
        try:
            _get(download, folder, timeout)
        except (OSError, http.client.HTTPException, zipfile.BadZipFile, KeyError) as e:
            # URLError wraps what happened; HTTPError says it best itself.
            reason = e if isinstance(e, urllib.error.HTTPError) else getattr(e, "reason", e)
            raise FetchError(
                f"{name}: cannot get {download.url} into {folder}: {reason}; the set's page is {entry.home}"
            ) from None
    return folder


def known(name: str) -> Entry:
    """The entry of a data set. Raises ValueError for an unknown name."""
    if name not in CATALOGUE:
        raise ValueError(f"name: expected one of {', '.join(CATALOGUE)}, got {name!r}")
    return CATALOGUE[name]


def check(file: File) -> str | None:
    """What is wrong with a file that is here, or None. Raises FileNotFoundError if it is not."""
    path = find(file.path)
    if path is None:
        raise FileNotFoundError(file.path)
    size = path.stat().st_size
    if size != file.size:
        return f"expected {file.size} bytes, got {size}"
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while chunk := f.read(_CHUNK):
            digest.update(chunk)
    return None if digest.hexdigest() == file.sha256 else f"expected SHA-256 {file.sha256}, got {digest.hexdigest()}"


def _by_hand(name: str, entry: Entry, folder: Path) -> str:
    if entry.layout:
        return (
            f"{name}: made by its own scripts at {entry.home}: put {entry.layout.replace(' ', ' and ')} into {folder}"
        )
    files = ", ".join(f.path for f in entry.files)
    return (
        f"{name}: the files are a repacked selection, no official address has them: get the set from {entry.home} "
        f"and put it in this form into {folder}: {files}"
    )


def _get(download: Download, folder: Path, timeout: float) -> None:
    path = folder / download.file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(download.url, timeout=timeout) as answer:
        if download.member is None:
            atomic(path, lambda f: _copy(answer, f, download))
            return
        with tempfile.TemporaryFile(dir=path.parent) as archive:
            while chunk := answer.read(_CHUNK):
                archive.write(chunk)
            with zipfile.ZipFile(archive) as z, z.open(download.member) as member:
                atomic(path, lambda f: _copy(member, f, download))


def _copy(source: IO[bytes], target: IO[bytes], download: Download) -> None:
    """Copies with a progress bar; raises FetchError unless it was the file that was expected."""
    from tqdm import tqdm

    expected, digest, size = download.file, hashlib.sha256(), 0
    with tqdm(total=expected.size, unit="B", unit_scale=True, desc=expected.path, disable=None) as bar:
        # One byte more than expected is enough to know; an endless answer does not fill the disk.
        while chunk := source.read(min(_CHUNK, expected.size + 1 - size)):
            target.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != expected.sha256:
        raise FetchError(
            f"{download.url}: expected {expected.size} bytes with SHA-256 {expected.sha256}, got "
            f"{size if size <= expected.size else 'more'} with {digest.hexdigest()}: damaged on the way, or changed"
        )
