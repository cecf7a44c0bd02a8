"""Audio files and streams: read, write, resample, find. No torch here.

Signals are float32 arrays of shape `(channel, time)`, full scale at [-1, 1].
"""

from __future__ import annotations

from auralflow_core.audio.find import AUDIO_SUFFIXES, find_audio
from auralflow_core.audio.formats import subtype_for
from auralflow_core.audio.reader import AudioInfo, AudioReader, audio_info, read_audio
from auralflow_core.audio.shape import StreamResampler, match_channels, resample, resampled_length
from auralflow_core.audio.writer import AudioWriter

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "StreamResampler",
    "audio_info",
    "find_audio",
    "match_channels",
    "read_audio",
    "resample",
    "resampled_length",
    "subtype_for",
]
