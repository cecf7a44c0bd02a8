"""Tempo and pitch, by Signalsmith Stretch (the package python-stretch, `auralflow[augment]`).

Source: G. Luff, "The design of Signalsmith Stretch", 2023: a phase vocoder that keeps the phases between channels and
maps frequencies by the peaks of the spectrum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from auralflow_core.data.augment.level import peak_of
from auralflow_core.errors import ConfigError

_EDGE = 0.15  # seconds of silence before and after: the library fades the last tenth of a second


def pitch(audio: Tensor, sample_rate: int, *, semitones: float) -> Tensor:
    """Return audio `(channel, time)` transposed, at the same length and place."""
    return _stretched(audio, sample_rate, 1.0, semitones)


def tempo(audio: Tensor, sample_rate: int, *, rate: float) -> Tensor:
    """Return audio `(channel, time)` at `rate` times the tempo, `time / rate` long."""
    return _stretched(audio, sample_rate, rate, 0.0)


def require_stretch() -> None:
    """Refuse to go on without the library.

    Raises:
        ConfigError: With the command that installs it.
    """
    try:
        _library()
    except ImportError as error:
        raise ConfigError(
            f"dataset.augmentations: pitch and tempo need python-stretch ({error}); `pip install "
            "'auralflow[augment]'`, or leave them out"
        ) from None


def _stretched(audio: Tensor, sample_rate: int, rate: float, semitones: float) -> Tensor:
    edge = round(_EDGE * sample_rate)
    stretch = _library().Stretch(0)  # the seed of phases that it draws below half the tempo
    stretch.preset(len(audio), sample_rate)
    stretch.setTransposeSemitones(semitones)
    stretch.timeFactor = rate
    peak = float(peak_of(audio))  # The library takes -80 dB for noise.
    padded = np.pad((audio / peak).numpy(), ((0, 0), (edge, edge)))
    found = torch.from_numpy(np.array(stretch.process(padded), np.float32))
    start, frames = round(edge / rate), round(audio.shape[-1] / rate)
    return found[:, start : start + frames] * peak


def _library() -> Any:
    from python_stretch import Signalsmith

    return Signalsmith
