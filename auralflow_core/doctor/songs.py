"""Checks of songs: each is given songs, or what was measured of one, and returns what it found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from auralflow_core.audio import AudioInfo
from auralflow_core.config import DatasetConfig
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
_MONO = 1e-5


def check_files(song: Candidate) -> Iterator[Finding]:
    """Files that cannot be opened, or hold nothing."""
    for name, info in song.infos.items():
        if isinstance(info, AudioError):
            yield unreadable(song, info, name)
        elif info.frames == 0:
            yield Finding(
                "files", "error", f"{name} holds no samples", song.where, "0 samples", "1", "an export that failed",
                "export it again or remove the song",
            )  # fmt: skip
    if not song.stems:
        yield Finding(
            "files", "error", "a mixture without stems", song.where, cause="a song that is not separated",
            next_step="add its stems or remove the song",
        )  # fmt: skip


def unreadable(song: Candidate, error: AudioError, name: str = "") -> Finding:
    """Return the finding for a file that is missing, truncated or no audio."""
    return Finding(
        "files", "error", f"{name} cannot be read: {error}" if name else str(error), song.where,
        cause="a copy or download that broke off, or no audio file",
        next_step="copy it again or remove the song",
    )  # fmt: skip


def check_format(song: Candidate) -> Iterator[Finding]:
    """Files of one song that differ in rate, channel count or length."""
    infos = {name: info for name, info in song.infos.items() if isinstance(info, AudioInfo)}
    for what, unit in (("sample_rate", "Hz"), ("channels", "channels"), ("frames", "samples")):
        values = [getattr(info, what) for info in infos.values()]
        usual = max(values, key=values.count, default=None)
        for name, info in infos.items():
            if (value := getattr(info, what)) != usual:
                yield Finding(
                    "format", "error", f"{name} differs from the song's other files in {what.replace('_', ' ')}",
                    song.where, f"{value} {unit}", f"{usual} {unit}", "stems that were exported separately",
                    "export the song's stems again from one project",
                )  # fmt: skip


def check_stems(songs: Sequence[Candidate]) -> Iterator[Finding]:
    """Songs without a stem that most songs have."""
    songs = [song for song in songs if not song.is_loose]
    for stem in sorted({stem for song in songs for stem in song.stems}):
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
    songs = [song for song in songs if not song.is_loose]
    for song in songs:
        for target in config.targets:
            if target not in song.stems:
                yield Finding(
                    "targets", "error", f"has no {target}, which the model is to estimate", song.where,
                    ", ".join(song.stems), target, "another set of stems" + did_you_mean(target, song.stems),
                    "add the file, or change `targets`",
                )  # fmt: skip


def check_rate(songs: Sequence[Candidate], config: DatasetConfig) -> Iterator[Finding]:
    """Songs whose rate or channel count is not the model's."""
    shapes = [song.shape for song in songs]
    for rate in sorted({rate for rate, _, _ in shapes} - {config.sample_rate}):
        count = sum(shape[0] == rate for shape in shapes)
        discard = config.other_rates == "discard"
        yield Finding(
            "rate", "info" if discard else "warning",
            f"{count} of {len(songs)} songs have another sample rate than the model", "songs",
            f"{rate} Hz", f"{config.sample_rate} Hz", "a model configured for other songs",
            "training leaves them out: other_rates is discard" if discard else
            f"every chunk is resampled, which is slow: set sample_rate to {rate}, or convert the songs",
        )  # fmt: skip
    for channels in sorted({channels for _, channels, _ in shapes} - {config.num_channels}):
        count = sum(shape[1] == channels for shape in shapes)
        discard = config.other_channels == "discard"
        convertible = channels == 1 or config.num_channels == 1
        yield Finding(
            "rate", "info" if convertible or discard else "error",
            f"{count} of {len(songs)} songs have {channels} channels", "songs",
            str(channels), str(config.num_channels), "a model configured for other songs",
            "training leaves them out: other_channels is discard" if discard else
            "they are converted as they are read" if convertible else "mix them down, or set num_channels to 1",
        )  # fmt: skip


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
        "silence", severity, what, facts.candidate.where, f"{share:.0%} below -70 dB", f"{QUIET_SHARE:.0%}", cause,
        "listen to it; remove the song if it should sound",
    )  # fmt: skip


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
                f"{OFFSET_LIMIT}", "a converter or effect that adds a constant", "high-pass it at 5 Hz",
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
            f"{correlation:.2f} alike", f"{ALIKE}", "a song that was copied, renamed, re-encoded or levelled anew",
            "remove one of them" + (": scores on it would mean nothing" if is_leak else ""),
        )  # fmt: skip
