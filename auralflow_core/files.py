"""Files and folders that appear under their final name only when they are whole."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from auralflow_core.errors import AuralflowError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`; flush it and rename it to `path` if the body succeeds.

    If the body raises, the scratch file is removed and whatever stood at `path` is untouched.

    Raises:
        AuralflowError: The folder cannot be written or the disk is full.
    """
    scratch = _scratch_name(path)
    made = [folder for folder in path.parents if not folder.exists()]
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            _flush(scratch)
            os.replace(scratch, path)
            _flush(path.parent)
        except BaseException:
            with suppress(OSError):
                scratch.unlink()
            # Folders that were made for this file alone go too; one that holds something else refuses to.
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
            raise


@contextmanager
def atomic_folder(path: Path, *, is_flushed: bool = True) -> Iterator[Path]:
    """Yield a scratch folder beside `path`; flush its files and rename it to `path` if the body succeeds.

    A folder that already stands at `path` is replaced.

    Args:
        path: The folder.
        is_flushed: Whether its files are on the disk before they are there by name. Without, a killed process does no
            harm, but a power failure may leave files that are too short: for what is checked and can be made again.

    Raises:
        AuralflowError: The parent folder cannot be written or the disk is full.
    """
    scratch = _scratch_name(path)
    with explain_os_errors(path):
        scratch.mkdir(parents=True)
        try:
            yield scratch
            for file in scratch.rglob("*") if is_flushed else ():
                if file.is_file():
                    _flush(file)
            _replace_folder(scratch, path)
            _flush(path.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8; what is none in the name of a file becomes escapes, which JSON knows."""
    with atomic_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8", errors="backslashreplace")


def json_text(data: Any) -> str:
    """Return data as strict JSON, which has neither NaN nor infinities: they become null."""
    return json.dumps(_without_nan(data), indent=2, ensure_ascii=False, allow_nan=False)


def _without_nan(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_without_nan(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _scratch_name(path: Path) -> Path:
    # Cut, so that with its additions a very long file name stays within the 255 bytes of a name.
    stem = path.name.encode(errors="surrogateescape")[:200].decode(errors="ignore")
    return path.with_name(f".{stem}.{uuid.uuid4().hex[:12]}.part")


def _replace_folder(scratch: Path, path: Path) -> None:
    if not path.exists():
        os.replace(scratch, path)
        return
    old = _scratch_name(path)
    os.replace(path, old)
    try:
        os.replace(scratch, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the body into an `AuralflowError` that says why `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise AuralflowError(f"cannot write {path}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    reasons = {
        errno.ENOSPC: "the disk is full; free some space or choose another place with --save",
        errno.EDQUOT: "your disk quota is used up; free some space or choose another place with --save",
        errno.EACCES: "you have no permission to write there; choose another place with --save",
        errno.EPERM: "you have no permission to write there; choose another place with --save",
        errno.EROFS: "the file system is read-only; choose another place with --save",
        errno.ENOTDIR: "a part of the path is a file, not a folder",
        errno.ENAMETOOLONG: "the name is too long for this file system",
    }
    return reasons.get(error.errno or 0, error.strerror or str(error))
