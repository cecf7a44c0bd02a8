"""`report.json`: what became of each song that was separated into a folder.

The file is written whole, so a run that is killed leaves the truth about what it finished. One run at a time writes to
a folder; the lock is the kernel's, which lets go of it however the process ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from auralflow_core.audio import STDIN
from auralflow_core.errors import AuralflowError
from auralflow_core.files import explain_os_errors, write_text

REPORT_NAME = "report.json"
LOCK_NAME = ".auralflow-separate.lock"
FORMAT_VERSION = 1

WAITING, DONE, FAILED = "waiting", "done", "failed"

# The scratch names of `auralflow_core.files`, whose first part is the beginning of the final name.
_SCRATCH = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.part", re.DOTALL)


@dataclass(frozen=True)
class Output:
    """A stem that was written: its path from the folder of the report, its size and its SHA-256."""

    stem: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Input:
    """A song as it was when it was separated; the time of its last change is in nanoseconds."""

    bytes: int
    mtime_ns: int
    sha256: str

    @staticmethod
    def of(path: Path) -> Input:
        """Return the facts of a file."""
        stat = path.stat()
        return Input(stat.st_size, stat.st_mtime_ns, sha256_of(path))

    def is_still(self, path: Path) -> bool:
        """Return whether the file has not changed; one that was only touched or copied has not."""
        try:
            stat = path.stat()
            if stat.st_size != self.bytes:
                return False
            return stat.st_mtime_ns == self.mtime_ns or sha256_of(path) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True)
class SongRecord:
    """A song in the report.

    Attributes:
        path: The absolute path of the song.
        state: `waiting`, `done` or `failed`.
        recipe: Key of the settings it is separated with, in the report's `recipes`.
        outputs: Its stems; of a waiting song those that are to be written, with size 0.
        input: The song as it was.
        sample_rate: In Hz.
        channels: Samples per frame.
        duration: Length of the stems in seconds.
        seconds: Time that the separation took.
        speed: `duration / seconds`.
        gain: The factor that all stems were multiplied by so that none clips.
        clipped: Samples that were cut to full scale.
        notes: What else happened, such as a change to the CPU.
        error: Why it failed.
        traceback: Where a fault of the program itself happened.
    """

    path: str
    state: str
    recipe: str
    outputs: tuple[Output, ...] = ()
    input: Input | None = None
    sample_rate: int | None = None
    channels: int | None = None
    duration: float | None = None
    seconds: float | None = None
    speed: float | None = None
    gain: float | None = None
    clipped: int | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    traceback: str | None = None

    @staticmethod
    def parsed(data: Mapping[str, Any]) -> SongRecord:
        """Return the record that `facts` was made of."""
        outputs = tuple(Output(**output) for output in data.get("outputs", ()))
        source = Input(**data["input"]) if data.get("input") else None
        return SongRecord(**{**data, "outputs": outputs, "input": source, "notes": tuple(data.get("notes", ()))})

    def facts(self) -> dict[str, Any]:
        """Return what is known as data for JSON."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}


@dataclass
class Report:
    """The report of a folder.

    Attributes:
        folder: Where the stems and `report.json` lie.
        recipes: The settings that songs were separated with, by their key.
        songs: The records, by the absolute path of the song.
        earlier: Files of earlier runs that no record names any more, by their paths from the folder.
    """

    folder: Path
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    songs: dict[str, SongRecord] = field(default_factory=dict)
    earlier: set[str] = field(default_factory=set)

    @staticmethod
    def read(folder: Path) -> Report:
        """Return the report of a folder; an empty one where there is none.

        Raises:
            AuralflowError: `report.json` is something else, damaged, or of a newer version.
        """
        path = folder / REPORT_NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            version = int(data["format_version"])
            if version > FORMAT_VERSION:
                raise AuralflowError(
                    f"{path}: has format version {version}, above {FORMAT_VERSION}, the newest this auralflow reads; "
                    "`pip install --upgrade auralflow`, or choose another folder with --save"
                )
            songs = [SongRecord.parsed(song) for song in data["songs"]]
            recipes, earlier = dict(data["recipes"]), set(data["earlier_files"])
            return Report(folder, recipes, {song.path: song for song in songs}, earlier)
        except (FileNotFoundError, NotADirectoryError):
            return Report(folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AuralflowError(
                f"{path}: is not a report of `auralflow separate`, or damaged ({type(error).__name__}: {error}); move "
                "it away or choose another folder with --save"
            ) from error

    def write(self) -> None:
        """Write the report, whole, songs in the order of their paths."""
        used = {song.recipe for song in self.songs.values()}
        data = {
            "format_version": FORMAT_VERSION,
            "recipes": {key: recipe for key, recipe in sorted(self.recipes.items()) if key in used},
            "songs": [song.facts() for _, song in sorted(self.songs.items())],
            "earlier_files": sorted(self.earlier - self.files()),
        }
        # File names need not be Unicode: their odd bytes are surrogates here, whose escapes JSON has too.
        text = json.dumps(data, indent=2, ensure_ascii=False).encode("utf-8", errors="backslashreplace")
        write_text(self.folder / REPORT_NAME, text.decode() + "\n")

    def files(self) -> set[str]:
        """Return the files that the records name, by their paths from the folder."""
        return {output.path for song in self.songs.values() for output in song.outputs}

    def begin(self, records: Iterable[SongRecord]) -> None:
        """Set the records of songs that are to be separated."""
        self.earlier |= self.files()
        self.songs.update({record.path: record for record in records})
        # What fails half-way may leave a file too.
        self.earlier |= self.files()

    def has(self, key: str, file: Path, recipe: str, outputs: Iterable[Path]) -> bool:
        """Return whether a song is done: the same file with the same settings, and all its stems are there."""
        record = self.songs.get(key)
        if record is None or record.state != DONE or record.recipe != recipe or record.input is None:
            return False
        if [self.folder / output.path for output in record.outputs] != list(outputs):
            return False
        return all(self._is_whole(output) for output in record.outputs) and record.input.is_still(file)

    def _is_whole(self, output: Output) -> bool:
        try:
            return (self.folder / output.path).stat().st_size == output.bytes
        except OSError:
            return False

    def remove_scratch(self, outputs: Iterable[Path]) -> None:
        """Remove what killed runs left of these files, of those in the report and of the report itself."""
        known = [self.folder / path for path in self.files()]
        names: dict[Path, set[str]] = {}
        for path in (*outputs, *known, self.folder / REPORT_NAME):
            names.setdefault(path.parent, set()).add(path.name)
        for folder, final in names.items():
            with suppress(OSError):
                for path in list(folder.iterdir()):
                    match = _SCRATCH.fullmatch(path.name)
                    if match and any(name.startswith(match["name"]) for name in final):
                        path.unlink()


def has_report(folder: Path) -> bool:
    """Return whether a folder is one of stems."""
    try:
        return (folder / REPORT_NAME).is_file() and bool(Report.read(folder).songs)
    except (OSError, AuralflowError):
        return False


def song_key(source: Path) -> str:
    """Return the name by which the report knows a song."""
    if source == STDIN:
        return str(STDIN)
    return os.path.abspath(source)  # noqa: PTH100 - `resolve` would follow links, and a link may be renewed


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """Return a short key that changes with any of the settings."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one run.

    The lock goes with the process, so a killed one leaves none.

    Raises:
        AuralflowError: Another run has it, or the folder cannot be written.
    """
    path = folder / LOCK_NAME
    made = [parent for parent in path.parents if not parent.exists()]
    with explain_os_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise AuralflowError(f"{folder}: is a file, not a folder; choose another place with --save")
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked_file(path)
    if file is None:
        raise AuralflowError(
            f"{folder}: another `auralflow separate` is writing to this folder; wait until it has ended, or choose "
            "another folder with --save"
        )
    with file:
        try:
            yield
        finally:
            # While the lock is held: whoever waits for this file sees that it is gone.
            with suppress(OSError):
                path.unlink()
                # Folders that nothing came into; one that holds something refuses to go.
                for parent in made:
                    parent.rmdir()


def _locked_file(path: Path) -> IO[bytes] | None:
    """Return the open file with its lock, or None if another process has it."""
    while True:
        file = path.open("ab")
        if not _lock(file):
            file.close()
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        # Removed by the run that held it, between opening and locking.
        file.close()


def _lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
