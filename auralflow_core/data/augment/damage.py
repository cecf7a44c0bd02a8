"""What bad equipment and lossy formats do: relative to the audio's own level, so that nothing becomes of silence."""

from __future__ import annotations

import io
import math

import numpy as np
import soundfile
import torch
from torch import Tensor

from auralflow_core.audio.bitrates import compression_level
from auralflow_core.data.augment.level import peak_of
from auralflow_core.data.augment.randomness import normal
from auralflow_core.errors import ConfigError

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def distortion(audio: Tensor, sample_rate: int, *, drive_db: float) -> Tensor:
    """Return audio bent by a tanh of `drive_db` at its peak, which stays where it is."""
    peak, drive = peak_of(audio), 10 ** (drive_db / 20)
    return peak * torch.tanh(audio * (drive / peak)) / math.tanh(drive)


def clipping(audio: Tensor, sample_rate: int, *, cut_db: float) -> Tensor:
    """Return audio cut off at `cut_db` below its peak."""
    limit = peak_of(audio) * 10 ** (-cut_db / 20)
    return torch.clamp(audio, -limit, limit)


def noise(audio: Tensor, sample_rate: int, *, snr_db: float, seed: int) -> Tensor:
    """Return audio with white noise at a ratio of the powers of the whole."""
    level = audio.square().mean().sqrt() * 10 ** (-snr_db / 20)
    return audio + level * normal(audio.shape, seed).to(audio.device)


def mp3(audio: Tensor, sample_rate: int, *, kbps: float) -> Tensor:
    """Return what is left of audio `(channel, time)` after MP3, at the same length and place."""
    frames, peak = audio.shape[-1], float(peak_of(audio))
    file = io.BytesIO()
    level = compression_level("MP3", sample_rate, len(audio), round(kbps))
    # A decoder may clip, so the encoder gets what it can hold.
    soundfile.write(
        file,
        (audio / peak).numpy().T,
        sample_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=level,
    )
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32", always_2d=True)
    found = torch.from_numpy(np.ascontiguousarray(decoded.T[:, :frames])) * peak
    return torch.nn.functional.pad(found, (0, frames - found.shape[-1]))


def require_mp3(sample_rate: int) -> None:
    """Refuse a sample rate that MP3 does not have, and a libsndfile without MP3.

    Raises:
        ConfigError: With the value and the limit.
    """
    if sample_rate not in _MP3_RATES:
        raise ConfigError(
            f"dataset.augmentations: MP3 has no sample rate of {sample_rate} Hz (it has "
            f"{', '.join(map(str, _MP3_RATES))}); leave out mp3, or change dataset.sample_rate"
        )
    if "MP3" not in soundfile.available_formats():
        raise ConfigError(
            f"dataset.augmentations: libsndfile {soundfile.__libsndfile_version__} writes no MP3; "
            "`pip install --upgrade soundfile`, or leave out mp3"
        )
