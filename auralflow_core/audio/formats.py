"""What each output format can hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from auralflow_core.audio.bitrates import check_bitrate
from auralflow_core.errors import AudioError, did_you_mean

_SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "32f": "FLOAT"}
_MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_AAC_RATES = (*_MPEG_RATES, 64000, 88200, 96000)


@dataclass(frozen=True)
class OutputFormat:
    """The limits of a file format; `rates` are the lowest and highest in Hz, or all there are."""

    name: str
    suffixes: tuple[str, ...]
    subtypes: tuple[str, ...]
    max_channels: int
    rates: tuple[int, ...]

    def check(self, sample_rate: int, channels: int, subtype: str) -> None:
        """Refuse what the format cannot hold.

        Raises:
            AudioError: With the value and the limit.
        """
        if subtype not in self.subtypes:
            raise AudioError(f"{self.name} cannot hold {subtype}: it holds {_listed(self.subtypes)}")
        if not 1 <= channels <= self.max_channels:
            raise AudioError(
                f"{self.name} cannot hold {channels} channels: it holds 1 to {self.max_channels}; choose WAV"
            )
        if not self._has_rate(sample_rate):
            raise AudioError(
                f"{self.name} cannot hold {sample_rate} Hz: it holds {self._described_rates()}; choose WAV or resample"
            )

    def _has_rate(self, rate: int) -> bool:
        if len(self.rates) > 2:
            return rate in self.rates
        # A FLAC frame header has no room for odd rates above 16 bits; decoders then fail.
        unrepresentable = self.name == "FLAC" and rate > 65535 and rate % 10
        return self.rates[0] <= rate <= self.rates[1] and not unrepresentable

    def _described_rates(self) -> str:
        if len(self.rates) > 2:
            return _listed([f"{rate} Hz" for rate in self.rates])
        steps = ", above 65535 Hz in steps of 10 Hz" if self.name == "FLAC" else ""
        return f"{self.rates[0]} Hz to {self.rates[1]} Hz{steps}"


# The encoders do not check these limits: libsndfile's Vorbis encoder crashes the process beyond them.
_FORMATS = {
    format_.name: format_
    for format_ in (
        OutputFormat("WAV", (".wav", ".wave"), ("PCM_16", "PCM_24", "PCM_32", "FLOAT"), 1024, (1, 768_000)),
        OutputFormat("FLAC", (".flac",), ("PCM_16", "PCM_24"), 8, (1, 655_350)),
        OutputFormat("OGG", (".ogg", ".oga"), ("VORBIS",), 255, (8000, 192_000)),
        OutputFormat("OPUS", (".opus",), ("OPUS",), 255, _OPUS_RATES),
        OutputFormat("MP3", (".mp3",), ("MPEG_LAYER_III",), 2, _MPEG_RATES),
        OutputFormat("M4A", (".m4a",), ("AAC",), 6, _AAC_RATES),
    )
}


def output_format(path: Path, name: str | None) -> OutputFormat:
    """Return the format called `name` (in any case), or the one that the path's suffix stands for.

    Raises:
        AudioError: There is no such format.
    """
    if name is not None:
        if name.upper() in _FORMATS:
            return _FORMATS[name.upper()]
        raise AudioError(f"unknown audio format {name}: known are {_listed(_FORMATS)}{did_you_mean(name, _FORMATS)}")
    for format_ in _FORMATS.values():
        if path.suffix.casefold() in format_.suffixes:
            return format_
    suffixes = [suffix for format_ in _FORMATS.values() for suffix in format_.suffixes]
    raise AudioError(f"cannot write {path}: its name must end in {_listed(suffixes)}, or name the format")


def subtype_for(bit_depth: str | None, format: str) -> str:  # noqa: A002
    """Return the sample type that stores a bit depth in a format.

    Args:
        bit_depth: `"16"`, `"24"`, `"32"` (integers), `"32f"` (floating point) or None, the usual one.
        format: `"WAV"`, `"FLAC"`, `"OGG"` (Vorbis), `"OPUS"`, `"MP3"` or `"M4A"` (AAC), in any case.

    Raises:
        AudioError: The format is unknown or cannot hold the depth.
    """
    known = output_format(Path(), format)
    if bit_depth is None:
        return known.subtypes[0]
    depths = [depth for depth, subtype in _SUBTYPES.items() if subtype in known.subtypes]
    if bit_depth in depths:
        return _SUBTYPES[bit_depth]
    if not depths:
        raise AudioError(f"{known.name} has no bit depth, so {bit_depth} cannot be chosen; leave it out")
    raise AudioError(f"{known.name} cannot hold bit depth {bit_depth}: choose {_listed(depths)}")


def check_writable(
    format: str,  # noqa: A002
    sample_rate: int,
    channels: int,
    bit_depth: str | None = None,
    bitrate: int | None = None,
) -> None:
    """Refuse what a format cannot hold, before any work is done.

    Args:
        format: See `subtype_for`.
        sample_rate: In Hz.
        channels: Samples per frame.
        bit_depth: See `subtype_for`.
        bitrate: In kbit/s.

    Raises:
        AudioError: With the value, the limit and what to choose instead.
    """
    check_output(output_format(Path(), format), sample_rate, channels, subtype_for(bit_depth, format), bitrate)


def check_output(
    format_: OutputFormat, sample_rate: int, channels: int, subtype: str, bitrate: int | None = None
) -> None:
    """Refuse what a format cannot hold, or what needs a library that is not installed.

    Raises:
        AudioError: With the value and the limit.
    """
    format_.check(sample_rate, channels, subtype)
    if bitrate is not None:
        check_bitrate(format_.name, sample_rate, channels, bitrate)
    if format_.name == "M4A" and find_spec("av") is None:
        raise AudioError("writing M4A needs PyAV, which is not installed; pip install auralflow[av], or choose MP3")


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
