"""The folder of downloaded weights.

weights/
  b62c91ce/                               the first digits of the file's SHA-256, as registered
    vocals-b62c91ce.pth
    vocals-b62c91ce.pth.sha256            its full digest when it was first seen: every later copy must have it
    vocals-b62c91ce.pth.part              what has arrived of a download
    vocals-b62c91ce.pth.lock              held by the process that downloads
  3adb4a50/
    4stems.tar.gz, 4stems.tar.gz.sha256
    4stems/                               the archive's contents
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from auralflow_core.entries import WeightsEntry
from auralflow_core.errors import CheckpointError
from auralflow_core.weights.archive import is_unpacked, unpack, unpacked_path
from auralflow_core.weights.cache import cache_folder
from auralflow_core.weights.digest import read_pin, sha256_of, write_pin
from auralflow_core.weights.download import Patience, cannot_write, discard, download
from auralflow_core.weights.listener import Listener, LogListener

SHORT = 8
"""Digits of a SHA-256 that name a folder of the store; the least that a plugin has to register."""

MIRROR = "AURALFLOW_WEIGHTS_MIRROR"
_BLOCK = 1 << 20


class WeightsStore:
    """Public weights on this machine.

    Args:
        folder: Where they lie; by default `weights/` in the cache folder.
        mirror: A folder or a URL below which the files are looked for instead of at their registered places; by
            default the environment variable `AURALFLOW_WEIGHTS_MIRROR`.
        listener: Is told how downloads go; by default the log.
        patience: How often and how long a server is tried.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        mirror: str | None = None,
        listener: Listener | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.folder = folder or cache_folder() / "weights"
        self._mirror = mirror or os.environ.get(MIRROR)
        self._listener = listener or LogListener()
        self._patience = patience or Patience()

    def path(self, entry: WeightsEntry, file: str) -> Path:
        """Return where a file of some weights lies once it is downloaded."""
        return self.folder / entry.sha256[file][:SHORT] / file

    def missing(self, entry: WeightsEntry) -> list[str]:
        """Return the files of some weights that are not downloaded."""
        return [file for file in entry.files if not self.path(entry, file).is_file()]

    def size(self, entry: WeightsEntry) -> int | None:
        """Return the bytes that some weights take, or `None` while a file is not downloaded."""
        if self.missing(entry):
            return None
        return sum(self.path(entry, file).stat().st_size for file in entry.files)

    def digests(self, entry: WeightsEntry) -> dict[str, str]:
        """Return the full SHA-256 of each file, as far as it is known."""
        return {file: self._expected(entry, file) for file in entry.files}

    def fetch(self, entry: WeightsEntry, *, force: bool = False) -> dict[str, Path]:
        """Return the checked files of some weights by name; those that are missing are downloaded.

        Args:
            entry: The registered weights.
            force: Download what is there already, too. The copies that are there give way to whole, checked ones.

        Returns:
            The path of each file; for an archive, the folder of its contents.

        Raises:
            CheckpointError: A file cannot be downloaded, is not the registered one, or cannot be written.
        """
        wanted = list(entry.files) if force else self.missing(entry)
        if wanted:
            self._listener.on_start(entry, wanted)
        paths: dict[str, Path] = {}
        for file in entry.files:
            if file in wanted:
                self._bring(entry, file, force)
            paths[file] = self._checked(entry, file)
        return paths

    def _bring(self, entry: WeightsEntry, file: str, force: bool) -> None:
        path = self.path(entry, file)
        with self._locked(path):
            # Another process may have brought it in the meantime.
            if not force and path.is_file():
                return
            part = path.with_name(f"{file}.part")
            digest = self._transfer_matching(entry, file, part)
            try:
                _flush(part)
                write_pin(path, digest)
                if folder := unpacked_path(path):
                    shutil.rmtree(folder, ignore_errors=True)
                part.replace(path)
            except OSError as error:
                raise cannot_write(path, error) from error
            discard(part)

    def _transfer_matching(self, entry: WeightsEntry, file: str, part: Path) -> str:
        """Bring a file into `part` and return its digest; a wrong file is refused and nothing of it kept."""
        expected, source = self._expected(entry, file), self._source(entry, file)
        is_begun = part.is_file()
        if not (is_begun and sha256_of(part).startswith(expected)):
            self._transfer(source, file, part)
        if is_begun and not sha256_of(part).startswith(expected):
            # What was there was a bad beginning: once more from the start.
            discard(part)
            self._transfer(source, file, part)
        digest = sha256_of(part)
        if digest.startswith(expected):
            return digest
        hint = _hint(part)
        discard(part)
        raise CheckpointError(
            f"{source}: is not the registered file {file} of {entry.name}: its SHA-256 is {digest} where "
            f"{expected}{'...' if len(expected) < 64 else ''} is expected; {hint}; nothing of it was kept"
        )

    def _transfer(self, source: str | Path, file: str, part: Path) -> None:
        if isinstance(source, Path):
            self._copy(source, file, part)
            return
        download(
            source,
            part,
            patience=self._patience,
            progress=lambda done, total: self._listener.on_progress(file, done, total),
            retry=lambda reason, seconds: self._listener.on_retry(file, reason, seconds),
        )

    def _copy(self, source: Path, file: str, part: Path) -> None:
        total = source.stat().st_size
        try:
            with source.open("rb") as original, part.open("wb") as copy:
                while block := original.read(_BLOCK):
                    copy.write(block)
                    self._listener.on_progress(file, copy.tell(), total)
        except OSError as error:
            discard(part)
            raise cannot_write(part, error) from error

    def _source(self, entry: WeightsEntry, file: str) -> str | Path:
        """Return where a file is taken from: a URL or a path."""
        if not self._mirror:
            return entry.files[file]
        if "://" in self._mirror:
            return f"{self._mirror.rstrip('/')}/{quote(file)}"
        root = Path(self._mirror).expanduser()
        # A mirror may be another machine's store.
        for candidate in (root / file, root / entry.sha256[file][:SHORT] / file):
            if candidate.is_file():
                return candidate
        raise CheckpointError(
            f"{root}: holds no {file}, which {entry.name} needs; download {entry.files[file]} on a machine that can, "
            "put it there, and run the command again"
        )

    def _checked(self, entry: WeightsEntry, file: str) -> Path:
        """Return the path of a file whose digest is as it was registered and first seen."""
        path, expected = self.path(entry, file), self._expected(entry, file)
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
        if not digest.startswith(expected):
            raise CheckpointError(
                f"{path}: is damaged or not the registered file: its SHA-256 is {digest} and not {expected}; replace "
                f"it with `auralflow download {entry.name} --force`"
            )
        if read_pin(path) is None:
            # Put there by hand, perhaps by someone who alone may write there: then it is checked as registered.
            with suppress(OSError):
                write_pin(path, digest)
        folder = unpacked_path(path)
        if folder is None:
            return path
        if not is_unpacked(path, folder):
            with self._locked(path):
                # Another process may have mended it in the meantime.
                if not is_unpacked(path, folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    unpack(path, folder)
        return folder

    def _expected(self, entry: WeightsEntry, file: str) -> str:
        """Return the digest that a file must have: in full where it is registered so, or was seen once."""
        stated = entry.sha256[file]
        pinned = read_pin(self.path(entry, file))
        return pinned if pinned and pinned.startswith(stated) else stated

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Keep other processes from downloading the same file."""
        from filelock import FileLock, Timeout

        lock = FileLock(f"{path}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self._listener.on_wait(path.name)
                lock.acquire()
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            yield
        finally:
            lock.release()


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _hint(part: Path) -> str:
    with part.open("rb") as file:
        start = file.read(256).lstrip()
    if start[:1] == b"<":
        return "it is a web page, so a login or a proxy stands in between"
    return "it was cut, changed or damaged on the way, so try again or another place with `--from DIR|URL`"
