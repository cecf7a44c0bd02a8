"""The bit rates of lossy formats, and how libsndfile is told about them."""

from __future__ import annotations

import numpy as np

from auralflow_core.errors import AudioError

# ISO 11172-3 and 13818-3, layer III, and the extension to the lowest rates; in kbit/s.
_MPEG_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_25 = _MPEG_2[:8]
_LAME_HEADER = 156  # bytes after the side information of the first frame; without it start and length are lost

# What libvorbis aims at for each channel at its qualities 0, 0.1, ... 1 and 44.1 kHz: two channels share.
_VORBIS_PAIR = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 250)
_VORBIS_ALONE = (48, 60, 70, 80, 86, 96, 110, 120, 140, 160, 240)

_AAC_BITS_PER_FRAME = 6  # an AAC block of 1024 frames has at most 6144 bits a channel
_AAC_USUAL = 128  # kbit/s for each channel at 44.1 kHz
_OPUS_CHANNEL = (6, 256)


def check_bitrate(name: str, sample_rate: int, channels: int, bitrate: int) -> None:
    """Refuse a bit rate in kbit/s that a format does not have at this sample rate and channel count.

    Raises:
        AudioError: With the value and the limit.
    """
    if name in ("WAV", "FLAC"):
        raise AudioError(f"{name} has no bit rate, so {bitrate} kbit/s cannot be chosen; leave it out")
    if name == "MP3":
        known = [rate for rate in _mp3_bitrates(sample_rate) if _has_room(rate, sample_rate, channels)]
        if bitrate not in known:
            listed = ", ".join(map(str, known))
            raise AudioError(
                f"MP3 with {channels} channels at {sample_rate} Hz has no bit rate of {bitrate} kbit/s, or no room for "
                f"its exact length there: choose {listed}"
            )
        return
    low, high = _limits(name, sample_rate, channels)
    if not low <= bitrate <= high:
        raise AudioError(
            f"{name} with {channels} channels at {sample_rate} Hz has no bit rate of {bitrate} kbit/s: "
            f"choose {low} to {high}"
        )


def compression_level(name: str, sample_rate: int, channels: int, bitrate: int) -> float:
    """Return libsndfile's compression level in [0, 1] for a bit rate of MP3, Ogg Vorbis or Opus in kbit/s.

    MP3 gets exactly the rate; Vorbis has a quality, and comes near it with most music.
    """
    if name == "OGG":
        usual = np.multiply(_vorbis_rates(channels), channels * sample_rate / 44100)
        return float(1 - np.interp(bitrate, usual, np.linspace(0, 1, len(usual))))
    if name == "OPUS":
        low, high = (channels * limit for limit in _OPUS_CHANNEL)
        return (high - bitrate) / (high - low)
    rates = _mp3_bitrates(sample_rate)
    # libsndfile drops what is behind the point, so half a kbit/s more is asked for.
    return max(0.0, (rates[-1] - bitrate - 0.5) / (rates[-1] - rates[0]))


def usual_aac_bitrate(sample_rate: int, channels: int) -> int:
    """Return a bit rate in kbit/s that is hard to tell from the original."""
    return min(round(_AAC_USUAL * channels * sample_rate / 44100), _limits("M4A", sample_rate, channels)[1])


def _mp3_bitrates(sample_rate: int) -> tuple[int, ...]:
    return _MPEG_1 if sample_rate >= 32000 else _MPEG_2 if sample_rate >= 16000 else _MPEG_25


def _has_room(bitrate: int, sample_rate: int, channels: int) -> bool:
    """Return whether a frame holds LAME's header, which the encoder else leaves out without a word."""
    frames, side = (144, (21, 36)) if sample_rate >= 32000 else (72, (13, 21))
    return frames * 1000 * bitrate // sample_rate >= side[channels - 1] + _LAME_HEADER


def _vorbis_rates(channels: int) -> tuple[int, ...]:
    return _VORBIS_PAIR if channels == 2 else _VORBIS_ALONE


def _limits(name: str, sample_rate: int, channels: int) -> tuple[int, int]:
    if name == "OPUS":
        return channels * _OPUS_CHANNEL[0], channels * _OPUS_CHANNEL[1]
    if name == "M4A":
        return 8 * channels, _AAC_BITS_PER_FRAME * sample_rate * channels // 1000
    rates = _vorbis_rates(channels)
    scale = channels * sample_rate / 44100
    return round(rates[0] * scale), round(rates[-1] * scale)
