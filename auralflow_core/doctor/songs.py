"""Checks of songs: each is given songs, or what was measured of one, and returns what it found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from auralflow_core.audio import AudioInfo, can_match_channels
from auralflow_core.config import DatasetConfig
from auralflow_core.data.folder import MIXTURE_NAMES, stem_files
from auralflow_core.doctor.finding import Finding, Severity
from auralflow_core.doctor.fingerprint import ALIKE, alike
from auralflow_core.doctor.inventory import MIXTURE, Candidate
from auralflow_core.doctor.measure import Facts
from auralflow_core.errors import AudioError, did_you_mean

SUM_LIMIT = -30.0
"""Level in dB, against the mixture, from which what the stems leave is no rounding."""

OFFSET_LIMIT = 0.02
"""Mean of a channel from which it is no music."""

_OFFSET_SHARE = 0.05
QUIET_SHARE = 0.9
"""Share of a stem below -70 dB from which that is said."""

_CLIP_RUN = 4
_MOST_NAMES = 3
_MONO = 1e-5


def check_files(song: Candidate) -> Iterator[Finding]:
    """Files that cannot be opened, or hold nothing."""
    for info in song.infos.values():
        if isinstance(info, AudioError):
            yield unreadable(song, info)
    empty = [name for name, info in song.infos.items() if isinstance(info, AudioInfo) and info.frames == 0]
    if empty:
        yield Finding(
            "files", "error", "files without samples", song.where, ", ".join(empty), cause="an export that failed",
            next_step="export it again or remove the song",
        )  # fmt: skip
    if not song.stems:
        yield Finding(
            "files", "error", "a mixture without stems", song.where, cause="a song that is not separated",
            next_step="add its stems or remove the song",
        )  # fmt: skip


def unreadable(song: Candidate, error: AudioError) -> Finding:
    """Return the finding for a file that is missing, truncated or no audio."""
    cause = "a copy or download that broke off, or no audio file"
    return Finding.of_error("files", song.where, error, cause=cause)


def check_doubles(song: Candidate) -> Iterator[Finding]:
    """Stems of which a song's folder holds several files; training refuses to choose one."""
    files: dict[str, list[str]] = {}
    for path in stem_files(next(iter(song.files.values())).parent):
        files.setdefault(MIXTURE if path.stem.lower() in MIXTURE_NAMES else path.stem, []).append(path.name)
    for name, names in files.items():
        if len(names) > 1:
            often = "twice" if len(names) == 2 else f"{len(names)} times"
            yield Finding(
                "files", "error", f"{name} is there {often}", song.where, ", ".join(names), "one file",
                "a stem that was converted or exported again", "remove all but one",
            )  # fmt: skip


def check_format(song: Candidate) -> Iterator[Finding]:
    """Files of one song that differ in rate, channel count or length."""
    infos = {name: info for name, info in song.infos.items() if isinstance(info, AudioInfo)}
    wide = {name: info for name, info in infos.items() if info.channels > 1}
    for name in [name for name in infos if wide and name not in wide]:
        yield Finding(
            "format", "warning", f"{name} is mono, unlike the song's other files", song.where, "1 channel",
            f"{max(info.channels for info in wide.values())} channels", "an export of one channel alone",
            "nothing if it is to be in the middle; otherwise export it again",
        )  # fmt: skip
    yield from _differing(song, infos, "sample_rate", "sample rate", "Hz")
    yield from _differing(song, wide, "channels", "number of channels", "channels")
    yield from _differing(song, infos, "frames", "length", "samples")


def _differing(song: Candidate, infos: Mapping[str, AudioInfo], fact: str, what: str, unit: str) -> Iterator[Finding]:
    values = [getattr(info, fact) for info in infos.values()]
    usual = max(values, key=values.count, default=None)
    for name, value in zip(infos, values, strict=True):
        if value != usual:
            yield Finding(
                "format", "error", f"{name} differs from the song's other files in its {what}", song.where,
                f"{value} {unit}", f"{usual} {unit}", "stems that were exported separately",
                "export the song's stems again from one project",
            )  # fmt: skip


def check_stems(songs: Sequence[Candidate], targets: Collection[str] = ()) -> Iterator[Finding]:
    """Songs without a stem that most songs have; of the model's targets `check_targets` tells."""
    songs = [song for song in songs if song.stems and not song.is_loose]
    for stem in sorted({stem for song in songs for stem in song.stems}.difference(targets)):
        lacking = [song for song in songs if stem not in song.stems]
        if 0 < len(lacking) < len(songs) / 2:
            for song in lacking:
                yield Finding(
                    "stems", "warning", f"has no {stem}, unlike {len(songs) - len(lacking)} other songs", song.where,
                    ", ".join(song.stems), stem, "a missing or misspelt file" + did_you_mean(stem, song.stems),
                    "add or rename the file",
                )  # fmt: skip


def check_targets(songs: Sequence[Candidate], config: DatasetConfig) -> Iterator[Finding]:
    """Songs without a target of the model."""
    refuses = config.sampling.missing_stems == "refuse"
    needed = {"train": refuses and config.sampling.stems != "independent", "valid": refuses, "test": True}
    for song in songs:
        for target in config.targets if song.stems and not song.is_loose else ():
            if target not in song.stems:
                is_needed = needed[song.split]
                yield Finding(
                    "targets", "error" if is_needed else "info", f"has no {target}, which the model is to estimate",
                    song.where, ", ".join(song.stems), target,
                    "another set of stems" + did_you_mean(target, song.stems),
                    "add the file, or change `targets`" if is_needed else "nothing: `sampling` takes such songs too",
                )  # fmt: skip


def check_usual(songs: Sequence[Candidate]) -> Iterator[Finding]:
    """Songs whose rate or channel count is not that of most songs."""
    for place, what, unit, next_step in (
        (0, "sample rate", "Hz", "convert it: every chunk of it would be resampled, which is slow"),
        (1, "number of channels", "channel(s)", "convert it, or leave it out by `other_channels`"),
    ):
        counts = Counter(song.shape[place] for song in songs)
        usual = max(counts, key=counts.__getitem__, default=0)
        for song in songs:
            if (value := song.shape[place]) != usual:
                yield Finding(
                    "format", "warning", f"has another {what} than most songs", song.where, f"{value} {unit}",
                    f"{usual} {unit}", "a song from another source", next_step,
                )  # fmt: skip


def check_rate(songs: Sequence[Candidate], config: DatasetConfig) -> Iterator[Finding]:
    """Songs whose rate or channel count is not the model's."""
    for rate in sorted({song.shape[0] for song in songs} - {config.sample_rate}):
        others = [song for song in songs if song.shape[0] == rate]
        is_out = config.other_rates == "discard"
        yield Finding(
            "rate", "info" if is_out else "warning",
            f"{len(others)} of {len(songs)} songs have another sample rate than the model", _named(others),
            f"{rate} Hz", f"{config.sample_rate} Hz", "a model configured for other songs",
            "nothing: training leaves them out, other_rates is discard" if is_out else
            f"every chunk is resampled, which is slow: set sample_rate to {rate}, or convert the songs",
        )  # fmt: skip
    for channels in sorted({song.shape[1] for song in songs} - {config.num_channels}):
        others = [song for song in songs if song.shape[1] == channels]
        is_out = config.other_channels == "discard"
        if is_out or can_match_channels(channels, config.num_channels):
            yield Finding(
                "rate", "info", f"{len(others)} of {len(songs)} songs have another number of channels than the model",
                _named(others), str(channels), str(config.num_channels), "a model configured for other songs",
                f"nothing: {'training leaves them out' if is_out else 'they are converted as they are read'}",
            )  # fmt: skip
            continue
        for song in others:
            yield Finding(
                "rate", "error", "has more channels than the model, which cannot be converted", song.where,
                str(channels), str(config.num_channels), "surround sound", "mix it down, or set num_channels to 1",
            )  # fmt: skip


def _named(songs: Sequence[Candidate]) -> str:
    """Return the names of the first songs, and how many more there are."""
    more = f" and {len(songs) - _MOST_NAMES} more" if len(songs) > _MOST_NAMES else ""
    return ", ".join(song.where for song in songs[:_MOST_NAMES]) + more


def check_sums(facts: Facts) -> Iterator[Finding]:
    """Stems that do not add up to the mixture."""
    difference, mixture = facts.difference, facts.levels.get(MIXTURE)
    if difference is None or mixture is None or not difference.energy:
        return
    level = 10 * math.log10(difference.energy / mixture.energy) if mixture.energy else math.inf
    if level > SUM_LIMIT:
        yield Finding(
            "sums", "error" if level > SUM_LIMIT + 15 else "warning", "the stems do not add up to the mixture",
            facts.candidate.where, f"{level:.1f} dB", f"below {SUM_LIMIT:.0f} dB",
            "a stem that is missing, shifted, inverted or from another mix; a mastered mixture; lossy files",
            "export the stems again, or remove the mixture: the sum of the stems is taken then",
        )  # fmt: skip


def check_silence(facts: Facts) -> Iterator[Finding]:
    """Stems, or whole songs, without sound."""
    shares = {name: level.silent_frames / max(1, level.frames) for name, level in facts.levels.items()}
    if min(shares.values()) == 1:
        yield _silence(facts, "error", "the song is silent", 1, "an export that failed")
        return
    for name, share in shares.items():
        if share == 1:
            cause = "an instrument that does not play in this song, or an export with the track muted"
            yield _silence(facts, "warning", f"{name} is silent", share, cause)
        elif share > QUIET_SHARE:
            yield _silence(facts, "info", f"{name} is mostly silent", share, "an instrument that plays little")


def _silence(facts: Facts, severity: Severity, what: str, share: float, cause: str) -> Finding:
    return Finding(
        "silence", severity, what, facts.candidate.where, f"{share:.0%} below -70 dB", f"at most {QUIET_SHARE:.0%}",
        cause, "listen to it; remove the song if it should sound",
    )  # fmt: skip


def check_channels(all_facts: Sequence[Facts]) -> Iterator[Finding]:
    """Channels without sound: of a song, or of one stem in all songs; in some songs a stem may be panned so."""
    stems: dict[str, list[tuple[Candidate, frozenset[int]]]] = {}
    for facts in all_facts:
        sounding = {name: level.silent_channels for name, level in facts.levels.items() if not level.is_silent}
        whole = [sounding[MIXTURE]] if MIXTURE in sounding else list(sounding.values())
        if whole and (silent := frozenset.intersection(*whole)):
            yield _silent_channel(facts.candidate.where, "of the song is silent", silent)
            continue
        for name in sounding.keys() - {MIXTURE}:
            stems.setdefault(name, []).append((facts.candidate, sounding[name]))
    for name, found in sorted(stems.items()):
        panned = [(candidate, silent) for candidate, silent in found if silent]
        if len(panned) == len(found) > 1:
            where = _named([candidate for candidate, _ in panned])
            yield _silent_channel(where, f"of {name} is silent in every song", panned[0][1])
            continue
        for candidate, silent in panned:
            yield Finding(
                "silence", "info", f"a channel of {name} is silent", candidate.where, _channels(silent),
                cause="panned hard to one side, or an export of one channel alone", next_step="listen to it",
            )  # fmt: skip


def _silent_channel(where: str, what: str, silent: frozenset[int]) -> Finding:
    return Finding(
        "silence", "warning", f"a channel {what}", where, _channels(silent), "sound in all channels",
        "a mono recording on one channel, or a faulty cable or export",
        "copy the other channel into it, or export it again: it is learned as it is",
    )  # fmt: skip


def _channels(numbers: frozenset[int]) -> str:
    """Return the names of channels."""
    return ", ".join({0: "left", 1: "right"}.get(number, f"channel {number + 1}") for number in sorted(numbers))


def check_clipping(facts: Facts) -> Iterator[Finding]:
    """Runs of equal samples at full scale."""
    for name, level in facts.levels.items():
        if level.longest_clip >= _CLIP_RUN:
            yield Finding(
                "clipping", "warning", f"{name} is clipped", facts.candidate.where,
                f"{level.clipped} samples in runs of up to {level.longest_clip}", f"runs below {_CLIP_RUN}",
                "recorded or exported too loud", "export it at a lower level, in floating point",
            )  # fmt: skip


def check_offset(facts: Facts) -> Iterator[Finding]:
    """Signals whose mean is not zero, and samples that are no numbers."""
    for name, level in facts.levels.items():
        if level.not_finite:
            yield Finding(
                "files", "error", f"{name} holds samples that are no numbers", facts.candidate.where,
                f"{level.not_finite} samples", "0", "a faulty plugin or export", "export it again or remove the song",
            )  # fmt: skip
        if level.offset > OFFSET_LIMIT and level.offset > _OFFSET_SHARE * level.rms:
            yield Finding(
                "offset", "warning", f"{name} has a DC offset", facts.candidate.where, f"{level.offset:.4f}",
                f"at most {OFFSET_LIMIT}", "a converter or effect that adds a constant", "high-pass it at 5 Hz",
            )  # fmt: skip


def check_mono(facts: Facts) -> Iterator[Finding]:
    """Songs in stereo whose channels are equal; a bass alone often is so."""
    levels = [level for level in facts.levels.values() if level.peak > 0]
    if levels and all(level.side < _MONO for level in levels):
        yield Finding(
            "mono", "info", "mono in two channels", facts.candidate.where, cause="a mono recording",
            next_step="nothing, or train with num_channels 1 if all songs are so",
        )  # fmt: skip


def check_duplicates(all_facts: Sequence[Facts]) -> Iterator[Finding]:
    """Recordings that are there twice, worst in training and in validation or test."""
    for first, second, correlation in alike([facts.bands for facts in all_facts]):
        one, other = all_facts[first].candidate, all_facts[second].candidate
        is_leak = "train" in {one.split, other.split} and one.split != other.split
        what = "a training song is also in" if is_leak else "the same recording as"
        one, other = (one, other) if one.split == "train" else (other, one)
        yield Finding(
            "duplicates", "error" if is_leak else "warning", f"{what} {other.where}", one.where,
            f"{correlation:.2f} alike", f"below {ALIKE}",
            "a song that was copied, renamed, re-encoded or levelled anew",
            "remove one of them" + (": scores on it would mean nothing" if is_leak else ""),
        )  # fmt: skip
