"""Audio files and streams: read, write, resample, limit, find. No torch here.

Signals are float32 arrays of shape `(channel, time)`, full scale at [-1, 1].
"""

from __future__ import annotations

from auralflow_core.audio.decoders import Samples, as_floats
from auralflow_core.audio.find import AUDIO_SUFFIXES, find_audio
from auralflow_core.audio.formats import check_writable, subtype_for
from auralflow_core.audio.limiter import Limiter
from auralflow_core.audio.reader import AudioInfo, AudioReader, audio_info, read_audio
from auralflow_core.audio.shape import StreamResampler, can_match_channels, match_channels, resample, resampled_length
from auralflow_core.audio.stdin import STDIN, on_disk
from auralflow_core.audio.tags import Cover, Tags, read_tags
from auralflow_core.audio.writer import AudioWriter

__all__ = [
    "AUDIO_SUFFIXES",
    "STDIN",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Cover",
    "Limiter",
    "Samples",
    "StreamResampler",
    "Tags",
    "as_floats",
    "audio_info",
    "can_match_channels",
    "check_writable",
    "find_audio",
    "match_channels",
    "on_disk",
    "read_audio",
    "read_tags",
    "resample",
    "resampled_length",
    "subtype_for",
]
