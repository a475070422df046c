"""The data sets this package knows: their files, checksums, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .places import find, folders


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
    """A data set.

    what: in a few words.  home: the set's official page.
    files: how it lies here; all are needed.  extra: more that may lie beside them.
    downloads: the form `collegium data fetch` gets, as good as `files`; empty where the files were repacked or
      selected, so that no single address has them.
    layout: where the files go, if there is no fixed list of them.
    """

    what: str
    home: str
    files: tuple[File, ...] = ()
    extra: tuple[File, ...] = ()
    downloads: tuple[Download, ...] = ()
    layout: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files, 0 if not known."""
        return sum(f.size for f in self.files)

    def present(self) -> Path | None:
        """The data folder where the set lies, or None."""
        if self.layout:
            return next((f for f in folders() if all(any(f.glob(p)) for p in self.layout.split())), None)
        for group in (self.files, tuple(d.file for d in self.downloads)):
            found = [find(f.path) for f in group]
            if group and found[0] is not None and all(found):
                return found[0].parents[group[0].path.count("/")]
        return None

    def known_files(self) -> list[File]:
        """All files with a checksum, in whatever form."""
        return [*self.files, *(d.file for d in self.downloads), *self.extra]
