"""The data sets this package knows: their files, checksums, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

from .places import find


@dataclass(frozen=True)
class File:
    """path: relative to a data folder.  size: bytes.  sha256: of the whole file."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Download:
    """One file at its official address. member: the part of the zip archive at `url` that becomes the file."""

    url: str
    file: File
    member: str | None = None


@dataclass(frozen=True)
class Entry:
    """A data set. files: how it may lie here; any one of `either` is enough where that is given.

    home: the set's official page.  downloads: what `collegium data fetch` can get; empty if the files were repacked or
    selected, so that no single address has them.
    """

    what: str
    home: str
    files: tuple[File, ...] = ()
    downloads: tuple[Download, ...] = ()
    pattern: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files, 0 if not known."""
        return sum(f.size for f in self.files)

    def alternatives(self) -> list[tuple[File, ...]]:
        """The ways it may be present: as packed, or as downloaded."""
        return [group for group in (self.files, tuple(d.file for d in self.downloads)) if group]

    def present(self) -> tuple[File, ...] | None:
        """The first way all of whose files are there, or None."""
        return next((g for g in self.alternatives() if all(find(f.path) is not None for f in g)), None)
