"""Archives of weights, unpacked without trust."""

from __future__ import annotations

import tarfile
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO

from auralflow_core.errors import AuralflowError, CheckpointError
from auralflow_core.files import atomic_folder

SUFFIXES = (".tar.gz", ".tgz", ".tar")

# Far above what weights compress to, far below the thousandfold of a bomb.
_MAX_RATIO = 10
_BLOCK = 1 << 20
_MAX_MEMBERS = 10_000


def unpacked_path(path: Path) -> Path | None:
    """Return the folder that an archive is unpacked to; `None` if the file is no archive by its name."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return path.with_name(path.name.removesuffix(suffix))
    return None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a folder that appears when it is whole; only plain files and folders are accepted.

    Raises:
        CheckpointError: The archive is damaged, names a path outside of the folder, holds a link or a device, or
            would grow to more than ten times its size.
    """
    if not hasattr(tarfile, "data_filter"):
        raise CheckpointError(f"{archive}: this Python cannot unpack safely; use 3.10.12, 3.11.4 or newer")
    try:
        with archive.open("rb") if _is_plain(archive) else GzipFile(archive) as file:
            _check_size(file, archive)
        with _opened(archive) as tar:
            members = _checked_members(tar, archive)
            with atomic_folder(folder) as scratch:
                tar.extractall(scratch, members, filter="data")
    except AuralflowError:
        raise
    # tarfile stumbles over damage in any way, from EOFError to ValueError.
    except Exception as error:
        raise CheckpointError(
            f"{archive}: cannot be unpacked ({error}); download it again with `auralflow download NAME --force`, or "
            "tell the plugin's author"
        ) from error


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether a folder holds the files of an archive, byte by byte, and no others."""
    if not folder.is_dir():
        return False
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    try:
        with _opened(archive) as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                name = PurePosixPath(member.name.lstrip("/")).as_posix()
                if name not in found or not _has_bytes(folder / name, tar.extractfile(member)):
                    return False
                found.discard(name)
    # What is wrong with the archive is told when it is unpacked.
    except Exception:
        return False
    return not found


def _has_bytes(path: Path, stored: IO[bytes] | None) -> bool:
    assert stored is not None  # it is of a plain file
    with path.open("rb") as file:
        while block := stored.read(_BLOCK):
            if file.read(len(block)) != block:
                return False
        return not file.read(1)


def _is_plain(archive: Path) -> bool:
    return archive.name.endswith(".tar")


def _opened(archive: Path) -> tarfile.TarFile:
    return tarfile.open(archive, "r:" if _is_plain(archive) else "r:gz")


def _check_size(file: GzipFile | BufferedReader, archive: Path) -> None:
    """Refuse an archive that is far larger than its file, whatever in it makes it so: headers may be, too."""
    left = (1 << 20) + _MAX_RATIO * archive.stat().st_size
    while block := file.read(_BLOCK):
        left -= len(block)
        if left < 0:
            raise CheckpointError(f"{archive}: holds far more than its own size; tell the plugin's author")


def _checked_members(tar: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    size = 0
    for member in tar:
        if not (member.isfile() or member.isdir()):
            raise CheckpointError(f"{archive}: holds {member.name!r}, which is no plain file; tell the plugin's author")
        members.append(member)
        size += member.size  # of a sparse file it is not what is stored
        if len(members) > _MAX_MEMBERS or size > (1 << 20) + _MAX_RATIO * archive.stat().st_size:
            raise CheckpointError(f"{archive}: holds far more than its own size; tell the plugin's author")
    return members
