"""JSON lines, gzipped."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl.gz file. Raises ValueError naming a file that is not one."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as f:
            return [json.loads(line) for line in f]
    except (EOFError, gzip.BadGzipFile, ValueError) as e:
        raise ValueError(f"{path}: expected gzipped JSON lines: {e}") from None
