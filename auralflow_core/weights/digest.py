"""SHA-256 of files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_PIN = re.compile(r"([0-9a-f]{64})  .+\n?")
_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_pin(path: Path) -> str | None:
    """Return the digest that a file had when it was first seen; `None` if it was not, or what is written is damaged."""
    try:
        found = _PIN.fullmatch(_pin_path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found else None


def write_pin(path: Path, digest: str) -> None:
    """Keep the digest of a file beside it, in the format of the tool `sha256sum`."""
    _pin_path(path).write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def _pin_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
