"""The effects by the names of their settings, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from auralflow_core.data.augment import damage, level, spectrum, stretch


class Effect(NamedTuple):
    """What an augmentation does.

    Attributes:
        apply: Takes audio `(channel, time)`, the sample rate and what was drawn; returns audio on the same device.
        has_noise: Whether it draws noise, from a seed.
        on_host: Whether it runs on the CPU alone.
    """

    apply: Callable[..., Tensor]
    has_noise: bool = False
    on_host: bool = False


EFFECTS = {
    "mute": Effect(level.mute),
    "tempo": Effect(stretch.tempo, on_host=True),
    "pitch": Effect(stretch.pitch, on_host=True),
    "time_reversal": Effect(level.time_reversal),
    "eq": Effect(spectrum.eq),
    "high_pass": Effect(spectrum.high_pass),
    "low_pass": Effect(spectrum.low_pass),
    "distortion": Effect(damage.distortion),
    "clipping": Effect(damage.clipping),
    "reverb": Effect(spectrum.reverb, has_noise=True),
    "noise": Effect(damage.noise, has_noise=True),
    "mp3": Effect(damage.mp3, on_host=True),
    "channel_swap": Effect(level.channel_swap),
    "polarity": Effect(level.polarity),
    "gain": Effect(level.gain),
}
