"""All checks in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from auralflow_core.config import Config, load_config, validate
from auralflow_core.data.splits import existing
from auralflow_core.doctor.finding import CHECKS, SEVERITIES, Finding, Severity
from auralflow_core.doctor.inventory import MIXTURE, Candidate, list_songs
from auralflow_core.doctor.loading import check_disk_speed, check_loader
from auralflow_core.doctor.machine import check_disk, check_plugins, check_torch
from auralflow_core.doctor.measure import Facts, measure
from auralflow_core.doctor.opening import all_stems, check_opening, refused
from auralflow_core.doctor.songs import (
    check_channels,
    check_clipping,
    check_duplicates,
    check_files,
    check_format,
    check_mono,
    check_offset,
    check_rate,
    check_silence,
    check_stems,
    check_sums,
    check_targets,
    check_usual,
    unreadable,
)
from auralflow_core.doctor.trial import check_memory, check_overfit, run_trial
from auralflow_core.errors import AudioError, AuralflowError, ConfigError, did_you_mean
from auralflow_core.registry import Registry, default_registry

Advance = Callable[[int, int], None]
QUICK_SONGS = 40
"""How many songs `quick` reads the stems of."""

_TRIAL_SECONDS, _QUICK_TRIAL_SECONDS = 30.0, 5.0
_OF_ONE_SONG = (check_sums, check_silence, check_clipping, check_offset, check_mono)
_MEASURED = {"sums", "silence", "clipping", "offset", "mono", "duplicates", "files"}
_TRIED = {"memory", "overfit", "loader"}
_UNTRIED = Finding(
    "overfit", "info", "not tried, since training would refuse the songs", "model", next_step="mend the errors first"
)


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        songs: How many songs were looked at.
        without_stems: How many of them had no more read than headers and mixture, as `quick` does with many.
        findings: The worst first, then in the order of `CHECKS`.
    """

    songs: int
    without_stems: int
    findings: list[Finding]

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def examine(
    data: Path,
    model: Path | None = None,
    *,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    quick: bool = False,
    jobs: int | None = None,
    registry: Registry | None = None,
    advance: Advance = lambda done, total: None,
) -> Report:
    """Look for what is wrong with a data set, a model and the machine.

    Args:
        data: The data set's folder.
        model: The folder of a model that is to be trained with it; checks of `MODEL_CHECKS` need one.
        only: Names of the checks to make; by default all.
        skip: Names of checks to leave out.
        quick: Look at parts of each song, at the stems of some only, and train for a few seconds.
        jobs: Songs that are read at the same time; by default one for each core, at most eight.
        registry: The registry; by default that of the installed plugins.
        advance: Called with the number of songs that are read, and of all.

    Raises:
        ConfigError: A check's name is unknown, or the model folder is not usable.
        DataError: The data set's folder is missing.
    """
    checks = _chosen(only, skip)
    registry = registry or default_registry()
    config = load_config(model) if model else validate(Config, {"model": {"type": "none"}})
    songs, findings = _of_lists(existing(data), config, registry, checks, has_model=model is not None)
    checks = _wanted(checks, songs)
    whole = [song for song in songs if song.is_whole]
    # What cannot be opened cannot be tried; it would be refused once more.
    is_refused = any(finding.severity == "error" and finding.where.split("/")[0] != "test" for finding in findings)
    without_stems = 0
    if checks & _MEASURED:
        depths = _depths(len(whole), quick)
        without_stems = depths.count(False)
        findings += _of_audio(whole, depths, quick, jobs or min(8, os.cpu_count() or 1), advance)
    if model:
        findings += check_disk(model)
        if checks & _TRIED:
            seconds = _QUICK_TRIAL_SECONDS if quick else _TRIAL_SECONDS
            findings += [_UNTRIED] if is_refused else _of_trial(config, data, seconds)
    findings += [*check_plugins(registry), *(check_torch() if "torch" in checks else ())]
    kept = [finding for finding in findings if finding.check in checks]
    kept.sort(key=lambda it: (SEVERITIES.index(it.severity), CHECKS.index(it.check)))
    return Report(len(songs), without_stems, kept)


def _chosen(only: Collection[str], skip: Collection[str]) -> set[str]:
    for name in (*only, *skip):
        if name not in CHECKS:
            raise ConfigError(f"{name}: no such check{did_you_mean(name, CHECKS)} (known are {', '.join(CHECKS)})")
    return set(only or CHECKS) - set(skip)


def _wanted(checks: set[str], songs: Sequence[Candidate]) -> set[str]:
    """Return the checks to make; where no songs could be listed it is said why, whatever was asked for."""
    return checks if songs else {*checks, "files", "opening"}


def _of_lists(
    data: Path, config: Config, registry: Registry, checks: set[str], *, has_model: bool
) -> tuple[list[Candidate], list[Finding]]:
    """Return the songs, and what their names and headers say of them."""
    try:
        songs, refusals = list_songs(data, config, registry)
    except AuralflowError as error:
        return [], [refused("data", error)]
    found = list({it.what: refused(it.where, AuralflowError(it.what)) for it in reversed(refusals)}.values())
    whole = [song for song in songs if song.is_whole]
    for song in songs:
        found += [*check_files(song), *check_format(song)]
    if has_model:
        found += [*check_stems(songs, config.dataset.targets), *check_targets(songs, config.dataset)]
        found += check_rate(whole, config.dataset)
    else:
        found += [*check_stems(songs), *check_usual(whole)]
        config = all_stems(config, songs)
    wanted = _wanted(checks, songs)
    found = [finding for finding in found if finding.check in wanted]
    if wanted & {"files", "opening"}:
        found += check_opening(data, config, registry, songs, found)
    return songs, [finding for finding in found if finding.check in wanted]


def _depths(count: int, quick: bool) -> list[bool]:
    """Return for each song whether its stems are read: all, or as many as `quick` looks at, evenly spread."""
    if not quick or count <= QUICK_SONGS:
        return [True] * count
    chosen = {number * count // QUICK_SONGS for number in range(QUICK_SONGS)}
    return [number in chosen for number in range(count)]


def _of_audio(
    songs: Sequence[Candidate], depths: Sequence[bool], quick: bool, jobs: int, advance: Advance
) -> Iterator[Finding]:
    """Check what the songs sound like; threads suffice, since decoding and numpy let go of the interpreter."""

    def look(song: Candidate, with_stems: bool) -> Facts | Finding | None:
        if not with_stems and MIXTURE not in song.sources:
            return None
        try:
            return measure(song, quick=quick, with_stems=with_stems)
        except AudioError as error:
            return unreadable(song, error)

    measured: list[Facts] = []
    with ThreadPoolExecutor(jobs) as pool:
        for number, facts in enumerate(pool.map(look, songs, depths), start=1):
            advance(number, len(songs))
            if isinstance(facts, Finding):
                yield facts
            elif facts:
                measured.append(facts)
                for check in _OF_ONE_SONG:
                    yield from check(facts)
    yield from check_channels(measured)
    yield from check_duplicates(measured)


def _of_trial(config: Config, data: Path, seconds: float) -> Iterator[Finding]:
    from auralflow_core.trainer.memory import physical_memory

    trial = run_trial(config, data, seconds)
    if isinstance(trial, Finding):
        yield trial
        return
    yield from check_memory(trial, config.training.num_workers)
    yield from check_overfit(trial)
    yield from check_loader(trial.loading, trial.step_seconds, config.training)
    yield from check_disk_speed(trial.loading, trial.step_seconds, config.training, physical_memory())
