"""What a run will do, before it does anything: which song becomes which files, and what that takes."""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from auralflow_core.audio import STDIN, Tags, audio_info, read_tags
from auralflow_core.config import by_path
from auralflow_core.errors import AudioError, AuralflowError
from auralflow_core.separate.job import Job
from auralflow_core.separate.names import check_template, inside, stem_path
from auralflow_core.separate.report import DONE, Report, recipe_key, song_key
from auralflow_core.separate.song import Options, wanted_stems


@dataclass(frozen=True)
class Plan:
    """The songs of a command.

    Attributes:
        save: The folder of the stems and of the report.
        report: The report of earlier runs.
        settings: All that the stems depend on besides the songs.
        songs: All songs, as jobs.
        todo: Those that are not done yet.
    """

    save: Path
    report: Report
    settings: Mapping[str, Any]
    songs: tuple[Job, ...]
    todo: tuple[Job, ...]

    @property
    def key(self) -> str:
        """The key of the settings in the report."""
        return recipe_key(self.settings)

    @property
    def outputs(self) -> list[Path]:
        """The files of all stems of all songs."""
        return [path for job in self.songs for path in job.outputs.values()]

    @property
    def seconds(self) -> float:
        """Length of what is to be separated, as far as known."""
        return sum(job.duration for job in self.todo)

    def bytes_needed(self, at_once: int = 1) -> int:
        """Return about how much room the stems will take, with the scratch files of so many songs at once."""
        scratch = sorted((job.scratch_bytes for job in self.todo), reverse=True)[:at_once]
        return sum(job.bytes for job in self.todo) + sum(scratch)

    @property
    def bytes_free(self) -> int:
        """Return how much room there is."""
        there = next(folder for folder in (self.save.absolute(), *self.save.absolute().parents) if folder.is_dir())
        return shutil.disk_usage(there).free

    def check_room(self, at_once: int) -> None:
        """Refuse to begin what cannot fit.

        Raises:
            AuralflowError: The stems need more room than there is.
        """
        need, free = self.bytes_needed(at_once), self.bytes_free
        if need > free:
            raise AuralflowError(
                f"{self.save}: the stems of {in_songs(len(self.todo))} need about {in_bytes(need)}, and only "
                f"{in_bytes(free)} are free; free some space, choose another folder with --save, or a smaller --format"
            )

    def changes(self) -> dict[str, list[Path]]:
        """Return the settings that differ from those of earlier runs, as text, with the songs done anew for it."""
        found: dict[str, list[Path]] = {}
        for job in self.todo:
            record = self.report.songs.get(song_key(job.source))
            if record is None or record.state != DONE or record.recipe == job.recipe:
                continue
            before = by_path(self.report.recipes.get(record.recipe, {}).get("settings", {}))
            now = by_path(self.settings)
            differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            text = ", ".join(f"{name}: {before.get(name)} -> {now.get(name)}" for name in differing)
            found.setdefault(text, []).append(job.source)
        return found


def make_plan(
    songs: Sequence[Path],
    roots: Iterable[Path],
    save: Path,
    targets: Sequence[str],
    options: Options,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
    stdin: Path | None = None,
) -> Plan:
    """Plan the separation of songs.

    Args:
        songs: The songs; `STDIN` may be among them.
        roots: The folders they were found in.
        save: The folder of the stems.
        targets: The model's targets.
        options: What is written of each song.
        settings: All that the stems depend on besides the songs.
        overwrite: Whether to separate again what is done, and to replace files that no run recorded.
        stdin: The file that holds what came from standard input.

    Raises:
        AuralflowError: The report cannot be read, or a stem would replace a song or a file that no run recorded.
    """
    stems = wanted_stems(targets, options)
    report = Report.read(save)
    key = recipe_key(settings)
    files = {song: stdin if song == STDIN and stdin else song for song in songs}
    places = _places(files, roots, report, stems, options)
    jobs = [_looked_at(Job(song, file, save, places[song], options, key)) for song, file in files.items()]
    _check_apart(jobs)
    todo = [
        job for job in jobs if overwrite or not report.has(song_key(job.source), job.file, key, job.outputs.values())
    ]
    if not overwrite:
        _check_unknown(todo, report)
    return Plan(save, report, settings, tuple(jobs), tuple(todo))


def _places(
    jobs: Mapping[Path, Path], roots: Iterable[Path], report: Report, stems: Sequence[str], options: Options
) -> dict[Path, dict[str, Path]]:
    """Return the files of each song's stems; a song that the report knows keeps its own."""
    places = {song: known for song in jobs if (known := _known_place(report, song, stems, options))}
    new = {song: file for song, file in jobs.items() if song not in places}
    others = set(report.songs) - {song_key(song) for song in new}
    taken = [report.folder / output.path for song in others for output in report.songs[song].outputs]
    if options.name_template is not None:
        return {**places, **_named(new, report.folder, taken, stems, options, options.name_template)}
    for song, folder in plan_outputs(new, report.folder, roots, {path.parent for path in taken}).items():
        places[song] = {stem: folder / f"{stem}.{options.format.format}" for stem in stems}
    return places


def _known_place(report: Report, song: Path, stems: Sequence[str], options: Options) -> dict[str, Path]:
    """Return the files that an earlier run gave the stems of a song, if these would be called alike now."""
    record = report.songs.get(song_key(song))
    if record is None:
        return {}
    settings = by_path(report.recipes.get(record.recipe, {}).get("settings", {}))
    known = {output.stem: report.folder / output.path for output in record.outputs}
    has_suffix = all(path.suffix == f".{options.format.format}" for path in known.values())
    is_alike = settings.get("stems.name_template") == options.name_template and list(known) == list(stems)
    return known if has_suffix and is_alike else {}


def _named(
    songs: Mapping[Path, Path],
    root: Path,
    taken: Iterable[Path],
    stems: Sequence[str],
    options: Options,
    template: str,
) -> dict[Path, dict[str, Path]]:
    """Return the files of the stems by a template; those that would share a name are numbered."""
    check_template(template)
    used = {_folded(path) for path in taken}
    places: dict[Path, dict[str, Path]] = {}
    for song, file in songs.items():
        tags = _tags(file)
        paths = {stem: stem_path(template, song, tags, stem=stem, ext=options.format.format) for stem in stems}
        for number in itertools.count(1):
            numbered = {stem: inside(root, _numbered(path, number)) for stem, path in paths.items()}
            names = {_folded(path) for path in numbered.values()}
            if not names & used:
                break
        used |= names
        places[song] = numbered
    return places


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem} ({number}){path.suffix}")


def _tags(file: Path) -> Tags:
    try:
        return read_tags(file)
    except OSError:
        return Tags()  # its turn will come, and its failure be reported then


def in_bytes(count: float) -> str:
    """Return a number of bytes as `1.2 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def in_songs(count: int) -> str:
    """Return a number of songs as `1 song` or `2 songs`."""
    return f"{count} song" if count == 1 else f"{count} songs"


def _looked_at(job: Job) -> Job:
    """Return a job with what its song holds, or why it will fail when its turn comes."""
    try:
        info = audio_info(job.file)
        job = replace(job, info=info)
        job.options.format.check(info.sample_rate, info.channels)
    except AuralflowError as error:
        return replace(job, fault=str(error))
    return job


def _check_apart(jobs: Iterable[Job]) -> None:
    """Refuse to write over the songs themselves."""
    songs = {os.path.realpath(job.file) for job in jobs}
    for job in jobs:
        for path in job.outputs.values():
            if os.path.realpath(path) in songs:
                raise AudioError(f"{path}: is one of the songs, and a stem would replace it; choose another --save")


def _check_unknown(jobs: Iterable[Job], report: Report) -> None:
    """Refuse to write over files of someone else."""
    ours = {report.folder / path for path in report.files() | report.earlier}
    strange = [path for job in jobs for path in job.outputs.values() if path.exists() and path not in ours]
    if strange:
        others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise AuralflowError(
            f"{strange[0]}{others}: is there already, but in no report of `auralflow separate`; choose another --save, "
            "or replace it with --overwrite"
        )


def plan_outputs(
    songs: Iterable[Path], root: Path, roots: Iterable[Path] = (), taken: Iterable[Path] = ()
) -> dict[Path, Path]:
    """Return the folder that each song's stems go to: `root/<song>/`, below the folders that were walked.

    No two songs share a folder, on file systems that fold case too: songs that differ in their suffix alone keep it
    in the folder's name, and what is alike even then, or `taken` by songs of other runs, is numbered.
    """
    walked = [folder for folder in roots if folder.is_dir()]
    inside = {song: _relative(song, walked) for song in songs}
    short = Counter(_folded(path.with_suffix("")) for path in inside.values())
    plan: dict[Path, Path] = {}
    used = {_folded(folder) for folder in taken}
    for song, path in inside.items():
        name = path if short[_folded(path.with_suffix(""))] > 1 else path.with_suffix("")
        folder, number = name, 1
        while _folded(root / folder) in used:
            number += 1
            folder = name.with_name(f"{name.name} ({number})")
        used.add(_folded(root / folder))
        plan[song] = root / folder
    return plan


def _folded(path: Path) -> str:
    return str(path).casefold()


def _relative(song: Path, folders: list[Path]) -> Path:
    for folder in folders:
        if song.is_relative_to(folder):
            return song.relative_to(folder)
    return Path("standard input" if song == STDIN else song.name)
